"""What a worker has in hand, and what it may take besides."""

import threading
from dataclasses import replace

import pytest

from ledger.identifiers import StudyId, Uid
from ledger.job import Claim, Priority
from ledger.usage import Usage
from worker.claim import Interruption
from worker.exchange import Admitted, Entered
from worker.pool import WakingThreads, gated
from worker.seats import Room, Seats

A_JOB = Claim(
    job_id=1, epoch=1, owner="w", lease_s=60.0, attempt=1, study_id=StudyId(1), study=Uid("1.2"),
    series=Uid("1.3"), rule="r", model="m", settings={}, priority=Priority.ROUTINE, destinations=(),
    inputs=(),
)  # fmt: skip
USAGE = Usage(model="m@1", device="cpu", voxels=1)


def computing(seats: Seats, *, spare: int = 100, held: int = 10, **of_claim):
    seat = seats.take(replace(A_JOB, **of_claim))
    seats.hear(seat, Entered(stage="open"))
    seats.hear(seat, Admitted(usage=USAGE, spare=spare, held=held, kept=("m", "m@1"), taken_bytes=5))
    seats.hear(seat, Entered(stage="model"))
    return seat


def enter(seats, seat, stage):
    seats.hear(seat, Entered(stage=stage))


def test_one_job_is_taken_ahead_once_another_computes_and_no_second():
    seats = Seats(ahead=True)
    assert seats.room is Room.ANY
    first = seats.take(A_JOB)
    for stage in ("load", "ready", "open"):
        enter(seats, first, stage)
        assert seats.room is Room.NONE
    seats.leave(first)
    computing(seats)
    assert seats.room is Room.AHEAD
    seats.take(replace(A_JOB, job_id=2))
    assert seats.room is Room.NONE


def test_the_next_computes_while_the_one_before_is_encoded():
    seats = Seats(ahead=True)
    first = computing(seats)
    second = seats.take(replace(A_JOB, job_id=2))
    enter(seats, first, "computed")
    enter(seats, first, "encode")
    assert not seats.open  # The second is not computing yet.
    enter(seats, second, "ready")
    assert seats.room is Room.NONE
    seats.leave(second)
    assert seats.room is Room.ANY
    third = computing(seats)
    enter(seats, third, "encode")
    assert seats.room is Room.NONE  # Two are being encoded: computing more would only pile up.


def test_nothing_is_taken_ahead_where_memory_is_short():
    seats = Seats(ahead=True)
    computing(seats, spare=19, held=10)
    assert seats.room is Room.NONE


def test_nothing_is_taken_ahead_beside_a_job_that_was_tried_before():
    seats = Seats(ahead=True)
    computing(seats, attempt=2)
    assert seats.room is Room.NONE


def test_nothing_is_taken_ahead_while_another_worker_is_idle():
    seats = Seats(ahead=True)
    computing(seats)
    seats.others_idle = True
    assert seats.room is Room.NONE


def test_a_site_may_have_one_job_after_the_other():
    seats = Seats(ahead=False)
    first = computing(seats)
    assert seats.room is Room.NONE
    enter(seats, first, "encode")
    assert seats.room is Room.NONE
    seats.leave(first)
    assert seats.room is Room.ANY


def test_a_fruitless_look_ahead_is_not_repeated_until_something_changed():
    seats = Seats(ahead=True)
    first = computing(seats)
    seats.shut()
    assert seats.room is Room.NONE
    enter(seats, first, "computed")
    assert seats.room is Room.ANY


def test_only_one_chooses_at_a_time():
    seats = Seats(ahead=True)
    with seats.choosing() as room:
        assert room is Room.ANY
        assert seats.room is Room.NONE
        assert not seats.idle
        with seats.choosing() as other:
            assert other is Room.NONE
        assert seats.room is Room.NONE
    assert seats.idle


@pytest.mark.parametrize(("priority", "passes"), [(Priority.ROUTINE, True), (Priority.STAT, False)])
def test_an_urgent_job_may_pass_one_that_waits_unless_that_is_urgent_too(priority, passes):
    seats = Seats(ahead=True)
    computing(seats)
    assert not seats.lets_urgent_pass  # There is room for it in the ordinary way.
    waits = seats.take(replace(A_JOB, job_id=2, priority=priority))
    enter(seats, waits, "ready")
    assert seats.waiting is waits
    assert seats.lets_urgent_pass is passes
    seats.take(replace(A_JOB, job_id=3, priority=Priority.STAT))
    assert not seats.lets_urgent_pass


def test_what_the_child_keeps_is_known_until_it_is_gone():
    seats = Seats(ahead=True)
    computing(seats)
    assert (seats.keeping.models, seats.keeping.taken_bytes) == (("m", "m@1"), 5)
    seats.forget_models()
    assert seats.keeping.models == ()


def test_all_bells_ring_at_once():
    seats = Seats(ahead=True)
    taken = [computing(seats), seats.take(replace(A_JOB, job_id=2))]
    seats.ring(Interruption.STOPPING)
    assert [seat.bell.rung for seat in taken] == [Interruption.STOPPING] * 2


def test_the_pool_holds_as_many_messages_as_there_is_room_and_is_woken_when_there_is_more():
    seats = Seats(ahead=True)
    pool = gated(seats)(limit=4)
    woken = threading.Event()

    class Hub:
        def call_soon(self, _):
            woken.set()

    pool.register_with_event_loop(Hub())
    assert pool.num_processes == 1
    with seats.hint():
        assert pool.num_processes == 2  # The gate is open still: this one has not sat down.
        first = seats.take(A_JOB)
        assert pool.num_processes == 1
        woken.clear()
        seats.leave(first)
        assert woken.is_set()
    assert WakingThreads(limit=4).num_processes == 4
    pool.stop()
