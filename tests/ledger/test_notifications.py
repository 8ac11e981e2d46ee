"""Who is owed which message, and when: over SQLite and over PostgreSQL."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.identifiers import JobId, Uid
from ledger.job import JobState, LeaseLost, Outcome
from ledger.notification import (
    Fault,
    NewNotification,
    NotificationEvent,
    NotificationState,
    Occasion,
    OwedNotification,
    Wish,
)
from ledger.result import Role
from ledger.schema import notification
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import (
    OPERATOR,
    claim,
    close,
    finish,
    new_job,
    pass_by,
    queued_job,
    receive,
    result,
    send,
    slice_of,
)

RIS = Wish(receiver="RIS", occasions=tuple(Occasion))


@pytest.fixture(autouse=True)
def _known(ledger: Ledger) -> None:
    assert ledger.owed_notifications([RIS]) == []


def arrive(ledger: Ledger, job_id: JobId, peer: str | None = None) -> None:
    for one in sorted(ledger.deliveries_of(job_id), key=lambda one: (one.result.role.is_root, one.id)):
        if one.state is DeliveryState.WAITING and peer in (None, one.peer):
            send(ledger, one.id)
            ledger.confirm_delivery(one.id, "found")


def owed(ledger: Ledger, wish: Wish = RIS) -> list[OwedNotification]:
    return ledger.owed_notifications([wish])


def opened(ledger: Ledger, number: int = 1) -> int:
    (one,) = owed(ledger)
    made = ledger.open_notification(one, NewNotification(control_id=f"W{number}", body="MSH|…"))
    assert made is not None
    return made


def test_a_job_is_told_once_everything_of_it_has_arrived_somewhere(ledger: Ledger) -> None:
    job_id = queued_job(ledger, to=("PACS", "VNA"))
    finish(ledger, claim(ledger, job_id))
    arrive(ledger, job_id, "PACS")
    assert owed(ledger) == []  # Something is still under way.
    (at_pacs,) = owed(ledger, replace(RIS, archive="PACS"))
    assert owed(ledger, replace(RIS, archive="VNA")) == []
    arrive(ledger, job_id, "VNA")
    (one,) = owed(ledger)
    assert (one.job_id, one.occasion, one.corrects, one.fault) == (job_id, Occasion.FOUND, False, None)
    assert one.report is not None
    assert one.report.role is Role.REPORT
    assert at_pacs.report == one.report


def test_what_no_archive_took_is_told_to_nobody(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    for delivery in sorted(finish(ledger, claim(ledger, job_id))):
        send(ledger, delivery, DeliveryEvent.REFUSED, status=0x0122)
    assert owed(ledger) == []


def test_a_segmentation_that_the_archive_never_takes_keeps_its_report_from_nobody(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    leaf, root = finish(ledger, claim(ledger, job_id))
    send(ledger, leaf, DeliveryEvent.REFUSED, status=0x0122)
    assert owed(ledger) == []  # The report is under way.
    send(ledger, root)
    ledger.confirm_delivery(root, "found")
    for wish in (RIS, replace(RIS, archive="PACS")):
        (one,) = owed(ledger, wish)
        assert one.report is not None
        assert one.report.role is Role.REPORT
    opened(ledger)
    ledger.retry_delivery(leaf, "it takes them now", by=OPERATOR)
    arrive(ledger, job_id)
    assert owed(ledger) == []  # The report is the same.


def test_a_run_without_destination_is_nobodys_business(ledger: Ledger) -> None:
    finish(ledger, claim(ledger, queued_job(ledger, to=())))
    ledger.park_job(claim(ledger, queued_job(ledger, "1.2.4", to=())), "no GPU", Fault.SITE)
    for one in ledger.owed_stand_ins():
        ledger.settle_given_up(one, "nothing")
    assert owed(ledger) == []


def test_it_is_opened_once(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    finish(ledger, claim(ledger, job_id))
    arrive(ledger, job_id)
    (one,) = owed(ledger)
    opened(ledger)
    assert owed(ledger) == []
    assert ledger.open_notification(one, NewNotification(control_id="W2", body="MSH|")) is None
    assert [event.event for event in ledger.history(job_id=job_id) if event.thing == "notification"] == [
        "opened"
    ]


def test_a_later_job_about_the_same_corrects_and_waits_its_turn(ledger: Ledger) -> None:
    first_job = queued_job(ledger)
    finish(ledger, claim(ledger, first_job))
    arrive(ledger, first_job)
    first = opened(ledger)
    study = ledger.studies()[0].id
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second_job,) = close(ledger, study, [new_job(ledger, study)])
    finish(ledger, claim(ledger, second_job))
    arrive(ledger, second_job)
    (one,) = owed(ledger)
    assert one.corrects
    second = opened(ledger, 2)

    assert ledger.claim_notification(second, owner="a", lease_s=60) is None
    held = ledger.claim_notification(first, owner="a", lease_s=60)
    assert held is not None
    assert ledger.claim_notification(second, owner="b", lease_s=60) is None
    ledger.record_notification(held, NotificationEvent.REFUSED, because="AR")
    assert ledger.claim_notification(second, owner="b", lease_s=60) is not None


def overtaken(ledger: Ledger, outcome: Outcome = Outcome.FOUND) -> tuple[JobId, JobId]:
    """Two jobs that are done, of which the second took the place of the first; the archive answered for both
    with Success, and has proved neither.
    """
    first = queued_job(ledger)
    finish(ledger, claim(ledger, first))
    accept(ledger, first)
    study = ledger.job(first).study_id
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second,) = close(ledger, study, [new_job(ledger, study)])
    finish(ledger, claim(ledger, second), outcome=outcome)
    accept(ledger, second)
    return first, second


def accept(ledger: Ledger, job_id: JobId) -> None:
    for one in sorted(ledger.deliveries_of(job_id), key=lambda one: (one.result.role.is_root, one.id)):
        send(ledger, one.id)


def prove(ledger: Ledger, job_id: JobId) -> None:
    for one in ledger.deliveries_of(job_id):
        ledger.confirm_delivery(one.id, "found")


def test_what_was_overtaken_is_not_told_after_what_took_its_place(ledger: Ledger) -> None:
    first, second = overtaken(ledger)
    prove(ledger, second)
    (one,) = owed(ledger)
    assert (one.job_id, one.corrects) == (second, False)
    prove(ledger, first)
    assert [one.job_id for one in owed(ledger)] == [second]
    opened(ledger)
    assert owed(ledger) == []


def test_what_is_sent_again_after_it_was_overtaken_is_not_told(ledger: Ledger) -> None:
    first = queued_job(ledger)
    finish(ledger, claim(ledger, first))
    study = ledger.job(first).study_id
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second,) = close(ledger, study, [new_job(ledger, study)])
    finish(ledger, claim(ledger, second))
    arrive(ledger, second)
    opened(ledger)
    for one in ledger.deliveries_of(first):
        assert one.state is DeliveryState.CANCELLED
        ledger.retry_delivery(one.id, "for teaching", by=OPERATOR)
    arrive(ledger, first)
    assert owed(ledger) == []


def test_a_receiver_that_hears_only_of_findings_hears_of_none_that_are_out_of_date(ledger: Ledger) -> None:
    first, second = overtaken(ledger, Outcome.NOTHING)
    prove(ledger, second)
    prove(ledger, first)
    assert owed(ledger, replace(RIS, occasions=(Occasion.FOUND,))) == []
    assert [one.job_id for one in owed(ledger)] == [second]


def test_of_two_that_open_at_once_none_tells_the_earlier_result_last(ledger: Ledger) -> None:
    first, second = overtaken(ledger)
    prove(ledger, first)
    (earlier,) = owed(ledger)
    prove(ledger, second)
    (later,) = owed(ledger)
    assert ledger.open_notification(later, NewNotification(control_id="W2", body="MSH|")) is not None
    assert ledger.open_notification(earlier, NewNotification(control_id="W1", body="MSH|")) is None
    assert ledger.open_digest([earlier], NewNotification(control_id="W3", body="{}")) is None


def test_of_two_that_open_at_once_the_later_one_is_marked_as_a_correction(ledger: Ledger) -> None:
    first, second = overtaken(ledger)
    prove(ledger, first)
    (earlier,) = owed(ledger)
    prove(ledger, second)
    (later,) = owed(ledger)
    assert ledger.open_notification(earlier, NewNotification(control_id="W1", body="MSH|")) is not None
    assert ledger.open_notification(later, NewNotification(control_id="W2", body="MSH|")) is None
    (again,) = owed(ledger)
    assert (again.job_id, again.corrects) == (second, True)
    assert opened(ledger, 2)


def test_other_rules_correct_nothing(ledger: Ledger) -> None:
    study = receive(ledger, "1.2.3")
    jobs = [new_job(ledger, study, rule=rule) for rule in ("lungs", "hearts")]
    for number, job_id in enumerate(close(ledger, study, jobs)):
        finish(ledger, claim(ledger, job_id))
        arrive(ledger, job_id)
        (one,) = owed(ledger)
        assert not one.corrects
        opened(ledger, number)


def test_a_lease_that_ran_out_is_taken_back_and_whoever_held_it_changes_nothing(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    finish(ledger, claim(ledger, job_id))
    arrive(ledger, job_id)
    number = opened(ledger)
    stale = ledger.claim_notification(number, owner="a", lease_s=0.05)
    assert stale is not None
    pass_by(ledger, 0.1)
    report = ledger.sweep(republish_after_s=0, attempts_max=3, crash_backoff_s=0)
    assert report.expired_notifications == (number,)
    assert report.found_anything
    with pytest.raises(LeaseLost):
        ledger.record_notification(stale, NotificationEvent.ACCEPTED, because="AA")
    assert not ledger.renew_notification(stale, lease_s=60)
    held = ledger.claim_notification(number, owner="b", lease_s=60)
    assert held is not None
    assert (held.body, held.control_id, held.attempt) == (stale.body, stale.control_id, 2)
    assert ledger.renew_notification(held, lease_s=60)
    taken = ledger.record_notification(held, NotificationEvent.ACCEPTED, because="AA")
    assert taken is NotificationState.TAKEN
    with pytest.raises(IllegalTransition):
        ledger.retry_notification(number, "again", by=OPERATOR)


def test_the_queue_is_told_of_it_and_told_again(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    finish(ledger, claim(ledger, job_id))
    arrive(ledger, job_id)
    number = opened(ledger)
    hints = [one for one in ledger.unpublished() if one.kind == "notification"]
    assert [(one.subject_id, one.queue) for one in hints] == [(number, "deliver")]
    ledger.mark_published(ledger.unpublished())
    pass_by(ledger, 0.02)
    ledger.sweep(republish_after_s=0.01, attempts_max=3, crash_backoff_s=0)
    assert number in [one.subject_id for one in ledger.unpublished() if one.kind == "notification"]


def test_every_way_of_being_given_up_is_recorded_with_whose_fault_it_is(ledger: Ledger) -> None:
    parked = queued_job(ledger, "1.2.3")
    ledger.park_job(claim(ledger, parked), "slices are missing", Fault.IMAGES)
    silent = queued_job(ledger, "1.2.4")
    claim(ledger, silent, lease_s=0.01)
    pass_by(ledger, 0.05)
    ledger.sweep(republish_after_s=60, attempts_max=1, crash_backoff_s=0)
    told = {one.job_id: (one.fault, one.because) for one in ledger.owed_stand_ins()}
    assert told[parked] == (Fault.IMAGES, "slices are missing")
    assert told[silent][0] is Fault.UNKNOWN
    assert "fell silent" in told[silent][1]
    assert {ledger.job(job_id).state for job_id in told} == {JobState.PARKED}


def test_a_job_that_is_given_up_twice_is_told_of_twice(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    for number in (1, 2):
        ledger.park_job(claim(ledger, job_id), f"reason {number}", Fault.SITE)
        assert owed(ledger) == []  # Not before it is decided what the archive hears.
        (given,) = ledger.owed_stand_ins()
        made = result(Role.REPORT, number)
        assert len(ledger.settle_given_up(given, "a report", made=made, peers=["PACS"])) == 1
        assert ledger.settle_given_up(given, "a report", made=made, peers=["PACS"]) == []
        assert owed(ledger) == []
        arrive(ledger, job_id)
        (one,) = owed(ledger)
        assert (one.occasion, one.because, one.fault) == (Occasion.GIVEN_UP, f"reason {number}", Fault.SITE)
        assert one.report is not None
        assert one.report.sop_instance == made.sop_instance
        opened(ledger, number)
        ledger.retry_job(job_id, "again", by=OPERATOR)
    # The first report is put away as well, once there is a result.
    finish(ledger, claim(ledger, job_id))
    arrive(ledger, job_id)
    (note,) = ledger.owed_notes(["PACS"])
    assert len(note.superseded) == 2


def test_a_late_image_after_a_run_that_was_given_up_replaces_the_last_real_report(ledger: Ledger) -> None:
    first = queued_job(ledger)
    finish(ledger, claim(ledger, first))
    arrive(ledger, first)
    study = ledger.studies()[0].id
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second,) = close(ledger, study, [new_job(ledger, study)])
    ledger.park_job(claim(ledger, second), "no GPU", Fault.SITE)
    (given,) = ledger.owed_stand_ins()
    ledger.settle_given_up(given, "a report", made=result(Role.REPORT, 9), peers=["PACS"])
    arrive(ledger, second)
    assert ledger.owed_notes(["PACS"]) == []  # A result of fewer images is more than none.

    ledger.record_arrivals([slice_of("1.2.3", 5)])
    (third,) = close(ledger, study, [new_job(ledger, study)])
    held = claim(ledger, third)
    assert held.predecessor is not None
    assert held.predecessor.job_id == first
    finish(ledger, held)
    arrive(ledger, third)
    (note,) = ledger.owed_notes(["PACS"])
    assert {one.job_id for one in note.superseded} == {first, second}


def test_a_correction_is_not_undone_by_what_it_corrected(ledger: Ledger) -> None:
    first_job = queued_job(ledger)
    finish(ledger, claim(ledger, first_job))
    arrive(ledger, first_job)
    first = opened(ledger)
    held = ledger.claim_notification(first, owner="a", lease_s=60)
    assert held is not None
    ledger.record_notification(held, NotificationEvent.REFUSED, because="AR")
    study = ledger.studies()[0].id
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second_job,) = close(ledger, study, [new_job(ledger, study)])
    finish(ledger, claim(ledger, second_job))
    arrive(ledger, second_job)
    (one,) = owed(ledger)
    assert not one.corrects  # The receiver said no to the other.
    second = opened(ledger, 2)
    with pytest.raises(IllegalTransition, match=f"out of date since notification {second} to RIS"):
        ledger.retry_notification(first, "the interface is mended", by=OPERATOR)
    ledger.cancel_notification(second, "not that one", by=OPERATOR)
    ledger.retry_notification(first, "but this one", by=OPERATOR)


def test_a_message_that_arrives_after_the_purge_is_not_kept(ledger: Ledger) -> None:
    bodies = []
    for number, study_uid in enumerate(("1.2.3", "1.2.4")):
        job_id = queued_job(ledger, study_uid)
        finish(ledger, claim(ledger, job_id))
        arrive(ledger, job_id)
        one = opened(ledger, number)
        ledger.purge_study(ledger.job(job_id).study_id, "its time is over")
        if number:
            ledger.cancel_notification(one, "not wanted", by=OPERATOR)
        else:
            held = ledger.claim_notification(one, owner="a", lease_s=60)
            assert held is not None
            assert held.body
            ledger.record_notification(held, NotificationEvent.ACCEPTED, because="AA")
        with ledger.read() as tx:
            query = select(notification.c.body).where(notification.c.id == one)
            bodies.append(tx.connection.execute(query).scalar_one())
    assert bodies == ["", ""]


def test_a_receiver_that_wants_more_hears_nothing_of_studies_that_were_purged(ledger: Ledger) -> None:
    fewer = replace(RIS, occasions=(Occasion.REFUSED,))
    done = queued_job(ledger)
    finish(ledger, claim(ledger, done))
    arrive(ledger, done)
    assert owed(ledger, fewer) == []
    assert [one.job_id for one in owed(ledger)] == [done]
    ledger.purge_study(ledger.job(done).study_id, "its time is over")
    assert owed(ledger) == []


def test_a_job_that_is_given_up_again_for_the_same_reason_holds_up_no_other(ledger: Ledger) -> None:
    job_id, other = queued_job(ledger, "1.2.3", to=("PACS", "VNA")), queued_job(ledger, "1.2.4")
    made = result(Role.REPORT, 9)
    for _ in range(2):
        ledger.park_job(claim(ledger, job_id), "no GPU", Fault.SITE)
        (given,) = ledger.owed_stand_ins()
        opened = ledger.settle_given_up(given, "a report", made=made, peers=["PACS", "VNA"])
        arrive(ledger, job_id, "PACS")
        ledger.retry_job(job_id, "again", by=OPERATOR)
    # The archive that has it already is not sent it again; for the other it was withdrawn meanwhile.
    (again,) = opened
    assert [one.peer for one in ledger.deliveries_of(job_id) if one.id == again] == ["VNA"]
    assert len(ledger.results_of(job_id)) == 1
    ledger.park_job(claim(ledger, other), "no GPU", Fault.SITE)
    assert [one.job_id for one in ledger.owed_stand_ins()] == [other]


def test_the_results_name_the_report_of_giving_up_only_where_it_lies(ledger: Ledger) -> None:
    job_id = queued_job(ledger, to=("PACS", "VNA", "QUIET"))
    ledger.park_job(claim(ledger, job_id), "no GPU", Fault.SITE)
    (given,) = ledger.owed_stand_ins()
    ledger.settle_given_up(given, "a report", made=result(Role.REPORT, 9), peers=["PACS", "VNA"])
    arrive(ledger, job_id, "PACS")
    ledger.retry_job(job_id, "again", by=OPERATOR)
    # Nobody is told "not analysed" by an analysis that is under way.
    assert {one.peer: one.state for one in ledger.deliveries_of(job_id)} == {
        "PACS": DeliveryState.COMMITTED,
        "VNA": DeliveryState.CANCELLED,
    }
    held = claim(ledger, job_id)
    assert held.predecessors.keys() == {"PACS"}
    finish(ledger, held)
    (moot,) = [one for one in ledger.deliveries_of(job_id) if one.state is DeliveryState.CANCELLED]
    with pytest.raises(IllegalTransition, match="which has results since"):
        ledger.retry_delivery(moot.id, "all of it", by=OPERATOR)


def test_a_viewer_is_shown_results_and_not_that_there_were_none(ledger: Ledger) -> None:
    def shown() -> list[str]:
        held = ledger.held_study(Uid("1.2.3"))
        assert held is not None
        return sorted(str(one.sop_instance) for each in held.series for one in each.instances if one.made)

    def give_up(job_id: JobId, number: int) -> str:
        ledger.park_job(claim(ledger, job_id), "no GPU", Fault.SITE)
        (given,) = ledger.owed_stand_ins()
        made = result(Role.REPORT, number)
        ledger.settle_given_up(given, "a report", made=made, peers=["PACS"])
        return str(made.sop_instance)

    first = queued_job(ledger)
    stand_in = give_up(first, 8)
    assert shown() == [stand_in]
    ledger.retry_job(first, "again", by=OPERATOR)
    finish(ledger, claim(ledger, first))
    real = shown()
    assert len(real) == 2
    study = ledger.studies()[0].id
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second,) = close(ledger, study, [new_job(ledger, study)])
    # A result of fewer images is more than none, and stays beside it.
    stand_in = give_up(second, 9)
    assert shown() == sorted([*real, stand_in])
