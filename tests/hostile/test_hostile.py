"""What `make hostile` does at length, in brief: the same attacks and bounds, but more time."""

from pathlib import Path

import pytest

from tests.hostile import bombing, disk, models, protocol, victim
from tests.hostile.__main__ import attempts
from tests.hostile.verdict import Measure, Verdict, at_most, below, broken, none_of, table
from tests.patience import patient

SEED = 20261121
#: What `make hostile` allows on a machine that does nothing else.
TIMES = [
    (protocol, "ECHO_P99_S"), (protocol, "CALM_S"), (protocol, "_ENDS_WITHIN_S"), (bombing, "SETTLED_S"),
    (bombing, "COMMITMENT_S"),
    (disk, "RESUME_S"), (models, "DEADLINE_S"), (victim, "ECHO_S"),
]  # fmt: skip


@pytest.mark.fault
@pytest.mark.peer
@pytest.mark.parametrize("promise", ["P7", "P8", "P9", "P14", "P15"])
def test_a_promise_is_kept_under_attack(tmp_path: Path, promise: str, monkeypatch) -> None:
    for module, name in TIMES:
        monkeypatch.setattr(module, name, patient(getattr(module, name)))
    verdict = attempts(quick=True, seed=SEED)[promise](tmp_path)
    print(table([verdict]))
    assert not broken([verdict])


def test_a_verdict_is_as_good_as_its_worst_measure() -> None:
    good, bad = at_most("time", 30, 30.0, "s"), below("memory", 64, 64.0, "MiB", why="it grew")
    assert (good.kept, bad.kept) == (True, False)
    verdict = Verdict(promise="P0", done="little", measures=(good, bad))
    assert not verdict.kept
    assert "BROKEN" in table([verdict])
    assert broken([verdict]) == "P0: memory: 64.0 MiB, bound < 64 MiB. it grew"
    assert broken([Verdict(promise="P0", done="little", measures=(good,))]) == ""


def test_what_was_never_tried_proves_nothing() -> None:
    assert not none_of("false successes", [], 0).kept
    assert not Verdict(promise="P0", done="nothing", measures=()).kept
    assert Measure(what="a", bound="b", measured="c", kept=True).kept
