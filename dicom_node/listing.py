"""What a PACS has of one study, instance by instance: and so, what is missing here.

Asked level by level, with all unique keys of the levels above, for that is what every archive understands
(PS3.4 §C.4.1.2.1).
"""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

from dicom_node.peers import PeerSettings
from dicom_node.query import Query, text_in, uid_in
from ledger.identifiers import AETitle, Uid

Level = Literal["STUDY", "SERIES", "IMAGE"]

_STUDY, _SERIES, _SOP_INSTANCE = (0x0020, 0x000D), (0x0020, 0x000E), (0x0008, 0x0018)
_SOP_CLASS, _MODALITY = (0x0008, 0x0016), (0x0008, 0x0060)
_UIDS_AT_ONCE = 64  # in one list of UIDs: 4 KiB, which no archive finds too long


@dataclass(frozen=True, slots=True)
class ListedSeries:
    """One series as a peer lists it: SOP Instance UID → SOP Class UID, None where the peer leaves it out."""

    series: Uid
    modality: str
    instances: Mapping[Uid, Uid | None]


@dataclass(frozen=True, slots=True)
class Listing:
    """One study as a peer lists it. No series: it does not know the study."""

    study: Uid
    series: tuple[ListedSeries, ...]

    @property
    def instances(self) -> frozenset[Uid]:
        """All of it."""
        return frozenset(uid for one in self.series for uid in one.instances)

    @property
    def sop_classes(self) -> frozenset[Uid]:
        """The SOP classes in it, as far as the peer says them."""
        classes = {sop_class for one in self.series for sop_class in one.instances.values()}
        return frozenset(each for each in classes if each is not None)

    @property
    def unsaid(self) -> frozenset[str]:
        """The modalities of the series of which the peer does not say all SOP classes."""
        return frozenset(one.modality for one in self.series if None in one.instances.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What one C-MOVE or C-GET asks for: a study, a series, or some instances of a series."""

    level: Level
    study: Uid
    series: Uid | None = None
    instances: tuple[Uid, ...] = ()


def list_study(peer: PeerSettings, *, calling: AETitle, study: Uid, deadline_s: float) -> Listing:
    """What `peer` has of the study. Raises `dicom_node.query.QueryRefused`, or another `PeerError`."""
    with Query.to(peer, calling=calling, deadline_s=deadline_s) as query:
        found: dict[Uid, str] = {}
        for match in query.find("SERIES", {_STUDY: study, _SERIES: "", _MODALITY: ""}):
            uid = uid_in(match, *_SERIES)
            if uid is not None and uid_in(match, *_STUDY) in (study, None):
                found[uid] = text_in(match, *_MODALITY)
        return Listing(
            study,
            tuple(
                ListedSeries(uid, modality, _instances(query, study, uid)) for uid, modality in found.items()
            ),
        )


def _instances(query: Query, study: Uid, series: Uid) -> dict[Uid, Uid | None]:
    keys: dict[tuple[int, int], Uid | str] = {
        _STUDY: study,
        _SERIES: series,
        _SOP_INSTANCE: "",
        _SOP_CLASS: "",
    }
    listed: dict[Uid, Uid | None] = {}
    for match in query.find("IMAGE", keys):
        uid = uid_in(match, *_SOP_INSTANCE)
        if uid is not None and uid_in(match, *_SERIES) in (series, None):
            listed[uid] = uid_in(match, *_SOP_CLASS)
    return listed


def missing(listing: Listing, held: AbstractSet[Uid], made: AbstractSet[Uid]) -> frozenset[Uid]:
    """What the peer has and we have not. What we made and sent there ourselves is not missing."""
    return listing.instances - held - made


def portions(listing: Listing, wanted: Collection[Uid]) -> list[Portion]:
    """How to ask for exactly `wanted`, in as few requests as possible: whole study, whole series, instances.

    What `listing` does not have is not asked for.
    """
    asked = frozenset(wanted)
    if listing.series and listing.instances <= asked:
        return [Portion(level="STUDY", study=listing.study)]
    found: list[Portion] = []
    for one in listing.series:
        here = sorted(asked.intersection(one.instances))
        if here and len(here) == len(one.instances):
            found.append(Portion(level="SERIES", study=listing.study, series=one.series))
        else:
            found += [
                Portion(level="IMAGE", study=listing.study, series=one.series, instances=tuple(part))
                for part in _in_parts(here)
            ]
    return found


def _in_parts(uids: Sequence[Uid]) -> list[Sequence[Uid]]:
    return [uids[start : start + _UIDS_AT_ONCE] for start in range(0, len(uids), _UIDS_AT_ONCE)]
