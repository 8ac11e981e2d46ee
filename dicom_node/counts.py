"""How many instances does the PACS have? Number of Study and of Series Related Instances by C-FIND.

(0020,1208) and (0020,1209) are optional for an SCP (PS3.4 §C.6.2.1). Where a peer leaves one out it is asked
for the next level down, and at last for the instances themselves, which are counted here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.peers import PeerSettings
from dicom_node.query import Query, count_in, uid_in
from ledger.identifiers import AETitle, Uid

_STUDY, _SERIES = (0x0020, 0x000D), (0x0020, 0x000E)
_SOP_INSTANCE = (0x0008, 0x0018)
_OF_STUDY, _OF_SERIES = (0x0020, 0x1208), (0x0020, 0x1209)


class CountedBy(StrEnum):
    """Where a count comes from."""

    STUDY = "number of study related instances"  #: (0020,1208)
    SERIES = "number of series related instances"  #: (0020,1209)
    LISTING = "a list of the instances"  #: one match for each


@dataclass(frozen=True, slots=True)
class StudyCount:
    """What a peer says that it has of one study."""

    instances: int
    by: CountedBy


@dataclass(frozen=True, slots=True)
class SeriesCounts:
    """What a peer says that it has of each series of one study: Series Instance UID → instances."""

    instances: Mapping[Uid, int]
    by: CountedBy  #: LISTING as soon as one series had to be listed


def count_study(peer: PeerSettings, *, calling: AETitle, study: Uid, deadline_s: float) -> StudyCount | None:
    """How many instances `peer` has of the study; None where it does not know the study.

    Raises `dicom_node.query.QueryRefused`, or another `PeerError` where the peer is away or silent.
    """
    with Query.to(peer, calling=calling, deadline_s=deadline_s) as query:
        matches = list(query.find("STUDY", {_STUDY: study, _OF_STUDY: ""}))
        # A peer that ignores the key would answer with all it has: only this study counts.
        mine = [match for match in matches if uid_in(match, *_STUDY) == study]
        if not mine:
            return None
        counted = [count for match in mine if (count := count_in(match, *_OF_STUDY)) is not None]
        if counted:
            return StudyCount(max(counted), CountedBy.STUDY)
        series = _series(query, study)
        return StudyCount(sum(series.instances.values()), series.by)


def count_series(peer: PeerSettings, *, calling: AETitle, study: Uid, deadline_s: float) -> SeriesCounts:
    """How many instances `peer` has of each series of the study; none where it does not know the study.

    Raises as `count_study`.
    """
    with Query.to(peer, calling=calling, deadline_s=deadline_s) as query:
        return _series(query, study)


def _series(query: Query, study: Uid) -> SeriesCounts:
    found: dict[Uid, int | None] = {}
    for match in query.find("SERIES", {_STUDY: study, _SERIES: "", _OF_SERIES: ""}):
        series = uid_in(match, *_SERIES)
        # The study's UID is a unique key of a level above, which an SCP need not return.
        if series is not None and uid_in(match, *_STUDY) in (study, None):
            found[series] = count_in(match, *_OF_SERIES)
    unknown = [series for series, count in found.items() if count is None]
    counts = {series: count for series, count in found.items() if count is not None}
    for series in unknown:
        keys: dict[tuple[int, int], Uid | str] = {_STUDY: study, _SERIES: series, _SOP_INSTANCE: ""}
        matches = query.find("IMAGE", keys)
        listed = {
            uid_in(match, *_SOP_INSTANCE) for match in matches if uid_in(match, *_SERIES) in (series, None)
        }
        counts[series] = len(listed - {None})
    return SeriesCounts(counts, CountedBy.LISTING if unknown else CountedBy.SERIES)
