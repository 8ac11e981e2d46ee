"""Fetches what witnesses of completeness need to know: from the ledger, open associations, and peers.

What changes only when something arrives, or when a sender lists what it sent, is fetched only then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dicom_node import closing
from dicom_node.closing import Counted, ListedFacts, StudyFacts
from dicom_node.count_asking import CountAsking
from dicom_node.grid import Grid
from dicom_node.patience import counting, patience_with
from dicom_node.peers import PeerSettings
from dicom_node.series_closing import SeriesStanding
from dicom_node.settings import ClosingSettings
from ledger.completeness import Listed, SeriesHeld, Witness
from ledger.identifiers import StudyId
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord


class OpenAssociations(Protocol):
    """Who knows which associations are open."""

    def open_for(self, study_id: StudyId) -> int:
        """How many open associations have sent at least one instance of the study."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What was fetched of a study, and for which state of it."""

    instances: int
    last_arrival_at: float
    series: tuple[SeriesHeld, ...]
    listed: Listed | None
    fetched: int | None = None  #: because it was missing; None: not asked yet

    @property
    def ours(self) -> int:
        return sum(one.instances for one in self.series if not one.ours)


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known of one open study at one moment."""

    study: StudyRecord
    facts: StudyFacts
    patience: ClosingSettings
    series: tuple[SeriesHeld, ...]
    listed: Listed | None
    counter: PeerSettings | None  #: who is asked for counts
    look_again_s: float  #: when something will have to be asked, by the database's clock


class Evidence:
    """Makes cases of open studies. Used by one thread; `heard_list` may be called by any."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        peers: Sequence[PeerSettings],
        patience: ClosingSettings,
        associations: OpenAssociations,
        asking: CountAsking,
    ) -> None:
        self._ledger, self._peers, self._patience = ledger, tuple(peers), patience
        self._associations, self._asking = associations, asking
        self.per_series = False  #: Some rule wants to know of each series whether it is complete.
        self._held: dict[StudyId, _Held] = {}
        self._lists_heard = 0
        self._lists_known = 0

    def heard_list(self) -> None:
        """A sender listed what it sent: what is known of lists is out of date."""
        self._lists_heard += 1

    def begin(self, open_studies: set[StudyId]) -> None:
        """A new round over these studies."""
        self._asking.forget(open_studies)
        heard = self._lists_heard
        fresh = heard == self._lists_known
        self._held = {id: one for id, one in self._held.items() if fresh and id in open_studies}
        self._lists_known = heard

    def of(self, study: StudyRecord, *, now_s: float, listening_since_s: float) -> Case:
        """The case of one study; a question is put to its peer if one is due."""
        patience = patience_with(study.calling, self._peers, self._patience)
        held = self._fetch(study, lists=Witness.COMMITMENT in patience.witnesses)
        # Of a study of which only our own results are here, which came back, nothing is missing.
        peer = counting(patience, self._peers) if held.ours else None
        open_associations = self._associations.open_for(study.id)
        counted: Counted | None = None
        look_again_s = float("inf")
        if peer is not None:
            look_again_s = self._asking.consider(
                study,
                peer,
                now_s=now_s,
                ours=held.ours,
                open_associations=open_associations,
                patience=patience,
                per_series=self.per_series,
            )
            counted = self._asking.counted(study, peer, ours=held.ours)
            if peer.retrieve != "none":
                counted = replace(counted, fetched=self._fetched(study, held))
        facts = closing.facts_of(
            study,
            now_s=now_s,
            open_associations=open_associations,
            listening_since_s=listening_since_s,
            count=counted,
            listed=_listed(held),
        )
        return Case(study, facts, patience, held.series, held.listed, peer, look_again_s)

    def of_series(self, case: Case, series: SeriesHeld, grid: Grid | None) -> SeriesStanding:
        """What is known of one series of it."""
        counted: Counted | None = None
        if case.counter is not None:
            counted = self._asking.counted_series(
                case.study, case.counter, series.series, ours=series.instances
            )
        listed = case.listed or Listed()
        return SeriesStanding(
            now_s=case.facts.now_s,
            last_arrival_s=series.last_arrival_at,
            open_associations=case.facts.open_associations,
            instances=series.instances,
            count=counted,
            listed_by=" and ".join(listed.by),
            named=listed.named.get(series.series_id, 0),
            grid=grid,
        )

    def _fetched(self, study: StudyRecord, held: _Held) -> int:
        if held.fetched is None:
            held = replace(held, fetched=self._ledger.fetched_of(study.id))
            self._held[study.id] = held
        return held.fetched or 0

    def _fetch(self, study: StudyRecord, *, lists: bool) -> _Held:
        held = self._held.get(study.id)
        state = (study.instances, study.last_arrival_at)
        if held is None or (held.instances, held.last_arrival_at) != state:
            listed = self._ledger.listed(study.id) if lists else None
            held = _Held(*state, tuple(self._ledger.series_held(study.id)), listed)
            self._held[study.id] = held
        return held


def _listed(held: _Held) -> ListedFacts | None:
    listed = held.listed
    if listed is None or not (listed.by or listed.lacking):
        return None
    ours = {one.series_id for one in held.series if one.ours}
    return ListedFacts(
        by=" and ".join(listed.by),
        ours=held.ours,
        named=sum(number for series_id, number in listed.named.items() if series_id not in ours),
        lacking=listed.lacking,
    )
