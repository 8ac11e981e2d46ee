"""Checkpoints that were made to do harm, or were harmed: each is refused in a sentence, and nothing runs."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from models.contract import BrokenModel
from models.package import Package
from models.runtimes.nnunet import NnUNet
from models.runtimes.nnunet_checkpoint import NotACheckpoint, read_checkpoint
from models.runtimes.nnunet_names import looked_at
from tests.models.making import manifest_of
from tests.models.nnunet.cases import Case
from tests.models.nnunet.folders import plans_of, write_folder
from tests.models.nnunet.test_equality import segments

CASE = Case()


class Harm:
    """A pickle that makes a folder where it is opened by whoever believes it."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.mark,)


def loaded(folder: Path) -> NnUNet:
    manifest = manifest_of(folder, runtime="nnunet", segments=segments((1, 2, 3)))
    model = NnUNet(Package(folder, manifest))
    model.load("cpu")
    return model


def checkpoint_in(folder: Path) -> Path:
    return folder / "fold_0/checkpoint_final.pth"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model", CASE)


def test_a_good_one_loads(folder: Path) -> None:
    assert loaded(folder).estimate((20, 26, 24)).host > 0


@pytest.mark.parametrize("where", ["logging", "network_weights", "init_args"])
def test_a_pickle_that_would_run_something_runs_nothing(folder: Path, tmp_path: Path, where: str) -> None:
    mark = tmp_path / "harmed"
    write_folder(folder, CASE, **{where: {"configuration": Harm(mark)}})
    with pytest.raises(BrokenModel, match="more than numbers and names"):
        loaded(folder)
    assert not mark.exists()
    # The file is what it is said to be: who believes it is harmed.
    torch.load(checkpoint_in(folder), weights_only=False)
    assert mark.exists()


def test_a_bare_pickle_runs_nothing(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "harmed"
    checkpoint_in(folder).write_bytes(pickle.dumps(Harm(mark)))
    with pytest.raises(BrokenModel, match="no archive of PyTorch"):
        loaded(folder)
    assert not mark.exists()


def test_a_packed_archive_is_not_unpacked(folder: Path) -> None:
    whole = checkpoint_in(folder)
    bomb = io.BytesIO()
    with zipfile.ZipFile(whole) as given, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in given.namelist():
            packed.writestr(name, given.read(name))
        packed.writestr(f"{given.namelist()[0].split('/')[0]}/data/zeros", bytes(64 << 20))
    whole.write_bytes(bomb.getvalue())
    assert whole.stat().st_size < 1 << 20
    with pytest.raises(BrokenModel, match="packed"):
        loaded(folder)


@pytest.mark.parametrize("kept", [0, 3, 200, 5000])
def test_a_truncated_checkpoint_is_refused(folder: Path, kept: int) -> None:
    whole = checkpoint_in(folder).read_bytes()
    assert len(whole) > kept
    checkpoint_in(folder).write_bytes(whole[:kept])
    with pytest.raises(BrokenModel, match="was not opened"):
        loaded(folder)


def test_a_checkpoint_of_another_network_does_not_fit(folder: Path) -> None:
    other = write_folder(folder.parent / "other", Case(strides=((1, 1, 1), (2, 2, 2), (2, 2, 2))))
    checkpoint_in(folder).write_bytes(checkpoint_in(other).read_bytes())
    with pytest.raises(BrokenModel, match="does not fit together"):
        loaded(folder)


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"network_weights": {"a": 1}}, "not all numbers"),
        ({"network_weights": [1]}, "lacks"),
        ({"init_args": {}}, "lacks"),
        ({"network_weights": {"a": torch.zeros(1).expand(1 << 40)}}, "twice the memory"),
        ({"inference_allowed_mirroring_axes": (7,)}, "mirrored along"),
        (
            {"trainer_name": "TheirTrainer"},
            "needs nnU-Net's own package, because its trainer is TheirTrainer",
        ),
    ],
)
def test_a_checkpoint_that_says_something_else_is_refused(folder: Path, changes: dict, because: str) -> None:
    write_folder(folder, CASE, **changes)
    with pytest.raises(Exception, match=because) as refused:
        loaded(folder)
    assert type(refused.value).__name__ in ("BrokenModel", "MissingLibrary")


_UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"architecture": {"network_class_name": "torch.hub.load"}}, "its network is 'torch.hub.load'"),
        ({"architecture": {"network_class_name": "Exotic"}}, "its network is 'Exotic'"),
        ({"architecture": {"network_class_name": _UNET.replace("PlainConvUNet", "nn.x")}}, "its network is"),
        ({"architecture": {"network_class_name": [_UNET]}}, "its network is"),
        ({"arch_kwargs": {"conv_op": "os.system"}}, "its conv_op of the network is 'os.system'"),
        ({"arch_kwargs": {"nonlin": "torch.nn.modules.module.torch.load"}}, "its nonlin of the network is"),
        ({"arch_kwargs": {"block": "eval"}}, "its block of the network is 'eval'"),
        ({"arch_kwargs": {"more": {"deep": ["exec"]}}}, "its deep of the network is 'exec'"),
        ({"arch_kwargs": {"squeeze": 5}, "requires": ["squeeze"]}, "its squeeze of the network is '5'"),
        ({"requires": ["nothing"]}, "lacks or garbles 'nothing'"),
        ({"preprocessor_name": "os"}, "its preprocessor is 'os'"),
        ({"normalization_schemes": ["np.load"]}, "its normalization is 'np.load'"),
        ({"resampling_fn_data": "partial"}, "its resampling of data is 'partial'"),
        ({"resampling_fn_seg": "partial"}, "its resampling of seg is 'partial'"),
    ],
)
def test_names_that_are_not_of_nnunet_are_not_given_to_its_package(
    folder: Path, changes: dict, because: str
) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    architecture = configuration["architecture"]
    # Another order of layers is for nnU-Net's own package, so that each of them gets as far as it could.
    architecture["arch_kwargs"] |= {"nonlin_first": True} | changes.pop("arch_kwargs", {})
    architecture["_kw_requires_import"] += changes.pop("requires", [])
    architecture |= changes.pop("architecture", {})
    configuration |= changes
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(BrokenModel, match=because):
        loaded(folder)


@pytest.mark.parametrize("key", ["trainer", "manager"])
def test_a_trainer_or_a_label_manager_of_any_name_is_not_looked_for(folder: Path, key: str) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    if key == "manager":
        plans["label_manager"] = "os"
        (folder / "plans.json").write_text(json.dumps(plans))
    else:
        write_folder(folder, CASE, trainer_name="os.path")
    with pytest.raises(BrokenModel, match=f"its (label )?{key} is 'os"):
        loaded(folder)


@pytest.mark.parametrize("network", ["unet.ResidualEncoderUNet", "residual_unet.ResidualEncoderUNet",
                                     "primus.PrimusM", "primus.PrimusV2L"])  # fmt: skip
def test_names_that_nnunet_itself_writes_are_given_to_it_unchanged(network: str) -> None:
    plans = plans_of(CASE)
    configuration = plans["configurations"]["3d_fullres"]
    configuration["architecture"]["network_class_name"] = _UNET.replace("unet.PlainConvUNet", network)
    configuration["architecture"]["arch_kwargs"]["dropout_op"] = "torch.nn.modules.dropout.Dropout3d"
    configuration["resampling_fn_probabilities"] = "resample_torch_fornnunet"
    plans["configurations"]["finer"] = {"inherits_from": "3d_fullres", "spacing": [0.5, 0.5, 0.5]}
    given = looked_at(plans, "finer", "nnUNet_Primus_M_Trainer")
    assert given == plans | {"configurations": {"finer": configuration | {"spacing": [0.5, 0.5, 0.5]}}}


def test_a_file_that_was_changed_after_it_was_installed_is_not_read(folder: Path) -> None:
    manifest = manifest_of(folder, runtime="nnunet", segments=segments((1, 2, 3)))
    content = bytearray(checkpoint_in(folder).read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint_in(folder).write_bytes(bytes(content))
    with pytest.raises(BrokenModel, match="vouches for"):
        NnUNet(Package(folder, manifest)).load("cpu")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plans.json", b"[" * 100_000),
        ("plans.json", b"{}"),
        ("plans.json", b'{"configurations": {"3d_fullres": {"inherits_from": "3d_fullres"}}}'),
        ("dataset.json", b'{"labels": {"background": 1}, "channel_names": {"0": "CT"}}'),
        ("dataset.json", b'{"labels": {"background": 0, "x": -1}, "channel_names": {"0": "CT"}}'),
    ],
)
def test_plans_that_are_none_are_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises((BrokenModel, ValueError)) as refused:
        loaded(folder)
    assert isinstance(refused.value, BrokenModel), "as the model's fault"


def test_numpy_scalars_of_the_log_are_numbers_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"network_weights": {}, "log": np.array([object()], dtype=object)}, path)
    with path.open("rb") as file, pytest.raises(NotACheckpoint):
        read_checkpoint(file)
