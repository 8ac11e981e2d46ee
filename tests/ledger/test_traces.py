"""Which studies are settled: over SQLite and over PostgreSQL."""

from ledger.store.ledger import Ledger
from tests.ledger.site import claim, close, finish, queued_job, receive, send


def test_a_study_is_settled_once_its_results_have_arrived_and_told_once(ledger: Ledger) -> None:
    assert ledger.settled_studies() == []
    job_id = queued_job(ledger)
    assert ledger.settled_studies() == []
    deliveries = finish(ledger, claim(ledger, job_id))
    assert ledger.settled_studies() == []
    for one in deliveries:
        send(ledger, one)
        ledger.confirm_delivery(one, "found")
    (study,) = ledger.settled_studies()
    (job,) = study.jobs
    assert (study.calling, study.instances, study.closed_as) == ("SCANNER", 3, "presumed")
    assert (job.id, job.model, job.outcome, len(job.deliveries)) == (job_id, "lung_ct", "found", 2)
    assert all(one.committed_at is not None for one in job.deliveries)
    ledger.keep_traced([study])
    ledger.keep_traced([study])
    assert ledger.settled_studies() == []


def test_a_study_that_was_closed_again_is_another_story(ledger: Ledger) -> None:
    ledger.settled_studies()
    study_id = receive(ledger, "1.2.3")
    close(ledger, study_id)
    first = ledger.settled_studies()
    ledger.keep_traced(first)
    receive(ledger, "1.2.3", [4])
    assert ledger.settled_studies() == []
    close(ledger, study_id)
    (again,) = ledger.settled_studies()
    assert (again.id, again.generation) == (first[0].id, first[0].generation + 1)
