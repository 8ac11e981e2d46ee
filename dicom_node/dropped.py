"""What the rules may know of files that somebody has at hand, without taking them in.

They may come from anywhere, so their headers are read by the process with limits that reads long headers for
the node, each with the shape that instances may have. Nothing of them is kept.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.headers import Headers
from dicom_node.long_headers import LongHeaders
from dicom_node.part10 import NotOurFile, what_is_in
from dicom_node.series_facts import SeriesFacts, facts_of
from ledger.errors import StudyError
from ledger.identifiers import AETitle, Digest, InstanceId, SeriesId, StudyId, Uid
from ledger.store.headers import instance_values
from ledger.study import Arrival, InstanceRecord, SeriesRecord

_NO_DIGEST = Digest("0" * 64)


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that no series could be made of. `number` is its place among the files, from 1."""

    number: int
    because: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """The series that the files are of, and the files that are of none."""

    series: tuple[SeriesFacts, ...]
    unread: tuple[Unread, ...]


def read_dropped(paths: Iterable[Path], readers: LongHeaders, *, calling: AETitle) -> Dropped:
    """Read files as if `calling` had sent them. Raises `AllReading` where no process is free."""
    found: dict[Uid, list[Arrival]] = {}
    unread: list[Unread] = []
    for number, path in enumerate(paths, start=1):
        try:
            arrival = _arrival(path, readers, calling)
        except NotOurFile:
            unread.append(Unread(number, "this is no DICOM file (PS3.10)"))
        except StudyError as error:
            unread.append(Unread(number, str(error)))
        except OSError as error:
            unread.append(Unread(number, f"the file cannot be read: {error.strerror}"))
        else:
            found.setdefault(arrival.series, []).append(arrival)
    series = [_facts(number, arrivals) for number, arrivals in enumerate(found.values(), start=1)]
    return Dropped(tuple(series), tuple(unread))


class NotOneInstance(StudyError):
    """A file names no study, series or instance that it belongs to."""


def _arrival(path: Path, readers: LongHeaders, calling: AETitle) -> Arrival:
    sop_class, sop_instance, syntax, offset = what_is_in(path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        headers = readers.read(descriptor, offset, syntax)
    finally:
        os.close(descriptor)
    return Arrival(
        sop_instance=sop_instance,
        sop_class=sop_class,
        transfer_syntax=syntax,
        study=_uid(headers, "StudyInstanceUID"),
        series=_uid(headers, "SeriesInstanceUID"),
        digest=_NO_DIGEST,
        size=path.stat().st_size,
        path="",
        calling=calling,
        called=calling,
        address="",
        headers=headers,
    )


def _uid(headers: Headers, keyword: str) -> Uid:
    try:
        return Uid.parse(headers.get(keyword, ""))
    except ValueError:
        raise NotOneInstance(f"{keyword} is missing, or is no UID") from None


def _facts(number: int, arrivals: list[Arrival]) -> SeriesFacts:
    first = arrivals[0]
    return facts_of(
        SeriesRecord(
            id=SeriesId(number),
            study_id=StudyId(0),
            series=first.series,
            modality=first.headers.get("Modality", ""),
            headers=first.headers,
            instances=tuple(_instance(place, one) for place, one in enumerate(arrivals, start=1)),
        )
    )


def _instance(place: int, arrival: Arrival) -> InstanceRecord:
    """As the ledger would have it."""
    values = instance_values(arrival, study_id=0, series_id=0, now=0.0)
    position, orientation, frames = (values[name] for name in ("position", "orientation", "frames"))
    assert isinstance(frames, int)
    return InstanceRecord(
        id=InstanceId(place),
        sop_instance=arrival.sop_instance,
        sop_class=arrival.sop_class,
        transfer_syntax=arrival.transfer_syntax,
        digest=arrival.digest,
        size=arrival.size,
        path="",
        calling=arrival.calling,
        received_at=0.0,
        frames=frames,
        position=(position[0], position[1], position[2]) if isinstance(position, list) else None,
        orientation=tuple(orientation) if isinstance(orientation, list) else None,
        headers=arrival.headers if position is None else None,
    )
