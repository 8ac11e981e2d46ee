"""What a network is given and what its outputs mean: grids, units, conventions, and what is refused."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks import nets
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from ledger.identifiers import Uid
from ledger.job import Outcome
from models.contract import (
    BrokenModel,
    Context,
    Earlier,
    Image,
    Memory,
    OutOfMemory,
    SeriesSet,
    SettingsNotUnderstood,
    Timeline,
)
from models.prepare.grid import Grid
from models.runtimes.state_dict import StateDict
from models.runtimes.tensors import answers
from models.runtimes.tensors.given import Prepared, prepared
from models.runtimes.tensors.options import Detection, Landmarks, Prepare, Step
from tests.models.making import blobs, manifest_of, package_of, volume_of

SHAPE = (10, 14, 18)
CPU = torch.device("cpu")
TINY = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}


def state_dict_model(
    folder: Path, name: str, arguments: dict[str, Any], *tasks: str, **facts: Any
) -> StateDict:
    torch.manual_seed(1)
    net = getattr(nets, name)(**arguments)
    save_file(net.state_dict(), folder / "model.safetensors")
    options = {"architecture": name, "arguments": arguments} | facts.pop("options", {})
    model = StateDict(package_of(folder, "state_dict", *tasks, options=options, **facts))
    model.load("cpu")
    return model


def eager(name: str, arguments: dict[str, Any]) -> nn.Module:
    torch.manual_seed(1)
    return getattr(nets, name)(**arguments).eval()


def test_an_image_is_a_volume_of_one_slice_to_a_network_of_two_axes(tmp_path: Path) -> None:
    arguments = TINY | {"spatial_dims": 2}
    array = blobs((32, 40))
    model = state_dict_model(tmp_path, "UNet", arguments, "segmentation", given="image")
    findings = model.run(Image(array=array, spacing_mm=(0.2, 0.2)), Context())
    with torch.no_grad():
        wanted = eager("UNet", arguments)(torch.tensor(array, dtype=torch.float32)[None, None])[0].argmax(0)
    assert findings.label_map.shape == (1, 32, 40)
    assert np.array_equal(findings.label_map[0], wanted.numpy())
    assert not any(one.measurements for one in findings.segments)  # no volume on a projection


def test_a_volume_goes_slice_by_slice_through_a_network_of_two_axes(tmp_path: Path) -> None:
    arguments = TINY | {"spatial_dims": 2}
    volume = volume_of(blobs((5, 16, 24)))
    model = state_dict_model(tmp_path, "UNet", arguments, "segmentation", options={"slice_by_slice": True})
    findings = model.run(volume, Context())
    with torch.no_grad():
        wanted = eager("UNet", arguments)(torch.tensor(volume.array, dtype=torch.float32)[:, None]).argmax(1)
    assert np.array_equal(findings.label_map, wanted.numpy())


def test_channels_that_exclude_nothing_become_segments_that_overlap(tmp_path: Path) -> None:
    arguments = TINY | {"out_channels": 2}
    model = state_dict_model(
        tmp_path, "UNet", arguments, "segmentation", options={"segmentation": {"activation": "sigmoid"}}
    )
    volume = volume_of(blobs((8, 16, 24)))
    findings = model.run(volume, Context())
    with torch.no_grad():
        logits = eager("UNet", arguments)(torch.tensor(volume.array, dtype=torch.float32)[None, None])[0]
    for number in (1, 2):
        assert np.array_equal(findings.mask(number), (logits[number - 1] >= 0).numpy())


def test_series_are_channels_on_the_grid_of_the_first(tmp_path: Path) -> None:
    array = blobs(SHAPE).astype(np.float32)
    first = volume_of(array)
    other = first.flip_spatial([0, 2]).permute_spatial_axes([1, 0, 2])  # the same voxels, stored otherwise
    inputs = ({"name": "t1", "modality": ("MR",)}, {"name": "t2", "modality": ("MR",)})
    manifest = manifest_of(tmp_path, given="series", inputs=inputs)
    given = SeriesSet(volumes={"t2": other, "t1": first}, headers={}, reference="t1")
    at = prepared(given, manifest, Prepare(), CPU)
    assert at.image.shape == (2, *SHAPE)
    assert torch.allclose(at.image[0], at.image[1])
    assert np.array_equal(at.image[0], array)


def test_a_series_that_lies_elsewhere_is_lacking(tmp_path: Path) -> None:
    inputs = ({"name": "t1", "modality": ("MR",)}, {"name": "t2", "modality": ("MR",)})
    model_facts = {"given": "series", "inputs": inputs}
    model = state_dict_model(tmp_path, "UNet", TINY | {"in_channels": 2}, "segmentation", **model_facts)
    alone = SeriesSet(volumes={"t1": volume_of(blobs(SHAPE))}, headers={}, reference="t1")
    findings = model.run(alone, Context())
    assert findings.outcome is Outcome.REFUSED
    assert "needs the series t2" in findings.because


@pytest.mark.parametrize("fit", ["resize", "pad or crop"])
def test_a_fixed_size_is_reached_and_left_again(tmp_path: Path, fit: str) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[4:8, 5:9, 6:12] = 1
    volume = volume_of(array)
    at = prepared(volume, manifest_of(tmp_path), Prepare(size=(20, 28, 36), fit=fit, padding=7), CPU)
    assert at.image.shape == (1, 20, 28, 36)
    assert (float(at.image.max()) == 7) == (fit == "pad or crop")
    drawn = (
        (at.image[0] == 1).to(torch.uint8) if fit == "pad or crop" else (at.image[0] > 0.4).to(torch.uint8)
    )
    back = answers.labels_onto(drawn, at.grid, at.source)
    assert np.array_equal(back.numpy(), array.astype(np.uint8))


def test_an_input_of_a_multiple_is_padded_and_the_answer_is_not(tmp_path: Path) -> None:
    model = state_dict_model(tmp_path, "UNet", TINY, "segmentation", options={"prepare": {"multiple_of": 8}})
    volume = volume_of(blobs((9, 13, 17)))
    assert model.run(volume, Context()).label_map.shape == (9, 13, 17)


def between(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return (x.clip(low, high) - low) / (high - low)


def standard(x: np.ndarray, of: np.ndarray) -> np.ndarray:
    return (x - of.mean()) / of.std()


STEPS: tuple[tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]], ...] = (
    ({"kind": "clip", "low": -50, "high": 60}, lambda x: x.clip(-50, 60)),
    ({"kind": "window", "low": -50, "high": 60, "to": (-1, 1)}, lambda x: between(x, -50, 60) * 2 - 1),
    ({"kind": "scale", "factor": 0.5, "offset": 3}, lambda x: x / 2 + 3),
    ({"kind": "z-score"}, lambda x: standard(x, x)),
    ({"kind": "z-score", "mean": 10, "deviation": 4}, lambda x: (x - 10) / 4),
    (
        {"kind": "z-score", "mean": 10, "deviation": 4, "nonzero": True},
        lambda x: np.where(x, (x - 10) / 4, 0),
    ),
    ({"kind": "z-score", "nonzero": True}, lambda x: np.where(x, standard(x, x[x != 0]), 0)),
    ({"kind": "min-max"}, lambda x: between(x, x.min(), x.max())),
    ({"kind": "percentiles", "low": 0.5, "high": 99.5}, lambda x: between(x, *np.percentile(x, (0.5, 99.5)))),
)


@pytest.mark.parametrize(("step", "by_numpy"), STEPS, ids=[str(step) for step, _ in STEPS])
def test_a_step_of_intensity_is_numpys(
    tmp_path: Path, step: dict[str, Any], by_numpy: Callable[[np.ndarray], np.ndarray]
) -> None:
    array = blobs(SHAPE).astype(np.float64)
    array[:2] = 0
    at = prepared(volume_of(array), manifest_of(tmp_path), Prepare(intensity=(Step(**step),)), CPU)
    assert np.allclose(at.image[0], by_numpy(array), atol=1e-4)


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "clip", "low": 0, "high": 1, "nonzero": True},
        {"kind": "scale", "factor": 2, "to": (0, 1)},
        {"kind": "window", "low": 0, "high": 1, "mean": 1, "deviation": 1},
        {"kind": "z-score", "offset": 3},
        {"kind": "min-max", "low": 0, "high": 1},
    ],
    ids=str,
)
def test_what_means_nothing_to_a_step_is_refused(step: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="means nothing to"):
        Step(**step)


BOX_LOW, BOX_HIGH = (
    np.array([2.0, 3.0, 4.0]),
    np.array([5.0, 7.0, 9.0]),
)  # edges, voxels of the network's grid
SIDES = BOX_HIGH - BOX_LOW
CONVENTIONS: tuple[tuple[dict[str, Any], np.ndarray], ...] = (
    ({"layout": "corners"}, np.concatenate([BOX_LOW, BOX_HIGH])),
    ({"layout": "pairs"}, np.stack([BOX_LOW, BOX_HIGH], 1).ravel()),
    ({"layout": "corner and size"}, np.concatenate([BOX_LOW, SIDES])),
    ({"layout": "centre and size"}, np.concatenate([(BOX_LOW + BOX_HIGH) / 2, SIDES])),
    ({"last_axis_first": True}, np.concatenate([BOX_LOW[::-1], BOX_HIGH[::-1]])),
    ({"origin": "centre"}, np.concatenate([BOX_LOW - 0.5, BOX_HIGH - 0.5])),
)


def at_of(prepare: Prepare, folder: Path) -> Prepared:
    return prepared(volume_of(blobs(SHAPE)), manifest_of(folder), prepare, CPU)


@pytest.mark.parametrize(("said", "numbers"), CONVENTIONS, ids=[str(said) for said, _ in CONVENTIONS])
def test_a_box_is_the_same_in_every_convention(
    tmp_path: Path, said: dict[str, Any], numbers: np.ndarray
) -> None:
    named = {"boxes": torch.tensor(numbers)[None], "scores": torch.tensor([0.9])}
    manifest = package_of(tmp_path, "onnx", "detection").manifest
    (box,) = answers.boxes(
        manifest, Detection(**said), [((0, 0, 0), named)], at_of(Prepare(), tmp_path), axes=3
    )
    assert np.allclose(box.low, BOX_LOW - 0.5)
    assert np.allclose(box.high, BOX_HIGH - 0.5)


@pytest.mark.parametrize(("unit", "turn"), [("LPS mm", [1, 1, 1]), ("RAS mm", [-1, -1, 1])])
def test_a_box_in_millimetres_lies_where_it_lies_in_the_patient(
    tmp_path: Path, unit: str, turn: list[int]
) -> None:
    source = Grid.of(volume_of(blobs(SHAPE)))
    ends = source.points_at([BOX_LOW - 0.5, BOX_HIGH - 0.5]) * turn
    named = {
        "boxes": torch.tensor(np.concatenate([ends.min(0), ends.max(0)]))[None],
        "scores": torch.tensor([0.9]),
    }
    manifest = package_of(tmp_path, "onnx", "detection").manifest
    # On a turned and resampled grid, too: millimetres do not hang on it.
    at = at_of(Prepare(orientation="RAS", spacing_mm=(2, 2, 2)), tmp_path)
    (box,) = answers.boxes(manifest, Detection(unit=unit), [((0, 0, 0), named)], at, axes=3)
    assert np.allclose(box.low, BOX_LOW - 0.5)
    assert np.allclose(box.high, BOX_HIGH - 0.5)


def test_a_box_on_a_turned_grid_comes_back(tmp_path: Path) -> None:
    at = at_of(Prepare(orientation="RAS"), tmp_path)  # columns, rows and slices, the first two backwards
    sizes = np.array(SHAPE)[::-1]
    low = np.array([sizes[0] - BOX_HIGH[2], sizes[1] - BOX_HIGH[1], BOX_LOW[0]])
    high = np.array([sizes[0] - BOX_LOW[2], sizes[1] - BOX_LOW[1], BOX_HIGH[0]])
    named = {"boxes": torch.tensor(np.concatenate([low, high]))[None], "scores": torch.tensor([0.9])}
    manifest = package_of(tmp_path, "onnx", "detection").manifest
    (box,) = answers.boxes(manifest, Detection(), [((0, 0, 0), named)], at, axes=3)
    assert np.allclose(box.low, BOX_LOW - 0.5)
    assert np.allclose(box.high, BOX_HIGH - 0.5)


def test_two_windows_that_see_one_thing_give_one_box(tmp_path: Path) -> None:
    manifest = package_of(tmp_path, "onnx", "detection").manifest
    box = np.concatenate([BOX_LOW, BOX_HIGH])
    tiles = [
        (first, {"boxes": torch.tensor(box - [*first, *first])[None], "scores": torch.tensor([score])})
        for first, score in (((0, 0, 0), 0.7), ((0, 2, 4), 0.9))
    ]
    (found,) = answers.boxes(manifest, Detection(), tiles, at_of(Prepare(), tmp_path), axes=3)
    assert found.score == pytest.approx(0.9)
    assert np.allclose(found.low, BOX_LOW - 0.5)


PLACES = np.array([[1.0, 2.0, 3.0], [8.0, 12.0, 16.0]])
SIZES = np.array(SHAPE)


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ({}, PLACES),
        ({"last_axis_first": True}, PLACES[:, ::-1]),
        ({"unit": "0 to 1"}, (PLACES + 0.5) / SIZES),
        ({"unit": "-1 to 1"}, (PLACES + 0.5) / SIZES * 2 - 1),
        ({"unit": "LPS mm"}, Grid.of(volume_of(blobs(SHAPE))).points_at(PLACES)),
        ({"unit": "RAS mm"}, Grid.of(volume_of(blobs(SHAPE))).points_at(PLACES) * [-1, -1, 1]),
    ],
    ids=["voxels", "x first", "0 to 1", "-1 to 1", "LPS mm", "RAS mm"],
)
def test_a_point_is_the_same_in_every_unit(tmp_path: Path, said: dict[str, Any], numbers: np.ndarray) -> None:
    manifest = package_of(tmp_path, "onnx", "landmarks").manifest
    named = {"0": torch.tensor(np.ascontiguousarray(numbers))[None]}
    asked = Landmarks(form="coordinates", **said)

    def no_maps(which: object, reduce: object) -> Tensor:
        raise AssertionError

    found = answers.landmarks(manifest, asked, named, no_maps, at_of(Prepare(), tmp_path), axes=3)
    assert np.allclose([one.at for one in found], PLACES)


def test_settings_that_nobody_knows_stop_the_rule(tmp_path: Path) -> None:
    model = state_dict_model(tmp_path, "UNet", TINY, "segmentation")
    with pytest.raises(SettingsNotUnderstood, match="threshold"):
        model.run(volume_of(blobs((8, 8, 8))), Context(settings={"threshold": 1}))


def test_an_option_that_nobody_knows_breaks_the_model(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel, match="prepare"):
        state_dict_model(tmp_path, "UNet", TINY, "segmentation", options={"prepare": {"spacing": [1, 1, 1]}})


def test_the_name_of_an_input_is_refused_where_none_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel, match="input: Extra inputs"):
        state_dict_model(tmp_path, "UNet", TINY, "segmentation", options={"input": "image"})


def test_a_timeline_is_for_other_runtimes(tmp_path: Path) -> None:
    model = state_dict_model(tmp_path, "UNet", TINY, "segmentation", given="timeline")
    volume = volume_of(blobs((8, 8, 8)))
    earlier = Earlier(
        acquired=date(2026, 1, 2), study=Uid("1.2"), series=Uid("1.3"), images=(), volume=volume, headers={}
    )
    with pytest.raises(BrokenModel, match="runtime python can"):
        model.run(Timeline(current=volume, headers={}, earlier=(earlier,)), Context())


def test_an_image_without_a_pixel_spacing_is_refused_where_it_matters(tmp_path: Path) -> None:
    arguments = TINY | {"spatial_dims": 2}
    options = {"prepare": {"spacing_mm": [0.5, 0.5]}}
    model = state_dict_model(tmp_path, "UNet", arguments, "segmentation", given="image", options=options)
    findings = model.run(Image(array=blobs((16, 16)), spacing_mm=None), Context())
    assert findings.outcome is Outcome.REFUSED
    assert "how large a pixel is" in findings.because


def test_a_network_of_other_axes_is_broken_and_not_the_images(tmp_path: Path) -> None:
    model = state_dict_model(tmp_path, "UNet", TINY | {"spatial_dims": 2}, "segmentation")
    with pytest.raises(BrokenModel, match="does not take an input"):
        model.run(volume_of(blobs((8, 8, 8))), Context())


def test_an_output_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    model = state_dict_model(tmp_path, "UNet", TINY, "segmentation", options={"segmentation": {"output": 3}})
    with pytest.raises(BrokenModel, match="no output 3"):
        model.run(volume_of(blobs((8, 8, 8))), Context())


def test_a_window_cannot_answer_for_the_whole(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel, match="leave out"):
        state_dict_model(
            tmp_path, "UNet", TINY, "segmentation", "classification", options={"window": {"size": [8, 8, 8]}}
        )


def test_less_memory_is_met_by_the_ladder_and_too_little_is_said(tmp_path: Path) -> None:
    options = {"window": {"size": [8, 8, 8], "batch": 4}}
    model = state_dict_model(tmp_path, "UNet", TINY, "segmentation", options=options)
    volume = volume_of(blobs((40, 16, 16)))
    plenty = model.run(volume, Context())
    tight = model.run(volume, Context(memory=Memory(host=300_000, device=0)))
    assert np.mean(plenty.label_map == tight.label_map) > 0.97  # half precision or no blending, and said
    with pytest.raises(OutOfMemory, match="more memory"):
        model.run(volume, Context(memory=Memory(host=1000, device=0)))


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    array = blobs(SHAPE).astype(np.float32)
    array[0, 0, 0] = np.nan
    model = state_dict_model(tmp_path, "UNet", TINY, "segmentation")
    findings = model.run(volume_of(array), Context())
    assert findings.outcome is Outcome.REFUSED
    assert "not numbers" in findings.because
