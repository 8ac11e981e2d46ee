"""Gives jobs that wait the earlier examinations that have come, and lets them begin once no more will come.

The ledger knows which jobs wait, and until when; where this never looks, they begin then with what they have.
"""

from collections.abc import Callable

import structlog

from dicom_node.earlier import earlier_known
from dicom_node.routing import jobs_of, route_study
from dicom_node.rule_book import RuleBook
from dicom_node.series_facts import SeriesFacts
from ledger.channel import on_channels
from ledger.identifiers import JobId
from ledger.job import NewJob, WaitingJob
from ledger.store.ledger import Ledger
from ledger.study import SeriesRecord, StudyState

log = structlog.get_logger()


class Waiting:
    """Looks at the jobs that wait."""

    def __init__(
        self, ledger: Ledger, book: RuleBook, facts_of: Callable[[SeriesRecord], SeriesFacts]
    ) -> None:
        self._ledger, self._book, self._facts_of = ledger, book, facts_of
        self._seen: dict[JobId, tuple[object, ...]] = {}  #: what was known of the fetches at the latest look

    def look(self) -> None:
        """One round. Raises `SiteError` where the ledger cannot be used."""
        waiting = self._ledger.waiting_jobs()
        self._seen = {one.id: self._seen[one.id] for one in waiting if one.id in self._seen}
        for one in waiting:
            study = self._ledger.study(one.study_id)
            if study.state is not StudyState.CLOSED:
                continue  # It is judged anew when it is closed.
            standing = tuple((each.id, each.state) for each in self._ledger.fetches_of(study.study))
            if self._seen.get(one.id) != standing:
                self._give(one)
                self._seen[one.id] = standing

    def _give(self, waiting: WaitingJob) -> None:
        study = self._ledger.study(waiting.study_id)
        series = [self._facts_of(record) for record in self._ledger.series_of(study.id)]
        # What was routed stays routed: its rule may have been changed since.
        answers = route_study(series, self._book.version(study.rules).rules)
        earlier = earlier_known(self._ledger, study, answers, self._facts_of)
        known = earlier.get(waiting.rule)
        jobs = on_channels(jobs_of(answers, earlier), self._ledger.channels())
        new = next((one for one in jobs if _is(one, waiting)), None)
        if known is None or new is None or (new.key == waiting.key and not known.settled):
            return
        because = known.because + ("" if known.settled else ", and it waits for more")
        if self._ledger.give_earlier(waiting, new, due=known.settled, because=because):
            log.info("job.earlier", job=waiting.id, due=known.settled, because=because)


def _is(new: NewJob, waiting: WaitingJob) -> bool:
    subject = new.subject or str(new.series_id)
    return (new.rule, subject, new.shadow) == (waiting.rule, waiting.subject, waiting.shadow)
