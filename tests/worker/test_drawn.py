"""A rule that names another model, which draws on the same images before the first one measures them."""

from pathlib import Path

import pydicom
import pytest
from safetensors.torch import save
from torch import nn

from ledger.job import Outcome
from ledger.result import Role
from models.contract import SettingsNotUnderstood, UnknownModel
from models.registry import find, open_found
from models.settings import ModelsSettings
from models.training.phantom_series import write_series
from models.training.phantoms import Phantom, chest
from tests.models.manifests import write_model
from worker.exchange import RunRequest
from worker.memory import Budget
from worker.residents import Residents
from worker.run import analyse

ARCHITECTURE = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [2, 4], "strides": [2]}


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return chest((32, 80, 80), (9.0, 4.8, 4.8), seed=5, noise_hu=0)


@pytest.fixture(scope="module")
def series(phantom, tmp_path_factory) -> tuple[str, ...]:
    return tuple(map(str, write_series(phantom, tmp_path_factory.mktemp("series"))))


def everything_is_liver() -> bytes:
    """The weights of a UNet that says liver of every voxel: nothing but the last bias speaks."""
    from monai.networks.nets import UNet

    net: nn.Module = UNet(**ARCHITECTURE)
    weights = {name: tensor * 0 for name, tensor in net.state_dict().items()}
    last = [name for name, tensor in weights.items() if name.endswith("bias") and tensor.shape == (2,)][-1]
    weights[last] = weights[last] + weights[last].new_tensor([0.0, 5.0])
    return save({name: tensor.contiguous() for name, tensor in weights.items()})


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> ModelsSettings:
    """A models folder with a network that draws a liver, as `wetread models add` leaves it."""
    pytest.importorskip("monai")
    shelf = tmp_path_factory.mktemp("models")
    write_model(
        shelf / "livers" / "1.4",
        {"model.safetensors": everything_is_liver()},
        name="livers",
        version="1.4",
        runtime="state_dict",
        segments=[{"number": 1, "structure": "liver"}],
        options={"architecture": "UNet", "arguments": ARCHITECTURE},
    )
    return ModelsSettings(folder=shelf)


def request(series, models, out: Path, **settings: object) -> RunRequest:
    out.mkdir()
    return RunRequest(
        model="body_ct",
        inputs=series,
        out=str(out),
        at=1.7e9,
        device="cpu",
        settings=settings,
        models=models,
    )


def test_what_another_model_drew_is_measured_and_the_report_names_that_model(
    series, models, tmp_path
) -> None:
    stages: list[str] = []
    reply = analyse(
        request(series, models, tmp_path / "out", organs="livers"),
        enter=lambda stage, limit: stages.append(stage),
    )

    assert reply.outcome is Outcome.FOUND, reply.because
    assert stages == ["load", "model", "open", "model", "encode", "check"]
    assert "Liver, inside its outline" in {one.label for one in reply.findings}
    digest = str(open_found(find("livers", models), models).weights_digest)
    assert any(f"livers@1.4 ({digest[:16]}" in caution for caution in reply.cautions)
    report = str(pydicom.dcmread(next(one.path for one in reply.files if one.role is Role.REPORT)))
    assert "livers@1.4" in report
    assert reply.model_identity == "body_ct@1.0.0"


def test_with_another_model_that_draws_results_have_other_uids(series, models, tmp_path) -> None:
    alone = analyse(request(series, models, tmp_path / "alone"))
    helped = analyse(request(series, models, tmp_path / "helped", organs="livers@1.4"))

    assert {one.sop_instance for one in alone.files}.isdisjoint(one.sop_instance for one in helped.files)


@pytest.mark.parametrize(
    ("organs", "error", "says"),
    [
        ("nobody", UnknownModel, "no model 'nobody'"),
        ("body_ct", SettingsNotUnderstood, "cannot draw for it"),
        (7, SettingsNotUnderstood, "is the name of a model"),
    ],
    ids=["unknown", "itself", "number"],
)
def test_a_rule_that_names_no_model_that_could_draw_is_the_sites_matter(  # noqa: PLR0917
    organs, error, says, series, models, tmp_path
) -> None:
    with pytest.raises(error, match=says):
        analyse(request(series, models, tmp_path / "out", organs=organs))


def test_the_two_are_never_loaded_beyond_the_budget_together(series, models, tmp_path) -> None:
    budget = Budget(device="cpu", host=900 << 20, on_device=0)
    residents = Residents("cpu", budget=budget)
    admitted: list[str] = []
    admit = residents.admit

    def noting(resident, *more, **named):
        admitted.append(resident.identity)
        return admit(resident, *more, **named)

    residents.admit = noting  # type: ignore[method-assign]
    analyse(request(series, models, tmp_path / "out", organs="livers"), residents=residents)

    assert admitted == ["livers@1.4", "body_ct@1.0.0"]
    assert residents.taken.host <= budget.host
