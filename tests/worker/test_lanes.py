"""Three lanes in one process: what overlaps, what goes first, and what nobody wants any more."""

import threading
from pathlib import Path

import pytest

from models.training.phantom_series import write_series
from models.training.phantoms import chest
from tests.patience import patient
from tests.peers.loopback import until
from worker.child import _explained
from worker.exchange import Admitted, Done, Entered, Failed, RunRequest
from worker.lanes import Lane, Traffic
from worker.memory import Budget
from worker.residents import Residents

MODELS = "tests.worker.fault_models.models"
WIDE = Budget(device="cpu", host=1 << 40, on_device=0)


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> list[Path]:
    return write_series(chest((8, 48, 48), seed=5), tmp_path_factory.mktemp("series"))


class Site:
    """Lanes at work, and what they said."""

    def __init__(self, series, folder: Path) -> None:
        self.series, self.folder = series, folder
        self.said: list = []
        self.traffic = Traffic(Residents("cpu", budget=WIDE), self.said.append, _explained)
        self.thread = threading.Thread(target=self.traffic.work, daemon=True)
        self.thread.start()

    def begin(self, number: int, model: str = "Fine", *, urgent: bool = False, **settings) -> None:
        out = self.folder / str(number)
        out.mkdir()
        self.traffic.begin(
            RunRequest(
                number=number, urgent=urgent, model=f"{MODELS}:{model}", settings=settings, at=1.7e9,
                inputs=tuple(map(str, self.series)), out=str(out), device="cpu", allow_python_models=True,
            )
        )  # fmt: skip

    def stages(self, number: int) -> list[str]:
        return [one.stage for one in self.said if isinstance(one, Entered) and one.number == number]

    def wait(self, number: int, stage: str) -> None:
        until(lambda: stage in self.stages(number), within_s=20, what=f"run {number} is in {stage}")

    def answer(self, number: int):
        def found():
            return [one for one in self.said if isinstance(one, Done | Failed) and one.number == number]

        return until(found, within_s=30, what=f"run {number} has an answer")[0]


@pytest.fixture
def site(series, tmp_path):
    place = Site(series, tmp_path)
    yield place
    place.traffic.close()
    place.thread.join(patient(20))
    assert not place.thread.is_alive()


def test_a_run_takes_its_steps_in_order_and_says_so(site):
    site.begin(1)
    done = site.answer(1)

    assert site.stages(1) == ["load", "ready", "open", "model", "computed", "encode", "check"]
    (admitted,) = [one for one in site.said if isinstance(one, Admitted)]
    assert (admitted.usage.model, admitted.usage.voxels, admitted.held) == ("fine@1.0.0", 18432, 18432 * 2)
    assert admitted.kept == ("fine@1.0.0", f"{MODELS}:Fine")
    assert admitted.usage.began.keys() == {"load", "open"}
    usage = done.reply.usage
    assert usage.seconds.keys() == {"load", "wait", "open", "model", "encode", "check"}
    assert (usage.resident, usage.alone, usage.lowered) == (False, True, ())


def test_the_next_is_read_and_the_one_before_encoded_while_one_computes(site, tmp_path):
    gate = tmp_path / "gate"
    site.begin(1)
    site.begin(2, "Slow", until=str(gate))
    # The second computes until the gate is there: all that follows happens meanwhile.
    site.wait(2, "model")
    site.begin(3)
    assert isinstance(site.answer(1), Done)
    site.wait(3, "ready")
    assert site.stages(2)[-1] == "model"
    assert "open" not in site.stages(3)
    gate.touch()

    crowded, after = site.answer(2).reply.usage, site.answer(3).reply.usage
    assert not crowded.alone
    assert after.resident
    began = {number: site.answer(number).reply.usage.began for number in (1, 2, 3)}
    ended = began[2]["model"] + crowded.seconds["model"]
    assert began[3]["load"] < ended <= began[3]["model"] + 0.01


def test_an_urgent_run_goes_before_one_that_was_read_earlier(site, tmp_path):
    gate = tmp_path / "gate"
    site.begin(1, "Slow", until=str(gate))
    site.wait(1, "model")
    site.begin(2)
    site.wait(2, "ready")
    site.begin(3, urgent=True)
    site.wait(3, "ready")
    gate.touch()

    first, second = site.answer(3).reply.usage.began, site.answer(2).reply.usage.began
    assert first["model"] < second["model"]


def test_a_run_that_nobody_wants_goes_no_further_and_stops_nobody(site, tmp_path):
    gate = tmp_path / "gate"
    site.begin(1, "Slow", until=str(gate))
    site.wait(1, "model")
    site.begin(2)
    site.begin(3)
    site.wait(2, "ready")
    site.traffic.forget(2)
    gate.touch()

    assert site.answer(2).fault == "forgotten"
    assert "model" not in site.stages(2)
    assert isinstance(site.answer(3), Done)


@pytest.mark.parametrize(
    ("model", "fault"), [("Broken", "model"), ("Careless", "crash"), ("Greedy", "memory"), ("None", "model")]
)
def test_one_run_that_fails_is_answered_for_itself(site, model, fault):
    site.begin(1, model)
    site.begin(2)
    assert site.answer(1).fault == fault
    assert isinstance(site.answer(2), Done)
    assert "CANARY" not in str(site.said)


def test_a_lane_takes_what_waits_and_then_ends():
    lane, taken = Lane(), []
    for name, urgent in [("a", False), ("b", True), ("c", False), ("d", True)]:
        lane.put(lambda name=name: taken.append(name), urgent=urgent)
    lane.close()
    lane.work()
    assert taken == ["b", "d", "a", "c"]
