import pytest
import torch

from models.prepare import memory
from models.prepare.demand import demand
from models.prepare.ladder import Plan
from models.prepare.memory import measured, resident
from models.prepare.windows import predict
from tests.models.prepare.networks import smooth

MIB = 1 << 20


def test_what_is_taken_and_given_back_is_seen() -> None:
    def work() -> str:
        torch.ones(64 * MIB // 4)
        return "done"

    answer, peak = measured(work)

    assert answer == "done"
    assert 60 * MIB < peak.host < 90 * MIB
    assert peak.device == 0


def test_a_small_run_after_a_large_one_is_small() -> None:
    measured(lambda: torch.ones(128 * MIB // 4).sum())

    _, peak = measured(lambda: torch.ones(8 * MIB // 4).sum())

    assert peak.host < 40 * MIB


def test_where_the_kernel_forgets_no_peak_only_its_rise_is_known(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "nowhere" / "clear_refs")
    measured(lambda: torch.ones(64 * MIB // 4).sum())

    _, again = measured(lambda: torch.ones(32 * MIB // 4).sum())

    assert again.host < 16 * MIB


def test_another_kernel_is_asked_by_its_library(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "nowhere")

    assert resident() > 10 * MIB


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("sums", [torch.float32, torch.float16])
def test_what_a_run_takes_is_what_was_worked_out(streaming: bool, sums: torch.dtype) -> None:
    # A network that itself takes nothing: its logits are a view of one channel.
    volume, plan = smooth(1, 96, 96, 96), Plan(batch=1, streaming=streaming, sums=sums, sums_on="host")
    worked_out = demand((96, 96, 96), window=(32, 32, 32), channels=1, classes=60, plan=plan, on_gpu=False)

    _, taken = measured(
        lambda: predict(lambda x: x.expand(-1, 60, -1, -1, -1), volume, window=(32, 32, 32), plan=plan)
    )

    volume_bytes = volume.numel() * 4  # held already, and counted
    assert 0.55 < (taken.host + volume_bytes) / worked_out.host < 1.1
