"""
The matrix: every runtime × every task, each with a small network of random weights, beside what the library
that it was made with says of the same image.

A row makes a package and knows the answer without us: PyTorch eager, ONNX Runtime by itself, and MONAI's own
transforms and inferer. On a machine with a GPU:
`WETREAD_TEST_DEVICE=cuda:0 pytest tests/models/test_matrix.py`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks import nets
from monai.transforms import Compose, Invert, Orientation, ScaleIntensityRange, Spacing
from torch import Tensor, nn

from models.networks.centre_detector import CentreDetector
from results.findings import Findings
from tests.models.making import blobs, volume_of

SHAPE = (12, 24, 28)
ROI = (16, 16, 16)
INTENSITY = ({"kind": "window", "low": -200.0, "high": 300.0},)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING_MM = (1.45, 1.53, 2.1)  # no voxel back to the source lies half way between two


@dataclass(frozen=True)
class Row:
    """One task with its network, options, and how far the findings are from what the reference says."""

    task: str
    make: Callable[[], nn.Module]
    example: tuple[int, ...]  #: of the network's input
    architecture: str
    arguments: dict[str, Any]
    distance: Callable[[Findings, nn.Module, hd.Volume], float]
    tolerance: float
    options: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("answer",)


@cache
def given() -> hd.Volume:
    return volume_of(blobs(SHAPE))


UNET = {"spatial_dims": 3, "in_channels": 1, "channels": [4, 8], "strides": [2], "num_res_units": 0}
REGRESSOR = {"in_shape": [1, *SHAPE], "channels": [4, 8], "strides": [2, 2]}
DETECTOR = {"spatial_dims": 3, "in_channels": 1, "classes": 2, "features": 6, "at_most": 8}


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(7)
    return make().eval()


def scaled(volume: hd.Volume) -> Tensor:
    """(1, 1, slice, row, column) in 0 … 1."""
    array = torch.tensor(volume.array.astype(np.float32))[None, None]
    return (array.clamp(-200, 300) + 200) / 500


@torch.no_grad()
def by_monai(net: nn.Module, volume: hd.Volume) -> np.ndarray:
    """The label map (slice, row, column) by MONAI's transforms, inferer and inversion."""
    affine = LPS_TO_RAS @ volume.affine[:, [2, 1, 0, 3]]
    image = MetaTensor(
        torch.tensor(volume.array.transpose(2, 1, 0).astype(np.float32))[None], affine=torch.tensor(affine)
    )
    before = Compose([Orientation("RAS", labels=None), Spacing(SPACING_MM, mode="bilinear"),
                      ScaleIntensityRange(-200, 300, 0, 1, clip=True)])  # fmt: skip
    prepared = before(image)
    logits = SlidingWindowInferer(ROI, sw_batch_size=1, overlap=0.5, mode="gaussian")(prepared[None], net)[0]
    labels = MetaTensor(logits.argmax(0, keepdim=True).float().as_tensor(), meta=prepared.meta,
                        applied_operations=prepared.applied_operations)  # fmt: skip
    back = Invert(before, nearest_interp=True)(labels)
    return np.asarray(back[0]).round().astype(np.uint8).transpose(2, 1, 0)


def labels_differ(findings: Findings, net: nn.Module, volume: hd.Volume) -> float:
    expected = by_monai(net, volume)
    assert set(np.unique(expected)) == {0, 1, 2}, "the reference is trivial"
    assert findings.label_map is not None
    return float((findings.label_map != expected).mean())


@torch.no_grad()
def boxes_differ(findings: Findings, net: nn.Module, volume: hd.Volume) -> float:
    expected = net(scaled(volume))
    boxes, scores, labels = (expected[name].double().numpy() for name in ("boxes", "scores", "labels"))
    low = np.maximum(boxes[:, :3] - 0.5, -0.5)
    high = np.minimum(boxes[:, 3:] - 0.5, np.array(SHAPE) - 0.5)
    logit = np.log(scores / (1 - scores))
    calibrated = np.where(labels == 1, 1 / (1 + np.exp(-(1.3 * logit - 0.2))), scores)
    assert len(findings.boxes) == len(boxes) == 8
    wanted = sorted((-score, *a, *b) for score, a, b in zip(calibrated, low, high, strict=True))
    found = [(-box.score, *box.low, *box.high) for box in findings.boxes]
    return float(np.abs(np.array(wanted) - np.array(found)).max())


@torch.no_grad()
def verdicts_differ(findings: Findings, net: nn.Module, volume: hd.Volume) -> float:
    logits = net(scaled(volume)).double().reshape(-1).numpy()
    wanted = 1 / (1 + np.exp(-(logits * [1.0, 1.3] + [0.0, -0.2])))
    assert [one.calibrated for one in findings.verdicts] == [False, True]
    return float(np.abs(wanted - [one.probability for one in findings.verdicts]).max())


@torch.no_grad()
def points_differ(findings: Findings, net: nn.Module, volume: hd.Volume) -> float:
    maps = net(scaled(volume))[0]
    wanted = [np.unravel_index(int(one.argmax()), one.shape) for one in maps]
    return float(np.abs(np.array(wanted) - [one.at for one in findings.points]).max())


@torch.no_grad()
def quantities_differ(findings: Findings, net: nn.Module, volume: hd.Volume) -> float:
    wanted = float(net(scaled(volume)).reshape(-1)[0]) * 10 + 3
    (found,) = findings.measurements
    return abs(found.value - wanted)


@torch.no_grad()
def maps_differ(findings: Findings, net: nn.Module, volume: hd.Volume) -> float:
    wanted = torch.sigmoid(net(scaled(volume)))[0, 0].numpy()
    (found,) = findings.maps
    return float(np.abs(wanted - found.values).max())


ROWS = (
    Row(
        "segmentation", lambda: nets.UNet(**UNET, out_channels=3), (1, 1, *ROI), "UNet",
        UNET | {"out_channels": 3}, labels_differ, 0.001,
        {"prepare": {"orientation": "RAS", "spacing_mm": SPACING_MM, "intensity": INTENSITY},
         "window": {"size": ROI, "overlap": 0.5}},
    ),
    Row(
        "detection", lambda: CentreDetector(**DETECTOR), (1, 1, *SHAPE), "CentreDetector", DETECTOR,
        boxes_differ, 1e-3, {"detection": {"boxes": "boxes", "scores": "scores", "labels": "labels"},
               "prepare": {"intensity": INTENSITY}}, ("boxes", "scores", "labels"),
    ),
    Row(
        "classification", lambda: nets.Regressor(**REGRESSOR, out_shape=[2]), (1, 1, *SHAPE), "Regressor",
        REGRESSOR | {"out_shape": [2]}, verdicts_differ, 1e-4, {"prepare": {"intensity": INTENSITY}},
    ),
    Row(
        "landmarks", lambda: nets.UNet(**UNET, out_channels=2), (1, 1, *SHAPE), "UNet",
        UNET | {"out_channels": 2}, points_differ, 1e-6, {"prepare": {"intensity": INTENSITY}},
    ),
    Row(
        "regression", lambda: nets.Regressor(**REGRESSOR, out_shape=[1]), (1, 1, *SHAPE), "Regressor",
        REGRESSOR | {"out_shape": [1]}, quantities_differ, 1e-4, {"prepare": {"intensity": INTENSITY}},
    ),
    Row(
        "heat map", lambda: nets.UNet(**UNET, out_channels=1), (1, 1, *SHAPE), "UNet",
        UNET | {"out_channels": 1}, maps_differ, 1e-5,
        {"prepare": {"intensity": INTENSITY}, "heat_map": {"activation": "sigmoid"}},
    ),
)  # fmt: skip


def write_torch_export(row: Row, net: nn.Module, folder: Path) -> dict[str, Any]:
    torch.export.save(torch.export.export(net, (torch.rand(row.example),)), folder / "model.pt2")
    return {}


def write_onnx(row: Row, net: nn.Module, folder: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.rand(row.example),), str(folder / "model.onnx"), dynamo=False,
            input_names=["image"], output_names=list(row.outputs),
        )  # fmt: skip
    return {}


def write_torchscript(row: Row, net: nn.Module, folder: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, torch.rand(row.example), strict=False), folder / "model.ts")
    return {}


def write_safetensors(row: Row, net: nn.Module, folder: Path) -> dict[str, Any]:
    from safetensors.torch import save_file

    save_file(net.state_dict(), folder / "model.safetensors")
    return {"architecture": row.architecture, "arguments": row.arguments}


def write_checkpoint(row: Row, net: nn.Module, folder: Path) -> dict[str, Any]:
    named = {f"module.{name}": one for name, one in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": named}, folder / "model.pt")
    return {"architecture": row.architecture, "arguments": row.arguments, "prefix": "module."}


#: (what it is called here, its runtime) → writes the files, gives the options that only it needs
WRITERS: dict[tuple[str, str], Callable[[Row, nn.Module, Path], dict[str, Any]]] = {
    (".pt2", "torch_export"): write_torch_export,
    (".onnx", "onnx"): write_onnx,
    (".ts", "torchscript"): write_torchscript,
    (".safetensors", "state_dict"): write_safetensors,
    (".pt", "state_dict"): write_checkpoint,
}
