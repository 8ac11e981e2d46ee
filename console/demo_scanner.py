"""A scanner for the demo: it sends a folder as a modality would, on one association, one C-STORE for each
image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.peers import PeerSettings
from dicom_node.send import AnswerKind, send_many
from ledger.errors import PeerError, StudyError
from ledger.identifiers import AETitle

_DEADLINE_S = 900.0
_META = ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"]


class NotTaken(PeerError):
    """The node did not take an image, or did not talk to the scanner at all."""


class NothingToSend(StudyError):
    """There is no DICOM instance in the folder."""


@dataclass(frozen=True, slots=True)
class Sendable:
    """One file that can be sent, and what it belongs to."""

    path: Path
    study: str
    series: str
    sop_instance: str


def sendable(paths: Sequence[Path]) -> list[Sendable]:
    """Those of `paths` that are complete DICOM instances, each once. Raises `NothingToSend` when there is
    none.
    """
    found = {one.sop_instance: one for one in _sendable(paths)}
    if not found:
        raise NothingToSend("there is no complete DICOM instance in that folder")
    return list(found.values())


def _sendable(paths: Sequence[Path]) -> Iterator[Sendable]:
    for path in paths:
        try:
            header = dcmread(path, specific_tags=_META, stop_before_pixels=True)
        except (InvalidDicomError, OSError, ValueError):
            continue
        meta = header.file_meta
        if all(header.get(keyword) for keyword in _META) and meta.get("TransferSyntaxUID"):
            study, series = str(header.StudyInstanceUID), str(header.SeriesInstanceUID)
            yield Sendable(path, study, series, str(header.SOPInstanceUID))


def send(files: Sequence[Sendable], *, port: int, called: str) -> None:
    """Send `files` as SCANNER to the node on this machine. Raises `NotTaken` where one of them was not
    taken.
    """
    node = PeerSettings(name="node", ae_title=called, host="127.0.0.1", port=port)
    answers = send_many(
        [file.path for file in files], node, calling=AETitle("SCANNER"), deadline_s=_DEADLINE_S
    )
    refused = [answer for answer in answers if answer.kind not in (AnswerKind.ACCEPTED, AnswerKind.WARNING)]
    if refused:
        raise NotTaken(f"the node did not take {len(refused)} of {len(files)} images: {refused[0].because}")
