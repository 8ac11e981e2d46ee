"""Why is there no result? One sentence, whatever the state."""

from dataclasses import replace

import pytest

from console.why import awaited, why
from ledger.completeness import CountRecord, Lack
from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.identifiers import AETitle, DeliveryId, Digest, JobId, ResultId, SeriesId, StudyId, Uid
from ledger.job import JobRecord, JobState, Outcome, Priority
from ledger.notification import NotificationRecord, NotificationState, Occasion
from ledger.pause import Pause, PauseKind
from ledger.result import ResultRecord, Role
from ledger.study import Completeness, RoutingNote, StudyRecord, StudyState


def a_study(state: StudyState = StudyState.CLOSED) -> StudyRecord:
    return StudyRecord(
        id=StudyId(1),
        study=Uid("1.2"),
        state=state,
        generation=1,
        instances=60,
        series=2,
        first_arrival_at=0.0,
        opened_at=0.0,
        last_arrival_at=1.0,
        closed_at=2.0,
        closed_because="complete",
        calling=AETitle("CT"),
    )


def a_job(state: JobState, number: int = 7, supersedes: int | None = None, **others: object) -> JobRecord:
    values: dict[str, object] = {
        "attempts": 1,
        "model": "lung_ct",
        "destinations": ("archive",),
        "because": "",
        "created_at": 0.0,
        "outcome": Outcome.FOUND if state is JobState.DONE else None,
    }
    return JobRecord(
        id=JobId(number),
        study_id=StudyId(1),
        study=Uid("1.2"),
        series=Uid("1.3"),
        rule="chest",
        priority=Priority.ROUTINE,
        state=state,
        epoch=1,
        started_at=None,
        finished_at=None,
        next_attempt_at=0.0,
        lease_owner=None,
        lease_until=None,
        timings={},
        supersedes=JobId(supersedes) if supersedes else None,
        **(values | others),
    )


def a_delivery(state: DeliveryState, because: str = "") -> DeliveryRecord:
    result = ResultRecord(
        id=ResultId(1),
        job_id=JobId(7),
        created_at=0.0,
        role=Role.REPORT,
        sop_class=Uid("1.4"),
        sop_instance=Uid("1.5"),
        study=Uid("1.2"),
        series=Uid("1.6"),
        transfer_syntax=Uid("1.7"),
        digest=Digest("0" * 64),
        size=1,
        path="r",
    )
    return DeliveryRecord(
        id=DeliveryId(1),
        job_id=JobId(7),
        peer="archive",
        state=state,
        attempts=1,
        next_attempt_at=0.0,
        status=None,
        because=because,
        sent_at=None,
        committed_at=None,
        result=result,
    )


def test_an_open_study_may_still_grow() -> None:
    assert "still open" in why(a_study(StudyState.OPEN), [], [], {})


def test_what_no_rule_took_says_which_condition_failed() -> None:
    notes = [
        RoutingNote(series_id=SeriesId(1), rule="chest", taken=False, because="modality is MR, rule asks CT"),
        RoutingNote(
            series_id=SeriesId(2), rule="chest", taken=False, because="12 images, rule asks at least 20"
        ),
    ]
    told = why(a_study(), notes, [], {})
    assert "modality is MR, rule asks CT; 12 images" in told


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (a_job(JobState.QUEUED, attempts=0), "job 7 (lung_ct) waits for a worker"),
        (a_job(JobState.QUEUED, attempts=2, because="the child died"), "after 2 attempts: the child died"),
        (a_job(JobState.RUNNING), "is running, attempt 1"),
        (
            a_job(JobState.PARKED, attempts=3, because="it crashed."),
            "parked after 3 attempts: it crashed. `wetread retry 7`",
        ),
        (a_job(JobState.CANCELLED, because="asked for"), "was cancelled: asked for"),
    ],
)
def test_the_job_that_is_in_the_way_is_named(job: JobRecord, words: str) -> None:
    assert words in why(a_study(), [], [job], {})


@pytest.mark.parametrize(
    ("delivery", "words"),
    [
        (a_delivery(DeliveryState.WAITING, "nobody listens"), "not yet at archive: nobody listens"),
        (a_delivery(DeliveryState.PARKED, "0xA900"), "but archive refused it for good: 0xA900"),
        (a_delivery(DeliveryState.SENT), "proof is awaited"),
        (a_delivery(DeliveryState.COMMITTED), "and archive has it"),
    ],
)
def test_a_result_says_where_it_is(delivery: DeliveryRecord, words: str) -> None:
    job = a_job(JobState.DONE)
    assert words in why(a_study(), [], [job], {job.id: [delivery]})


def test_a_shadow_run_has_a_result_that_stays() -> None:
    assert "its rule names no destination" in why(a_study(), [], [a_job(JobState.DONE)], {})


def test_a_refusal_gives_its_reason() -> None:
    job = a_job(JobState.DONE, outcome=Outcome.REFUSED, because="the lungs are cut off")
    assert "did not analyse the images (the lungs are cut off)" in why(a_study(), [], [job], {})


def test_a_job_that_was_overtaken_does_not_count() -> None:
    jobs = [a_job(JobState.CANCELLED, 7), a_job(JobState.RUNNING, 8, supersedes=7)]
    assert "job 8" in why(a_study(), [], jobs, {})


def test_two_rules_that_ask_the_same_model_are_told_once() -> None:
    jobs = [a_job(JobState.DONE, number, outcome=Outcome.FOUND) for number in (7, 8)]
    assert why(a_study(), [], jobs, {}).count("lung_ct has a result") == 1


def a_lack(ours: int, theirs: int) -> Lack:
    return Lack(
        study_id=StudyId(1), study=Uid("1.2"), state=StudyState.OPEN, peer="archive", ours=ours,
        theirs=theirs, series={}, asked_at=1.0, last_arrival_at=1.0,
    )  # fmt: skip


def test_what_a_peer_still_has_is_what_an_open_study_waits_for() -> None:
    said = awaited([], [a_lack(400, 412)])

    assert why(a_study(StudyState.OPEN), [], [], {}, said) == (
        "No result yet: the study is still open, 12 of 412 images are still to come, says archive."
    )


def test_a_peer_that_does_not_answer_is_named() -> None:
    count = CountRecord(
        study_id=StudyId(1), peer="archive", theirs=None, asked_at=1.0, since_at=1.0, failure="it is away."
    )

    assert awaited([count], []) == "more images may come; archive does not say how many (it is away)"
    assert awaited([], []) == ""


def test_a_series_that_was_routed_by_itself_may_have_a_result_while_the_study_is_open() -> None:
    early = a_job(JobState.DONE, created_at=5.0)
    study = replace(a_study(StudyState.OPEN), opened_at=4.0)

    assert why(study, [], [early], {}) == (
        "lung_ct has a result, kept here as a shadow run: its rule names no destination. "
        "The study is still open, more images may come."
    )
    assert why(replace(study, opened_at=6.0), [], [early], {}).startswith("No result yet")


@pytest.mark.parametrize(
    ("closed_as", "added"),
    [
        (Completeness.COMPLETE, ""),
        (Completeness.PRESUMED, ""),
        (Completeness.PARTIAL, " Made on an incomplete study: 400 of 412 per archive."),
        (Completeness.OVERDUE, " Perhaps made on an incomplete study: 400 of 412 per archive."),
    ],
)
def test_a_result_of_an_incomplete_study_says_that_it_is_one(closed_as: Completeness, added: str) -> None:
    study = replace(a_study(), closed_as=closed_as, closed_because="400 of 412 per archive")
    said = why(study, [], [a_job(JobState.DONE)], {})

    assert said == "lung_ct has a result, kept here as a shadow run: its rule names no destination." + added


def test_a_shadow_run_is_said_to_be_one_and_decides_nothing() -> None:
    waited_for = a_job(JobState.DONE, 7, model="lung_ct@1.0.0")
    parked = a_job(JobState.PARKED, 8, shadow=True, model="lung_ct@2.0.0", because="broken", destinations=())

    said = why(a_study(), [], [waited_for, parked], {JobId(7): [a_delivery(DeliveryState.COMMITTED)]})

    assert said.startswith("lung_ct@1.0.0 has a result, and archive has it.")
    assert said.endswith(
        "Beside it the shadow run of lung_ct@2.0.0 (job 8) is parked: broken; its results stay here."
    )


def a_notification(state: NotificationState, because: str = "", attempts: int = 1) -> NotificationRecord:
    return NotificationRecord(
        id=3,
        study_id=StudyId(1),
        job_id=JobId(7),
        receiver="RIS",
        occasion=Occasion.FOUND,
        corrects=False,
        control_id="W1",
        state=state,
        attempts=attempts,
        created_at=0.0,
        next_attempt_at=0.0,
        because=because,
        taken_at=None,
    )


@pytest.mark.parametrize(
    ("state", "because", "words"),
    [
        (
            NotificationState.PARKED,
            "it rejected the message: AR",
            "RIS will not be told: it rejected the message: AR.",
        ),
        (NotificationState.WAITING, "nobody listens there", "RIS is not told yet: nobody listens there."),
    ],
)
def test_who_is_not_told_is_named_beside_the_result(
    state: NotificationState, because: str, words: str
) -> None:
    done = a_job(JobState.DONE)
    told = [a_notification(state, because)]
    assert words in why(a_study(), [], [done], {}, notifications=told)
    assert "RIS" not in why(
        a_study(), [], [done], {}, notifications=[a_notification(NotificationState.TAKEN)]
    )


def test_what_waits_for_a_pause_says_who_paused_it_when_and_why() -> None:
    held = Pause(kind=PauseKind.MODEL, name="lung_ct", since=1.75e9, by="ann", because="wrong side.")
    sentence = why(a_study(), [], [a_job(JobState.QUEUED, attempts=0)], {}, pauses=[held])
    assert sentence == (
        "No result yet: job 7 waits: the model lung_ct is paused by ann since 2025-06-15 15:06 UTC "
        "(wrong side)."
    )
    other = replace(held, name="liver")
    assert "waits for a worker" in why(
        a_study(), [], [a_job(JobState.QUEUED, attempts=0)], {}, pauses=[other]
    )
