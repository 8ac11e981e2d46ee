"""Which earlier examinations a job of timelines is given, and whether more of them are still to come.

An earlier study counts once all of it was fetched: half an examination is no examination. Of each, one series
is taken, by the conditions of the same rule. Whether it is the same patient is asked once more, of the
headers that are here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dicom_node.priors import another_patient, patient_of
from dicom_node.routing import EarlierKnown, Rule, RuleAnswer
from dicom_node.series_facts import SeriesFacts, most_first, thinnest_first
from ledger.fetch import FetchRecord, FetchState, Purpose
from ledger.store.ledger import Ledger
from ledger.study import SeriesRecord, StudyRecord


def earlier_known(
    ledger: Ledger,
    study: StudyRecord,
    answers: Sequence[RuleAnswer],
    facts_of: Callable[[SeriesRecord], SeriesFacts],
) -> Mapping[str, EarlierKnown]:
    """For each rule that waits and has taken a series of the study."""
    known = {}
    for answer in answers:
        if answer.taken and answer.rule.waits and answer.rule.name not in known:
            known[answer.rule.name] = _known(ledger, study, answer, facts_of)
    return known


def _known(
    ledger: Ledger,
    study: StudyRecord,
    answer: RuleAnswer,
    facts_of: Callable[[SeriesRecord], SeriesFacts],
) -> EarlierKnown:
    rule, priors = answer.rule, answer.rule.priors
    assert priors is not None
    fetches = [one for one in ledger.fetches_of(study.study, peer=priors.peer) if one.told_with == study.id]
    searches = [one for one in fetches if one.purpose is Purpose.PRIORS and one.terms == priors.terms()]
    found = [one for one in fetches if one.purpose is Purpose.PRIOR]
    chosen = []
    for uid in dict.fromkeys(one.study for one in found if one.state is FetchState.FETCHED):
        came = ledger.study_by_uid(uid)
        series = [] if came is None else [facts_of(record) for record in ledger.series_of(came.id)]
        best = best_earlier(rule, answer.series, series)
        if best is not None:
            chosen.append(best)
    chosen.sort(key=lambda one: (_day(one), one.series), reverse=True)
    here = tuple(chosen[: priors.number])
    return EarlierKnown(
        series=here,
        settled=is_settled(searches, found),
        because=f"{len(here)} of at most {priors.number} earlier examinations are here",
    )


def is_settled(searches: Sequence[FetchRecord], found: Sequence[FetchRecord]) -> bool:
    """Whether they were looked for, and all that were found are here or given up."""
    return bool(searches) and all(one.state is not FetchState.ASKED for one in (*searches, *found))


def best_earlier(rule: Rule, current: SeriesFacts, study: Sequence[SeriesFacts]) -> SeriesFacts | None:
    """The series of an earlier study that the rule would take; None where there is none, or of a stranger."""
    # What was fetched as a prior is never analysed by itself; here it is not.
    takes = [one for one in (replace(one, prior_of=None) for one in study) if rule.refusal(one) is None]
    mine = [
        one
        for one in takes
        if another_patient(patient_of(current.headers), patient_of(one.headers)) is None
        and _day(one) <= _day(current)
    ]
    return min(mine, key=most_first if rule.choose == "most" else thinnest_first, default=None)


def _day(series: SeriesFacts) -> str:
    return series.headers.get("StudyDate", "").strip(" \0")
