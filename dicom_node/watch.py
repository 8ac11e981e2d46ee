"""Looks at every open study, again and again: is it complete, and what is to be done with it?

The deciding is done by `closing` and `routing`, which know neither clock nor ledger. Here the facts are
fetched, and what was decided is written in one transaction: the study closed, the reason, what every rule
said of every series, and the jobs. Where an instance arrived in between, the ledger writes nothing and the
next round decides anew, from new facts.
"""

import threading
import time
from collections.abc import Sequence
from typing import Protocol

import structlog

from dicom_node import closing, series_facts
from dicom_node.closing import Verdict, verdict
from dicom_node.retention import HouseKeeper
from dicom_node.routing import Rule, RuleAnswer, job_key, route_study
from dicom_node.series_facts import SeriesFacts
from dicom_node.settings import ClosingSettings
from ledger.errors import SiteError
from ledger.failpoint import failpoint
from ledger.identifiers import JobId, SeriesId, StudyId, Uid
from ledger.job import NewJob
from ledger.store.ledger import Ledger
from ledger.study import RoutingNote, SeriesRecord, StudyRecord

log = structlog.get_logger()

_ROUNDS_OF_REST = (
    20  # of a study that could not be judged: it is tried again, but not written about twice a second
)
_EVERY_S = 0.5  # A reader does not notice half a second; the ledger does not notice two questions a second.


class OpenAssociations(Protocol):
    """Who knows which associations are open."""

    def open_for(self, study_id: StudyId) -> int:
        """How many open associations have sent at least one instance of the study."""


class Watch:
    """The thread that closes studies and keeps house."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        rules: Sequence[Rule],
        patience: ClosingSettings,
        associations: OpenAssociations,
        house_keeper: HouseKeeper | None = None,
        every_s: float = _EVERY_S,
    ) -> None:
        """Ready, but not looking yet: call `start`, or `look` for a single round."""
        self._ledger = ledger
        self._rules = tuple(rules)
        self._patience = patience
        self._associations = associations
        self._house_keeper = house_keeper
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._resting_until_s: dict[StudyId, float] = {}
        self._tidied_at = float("-inf")  # monotonic
        self._listening_since_s: float | None = None  # by the ledger's clock: known from the first round on

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, within_s: float = 5.0) -> None:
        """Finish the study that is being closed, and no other: the rest is closed after the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def look(self) -> list[Uid]:
        """One round: the studies that it closed.

        Raises `SiteError` where the ledger cannot be used. A study that cannot be judged does not hold up the
        others: what went wrong with it is raised after the round, and it rests for some rounds.
        """
        now_s = self._ledger.now()
        if self._listening_since_s is None:
            self._listening_since_s = now_s
        closed = []
        stumbled: Exception | None = None
        for study in self._ledger.open_studies():
            if self._stopping.is_set():
                break
            if now_s < self._resting_until_s.get(study.id, now_s):
                continue
            facts = closing.facts_of(
                study,
                now_s=now_s,
                open_associations=self._associations.open_for(study.id),
                listening_since_s=self._listening_since_s,
            )
            judged = verdict(facts, self._patience)
            if not judged.closed:
                continue
            try:
                if self._close(study, judged):
                    closed.append(study.study)
                    self._resting_until_s.pop(study.id, None)
            except SiteError:
                raise
            except Exception as error:
                self._resting_until_s[study.id] = now_s + _ROUNDS_OF_REST * self._every_s
                stumbled = error
        if stumbled is not None:
            raise stumbled
        return closed

    def _close(self, study: StudyRecord, judged: Verdict) -> bool:
        """Close it and open its jobs; False where something arrived in the meantime."""
        series = [self._facts_of(record) for record in self._ledger.series_of(study.id)]
        answers = route_study(series, self._rules)
        failpoint("before_close_commit")
        jobs = self._ledger.close_study(
            study.id,
            seen_instances=study.instances,
            seen_last_arrival_at=study.last_arrival_at,
            because=judged.because,
            notes=notes_of(answers, rules=self._rules, series=series),
            jobs=[new_job(answer) for answer in answers if answer.taken],
        )
        failpoint("after_close_commit")
        if jobs is None:
            return False
        _tell(study, judged, series, answers, jobs)
        return True

    def _facts_of(self, record: SeriesRecord) -> SeriesFacts:
        # A result of ours stands alone in its series: its first instance tells.
        ours = bool(record.instances) and self._ledger.is_our_result(record.instances[0].sop_instance)
        return series_facts.facts_of(record, ours=ours)

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            try:
                self.look()
                self._tidy()
            except SiteError as error:
                log.warning("watch.waiting", because=str(error))
            except Exception:
                # Outermost loop of this thread: without this no study would ever be closed again.
                log.exception("watch.stumbled")

    def _tidy(self) -> None:
        """Delete one expired study; come back in the next round while there are more."""
        keeper = self._house_keeper
        if keeper is None or time.monotonic() - self._tidied_at < keeper.every_s:
            return
        if keeper.tidy() is None:
            self._tidied_at = time.monotonic()


def notes_of(
    answers: Sequence[RuleAnswer], *, rules: Sequence[Rule], series: Sequence[SeriesFacts]
) -> list[RoutingNote]:
    """What the history says of this closing: why there are jobs, or why there are none."""
    if not rules:
        return [_note(None, "", False, "no rule is configured: add a [[rule]] to wetread.toml")]
    if not series:
        return [_note(None, "", False, "the study has no series")]
    return [_note(each.series.series_id, each.rule.name, each.taken, each.because) for each in answers]


def _note(series_id: SeriesId | None, rule: str, taken: bool, because: str) -> RoutingNote:
    return RoutingNote(series_id=series_id, rule=rule, taken=taken, because=because)


def new_job(answer: RuleAnswer) -> NewJob:
    """The job that a rule asks for by taking a series."""
    rule, series = answer.rule, answer.series
    return NewJob(
        key=job_key(rule, (instance.sop_instance for instance in series.instances)),
        series_id=series.series_id,
        rule=rule.name,
        model=rule.model,
        settings=dict(rule.settings),
        priority=rule.priority,
        destinations=rule.deliver_to,
        inputs=tuple(instance.id for instance in series.instances),
    )


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
        because=judged.because,
    )
