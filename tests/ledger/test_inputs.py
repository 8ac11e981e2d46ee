"""Jobs of single images, of several series, and of timelines: what overtakes what, and what keeps what."""

from dataclasses import replace

import pytest

from ledger.delivery import DeliveryState
from ledger.identifiers import JobId, StudyId
from ledger.job import EARLIER, JobState, NewJob
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import OPERATOR, claim, close, digest, finish, new_job, receive, send, slice_of

PATIENT = {"PatientID": "P1"}


def of_images(ledger: Ledger, study_id: StudyId) -> list[NewJob]:
    (series,) = ledger.series_of(study_id)
    return [
        replace(
            new_job(ledger, study_id, rule="views"),
            key=digest(f"view {one.sop_instance}"),
            inputs=(one.id,),
            subject=str(one.sop_instance),
        )
        for one in series.instances
    ]


def of_series(ledger: Ledger, study_id: StudyId) -> NewJob:
    """One job of the first two series, as its inputs a and b."""
    a, b = ledger.series_of(study_id)[:2]
    both = [*((one, "a") for one in a.instances), *((one, "b") for one in b.instances)]
    return replace(
        new_job(ledger, study_id, rule="both"),
        key=digest("both " + " ".join(str(one.sop_instance) for one, _ in both)),
        inputs=tuple(one.id for one, _ in both),
        names=tuple(name for _, name in both),
        subject="several series",
    )


def of_timeline(ledger: Ledger, study_id: StudyId, *earlier: StudyId, wait_s: float = 60.0) -> NewJob:
    job = new_job(ledger, study_id, rule="growth")
    inputs, names = list(job.inputs), [""] * len(job.inputs)
    for number, before in enumerate(earlier, start=1):
        (series,) = ledger.series_of(before)
        inputs += [one.id for one in series.instances]
        names += [f"{EARLIER}{number}"] * len(series.instances)
    return replace(
        job,
        key=digest(f"growth {inputs}"),
        inputs=tuple(inputs),
        names=tuple(names),
        earlier_asked=3,
        wait_s=wait_s,
    )


# ------------------------------------------------------------------ single images


def test_the_headers_of_an_image_without_a_position_are_kept_and_a_slices_are_not(ledger: Ledger) -> None:
    placed = slice_of("1.2.3", 2, ImagePositionPatient="0\\0\\0")
    ledger.record_arrivals([slice_of("1.2.3", 1, ViewPosition="CC"), placed])
    # The second batch of an open study goes another way to the same rows.
    study_id = ledger.record_arrivals([slice_of("1.2.3", 3, ViewPosition="MLO")])[0].study_id
    (series,) = ledger.series_of(study_id)

    kept = {one.instance_number: one.headers for one in series.instances}

    views = {number: headers and headers["ViewPosition"] for number, headers in kept.items()}
    assert views == {1: "CC", 2: None, 3: "MLO"}


def test_jobs_about_images_of_one_series_overtake_each_other_not(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1, 2])
    first = close(ledger, study_id, of_images(ledger, study_id))
    receive(ledger, "1.2.3", [3])
    opened = close(ledger, study_id, of_images(ledger, study_id))

    assert len(opened) == 1
    assert [ledger.job(job_id).state for job_id in (*first, *opened)] == [JobState.QUEUED] * 3
    assert [ledger.job(job_id).supersedes for job_id in opened] == [None]


def test_the_same_image_by_another_version_overtakes_the_earlier_job(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1])
    (first,) = close(ledger, study_id, of_images(ledger, study_id))
    receive(ledger, "1.2.3", [1, 9], series=2)
    (image,) = [replace(one, key=digest("another version")) for one in of_images_of_first(ledger, study_id)]
    (second,) = close(ledger, study_id, [image])

    assert ledger.job(first).state is JobState.CANCELLED
    assert ledger.job(second).supersedes == first


def of_images_of_first(ledger: Ledger, study_id: StudyId) -> list[NewJob]:
    first = ledger.series_of(study_id)[0].instances[0]
    job = new_job(ledger, study_id, rule="views")
    return [replace(job, inputs=(first.id,), subject=str(first.sop_instance))]


def test_the_results_of_one_view_are_not_rejected_because_of_another(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1, 2])
    for job_id in close(ledger, study_id, of_images(ledger, study_id)):
        for delivery_id in finish(ledger, claim(ledger, job_id)):
            send(ledger, delivery_id)
            ledger.confirm_delivery(delivery_id, "the answer")

    assert ledger.owed_notes(["PACS"]) == []


# ------------------------------------------------------------------ several series


def test_a_claim_says_which_input_each_file_fills(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1, 2])
    receive(ledger, "1.2.3", [5], series=2)
    (job_id,) = close(ledger, study_id, [of_series(ledger, study_id)])

    inputs = claim(ledger, job_id).inputs

    assert [(str(one.sop_instance), one.name) for one in inputs] == [
        ("1.2.3.1.1", "a"),
        ("1.2.3.1.2", "a"),
        ("1.2.3.2.5", "b"),
    ]


@pytest.mark.parametrize("grown", [1, 2])
def test_a_late_image_of_either_series_overtakes_the_job_of_both(ledger: Ledger, grown: int) -> None:
    study_id = receive(ledger, "1.2.3", [1])
    receive(ledger, "1.2.3", [5], series=2)
    (first,) = close(ledger, study_id, [of_series(ledger, study_id)])
    receive(ledger, "1.2.3", [8], series=grown)
    (second,) = close(ledger, study_id, [of_series(ledger, study_id)])

    assert ledger.job(first).state is JobState.CANCELLED
    assert ledger.job(second).supersedes == first
    assert len(claim(ledger, second).inputs) == 3


def test_another_reference_series_is_still_the_same_work(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1])
    receive(ledger, "1.2.3", [5], series=2)
    job = of_series(ledger, study_id)
    (first,) = close(ledger, study_id, [job])
    receive(ledger, "1.2.3", [6], series=3)
    other = ledger.series_of(study_id)[1].id
    (second,) = close(ledger, study_id, [replace(job, key=digest("turned round"), series_id=other)])
    assert ledger.job(first).state is JobState.CANCELLED
    assert ledger.job(second).supersedes == first


# ------------------------------------------------------------------ timelines


def timeline(ledger: Ledger, *earlier: str, wait_s: float = 60.0) -> tuple[StudyId, JobId]:
    """A closed study with a job that waits, and the earlier studies that it has already."""
    before = [receive(ledger, uid) for uid in earlier]
    for study_id in before:
        close(ledger, study_id)
    study_id = receive(ledger, "1.2.9")
    (job_id,) = close(ledger, study_id, [of_timeline(ledger, study_id, *before, wait_s=wait_s)])
    return study_id, job_id


def test_a_job_that_waits_is_not_begun_and_nobody_is_told_of_it(ledger: Ledger) -> None:
    _, job_id = timeline(ledger)

    assert ledger.claim_job(job_id, owner="w", lease_s=60, attempts_max=3) is None
    assert ledger.unpublished() == []
    assert [one.id for one in ledger.waiting_jobs()] == [job_id]


def test_what_comes_is_given_to_the_job_that_waits(ledger: Ledger) -> None:
    study_id, job_id = timeline(ledger)
    before = receive(ledger, "1.2.1")
    close(ledger, before)
    (waiting,) = ledger.waiting_jobs()

    assert ledger.give_earlier(
        waiting, of_timeline(ledger, study_id, before), due=False, because="1 of at most 3 are here"
    )
    assert ledger.claim_job(job_id, owner="w", lease_s=60, attempts_max=3) is None
    (waiting,) = ledger.waiting_jobs()
    assert ledger.give_earlier(
        waiting, of_timeline(ledger, study_id, before), due=True, because="all are here"
    )

    held = claim(ledger, job_id)
    assert [one.name for one in held.inputs] == [""] * 3 + ["earlier 1"] * 3
    assert held.earlier_asked == 3
    events = [one.event for one in ledger.history(job_id=job_id)]
    assert events == ["opened", "earlier_came", "waited", "claimed"]
    assert len(ledger.jobs_of(study_id)) == 1


def test_nothing_is_given_to_a_job_that_waits_no_longer(ledger: Ledger) -> None:
    study_id, job_id = timeline(ledger)
    before = receive(ledger, "1.2.1")
    (stale,) = ledger.waiting_jobs()
    ledger.give_earlier(stale, of_timeline(ledger, study_id), due=True, because="none will come")
    assert not ledger.give_earlier(stale, of_timeline(ledger, study_id, before), due=True, because="late")
    claim(ledger, job_id)
    assert ledger.waiting_jobs() == []
    assert not ledger.give_earlier(stale, of_timeline(ledger, study_id, before), due=True, because="late")
    assert len(ledger.jobs_of(study_id)) == 1


def test_a_job_that_exists_already_is_not_made_of_another(ledger: Ledger) -> None:
    before = receive(ledger, "1.2.1")
    close(ledger, before)
    study_id = receive(ledger, "1.2.9")
    (done,) = close(ledger, study_id, [of_timeline(ledger, study_id, before, wait_s=0.0)])
    finish(ledger, claim(ledger, done))
    receive(ledger, "1.2.9", [7], series=2)
    (waits,) = close(ledger, study_id, [of_timeline(ledger, study_id)])
    (waiting,) = ledger.waiting_jobs()

    assert waiting.id == waits
    assert not ledger.give_earlier(waiting, of_timeline(ledger, study_id, before), due=True, because="here")


def test_an_earlier_study_stays_while_a_job_of_another_study_needs_it(ledger: Ledger) -> None:
    study_id, job_id = timeline(ledger, "1.2.1")
    earlier = next(one for one in ledger.studies() if str(one.study) == "1.2.1")

    assert ledger.purgeable_studies(older_than=ledger.now() + 1) == []
    with pytest.raises(IllegalTransition, match=f"job {job_id} of another study needs its images"):
        ledger.purge_study(earlier.id, "old")

    ledger.cancel_job(job_id, "for a test", by=OPERATOR)
    assert earlier.id in [one.id for one in ledger.purgeable_studies(older_than=ledger.now() + 1)]
    assert study_id != earlier.id


def test_a_cancelled_job_whose_earlier_study_was_purged_runs_again_only_when_that_is_back(
    ledger: Ledger,
) -> None:
    study_id, job_id = timeline(ledger, "1.2.1")
    earlier = next(one.id for one in ledger.studies() if str(one.study) == "1.2.1")
    ledger.cancel_job(job_id, "for a test", by=OPERATOR)
    ledger.purge_study(earlier, "old")
    with pytest.raises(IllegalTransition, match="images that it needs were purged"):
        ledger.retry_job(job_id, "please", by=OPERATOR)
    assert ledger.study(study_id).state == "closed"

    (mine,) = ledger.series_of(study_id)
    assert len(mine.instances) == 3


def test_the_earlier_study_of_a_finished_job_may_go_and_the_results_stay(ledger: Ledger) -> None:
    study_id, job_id = timeline(ledger, "1.2.1", wait_s=0.0)
    earlier = next(one.id for one in ledger.studies() if str(one.study) == "1.2.1")
    finish(ledger, claim(ledger, job_id))

    ledger.purge_study(earlier, "old")

    assert ledger.job(job_id).state is JobState.DONE
    assert len(ledger.results_of(job_id)) == 2
    assert {one.state for one in ledger.deliveries_of(job_id)} == {DeliveryState.WAITING}
    assert len(ledger.series_of(study_id)) == 1
