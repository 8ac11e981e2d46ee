import gc
import weakref
from dataclasses import replace

import pytest
import torch

from models.contract import Memory, OutOfMemory
from models.prepare.demand import demand
from models.prepare.ladder import RUNGS, OverLimit, Plan, climb
from models.prepare.windows import predict
from tests.models.prepare.networks import Mix, smooth

GREEDY = Plan(batch=8, streaming=False)
SHAPE, WINDOW, CLASSES = (64, 24, 24), (16, 16, 16), 20


def need(plan: Plan, *, on_gpu: bool = False) -> Memory:
    return demand(SHAPE, window=WINDOW, channels=1, classes=CLASSES, plan=plan, on_gpu=on_gpu)


def down(plan: Plan) -> list[Plan]:
    """All plans that the ladder tries, the first one included."""
    tried = []

    def never_enough(plan: Plan) -> None:
        tried.append(plan)
        raise MemoryError("no")

    with pytest.raises(OutOfMemory):
        climb(never_enough, plan)
    return tried


def test_the_ladder_ends_and_tries_nothing_twice() -> None:
    tried = down(GREEDY)

    assert len(tried) == 1 + 3 + 1 + 1 + 1 + 1  # 8 → 4 → 2 → 1, and the other four rungs
    assert len(set(tried)) == len(tried)
    assert tried[-1].lowered == tuple(rung.name for rung in RUNGS)


def test_what_changes_no_answer_is_given_up_first() -> None:
    orders = [plan.lowered for plan in down(GREEDY)]

    assert orders[-1] == (
        "smaller batch", "streaming", "half precision", "sums in host memory", "no blending",
    )  # fmt: skip


def test_on_a_cpu_there_is_no_other_memory_to_go_to() -> None:
    assert all("sums in host memory" not in plan.lowered for plan in down(Plan.on("cpu")))


@pytest.mark.parametrize("rung", range(len(RUNGS)), ids=[rung.name for rung in RUNGS])
def test_an_artificial_limit_forces_each_rung_and_the_labels_stay(rung: int) -> None:
    plans = down(GREEDY)
    plan = next(plan for plan in plans if len(plan.lowered) == rung + 1)
    # On a host alone, sums cannot move to another memory: that rung is forced in the test below.
    if RUNGS[rung].name == "sums in host memory":
        plan = replace(plan, blending=False)
    limit = need(plan)
    network, volume = Mix(CLASSES), smooth(1, *SHAPE)
    used: list[Plan] = []

    def run(plan: Plan) -> torch.Tensor:
        labels = predict(network, volume, window=WINDOW, plan=plan, classes=CLASSES)
        used.append(plan)
        return labels

    labels = climb(run, replace(GREEDY, limit=limit))

    assert need(used[0]).host <= limit.host
    assert RUNGS[rung].name in used[0].lowered
    same = float((labels == predict(network, volume, window=WINDOW)).float().mean())
    assert same == 1 if rung < 2 else same > (0.99 if used[0].blending else 0.9)


def test_a_small_gpu_moves_the_sums_to_the_host() -> None:
    # By arithmetic alone: what `predict` would ask before it runs.
    plans = down(GREEDY)
    on_device = [need(plan, on_gpu=True) for plan in plans]
    moved = next(n for n, plan in enumerate(plans) if plan.lowered[-1:] == ("sums in host memory",))

    assert on_device[moved].device < on_device[moved - 1].device
    assert on_device[moved].host > on_device[moved - 1].host
    assert need(replace(GREEDY, limit=None), on_gpu=True).device == max(m.device for m in on_device)


def test_each_rung_takes_less_of_what_is_short() -> None:
    plans = [plan for plan in down(GREEDY) if plan.lowered[-1:] != ("sums in host memory",)]
    needs = [need(plan).host for plan in plans]

    assert needs == sorted(needs, reverse=True)
    assert len(set(needs)) == len(needs)


def test_a_limit_below_everything_is_a_refusal_with_sizes_in_words() -> None:
    volume = smooth(1, *SHAPE)

    with pytest.raises(OutOfMemory) as refusal:
        climb(
            lambda plan: predict(Mix(CLASSES), volume, window=WINDOW, plan=plan, classes=CLASSES),
            replace(GREEDY, limit=Memory(host=200_000, device=0)),
        )

    assert "0.2 MiB of the host may be taken" in str(refusal.value)
    assert "smaller batch, streaming, half precision, sums in host memory, no blending" in str(refusal.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        OverLimit(Memory(host=2, device=0), Memory(host=1, device=0)),
    ],
    ids=["python", "cuda", "cpu allocator", "cudnn", "our own limit"],
)
def test_every_way_of_running_out_of_memory_is_known(error: Exception) -> None:
    def short_once(plan: Plan) -> int:
        if plan.batch > 2:
            raise error
        return plan.batch

    assert climb(short_once, Plan(batch=4)) == 2


def test_the_real_allocator_is_understood() -> None:
    def huge(plan: Plan) -> int:
        if plan.batch > 1:
            torch.empty(1 << 55)  # no machine has it
        return plan.batch

    assert climb(huge, Plan(batch=2)) == 1


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    calls = []

    def wrong(plan: Plan) -> None:
        calls.append(plan)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        climb(wrong, GREEDY)
    assert len(calls) == 1


def test_what_a_failed_try_held_is_gone_before_the_next_one() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def run(plan: Plan) -> bool:
        gc.disable()  # It has to be gone without a collection.
        try:
            if held:
                return held[0]() is None
            big = torch.zeros(1000)
            held.append(weakref.ref(big))
            raise MemoryError
        finally:
            gc.enable()

    assert climb(run, GREEDY)


def test_a_reader_is_told_only_of_what_can_change_an_answer() -> None:
    plans = down(GREEDY)

    assert plans[0].cautions == ()
    assert all(plan.cautions == () for plan in plans if plan.blending)
    assert len(plans[-1].cautions) == 1


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"overlap": 1.0}, {"overlap": -0.5}])
def test_a_plan_that_no_run_can_have_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="no run"):
        Plan(**wrong)
