"""Gives a series its jobs as soon as it is complete itself, for rules with `when = "series"`.

The study stays open, and when it is closed every rule is asked again, of every series: the same images are
the same job, so nothing is done twice. One more image is another job, which replaces the first.
"""

from collections.abc import Callable

import structlog

from dicom_node.evidence import Case, Evidence
from dicom_node.grid import Grid, grid_of
from dicom_node.routing import Rule, RuleAnswer, jobs_of, route, routing_note
from dicom_node.rule_book import InForce
from dicom_node.series_closing import series_verdict
from dicom_node.series_facts import SeriesFacts
from ledger.channel import on_channels
from ledger.completeness import SeriesHeld, Statement, Witness
from ledger.failpoint import failpoint
from ledger.identifiers import SeriesId, StudyId
from ledger.store.ledger import Ledger
from ledger.study import SeriesRecord

log = structlog.get_logger()


class EarlySeries:
    """Looks at the series of open studies."""

    def __init__(
        self,
        ledger: Ledger,
        evidence: Evidence,
        facts_of: Callable[[SeriesRecord], SeriesFacts],
    ) -> None:
        self._ledger, self._evidence, self._facts_of = ledger, evidence, facts_of
        self._rules: tuple[Rule, ...] = ()
        self._version = 0
        self._grids: dict[SeriesId, tuple[int, Grid]] = {}  #: for so many instances
        self._routed: dict[SeriesId, int] = {}  #: with so many instances
        self._of_study: dict[StudyId, set[SeriesId]] = {}

    def take(self, asked: InForce) -> None:
        """From now on these rules are asked, of series that others have judged as well: the same job is
        opened once.
        """
        self._rules = tuple(rule for rule in asked.rules if rule.when == "series")
        self._version = asked.version
        self._evidence.per_series = bool(self._rules)
        self._routed.clear()

    def begin(self, open_studies: set[StudyId]) -> None:
        """Forget the series of other studies."""
        for study_id in self._of_study.keys() - open_studies:
            for series_id in self._of_study.pop(study_id):
                self._grids.pop(series_id, None)
                self._routed.pop(series_id, None)

    def look(self, case: Case) -> None:
        """Route each series of the study that is complete, once for each number of instances.

        Raises `SiteError` where the ledger cannot be used.
        """
        if not self._rules:
            return
        for held in case.series:
            if held.ours or self._routed.get(held.series_id) == held.instances:
                continue
            self._of_study.setdefault(case.study.id, set()).add(held.series_id)
            said = series_verdict(self._evidence.of_series(case, held, self._grid(case, held)), case.patience)
            if said is None:
                continue
            statement = Statement(
                witness=said.witness,
                by=said.by,
                because=said.because,
                ours=said.ours,
                theirs=said.theirs,
                decided=True,
                series_id=held.series_id,
            )
            if self._route(case, held, statement):
                self._routed[held.series_id] = held.instances

    def _grid(self, case: Case, held: SeriesHeld) -> Grid | None:
        """The geometry of a series that has been quiet for long enough; looked at once."""
        known = self._grids.get(held.series_id)
        if known is not None and known[0] == held.instances:
            return known[1]
        quiet_s = case.facts.now_s - held.last_arrival_at
        if Witness.GEOMETRY not in case.patience.witnesses or quiet_s < case.patience.series_quiet_s:
            return None
        record = self._record(case, held)
        if record is None:
            return None
        grid = grid_of(self._facts_of(record))
        self._grids[held.series_id] = (held.instances, grid)
        return grid

    def _route(self, case: Case, held: SeriesHeld, statement: Statement) -> bool:
        """Open its jobs; False where something arrived in the meantime."""
        record = self._record(case, held)
        if record is None:
            return False
        answers: list[RuleAnswer] = route(self._facts_of(record), self._rules)
        if not any(answer.taken for answer in answers):
            return True
        failpoint("before_series_commit")
        jobs = self._ledger.route_series(
            case.study.id,
            held.series_id,
            seen_instances=held.instances,
            notes=[routing_note(answer) for answer in answers],
            jobs=on_channels(jobs_of(answers), self._ledger.channels()),
            statement=statement,
            rules=self._version or None,
        )
        if jobs is None:
            return False
        log.info(
            "series.routed",
            study=str(case.study.study),
            series=str(held.series),
            images=held.instances,
            jobs=list(jobs),
            because=statement.because,
        )
        return True

    def _record(self, case: Case, held: SeriesHeld) -> SeriesRecord | None:
        """The series with its instances; None where it has changed since."""
        records = self._ledger.series_of(case.study.id)
        return next(
            (one for one in records if one.id == held.series_id and len(one.instances) == held.instances),
            None,
        )
