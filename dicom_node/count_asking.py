"""Asks peers how many images a study has, each in a thread of its own: a silent one holds nothing up.

One question per peer at a time, and one per study. A peer that did not answer rests before it is asked about
any study again. What it says is believed only where it can be true.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from dicom_node.closing import Counted
from dicom_node.count_schedule import Asked, due_s
from dicom_node.counts import SeriesCounts, StudyCount, count_series, count_study
from dicom_node.peers import PeerSettings
from dicom_node.settings import ClosingSettings
from ledger.errors import PeerError, SiteError
from ledger.identifiers import AETitle, StudyId, Uid
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord

log = structlog.get_logger()

_BELIEVED_MAXIMUM = 1_000_000  # No study has more instances: whoever says so is confused.
_REST_S, _REST_LONGEST_S = 5.0, 60.0  # Of a peer that did not answer: doubled from the first to the longest.


@dataclass(frozen=True, slots=True)
class CountSource:
    """How a peer is asked: both raise `PeerError`."""

    study: Callable[..., StudyCount | None]
    series: Callable[..., SeriesCounts]


def _study_by_web(
    peer: PeerSettings, *, calling: AETitle, study: Uid, deadline_s: float
) -> StudyCount | None:
    from dicom_node import web_query  # noqa: PLC0415  A site without the web need not wait for its libraries.

    return web_query.count_study(peer, study=study, deadline_s=deadline_s)


def _series_by_web(peer: PeerSettings, *, calling: AETitle, study: Uid, deadline_s: float) -> SeriesCounts:
    from dicom_node import web_query  # noqa: PLC0415

    return web_query.count_series(peer, study=study, deadline_s=deadline_s)


#: By the word in `count` of a [[peer]].
SOURCES: Mapping[str, CountSource] = {
    "find": CountSource(count_study, count_series),
    "qido": CountSource(_study_by_web, _series_by_web),
}


@dataclass(frozen=True, slots=True)
class Said:
    """An answer of a peer. Our own results are not counted."""

    theirs: int
    series: Mapping[Uid, int]
    by: str


class CountRefused(PeerError):
    """The peer answered with a number that no study has."""


@dataclass(frozen=True, slots=True)
class _Question:
    study: StudyRecord
    ours: int
    per_series: bool
    deadline_s: float


@dataclass(frozen=True, slots=True)
class _Known:
    asked: Asked
    opened_at: float  #: of the study: what was asked before it opened again tells nothing
    series: Mapping[Uid, tuple[int, float]]  #: of each series: instances, and since when the peer says so


class CountAsking:
    """All peers that count, each with its thread. `answered` is called after every answer."""

    def __init__(
        self,
        ledger: Ledger,
        peers: Sequence[PeerSettings],
        *,
        calling: AETitle,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[StudyId, str], _Known] = {}
        self._pending: set[StudyId] = set()
        self._ledger, self._calling, self._answered = ledger, calling, answered
        self._threads = {peer.name: _Peer(peer, self._ask) for peer in peers if peer.count != "none"}

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads.values():
            thread.start()

    def stop(self, within_s: float = 1.0) -> None:
        """Ask nothing more. A question that is still on its way then is left to its deadline."""
        for thread in self._threads.values():
            thread.stop()
        ends = time.monotonic() + within_s
        for thread in self._threads.values():
            thread.join(ends - time.monotonic())

    def counted(self, study: StudyRecord, peer: PeerSettings, *, ours: int) -> Counted:
        """What the peer said last since the study opened."""
        known = self._of(study, peer)
        if known is None:
            return Counted(peer=peer.name, ours=ours, theirs=None)
        return replace(known.asked.count, ours=ours)

    def counted_series(
        self, study: StudyRecord, peer: PeerSettings, series: Uid, *, ours: int
    ) -> Counted | None:
        """What the peer said last of one series of the study; None where it did not."""
        known = self._of(study, peer)
        said = known.series.get(series) if known is not None else None
        if known is None or said is None:
            return None
        return replace(known.asked.count, ours=ours, theirs=said[0], since_s=said[1])

    def consider(
        self,
        study: StudyRecord,
        peer: PeerSettings,
        *,
        now_s: float,
        ours: int,
        open_associations: int,
        patience: ClosingSettings,
        per_series: bool,
    ) -> float:
        """Ask about the study if that is due; when it will be due, by the database's clock.

        `per_series`: the number of each series is wanted, not only that of the study.
        """
        known = self._of(study, peer)
        asked = replace(known.asked, count=replace(known.asked.count, ours=ours)) if known else None
        when_s = due_s(
            asked,
            last_arrival_s=study.last_arrival_at,
            open_associations=open_associations,
            patience=patience,
        )
        with self._lock:
            if study.id in self._pending:
                return float("inf")  # Its answer will wake whoever waits.
            if when_s > now_s:
                return when_s
            self._pending.add(study.id)
        self._threads[peer.name].put(_Question(study, ours, per_series, patience.ask_deadline_s))
        return float("inf")

    def forget(self, open_studies: set[StudyId]) -> None:
        """Keep only what is known of these studies."""
        with self._lock:
            for key in [key for key in self._known if key[0] not in open_studies]:
                del self._known[key]

    def _of(self, study: StudyRecord, peer: PeerSettings) -> _Known | None:
        with self._lock:
            known = self._known.get((study.id, peer.name))
        return known if known is not None and known.opened_at == study.opened_at else None

    def _ask(self, peer: PeerSettings, question: _Question, resting: str) -> str:
        """Put one question, unless the peer is `resting` for some reason; why it should rest now, if so."""
        study = question.study
        said, failure, rest = None, resting, resting
        try:
            asked_s = self._ledger.now()
            if not resting:
                results = self._ledger.result_series(study.id)
                try:
                    said = ask(peer, question, calling=self._calling, results=results)
                except PeerError as error:
                    failure = str(error)
                    rest = "" if isinstance(error, CountRefused) else failure
                    log.info("count.failed", peer=peer.name, study=str(study.study), because=failure)
            self._keep(question, peer, said, asked_s, failure)
            self._ledger.record_count(
                study.id,
                peer.name,
                theirs=said.theirs if said else None,
                series=said.series if said else None,
                counted_by=said.by if said else "",
                asked_at=asked_s,
                failure=failure,
            )
        except SiteError as error:
            log.warning("count.not_recorded", peer=peer.name, because=str(error))
        finally:
            with self._lock:
                self._pending.discard(study.id)
            self._answered()
        return rest

    def _keep(
        self, question: _Question, peer: PeerSettings, said: Said | None, asked_s: float, failure: str
    ) -> None:
        study = question.study
        before = self._of(study, peer)
        old = before.asked if before is not None else None
        earlier = before.series if before is not None and not before.asked.count.failure else {}
        theirs = said.theirs if said is not None else (old.count.theirs if old is not None else None)
        same = old is not None and (old.count.theirs, bool(old.count.failure)) == (theirs, bool(failure))
        series: dict[Uid, tuple[int, float]] = {}
        for uid, number in (said.series if said is not None else {}).items():
            known = earlier.get(uid)
            series[uid] = known if known is not None and known[0] == number else (number, asked_s)
        count = Counted(
            peer=peer.name,
            ours=question.ours,
            theirs=theirs,
            asked_s=asked_s,
            since_s=old.count.since_s if old is not None and same else asked_s,
            failure=failure,
        )
        asked = Asked(
            count=count,
            questions=old.questions + 1 if old is not None else 1,
            alike=old.alike + 1 if old is not None and same else 1,
        )
        with self._lock:
            self._known[study.id, peer.name] = _Known(asked, study.opened_at, series)


def ask(peer: PeerSettings, question: _Question, *, calling: AETitle, results: frozenset[Uid]) -> Said:
    """Put a question to a peer; `results` are series that we made. Raises `PeerError`, `CountRefused`.

    Its number of the study counts our own results too: where there are any, only its series tell. A study
    that it does not know has no images there.
    """
    source, study = SOURCES[peer.count], question.study.study
    how = {"calling": calling, "study": study, "deadline_s": question.deadline_s}
    if not question.per_series and not results:
        whole = source.study(peer, **how)
        if whole is None:
            return Said(0, {}, "")
        _believe(peer, whole.instances)
        if whole.instances <= question.ours:
            return Said(whole.instances, {}, str(whole.by))
        # Whoever fetches what is missing wants to know of which series it is.
        each = source.series(peer, **how)
        return Said(whole.instances, _numbers(peer, each, results), str(whole.by))
    each = source.series(peer, **how)
    numbers = _numbers(peer, each, results)
    return Said(sum(numbers.values()), numbers, str(each.by))


def _numbers(peer: PeerSettings, each: SeriesCounts, results: frozenset[Uid]) -> dict[Uid, int]:
    numbers = {uid: number for uid, number in each.instances.items() if uid not in results}
    for number in numbers.values():
        _believe(peer, number)
    _believe(peer, sum(numbers.values()))
    return numbers


def _believe(peer: PeerSettings, number: int) -> None:
    if not 0 <= number <= _BELIEVED_MAXIMUM:
        raise CountRefused(f"{peer.name} says that it has {number} images of the study, which cannot be")


class _Peer:
    """The thread that asks one peer, in the order in which it is told to."""

    def __init__(self, peer: PeerSettings, ask: Callable[[PeerSettings, _Question, str], str]) -> None:
        self._peer, self._ask = peer, ask
        self._queue: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"count-{peer.name}", daemon=True)
        self._stopping = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._queue.put(None)

    def join(self, within_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(max(0.0, within_s))

    def put(self, question: _Question) -> None:
        self._queue.put(question)

    def _run(self) -> None:
        failure, failures, rests_until = "", 0, 0.0
        while (question := self._queue.get()) is not None and not self._stopping:
            resting = time.monotonic() < rests_until
            try:
                told = self._ask(self._peer, question, failure if resting else "")
            except Exception as error:  # The outermost loop of this thread: the next question comes.
                log.error("count.stumbled", peer=self._peer.name, error=type(error).__name__, exc_info=True)
                continue
            if resting:
                continue
            failure = told
            failures = failures + 1 if failure else 0
            rests_until = time.monotonic() + (
                min(_REST_LONGEST_S, _REST_S * 2.0 ** min(failures - 1, 10)) if failure else 0.0
            )
