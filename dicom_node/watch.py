"""Looks at every open study, again and again: is it complete, and what is to be done with it?

The deciding is done by `closing` and `routing`, which know neither clock nor ledger; the facts are fetched by
`evidence`. Here what was decided is written in one transaction: the study closed, the reason, what every
witness and every rule said, and the jobs. Where an instance arrived in between, the ledger writes nothing and
the next round decides anew, from new facts.

Whoever knows of news wakes it: a sender that came or went, a peer that answered. Otherwise it looks every now
and then, and when no study is open it hardly looks at all.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import structlog

from dicom_node.closing import Verdict, pause_over_s, statements, verdict
from dicom_node.count_asking import CountAsking
from dicom_node.earlier import earlier_known
from dicom_node.early_series import EarlySeries
from dicom_node.evidence import Case, Evidence, OpenAssociations
from dicom_node.facts_known import facts_known
from dicom_node.fetching import ask_for_priors
from dicom_node.grid import grid_of
from dicom_node.peers import PeerSettings
from dicom_node.retention import HouseKeeper
from dicom_node.routing import Rule, RuleAnswer, jobs_of, route_study, routing_note
from dicom_node.rule_book import RuleBook
from dicom_node.series_facts import SeriesFacts
from dicom_node.settings import ClosingSettings
from dicom_node.waiting import Waiting
from ledger.channel import on_channels
from ledger.completeness import Statement, Witness
from ledger.errors import SiteError
from ledger.failpoint import failpoint
from ledger.identifiers import AETitle, JobId, StudyId, Uid
from ledger.store.ledger import Ledger
from ledger.study import RoutingNote, SeriesRecord, StudyRecord
from ledger.wish import WishKind, WishRecord

log = structlog.get_logger()

_ROUNDS_OF_REST = (
    20  # of a study that could not be judged: it is tried again, but not written about twice a second
)
_EVERY_S = 0.5  # A reader does not notice half a second; the ledger does not notice two questions a second.
_IDLE = 4  # times as long while no study is open: whoever sends wakes it
_SHORTEST_S = 0.1  # Between two rounds, whoever calls: news come in bursts.


#: Around the closing of a study: whether all that was promised to it is in the ledger.
Settled = Callable[[Uid], AbstractContextManager[bool]]


class Watch:
    """The thread that closes studies and keeps house."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        rules: Sequence[Rule],
        patience: ClosingSettings,
        associations: OpenAssociations,
        peers: Sequence[PeerSettings] = (),
        calling: AETitle | None = None,
        settled: Settled = lambda study: nullcontext(True),
        house_keeper: HouseKeeper | None = None,
        every_s: float = _EVERY_S,
    ) -> None:
        """Ready, but not looking yet: call `start`, or `look` for a single round.

        `rules` are asked as long as the ledger has no version of them. `calling` is our own AE title, by
        which `peers` are asked for counts.
        """
        self._ledger = ledger
        self._book = RuleBook(ledger, rules)
        self._in_force = self._book.version(None)
        self._settled = settled
        self._house_keeper = house_keeper
        self._every_s = every_s
        self._asking = CountAsking(ledger, peers, calling=calling or AETitle("WETREAD"), answered=self.wake)
        self._evidence = Evidence(
            ledger,
            peers=peers,
            patience=patience,
            associations=associations,
            asking=self._asking,
        )
        self._early = EarlySeries(ledger, self._evidence, self._facts_of)
        self._waiting = Waiting(ledger, self._book, self._facts_of)
        self._early.take(self._in_force)
        self._stopping = False
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._resting_until_s: dict[StudyId, float] = {}
        self._tidied_at = float("-inf")  # monotonic
        self._listening_since_s: float | None = None  # by the ledger's clock: known from the first round on
        self.rest_s = 0.0  #: seconds until the next round, unless somebody has news

    def start(self) -> None:
        """Begin to look."""
        self._asking.start()
        self._thread.start()

    def stop(self, within_s: float = 5.0) -> None:
        """Finish the study that is being closed, and no other: the rest is closed after the next start."""
        self._stopping = True
        self._asking.stop()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def wake(self) -> None:
        """There is news: look now. Costs nothing; may be called by any thread, as often as it likes."""
        self._news.set()

    def heard_list(self) -> None:
        """A sender listed what it sent, by asking for storage commitment: that is news."""
        self._evidence.heard_list()
        self._news.set()

    def look(self) -> list[Uid]:
        """One round: the studies that it closed.

        Raises `SiteError` where the ledger cannot be used. A study that cannot be judged does not hold up the
        others: what went wrong with it is raised after the round, and it rests for some rounds.
        """
        self._take_rules()
        now_s = self._ledger.now()
        if self._listening_since_s is None:
            self._listening_since_s = now_s
        studies = self._ledger.open_studies()
        open_now = {study.id for study in studies}
        self._evidence.begin(open_now)
        self._early.begin(open_now)
        self.rest_s = self._every_s if studies else self._every_s * _IDLE
        wished = {wish.study_id: wish for wish in self._wishes() if wish.study_id in open_now}
        closed = []
        stumbled: Exception | None = None
        for study in studies:
            if self._stopping:
                break
            if now_s < self._resting_until_s.get(study.id, now_s):
                continue
            try:
                if self._judge(study, now_s, self._listening_since_s, wished.get(study.id)):
                    closed.append(study.study)
                    self._resting_until_s.pop(study.id, None)
            except SiteError:
                raise
            except Exception as error:
                self._resting_until_s[study.id] = now_s + _ROUNDS_OF_REST * self._every_s
                stumbled = error
        self._waiting.look()
        if stumbled is not None:
            raise stumbled
        return closed

    def _take_rules(self) -> None:
        """The rules that somebody may have saved meanwhile; a round asks the same ones to its end."""
        asked = self._book.look()
        if asked is self._in_force:
            return
        self._in_force = asked
        self._early.take(asked)
        log.info("rules.taken", version=asked.version, rules=len(asked.rules))

    def _wishes(self) -> list[WishRecord]:
        """Who wants which study closed: whatever closes it answers them, in the same transaction."""
        return [wish for wish in self._ledger.wishes() if wish.kind is WishKind.CLOSE]

    def _judge(
        self, study: StudyRecord, now_s: float, listening_since_s: float, wished: WishRecord | None
    ) -> bool:
        """Close the study if it is to be closed, else look at its series; whether it was closed."""
        case = self._evidence.of(study, now_s=now_s, listening_since_s=listening_since_s)
        if wished is not None:
            asked = replace(case.facts, asked_by=wished.by, asked_because=wished.because)
            case = replace(case, facts=asked)
        judged = verdict(case.facts, case.patience)
        if judged.closed:
            # What was promised a moment ago belongs to the study, too.
            with self._settled(study.study) as settled:
                return settled and self._close(case, judged)
        self._early.look(case)
        next_s = min(case.look_again_s - now_s, pause_over_s(case.facts, case.patience))
        self.rest_s = min(self.rest_s, max(0.0, next_s))
        return False

    def _close(self, case: Case, judged: Verdict) -> bool:
        """Close it and open its jobs; False where something arrived in the meantime."""
        study = case.study
        series = [self._facts_of(record) for record in self._ledger.series_of(study.id)]
        answers = route_study(series, self._in_force.rules)
        ask_for_priors(self._ledger, study, answers)
        earlier = earlier_known(self._ledger, study, answers, self._facts_of)
        failpoint("before_close_commit")
        assert judged.closed_as is not None
        jobs = self._ledger.close_study(
            study.id,
            seen_instances=study.instances,
            seen_last_arrival_at=study.last_arrival_at,
            because=judged.because,
            closed_as=judged.closed_as,
            statements=[*statements(case.facts, case.patience, judged), *gaps_in(series, case.patience)],
            notes=notes_of(answers, rules=self._in_force.rules, series=series),
            jobs=on_channels(jobs_of(answers, earlier), self._ledger.channels()),
            rules=self._in_force.version or None,
        )
        failpoint("after_close_commit")
        if jobs is None:
            return False
        _tell(study, judged, series, answers, jobs)
        return True

    def _facts_of(self, record: SeriesRecord) -> SeriesFacts:
        return facts_known(self._ledger, record)

    def _run(self) -> None:
        self.rest_s = self._every_s
        while not self._stopping:
            self._news.wait(self.rest_s)
            self._news.clear()
            if self._stopping:
                return
            self.rest_s = self._every_s
            began = time.monotonic()
            try:
                self.look()
                self._tidy()
            except SiteError as error:
                log.warning("watch.waiting", because=str(error))
            except Exception:
                # Outermost loop of this thread: without this no study would ever be closed again.
                log.exception("watch.stumbled")
            self._pause(began)

    def _pause(self, began: float) -> None:
        """However much news there is: leave the ledger to the others for as long as a round took."""
        took = time.monotonic() - began
        time.sleep(max(_SHORTEST_S, took) if not self._stopping else 0.0)

    def _tidy(self) -> None:
        """Delete one expired study; come back in the next round while there are more."""
        keeper = self._house_keeper
        if keeper is None or time.monotonic() - self._tidied_at < keeper.every_s:
            return
        if keeper.tidy() is None:
            self._tidied_at = time.monotonic()


def gaps_in(series: Sequence[SeriesFacts], patience: ClosingSettings) -> list[Statement]:
    """What the geometry says is missing in the middle of series: nobody waits for it, but it is on record."""
    if Witness.GEOMETRY not in patience.witnesses:
        return []
    grids = [(one, grid_of(one)) for one in series]
    return [
        Statement(witness=Witness.GEOMETRY, because=grid.because, ours=one.images, series_id=one.series_id)
        for one, grid in grids
        if grid.gap and not one.ours
    ]


def notes_of(
    answers: Sequence[RuleAnswer], *, rules: Sequence[Rule], series: Sequence[SeriesFacts]
) -> list[RoutingNote]:
    """What the history says of this closing: why there are jobs, or why there are none."""
    if not rules:
        because = "there is no rule: save some in the console, or add a [[rule]] to wetread.toml"
        return [RoutingNote(series_id=None, rule="", taken=False, because=because)]
    if not series:
        return [RoutingNote(series_id=None, rule="", taken=False, because="the study has no series")]
    return [routing_note(each) for each in answers]


def _tell(
    study: StudyRecord,
    judged: Verdict,
    series: Sequence[SeriesFacts],
    answers: Sequence[RuleAnswer],
    jobs: Sequence[JobId],
) -> None:
    log.info(
        "study.closed",
        study=str(study.study),
        images=study.instances,
        series=len(series),
        taken=sum(answer.taken for answer in answers),
        jobs=list(jobs),
        closed_as=str(judged.closed_as),
        because=judged.because,
    )
