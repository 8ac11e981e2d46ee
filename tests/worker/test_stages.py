"""How long a run may take: by stage and in all, but for the time that it waits its turn."""

import math

from worker.stages import StageClock


def clock(**more) -> StageClock:
    started = StageClock(**{"stage_s": 10.0, "longest_s": 100.0, **more})
    started.begin(1000.0)
    return started


def test_each_stage_has_the_sites_limit_or_the_models():
    run = clock()
    assert (run.waits, run.deadline) == (True, math.inf)
    run.enter("load", None, 1005.0)
    assert run.deadline == 1015.0
    run.enter("model", 60.0, 1007.0)
    assert (run.deadline, run.limit_s) == (1067.0, 60.0)


def test_waiting_has_no_limit_and_costs_nothing():
    run = clock()
    run.enter("load", None, 1000.0)
    run.enter("ready", None, 1004.0)
    assert (run.waits, run.deadline) == (True, math.inf)
    run.enter("model", 95.0, 9000.0)
    assert run.deadline == 9095.0  # 4 s of 100 are gone.
    run.enter("computed", None, 9010.0)
    assert run.waits


def test_all_stages_together_are_bounded_however_many_the_child_says_that_it_enters():
    run = clock(longest_s=25.0)
    now = 1000.0
    for _ in range(5):
        run.enter("load", None, now)
        now += 8.0
        if now >= run.deadline:
            break
    assert (run.deadline, run.limit_s) == (1025.0, 25.0)


def test_no_manifest_may_ask_for_more_than_the_longest():
    run = clock()
    run.enter("model", 5000.0, 1000.0)
    assert (run.deadline, run.limit_s) == (1100.0, 100.0)
