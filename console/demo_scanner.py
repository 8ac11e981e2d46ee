"""
A scanner for the demo: an SCU that sends a folder as a modality would, one association, one C-STORE for each image.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, build_context

from ledger.errors import PeerError, StudyError

_CONTEXTS_MAX = 128  # PS3.8 §9.3.2.2: odd numbers 1 to 255
_META = ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID"]


class NotTaken(PeerError):
    """The node did not take an image, or did not talk to the scanner at all."""


class NothingToSend(StudyError):
    """There is no DICOM instance in the folder."""


@dataclass(frozen=True, slots=True)
class Sendable:
    """One file that can be sent: what it is, and how it is encoded."""

    path: Path
    sop_class: str
    transfer_syntax: str
    study: str


def sendable(paths: Sequence[Path]) -> list[Sendable]:
    """Those of `paths` that are complete DICOM instances. Raises `NothingToSend` when there is none."""
    found = list(_sendable(paths))
    if not found:
        raise NothingToSend("there is no DICOM instance in that folder (with SOP, Series and Study Instance UID)")
    return found


def _sendable(paths: Sequence[Path]) -> Iterator[Sendable]:
    for path in paths:
        try:
            header = dcmread(path, specific_tags=_META, stop_before_pixels=True)
        except (InvalidDicomError, OSError, ValueError):
            continue
        syntax = header.file_meta.get("TransferSyntaxUID")
        if syntax and all(header.get(keyword) for keyword in _META):
            yield Sendable(path, str(header.SOPClassUID), str(syntax), str(header.StudyInstanceUID))


def send(files: Sequence[Sendable], *, port: int, called: str, on_sent: Callable[[int], None]) -> None:
    """Send `files` as SCANNER to the node on this machine. Raises `NotTaken` at the first image that is not taken."""
    # One context for each pair, so that every file can go as it is stored.
    pairs = sorted({(file.sop_class, file.transfer_syntax) for file in files})
    sent = 0
    for some in _in_groups(pairs):
        ae = AE(ae_title="SCANNER")
        ae.requested_contexts = [build_context(sop_class, syntax) for sop_class, syntax in some]
        association = ae.associate("127.0.0.1", port, ae_title=called)
        if not association.is_established:
            raise NotTaken(f"the node {called} on port {port} did not accept the association of the scanner")
        try:
            for file in files:
                if (file.sop_class, file.transfer_syntax) in some:
                    status = association.send_c_store(dcmread(file.path)).get("Status")
                    if status != 0x0000:
                        said = "nothing" if status is None else f"status 0x{status:04X}"
                        raise NotTaken(f"the node answered {said} to image {sent + 1} of {len(files)}")
                    sent += 1
                    on_sent(sent)
        finally:
            association.release()


def _in_groups(pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], ...]]:
    for start in range(0, len(pairs), _CONTEXTS_MAX):
        yield tuple(pairs[start : start + _CONTEXTS_MAX])
