"""The series in a folder of DICOM files, as the node sees them, and what is wrong with the other files."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import dictionary_description

from dicom_node.series_facts import SeriesFacts, facts_of
from ledger.errors import WetreadError
from ledger.identifiers import AETitle, Digest, InstanceId, SeriesId, StudyId, Uid
from ledger.study import InstanceRecord, SeriesRecord
from worker.files import ImageFile, read_image_file
from worker.load import headers_of

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_NO_DIGEST = Digest("0" * 64)  # Nothing is compared here: the files are read where they lie.


@dataclass(frozen=True, slots=True)
class FolderSeries:
    """One series of the folder."""

    number: int  #: 1, 2, … in the order of Series Number
    facts: SeriesFacts
    paths: tuple[Path, ...]
    study: str = ""  #: Study Instance UID

    @property
    def title(self) -> str:
        """Short and without anything about the patient."""
        headers = self.facts.headers
        name = headers.get("SeriesDescription") or "without description"
        return f"{self.facts.modality or '?'} series {headers.get('SeriesNumber') or '?'}, {name}"


@dataclass(frozen=True, slots=True)
class Folder:
    """What was found: the series, and how many files belong to none."""

    series: tuple[FolderSeries, ...]
    unreadable: int
    without: Mapping[str, int]  #: keyword of the UID that is missing or malformed → DICOM files

    def set_aside(self) -> list[str]:
        """Which files belong to no series, and why."""
        said = [
            f"{count} DICOM file{'s have' if count > 1 else ' has'} no {dictionary_description(keyword)}"
            for keyword, count in self.without.items()
        ]
        if self.unreadable:
            are = (
                "files are no complete DICOM instances"
                if self.unreadable > 1
                else "file is no complete DICOM instance"
            )
            said.append(f"{self.unreadable} {are}")
        return said


def look_into(folder: Path, on_file: Callable[[int, int], None] = lambda _done, _all: None) -> Folder:
    """Read the headers of every file below `folder`; `on_file` is told how many are done, of how many."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    groups: dict[str, list[ImageFile]] = {}
    unreadable, without = 0, Counter[str]()
    for done, path in enumerate(paths, start=1):
        try:
            image = read_image_file(path)
            lacking = next((keyword for keyword in _UIDS if not _has_uid(image.dataset, keyword)), None)
        except (WetreadError, ValueError, OSError):
            unreadable += 1
        else:
            if lacking:
                without[lacking] += 1
            else:
                groups.setdefault(_text(image.dataset, "SeriesInstanceUID"), []).append(image)
        on_file(done, len(paths))
    ordered = sorted(groups.items(), key=lambda item: (_number(item[1][0].dataset), item[0]))
    return Folder(
        tuple(_series(n, uid, images) for n, (uid, images) in enumerate(ordered, start=1)),
        unreadable,
        without,
    )


def _has_uid(header: Dataset, keyword: str) -> bool:
    try:
        Uid.parse(_text(header, keyword))
    except ValueError:
        return False
    return True


def _series(number: int, uid: str, images: Sequence[ImageFile]) -> FolderSeries:
    first = images[0].dataset
    record = SeriesRecord(
        id=SeriesId(number),
        study_id=StudyId(0),
        series=Uid(uid),
        modality=_text(first, "Modality"),
        headers=headers_of(first),
        instances=tuple(_instance(n, image) for n, image in enumerate(images)),
    )
    paths = tuple(image.path for image in images)
    return FolderSeries(number, facts_of(record), paths, _text(first, "StudyInstanceUID"))


def _instance(number: int, image: ImageFile) -> InstanceRecord:
    header = image.dataset
    position = _numbers(header, "ImagePositionPatient", 3)
    return InstanceRecord(
        id=InstanceId(number),
        sop_instance=Uid.parse(str(header.SOPInstanceUID)),
        sop_class=Uid.parse(str(header.SOPClassUID)),
        transfer_syntax=Uid.parse(image.transfer_syntax),
        digest=_NO_DIGEST,
        size=image.size,
        path=str(image.path),
        calling=AETitle("FOLDER"),
        received_at=0.0,
        frames=int(header.get("NumberOfFrames") or 1),
        position=(position[0], position[1], position[2]) if position else None,
        orientation=_numbers(header, "ImageOrientationPatient", 6),
    )


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    if value is None:
        return ""
    return (
        "\\".join(map(str, value))
        if not isinstance(value, str) and hasattr(value, "__iter__")
        else str(value)
    )


def _numbers(header: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    try:
        values = tuple(float(value) for value in header.get(keyword) or ())
    except (TypeError, ValueError):
        return None
    return values if len(values) == count else None


def _number(header: Dataset) -> int:
    try:
        return int(header.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        return 0
