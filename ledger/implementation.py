"""Which implementation this is: what every association, every file and every result says of it."""

from importlib.metadata import PackageNotFoundError, version

from ledger.identifiers import Uid

#: Names this implementation in associations (PS3.7 §D.3.3.2) and in files (PS3.10 §7.1). Fixed once for all.
IMPLEMENTATION_CLASS_UID = Uid("2.25.227306548125203480107243187312570012365")
IMPLEMENTATION_VERSION_NAME = "WETREAD_1"  # at most 16 characters; the release goes into Software Versions


def software_version() -> str:
    """The release of Wetread; "unreleased" in a checkout that nobody installed."""
    try:
        return version("wetread")
    except PackageNotFoundError:
        return "unreleased"
