"""The archive of OHIF's built files: packed by this machine's npm or brought along; believed by its digest.

Nothing else is asked of the network, nothing of the archive is run, and nothing of it is unpacked before its
digest is the one that is known.
"""

import base64
import hashlib
import hmac
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from ledger.errors import PeerError, SiteError

PACKAGE = "@ohif/app"
#: The version that Wetread's own tests look through.
VERSION = "3.13.2"
#: Version → SHA-512 of its npm archive, in base64 as npm itself writes it.
KNOWN = {"3.13.2": "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="}
ARCHIVE_MAX = 256 << 20  # bytes; 3.13.2 has 48 MiB
_NPM_S = 600.0


class NoSuchViewer(SiteError):
    """A version was asked for whose digest nobody has said."""


class ViewerNotFetched(PeerError):
    """npm is not there, or cannot get the package."""


class AnotherViewer(SiteError):
    """The archive is not the one whose digest is known."""


def digest_of(version: str, given: str | None) -> str:
    """The SHA-512 (base64) that the archive of `version` has to have. Raises `NoSuchViewer`."""
    if given is not None:
        plain = given.removeprefix("sha512-")
        try:
            well = len(base64.b64decode(plain, validate=True)) == 64
        except ValueError:
            well = False
        if not well:
            raise NoSuchViewer("--sha512 is 88 characters of base64, as `npm view` says it after sha512-")
        return plain
    if version not in KNOWN:
        raise NoSuchViewer(
            f"OHIF {version} is none that Wetread knows ({', '.join(KNOWN)}): say with --sha512 what its "
            f"archive has to have, as `npm view {PACKAGE}@{version} dist.integrity` prints it"
        )
    return KNOWN[version]


def packed(version: str, folder: Path, npm: str | None = None) -> Path:
    """The archive of `version`, fetched by npm into `folder`. Raises `ViewerNotFetched`."""
    program = npm or shutil.which("npm")
    elsewhere = (
        f"on a machine that has the network: `npm pack {PACKAGE}@{version}`, and here: "
        f"`wetread viewer install --from ohif-app-{version}.tgz`"
    )
    if program is None:
        raise ViewerNotFetched(f"npm is not installed on this machine. Install it, or, {elsewhere}")
    command = [program, "pack", f"{PACKAGE}@{version}", "--silent", "--ignore-scripts"]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_NPM_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ViewerNotFetched(
            f"npm did not bring OHIF {version} in {_NPM_S:.0f} s. Try again, or, {elsewhere}"
        ) from None
    except OSError as error:
        raise ViewerNotFetched(
            f"{program} cannot be run: {error.strerror}. Mend it, or, {elsewhere}"
        ) from error
    found = sorted(folder.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        said = (done.stderr.strip() or done.stdout.strip())[-300:] or f"exit code {done.returncode}"
        raise ViewerNotFetched(f"npm cannot get OHIF {version}: {said}. If it has no network: {elsewhere}")
    return found[0]


def believed(
    archive: Path, sha512: str, into: Path, progress: Callable[[str], None] = lambda _: None
) -> Path:
    """A copy of the archive in the folder `into`, which has the digest `sha512`. Raises `AnotherViewer`.

    A copy, for what lies elsewhere could be changed between being judged and being unpacked.
    """
    target = into / "viewer.tgz"
    digest, size = hashlib.sha512(), 0
    try:
        with archive.open("rb") as source, target.open("xb") as copy:
            while piece := source.read(1 << 20):
                size += len(piece)
                if size > ARCHIVE_MAX:
                    raise AnotherViewer(
                        f"{archive.name} has more than {ARCHIVE_MAX >> 20} MiB: that is not OHIF"
                    )
                digest.update(piece)
                copy.write(piece)
    except OSError as error:
        raise SiteError(f"{error.filename or archive} cannot be read or written: {error.strerror}") from error
    found = base64.b64encode(digest.digest()).decode()
    if not hmac.compare_digest(found, sha512):
        raise AnotherViewer(
            f"{archive.name} has SHA-512 {found}, not {sha512}: it was changed on its way, or is another "
            "version; nothing is installed"
        )
    progress(f"{size / 2**20:.0f} MiB with the right SHA-512")
    return target
