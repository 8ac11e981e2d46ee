"""When will it be done? Measured durations in, promises out; nothing is promised that was not measured."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.estimate import Promise, Runs, Waits, done_at, promises, took
from ledger.identifiers import JobId

NOW = 1_000_000.0
MODELS = ("lung", "liver", "unmeasured")
TAKES = {"lung": 30.0, "liver": 100.0}


def waits(number: int, model: str = "lung", **how) -> Waits:
    return Waits(job_id=JobId(number), model=model, **how)


def runs(number: int, model: str = "lung", *, ago: float = 10.0, **how) -> Runs:
    return Runs(job_id=JobId(number), model=model, started_at=NOW - ago, **how)


def promised(waiting, running=(), *, workers: int = 1) -> dict[int, Promise]:
    found = promises(waiting, running, takes=TAKES, workers=workers, now=NOW)
    return {int(job_id): promise for job_id, promise in found.items()}


def ends(waiting, running=(), **how) -> list[float | None]:
    """Seconds from now, in the order given."""
    found = promised(waiting, running, **how)
    times = [found[one.job_id].done_at for one in (*running, *waiting)]
    return [None if at is None else at - NOW for at in times]


def test_one_worker_takes_one_job_after_the_other() -> None:
    assert ends([waits(1), waits(2, "liver"), waits(3)]) == [30, 130, 160]


def test_two_workers_take_two_and_the_first_that_is_free_the_next() -> None:
    assert ends([waits(1, "liver"), waits(2), waits(3), waits(4)], workers=2) == [100, 30, 60, 90]


def test_what_runs_ends_first_and_not_before_now_however_long_it_has_been_running() -> None:
    assert ends([waits(2)], [runs(1, ago=10)]) == [20, 50]
    assert ends([waits(2)], [runs(1, ago=500)]) == [0, 30]


def test_a_model_that_tells_how_far_it_is_is_believed_before_its_earlier_runs() -> None:
    half = runs(1, "liver", ago=20, part=0.5, part_since=NOW - 10)
    assert ends([waits(2)], [half]) == [10, 40]
    begun = runs(1, "liver", ago=20, part=0.01, part_since=NOW - 10)  # Too little to go by.
    assert ends([], [begun]) == [80]
    unmeasured = runs(1, "unmeasured", ago=20, part=0.25, part_since=NOW - 10)
    assert ends([], [unmeasured]) == [30]


def test_what_was_never_measured_is_not_known_and_neither_is_what_waits_for_it() -> None:
    found = promised([waits(1), waits(2, "unmeasured"), waits(3)])
    assert found[1].done_at == NOW + 30
    assert (found[2].begins_at, found[2].done_at) == (NOW + 30, None)
    assert found[2].because == "unmeasured has never been measured here"
    assert (found[3].done_at, found[3].because) == (None, "what is before it has never been measured")


def test_with_a_second_worker_one_unknown_job_holds_up_nobody() -> None:
    assert ends([waits(1, "unmeasured"), waits(2), waits(3)], workers=2) == [None, 30, 60]
    assert ends([waits(2)], [runs(1, "unmeasured")], workers=2) == [None, 30]


def test_a_worker_with_two_jobs_in_hand_is_free_once_both_are_done() -> None:
    assert ends([waits(3)], [runs(1, ago=20), runs(2, "liver", ago=0)]) == [10, 100, 130]


def test_a_job_whose_worker_takes_no_other_holds_up_nobody() -> None:
    assert ends([waits(2)], [runs(1, "liver", ago=0, last=True)]) == [100, 30]
    assert ends([waits(3)], [runs(1, "liver", ago=0, last=True), runs(2, ago=0)]) == [100, 30, 60]


def test_without_workers_nothing_is_promised() -> None:
    (promise,) = promised([waits(1)], workers=0).values()
    assert (promise.begins_at, promise.done_at, promise.because) == (None, None, "no worker takes jobs")


def test_a_paused_model_is_promised_nothing_and_holds_up_nobody() -> None:
    found = promised([waits(1, held=True), waits(2)])
    assert (found[1].done_at, found[1].because) == (None, "its model is paused")
    assert found[2].done_at == NOW + 30


def test_what_may_not_begin_yet_holds_up_nothing_that_may() -> None:
    assert ends([waits(1, due_at=NOW + 500), waits(2)]) == [530, 30]


def test_a_study_is_done_with_its_last_job_and_not_known_while_one_is_not() -> None:
    found = promises(
        [waits(1), waits(2, "liver"), waits(3, "unmeasured")], [], takes=TAKES, workers=1, now=NOW
    )
    assert done_at([JobId(1), JobId(2)], found) == NOW + 130
    assert done_at([JobId(1), JobId(3)], found) is None
    assert done_at([], found) is None
    assert done_at([JobId(9), JobId(1)], found) == NOW + 30  # What is done already is nothing to wait for.


def test_a_run_takes_what_it_did_itself_and_not_what_it_waited_for() -> None:
    stages = {
        "queue": 900.0,
        "wait": 50.0,
        "load": 1.0,
        "open": 2.0,
        "model": 10.0,
        "encode": 1.5,
        "check": 0.5,
    }
    assert took([stages]) == 15.0
    assert took([stages, {"model": 1.0}, {"model": 100.0}]) == 15.0
    assert took([]) is None


JOBS = st.lists(
    st.tuples(st.sampled_from(MODELS), st.booleans(), st.sampled_from([0.0, NOW - 5, NOW + 40])), max_size=8
)
RUNNING = st.lists(
    st.tuples(st.sampled_from(MODELS), st.floats(0, 300), st.one_of(st.none(), st.floats(0, 1))),
    max_size=4,
)


def as_waiting(jobs) -> list[Waits]:
    return [
        waits(number, model, held=held, due_at=due)
        for number, (model, held, due) in enumerate(jobs, start=100)
    ]


def as_running(jobs) -> list[Runs]:
    return [
        runs(number, model, ago=ago, part=part, part_since=NOW - ago / 2)
        for number, (model, ago, part) in enumerate(jobs, start=1)
    ]


@given(jobs=JOBS, running=RUNNING, workers=st.integers(0, 4))
def test_every_job_has_an_answer_and_none_lies_in_the_past(jobs, running, workers) -> None:
    waiting, busy = as_waiting(jobs), as_running(running)
    found = promised(waiting, busy, workers=workers)
    assert set(found) == {int(one.job_id) for one in (*waiting, *busy)}
    for promise in found.values():
        assert promise.done_at is None or promise.done_at >= NOW
        assert (promise.done_at is None) == bool(promise.because)
    for one in waiting:
        begins = found[one.job_id].begins_at
        assert begins is None or begins >= max(NOW, one.due_at)


@given(
    jobs=JOBS, running=RUNNING, workers=st.integers(0, 4), at=st.integers(0, 8), model=st.sampled_from(MODELS)
)
def test_a_job_that_is_put_before_others_makes_no_promise_of_theirs_earlier(
    jobs, running, workers, at, model
) -> None:
    waiting, busy = as_waiting(jobs), as_running(running)
    before = promised(waiting, busy, workers=workers)
    at = min(at, len(waiting))
    after = promised([*waiting[:at], waits(999, model), *waiting[at:]], busy, workers=workers)
    for one in waiting:
        earlier, later = before[one.job_id].done_at, after[one.job_id].done_at
        # Not known is later than everything.
        assert later is None or (earlier is not None and later >= earlier)


@given(count=st.integers(1, 8), running=RUNNING, workers=st.integers(1, 4))
def test_who_stands_further_back_does_not_begin_earlier(count, running, workers) -> None:
    waiting = [waits(number, MODELS[number % 2]) for number in range(100, 100 + count)]
    found = promised(waiting, as_running(running), workers=workers)
    begins = [found[one.job_id].begins_at for one in waiting]
    known = [at for at in begins if at is not None]
    assert known == sorted(known)
    assert begins[: len(known)] == known  # Nobody is promised a time behind whoever has none.
