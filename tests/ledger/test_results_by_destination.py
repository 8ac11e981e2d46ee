"""A result goes to the destinations that it is for, and each of them keeps its own line of reports."""

from dataclasses import replace

from ledger.holding import StudyFilter
from ledger.identifiers import Uid
from ledger.job import Outcome
from ledger.result import Role, of_one_plan
from ledger.store.ledger import Ledger
from tests.ledger.site import claim, close, new_job, receive, result, send, slice_of


def _finish(ledger: Ledger, held, of: str) -> None:
    """Two plans that share the segmentation, with a report each."""
    both = replace(result(Role.SEGMENTATION, 1, of), peers=("PACS", "RESEARCH"))
    first = replace(result(Role.REPORT, 2, of), peers=("PACS",))
    second = replace(result(Role.REPORT, 3, of), peers=("RESEARCH",))
    ledger.finish_job(
        held,
        outcome=Outcome.FOUND,
        because="",
        model_identity="lungs@1",
        results=[second, both, first],
        timings={},
    )


def test_deliveries_are_opened_for_those_a_result_is_for_and_for_nobody_else(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (job_id,) = close(ledger, study_id, [new_job(ledger, study_id, to=("PACS", "RESEARCH"))])
    _finish(ledger, claim(ledger, job_id), "2.25.7")
    opened = {(one.peer, one.result.role): one.result for one in ledger.deliveries_of(job_id)}
    assert len(opened) == len(ledger.deliveries_of(job_id)) == 4
    assert opened["PACS", Role.SEGMENTATION] == opened["RESEARCH", Role.SEGMENTATION]
    assert opened["PACS", Role.REPORT].sop_instance != opened["RESEARCH", Role.REPORT].sop_instance
    assert opened["PACS", Role.REPORT].peers == ("PACS",)
    # What lies here to be looked at is one plan, with one report.
    held = ledger.held_study(Uid("1.2.3"))
    assert held is not None
    assert [one.modality for one in held.series if one.instances[0].made] == ["SEG", "SR"]
    assert len(list(ledger.held_studies(StudyFilter(), instances=False))) == 1


def test_each_destination_has_the_predecessor_that_it_got_itself(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    to = ("PACS", "RESEARCH", "NEW")
    (first,) = close(ledger, study_id, [new_job(ledger, study_id, to=to[:2])])
    _finish(ledger, claim(ledger, first), "2.25.7")
    for one in ledger.deliveries_of(first):
        send(ledger, one.id)
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second,) = close(ledger, study_id, [new_job(ledger, study_id, to=to)])
    held = claim(ledger, second)
    theirs = {one.peer: one.result for one in ledger.deliveries_of(first) if one.result.role is Role.REPORT}
    assert held.predecessors == theirs
    assert held.predecessors.keys() == {"PACS", "RESEARCH"}


def test_a_run_that_was_given_up_before_it_succeeded_says_one_thing() -> None:
    given_up, segmentation, report = (
        result(Role.REPORT, 1),
        result(Role.SEGMENTATION, 2),
        replace(result(Role.REPORT, 3), peers=("PACS",)),
    )
    elsewhere = replace(result(Role.REPORT, 4), peers=("VNA",))
    assert of_one_plan([given_up, segmentation, report, elsewhere]) == [segmentation, report]
    assert of_one_plan([given_up]) == [given_up]
