import pytest

from ledger.delivery import DeliveryEvent
from ledger.store.ledger import Ledger
from ledger.study import StudyState
from ledger.transition import IllegalTransition
from tests.ledger.site import (
    OPERATOR,
    claim,
    close,
    digest,
    finish,
    new_job,
    queued_job,
    receive,
    send,
    slice_of,
)


def purgeable(ledger: Ledger) -> list[str]:
    return [str(study.study) for study in ledger.purgeable_studies(older_than=ledger.now() + 1)]


def committed_study(ledger: Ledger, study: str = "1.2.3"):
    job_id = queued_job(ledger, study)
    for delivery_id in finish(ledger, claim(ledger, job_id)):
        send(ledger, delivery_id)
        ledger.confirm_delivery(delivery_id, "the answer")
    return ledger.job(job_id).study_id, job_id


def test_a_study_whose_results_are_committed_may_go_when_it_is_old_enough(ledger: Ledger) -> None:
    study_id, _ = committed_study(ledger)
    assert purgeable(ledger) == ["1.2.3"]
    assert ledger.purgeable_studies(older_than=ledger.study(study_id).last_arrival_at) == []


def test_a_closed_study_that_no_rule_took_may_go(ledger: Ledger) -> None:
    close(ledger, receive(ledger, "1.2.3"))
    assert purgeable(ledger) == ["1.2.3"]


def test_what_is_open_or_owed_stays(ledger: Ledger) -> None:
    receive(ledger, "1.2.1")
    queued_job(ledger, "1.2.2")
    claim(ledger, queued_job(ledger, "1.2.3"))
    ledger.park_job(claim(ledger, queued_job(ledger, "1.2.4")), "for an operator to see")
    finish(ledger, claim(ledger, queued_job(ledger, "1.2.5")))
    leaf, root = finish(ledger, claim(ledger, queued_job(ledger, "1.2.6")))
    send(ledger, leaf, DeliveryEvent.REFUSED, status=0xC000)
    send(ledger, root)
    ledger.confirm_delivery(root, "the answer")
    assert purgeable(ledger) == []
    for study in ledger.studies():
        with pytest.raises(IllegalTransition):
            ledger.purge_study(study.id, "30 days old")
    assert ledger.counts().instances == 18

    ledger.cancel_delivery(leaf, "not wanted", by=OPERATOR)
    assert purgeable(ledger) == ["1.2.6"]


def test_purging_names_the_files_and_keeps_the_story(ledger: Ledger) -> None:
    study_id, job_id = committed_study(ledger)
    told = len(ledger.history(study_id=study_id))
    result_paths = {made.path for made in ledger.results_of(job_id)}

    paths = ledger.purge_study(study_id, "30 days old")

    assert set(paths) == {slice_of("1.2.3", n).path for n in (1, 2, 3)} | result_paths
    assert list(ledger.known_paths()) == []
    assert ledger.study(study_id).state is StudyState.PURGED
    assert ledger.series_of(study_id) == []
    assert ledger.is_our_result(ledger.results_of(job_id)[0].sop_instance)
    assert [e.because for e in ledger.history(study_id=study_id)[told:]] == ["30 days old"]
    with pytest.raises(IllegalTransition, match="a purged study cannot be expired"):
        ledger.purge_study(study_id, "again")


def test_a_file_that_something_else_needs_is_not_named(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1])
    shared = slice_of("1.2.3", 1)
    ledger.record_quarantine(
        sop_instance="1.2",
        digest=digest("other"),
        path=shared.path,
        because="for a test",
        calling="SCANNER",
        address="127.0.0.1",
        study_id=None,
    )
    close(ledger, study_id)
    assert ledger.purge_study(study_id, "old") == []


def test_a_purged_study_that_is_sent_again_is_open_again_and_counts_what_is_held(ledger: Ledger) -> None:
    study_id, job_id = committed_study(ledger)
    ledger.purge_study(study_id, "old")

    receipts = ledger.record_arrivals([slice_of("1.2.3", 1), slice_of("1.2.3", 9, series=2)])

    assert [(r.kind.value, r.reopened) for r in receipts] == [("new", True), ("new", True)]
    study = ledger.study(study_id)
    assert (study.state, study.instances, study.series) == (StudyState.OPEN, 2, 2)
    assert close(ledger, study_id, [new_job(ledger, study_id)]) != [job_id]


def test_a_cancelled_job_of_a_purged_study_runs_again_only_when_its_images_are_back(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    study_id = ledger.job(job_id).study_id
    ledger.cancel_job(job_id, "for a test", by=OPERATOR)
    ledger.purge_study(study_id, "old")
    with pytest.raises(IllegalTransition, match="the images of its study were purged"):
        ledger.retry_job(job_id, "please", by=OPERATOR)

    receive(ledger, "1.2.3")
    assert close(ledger, study_id, [new_job(ledger, study_id)]) == []
    ledger.retry_job(job_id, "please", by=OPERATOR)
    assert len(claim(ledger, job_id).inputs) == 3


def test_a_cancelled_delivery_of_a_purged_study_cannot_be_sent(ledger: Ledger) -> None:
    leaf, root = finish(ledger, claim(ledger, queued_job(ledger)))
    for delivery_id in (leaf, root):
        ledger.cancel_delivery(delivery_id, "for a test", by=OPERATOR)
    (study,) = ledger.studies()
    ledger.purge_study(study.id, "old")
    with pytest.raises(IllegalTransition, match="its file was purged"):
        ledger.retry_delivery(leaf, "please", by=OPERATOR)
