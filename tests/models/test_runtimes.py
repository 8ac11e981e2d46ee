"""What each runtime does beside computing: reading its file, proposing a manifest, holding versions apart."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import pytest
import torch
from monai.networks.nets import EfficientNetBN, UNet
from onnx import TensorProto
from safetensors.torch import save_file

from models.contract import BrokenModel, Context
from models.package import Package
from models.runtimes import container, onnx_scan, state_dict, torch_export, torchscript
from models.runtimes import onnx as onnx_runtime
from models.runtimes import python as python_runtime
from models.runtimes.architectures import MONAI, MonaiMissing, Unfit, network
from models.runtimes.onnx import Onnx, OnnxRuntimeMissing
from models.runtimes.python import PythonEntry
from models.runtimes.state_dict import StateDict
from models.runtimes.torch_export import TorchExport
from models.runtimes.torchscript import TorchScript
from tests.models.making import blobs, package_of, volume_of

UNET = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
MODEL = """
from models.contract import Memory
from results.findings import refused
from .parts.words import WORD


class Mine:
    def __init__(self, package):
        self.said = package.read("said.txt").decode()

    def load(self, device):
        self.device = device

    def run(self, given, context):
        return refused(WORD + self.said + self.device)

    def estimate(self, shape):
        return Memory(host=shape[0], device=0)

    def unload(self):
        pass
"""


def python_package(folder: Path, version: str, code: str = MODEL, word: str = "one ") -> Package:
    (folder / "parts").mkdir(parents=True)
    (folder / "model.py").write_text(code)
    (folder / "parts" / "words.py").write_text(f"WORD = {word!r}\n")
    (folder / "said.txt").write_text(version)
    return package_of(folder, "python", "segmentation", version=version, entry="Mine")


def said_by(package: Package) -> str:
    model = PythonEntry(package)
    model.load("cpu")
    return model.run(volume_of(blobs((2, 2, 2))), Context()).because


def test_two_versions_of_one_package_live_side_by_side(tmp_path: Path) -> None:
    before = set(sys.path)
    old, new = python_package(tmp_path / "1", "1"), python_package(tmp_path / "2", "2", word="two ")
    assert (said_by(old), said_by(new), said_by(old)) == ("one 1cpu", "two 2cpu", "one 1cpu")
    assert set(sys.path) == before
    assert "model" not in sys.modules
    assert "parts" not in sys.modules


def test_code_that_was_changed_after_it_was_vouched_for_is_not_imported(tmp_path: Path) -> None:
    package = python_package(tmp_path / "m", "3")
    (tmp_path / "m" / "parts" / "words.py").write_text("WORD = 'ONE '\n")
    with pytest.raises(BrokenModel, match="not the file that its manifest vouches for"):
        said_by(package)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nothing_like_this\n", "cannot be imported: ModuleNotFoundError"),
        ("from . import secrets_beside\n", "cannot be imported: ImportError"),
        ("class Other:\n    pass\n", "has no class Mine"),
        ("class Mine:\n    def __init__(self, package):\n        pass\n", "lacks load, run"),
        (MODEL.replace("self.device = device", "1 / 0"), "cannot be made or loaded: ZeroDivisionError"),
        (MODEL.replace("return refused(", "raise KeyError("), "it failed: KeyError"),
        (MODEL.replace("return refused(WORD + self.said + self.device)", "return 7"), "gave int"),
    ],
    ids=["module", "sibling", "class", "verbs", "load", "run", "findings"],
)
def test_what_a_packages_code_does_wrong_is_its_models_fault(tmp_path: Path, code: str, why: str) -> None:
    with pytest.raises(BrokenModel, match=why):
        said_by(python_package(tmp_path / "m", "4", code))


def test_findings_on_another_grid_are_not_taken(tmp_path: Path) -> None:
    draws = MODEL.replace(
        "return refused(WORD + self.said + self.device)",
        "import numpy as np\n        from ledger.job import Outcome\n        from results.findings "
        "import Findings\n"
        "        return Findings(outcome=Outcome.NOTHING, because='x', label_map=np.zeros((3, 3, 3), "
        "np.uint8))",
    )
    with pytest.raises(BrokenModel, match="drew on a grid of"):
        said_by(python_package(tmp_path / "m", "5", draws))


def conv_model(path: Path, **more: Any) -> None:
    """x → 2 channels, batch of 1 fixed."""
    weight = onnx.numpy_helper.from_array(np.ones((2, 1, 1, 1, 1), np.float32), "w")
    shape = more.pop("shape", [1, 1, "z", "y", "x"])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["image", "w"], ["answer"])], "g",
        [onnx.helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)], [weight],
    )  # fmt: skip
    opset = more.pop("opset", 17)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    onnx.helper.set_model_props(model, {"spacing": "1.5"})
    onnx.save(model, path)


def test_a_network_for_one_image_at_a_time_is_fed_one_at_a_time(tmp_path: Path) -> None:
    conv_model(tmp_path / "m.onnx")
    model = Onnx(
        package_of(tmp_path, "onnx", "segmentation", options={"window": {"size": [4, 4, 4], "batch": 3}})
    )
    model.load("cpu")
    assert model._forward is not None
    images = torch.rand(5, 1, 4, 4, 4)
    assert torch.equal(model._forward(images)["answer"], images.expand(5, 2, 4, 4, 4))


@pytest.mark.parametrize(
    ("facts", "why"),
    [({"given": "image"}, "has 5 axes"), ({"opset": 9999}, "ONNX Runtime .* cannot open")],
    ids=["axes", "opset"],
)
def test_an_onnx_file_that_does_not_fit_is_refused_when_it_is_loaded(
    tmp_path: Path, facts: dict[str, Any], why: str
) -> None:
    given = facts.pop("given", "volume")
    conv_model(tmp_path / "m.onnx", **facts)
    with pytest.raises(BrokenModel, match=why):
        Onnx(package_of(tmp_path, "onnx", "segmentation", given=given)).load("cpu")


def test_a_gpu_that_onnx_runtime_does_not_know_is_said_with_the_cure(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime knows a GPU")
    conv_model(tmp_path / "m.onnx")
    with pytest.raises(OnnxRuntimeMissing, match="onnxruntime-gpu"):
        Onnx(package_of(tmp_path, "onnx", "segmentation")).load("cuda:0")
    Onnx(package_of(tmp_path, "onnx", "segmentation", options={"cpu": True})).load("cuda:0")


def test_a_library_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv_model(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OnnxRuntimeMissing, match=r"pip install wetread\[onnx\]"):
        Onnx(package_of(tmp_path, "onnx", "segmentation")).load("cpu")
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(MonaiMissing, match=r"pip install wetread\[monai\]"):
        network("UNet", {}, {})


def test_options_that_onnx_runtime_cannot_follow_are_refused(tmp_path: Path) -> None:
    conv_model(tmp_path / "m.onnx")
    with pytest.raises(BrokenModel, match="autocast means nothing to ONNX Runtime"):
        Onnx(package_of(tmp_path, "onnx", "segmentation", options={"autocast": True}))
    with pytest.raises(BrokenModel, match="one tensor, 'picture', and this one takes image"):
        Onnx(package_of(tmp_path, "onnx", "segmentation", options={"input": "picture"})).load("cpu")
    Onnx(package_of(tmp_path, "onnx", "segmentation", options={"input": "image"})).load("cpu")


def test_the_scan_of_an_onnx_file_sees_what_onnx_itself_sees(tmp_path: Path) -> None:
    conv_model(tmp_path / "m.onnx")
    facts = onnx_scan.scan((tmp_path / "m.onnx").read_bytes())
    assert facts.opsets == {"": 17}
    assert facts.operators == {("", "Conv")}


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(b"\xea\x80\x80\x80\x10", id="13 and a 33rd bit"),
        pytest.param(b"\xf0\x80\x80\x80\x10", id="14 and a 33rd bit"),
        pytest.param(b"\xea\x80\x00", id="13 in more bytes than it needs"),
        pytest.param(b"\xea\xff\xff\xff\xff\xff\xff\xff\xff\x03", id="beyond 64 bits"),
        pytest.param(b"\x02", id="0"),
    ],
)
def test_a_key_that_others_would_read_as_another_field_is_refused(key: bytes) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "w").SerializeToString()
    graph = b"\x2a" + bytes([len(tensor) + len(key) + 1]) + tensor + key + b"\x00"
    with pytest.raises(onnx_scan.Unsafe, match="is no ONNX file, or is damaged"):
        onnx_scan.scan(b"\x42\x02\x10\x11\x3a" + bytes([len(graph)]) + graph)


def test_the_last_field_number_and_negative_numbers_are_read() -> None:
    last = b"\xf8\xff\xff\xff\x0f" + b"\xff" * 9 + b"\x01"
    assert onnx_scan.scan(b"\x42\x02\x10\x11\x3a\x00" + last).opsets == {"": 17}


def test_weights_of_another_architecture_are_told_apart_by_name_and_shape(tmp_path: Path) -> None:
    save_file(UNet(**UNET).state_dict(), tmp_path / "m.safetensors")
    other = {"architecture": "UNet", "arguments": UNET | {"out_channels": 5}}
    with pytest.raises(BrokenModel, match="where it needs"):
        StateDict(package_of(tmp_path, "state_dict", "segmentation", options=other)).load("cpu")
    nothing_like_it = {"architecture": "CentreDetector"}
    with pytest.raises(BrokenModel, match="they lack body"):
        StateDict(package_of(tmp_path, "state_dict", "segmentation", options=nothing_like_it)).load("cpu")


@pytest.mark.parametrize("said", [{}, {"pretrained": False}], ids=str)
def test_an_architecture_fetches_nothing_though_its_default_is_to(
    said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(url: str, **more: object) -> None:
        raise AssertionError(f"{url} was asked for")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetched)
    monkeypatch.setattr("monai.networks.nets.efficientnet.model_zoo.load_url", fetched)
    arguments = {"model_name": "efficientnet-b0", "spatial_dims": 2, "in_channels": 3, "num_classes": 2}
    weights = EfficientNetBN(**arguments, pretrained=False).state_dict()
    assert isinstance(network("EfficientNetBN", arguments | said, weights), EfficientNetBN)
    with pytest.raises(Unfit, match="would fetch weights"):
        network("EfficientNetBN", arguments | {"pretrained": True}, weights)


def test_weights_below_a_key_are_found_where_the_options_say(tmp_path: Path) -> None:
    weights = UNet(**UNET).state_dict()
    torch.save({"ema": {"student": weights}, "epoch": 4}, tmp_path / "m.pt")
    options = {"architecture": "UNet", "arguments": UNET}
    with pytest.raises(BrokenModel, match="weights_key says where"):
        StateDict(package_of(tmp_path, "state_dict", "segmentation", options=options)).load("cpu")
    StateDict(
        package_of(tmp_path, "state_dict", "segmentation", options=options | {"weights_key": "ema.student"})
    ).load("cpu")


@pytest.mark.parametrize("name", sorted(MONAI))
def test_every_architecture_that_may_be_named_is_there(name: str) -> None:
    with pytest.raises(Unfit, match=r"does not take the arguments|weights are not of this"):
        network(name, {"no_such_argument": 1}, {})


def test_weights_are_not_a_program_and_a_program_is_not_weights(tmp_path: Path) -> None:
    torch.save(UNet(**UNET).state_dict(), tmp_path / "m.pt")
    with pytest.raises(BrokenModel, match="runtime state_dict"):
        TorchScript(package_of(tmp_path, "torchscript", "segmentation")).load("cpu")
    (tmp_path / "m.pt").rename(tmp_path / "m.pt2")
    with pytest.raises(BrokenModel, match="cannot be read as a program"):
        TorchExport(package_of(tmp_path, "torch_export", "segmentation")).load("cpu")


def test_two_files_that_could_hold_the_network_are_a_question(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_file(UNet(**UNET).state_dict(), tmp_path / name)
    options = {"architecture": "UNet", "arguments": UNET}
    with pytest.raises(BrokenModel, match="2 of its files"):
        StateDict(package_of(tmp_path, "state_dict", "segmentation", options=options)).load("cpu")
    StateDict(
        package_of(tmp_path, "state_dict", "segmentation", options=options | {"file": "b.safetensors"})
    ).load("cpu")


def test_the_deprecation_of_torchscript_is_not_said_to_who_can_do_nothing_about_it(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(UNet(**UNET).eval(), torch.rand(1, 1, 8, 8, 8))
        torch.jit.save(traced, tmp_path / "m.ts")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorchScript(package_of(tmp_path, "torchscript", "segmentation")).load("cpu")


def test_an_onnx_file_tells_its_inputs_outputs_and_metadata(tmp_path: Path) -> None:
    conv_model(tmp_path / "m.onnx", shape=[1, 1, 96, 96, 64])
    told = onnx_runtime.propose(tmp_path)
    assert told["manifest"] == {"runtime": "onnx", "options": {"window": {"size": [96, 96, 64]}}}
    assert any("takes image: tensor(float) [1, 1, 96, 96, 64]" in one for one in told["missing"])
    assert any("spacing = '1.5'" in one for one in told["missing"])


def test_every_runtime_proposes_and_says_what_is_missing(tmp_path: Path) -> None:
    for module in (torch_export, torchscript, state_dict, python_runtime, container):
        told = module.propose(tmp_path)
        assert told["manifest"]["runtime"] == module.__name__.rpartition(".")[2]
        assert all(sentence.endswith((".", "…")) for sentence in told["missing"])
