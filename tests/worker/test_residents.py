"""Who stays loaded, who makes place, and who may run with how much memory."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ledger.usage import Peak, size_class
from models.contract import Memory, OutOfMemory
from tests.worker.fault_models import hungry
from worker.memory import Budget
from worker.residents import NoSuchDevice, Residents, device_named

MIB = 1 << 20
SHAPE = (8, 48, 48)
VOXELS = 8 * 48 * 48


def residents(mib: int) -> Residents:
    return Residents("cpu", budget=Budget(device="cpu", host=mib * MIB, on_device=0))


def opened(place: Residents, name: str):
    return place.open(f"tests.worker.fault_models.hungry:{name}", allow_python=True)


def names(place: Residents) -> set[str]:
    return {name for name in place.kept if "@" in name}


def peak(**what) -> Peak:
    known = Peak(
        model="heavy@1.0.0", device="cpu", size_class=size_class(VOXELS), runs=3, host=0, device_bytes=0
    )
    return replace(known, **what)


def test_a_model_stays_loaded_and_its_weights_are_measured():
    place = residents(1000)
    first = place.admit(opened(place, "Heavy"), SHAPE)
    again = place.admit(opened(place, "Heavy"), SHAPE)

    assert (first.resident, again.resident) == (False, True)
    assert again.model is first.model
    assert 60 * MIB < first.weights.host < 80 * MIB
    assert place.taken == first.weights
    assert place.kept == ("heavy@1.0.0", "tests.worker.fault_models.hungry:Heavy")


def test_the_model_that_was_not_used_for_longest_makes_place_and_only_as_many_as_must():
    place = residents(260)  # Two with their runs, not three.
    one, two = opened(place, "Heavy"), opened(place, "Heavier")
    place.admit(one, SHAPE)
    place.admit(two, SHAPE)
    assert names(place) == {"heavy@1.0.0", "heavier@1.0.0"}
    place.admit(one, SHAPE)  # Now Heavier is the one that was used longest ago.
    place.admit(opened(place, "Climber"), SHAPE)

    assert names(place) == {"heavy@1.0.0", "climber@1.0.0"} or names(place) == {"climber@1.0.0"}
    assert not two.loaded
    # It is loaded anew when it is wanted again, also by who had it in hand all the time.
    assert place.admit(two, SHAPE).resident is False
    assert two.loaded


def test_the_model_that_is_to_run_is_never_unloaded_for_itself():
    place = residents(110)  # Its weights and its run, and nothing besides.
    heavy = opened(place, "Heavy")
    model = place.admit(heavy, SHAPE).model
    assert place.admit(heavy, SHAPE).model is model
    assert heavy.loaded


def test_what_was_measured_counts_more_than_what_the_model_says():
    place = residents(200)
    heavy = opened(place, "Heavy")
    place.admit(heavy, SHAPE, [peak(host=100 * MIB)])
    with pytest.raises(OutOfMemory, match=r"needs about 150\.0 MiB"):
        place.admit(heavy, SHAPE, [peak(host=150 * MIB)])
    # Of another size, of another device, or of a run that never ended: not of this one.
    for other in (
        peak(host=150 * MIB, size_class=size_class(VOXELS) + 1),
        peak(host=150 * MIB, device="NVIDIA"),
        peak(host=150 * MIB, runs=0),
    ):
        place.admit(heavy, SHAPE, [other])


def test_what_can_never_fit_is_refused_with_the_sizes_before_anything_is_tried():
    place = residents(500)
    with pytest.raises(OutOfMemory) as refused:
        place.admit(opened(place, "Boundless"), SHAPE)
    said = str(refused.value)
    assert "boundless@1.0.0 needs about 16777216.0 MiB" in said or "16384.0 GiB" in said
    assert "of cpu it may take" in said
    assert "memory_mib" in said


def test_weights_that_leave_nothing_to_run_with_are_refused():
    place = residents(50)
    with pytest.raises(OutOfMemory, match="its weights of"):
        place.admit(opened(place, "Heavy"), SHAPE)


def test_a_model_with_a_ladder_is_told_what_it_may_take_instead():
    place = residents(3000)
    climber = opened(place, "Climber")
    admission = place.admit(climber, SHAPE)  # It would like 8 GiB.

    assert 2900 * MIB < admission.memory.host <= 3000 * MIB
    assert admission.spare == 0


def test_after_running_out_of_memory_a_run_is_allowed_less():
    place = residents(3000)
    climber = opened(place, "Climber")
    ran_out = peak(model="climber@1.0.0", runs=0, host_ceiling=100 * MIB, device_ceiling=0)
    assert place.admit(climber, SHAPE, [ran_out]).memory == Memory(host=100 * MIB, device=0)


def test_a_ceiling_of_one_memory_leaves_the_other_as_it_is():
    place = residents(3000)
    climber = opened(place, "Climber")
    ran_out = peak(model="climber@1.0.0", runs=0, device_ceiling=0)
    assert place.admit(climber, SHAPE, [ran_out]).memory.host > 2900 * MIB


def test_a_model_without_a_ladder_is_not_locked_out_by_one_run_that_ran_out():
    place = residents(500)
    heavy = opened(place, "Heavy")
    free = place.admit(heavy, SHAPE).memory
    ran_out = peak(host=300 * MIB, host_ceiling=200 * MIB, device_ceiling=0)
    assert place.admit(heavy, SHAPE, [ran_out]).memory == free


def test_input_that_waits_in_memory_is_not_given_away_twice():
    place = residents(200)
    heavy = opened(place, "Heavy")
    free = place.admit(heavy, SHAPE).memory.host
    assert place.admit(heavy, SHAPE, held=40 * MIB).memory.host == free - 40 * MIB


def test_a_load_that_runs_out_of_memory_is_tried_once_more_with_nothing_else_loaded(monkeypatch):
    place = residents(1000)
    other, late = opened(place, "Heavier"), opened(place, "Heavy")
    place.admit(other, SHAPE)
    tries = []
    real = hungry.Heavy.load

    def load(self, device):
        tries.append(other.loaded)
        if len(tries) == 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] data. can't allocate memory")
        real(self, device)

    monkeypatch.setattr(hungry.Heavy, "load", load)
    assert place.admit(late, SHAPE).model.weights is not None
    assert tries == [True, False]

    monkeypatch.setattr(hungry.Heavy, "load", lambda self, device: (_ for _ in ()).throw(MemoryError()))
    place.unload_all()
    with pytest.raises(OutOfMemory, match="do not fit into the memory of cpu even while no other"):
        place.admit(opened(place, "Heavy"), SHAPE)


def test_what_a_model_raises_at_loading_is_its_own(monkeypatch):
    def load(self, device):
        raise RuntimeError("size mismatch for conv.weight")

    monkeypatch.setattr(hungry.Heavy, "load", load)
    place = residents(1000)
    with pytest.raises(RuntimeError, match="size mismatch"):
        place.admit(opened(place, "Heavy"), SHAPE)
    assert names(place) == set()


def test_a_gpu_counts_its_memory_and_the_hosts_each_for_itself():
    budget = Budget(device="cuda:0", host=100, on_device=50)
    assert budget.folded(Memory(host=70, device=40)) == Memory(host=70, device=40)
    assert budget.holds(Memory(host=100, device=50))
    assert not budget.holds(Memory(host=10, device=51))
    cpu = Budget(device="cpu", host=100, on_device=0)
    assert cpu.folded(Memory(host=70, device=40)) == Memory(host=110, device=0)


@pytest.mark.parametrize("name", ["cuda:77", "tpu"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(name, monkeypatch):
    monkeypatch.setattr(
        "worker.residents.torch", SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 1))
    )
    with pytest.raises(NoSuchDevice, match="only cpu and cuda:0"):
        device_named(name)
    assert device_named("auto") == device_named("cuda") == "cuda:0"
