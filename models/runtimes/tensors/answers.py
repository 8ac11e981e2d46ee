"""
From a network's outputs to findings on the source grid: which output answers which task, and how.

Dense outputs, (n, channels, axes), may come from windows; all others from one look at the whole.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import outputs
from models.contract import BrokenModel
from models.manifest import Manifest
from models.prepare.reducers import Reducer, above, labels
from models.prepare.sample import labels_onto, resample
from models.runtimes.tensors.given import Prepared
from models.runtimes.tensors.options import Detection, Landmarks, Maps, Segmentation, TensorOptions, Which
from results.findings import Box, HeatMap, Measurement, Point, Verdict

Named = Mapping[str, Tensor]  #: the outputs of one forward pass, in order
Dense = Callable[[Which, Reducer], Tensor]  #: the output over the whole, reduced voxel by voxel


_LARGEST_LABEL = 65535


def pick(manifest: Manifest, named: Named, which: Which) -> Tensor:
    """The output that the options name. Raises `BrokenModel` where there is none."""
    if isinstance(which, str) and which in named:
        return named[which]
    if isinstance(which, int) and 0 <= which < len(named):
        return list(named.values())[which]
    raise BrokenModel(
        f"model {manifest.identity}: there is no output {which!r}; the network has "
        f"{', '.join(named) or 'none'}"
    )


def segmentation(manifest: Manifest, asked: Segmentation, dense: Dense, at: Prepared) -> outputs.Drawn:
    """The segments, on the source grid, with their volumes where the voxels have a size."""
    if asked.activation in ("softmax", "labels"):
        reduced = dense(asked.output, labels if asked.activation == "softmax" else as_labels)
        drawn = outputs.draw_labels(manifest, labels_onto(reduced, at.grid, at.source).cpu().numpy())
    else:
        reduced = dense(asked.output, _thresholded(manifest, logits=asked.activation == "sigmoid"))
        drawn = outputs.draw_channels(manifest, labels_onto(reduced, at.grid, at.source).cpu().numpy())
    if not at.measured:
        return drawn
    return outputs.with_volumes(drawn, float(abs(np.linalg.det(at.source.affine[:3, :3]))))


def as_labels(given: Tensor) -> Tensor:
    """(1, …) as uint16 (…). Raises `BrokenModel` for what are no labels."""
    if given.shape[0] != 1:
        raise BrokenModel(f"labels have one channel, and the network gave {given.shape[0]}")
    rounded = given[0].round() if given.is_floating_point() else given[0]
    low, high = float(rounded.min()), float(rounded.max())
    if not 0 <= low <= high <= _LARGEST_LABEL:
        raise BrokenModel(
            f"labels are numbers from 0 to {_LARGEST_LABEL}, and the network gave {low} to {high}"
        )
    # One type for every part of the volume: what later parts hold is not known yet.
    return rounded.to(torch.uint16)


def _thresholded(manifest: Manifest, *, logits: bool) -> Reducer:
    def reduce(given: Tensor) -> Tensor:
        thresholds = outputs.thresholds_of(manifest, given.shape[0])
        if logits:
            return above(given, thresholds)
        levels = torch.tensor(thresholds, device=given.device)
        return given.float() >= levels.reshape([-1] + [1] * (given.ndim - 1))

    return reduce


def heat_maps(manifest: Manifest, asked: Maps, dense: Dense, at: Prepared) -> tuple[HeatMap, ...]:
    """The maps, linearly brought to the source grid."""

    def reduce(given: Tensor) -> Tensor:
        match asked.activation:
            case "sigmoid":
                return torch.sigmoid(given.float())
            case "softmax":
                return torch.softmax(given.float(), 0)
        return given.float()

    values = resample(dense(asked.output, reduce), at.grid, at.source, "linear", outside=0.0)
    return outputs.maps_of(manifest, values.cpu().numpy())


def landmarks(
    manifest: Manifest, asked: Landmarks, named: Named | None, dense: Dense, at: Prepared, *, axes: int
) -> tuple[Point, ...]:
    """The points: the maximum of each heat map, or the coordinates that the network gives."""
    if asked.form == "heat maps":
        maps = dense(asked.output, lambda given: given.float())
        best, where = maps.reshape(maps.shape[0], -1).max(dim=1)
        places = np.stack(np.unravel_index(where.cpu().numpy(), tuple(maps.shape[1:])), axis=1)
        if asked.activation == "sigmoid":
            best = torch.sigmoid(best)
        return outputs.points_of(manifest, _back(places, at), best.clamp(0, 1).cpu().numpy())
    if named is None:
        raise BrokenModel(f"model {manifest.identity}: coordinates need a look at the whole image")
    given = _numbers(pick(manifest, named, asked.output)).reshape(-1)
    if given.size % axes:
        raise BrokenModel(f"model {manifest.identity} gave {given.size} numbers for points of {axes} axes")
    at_places: NDArray[np.float64] = given.reshape(-1, axes)
    if asked.unit in ("LPS mm", "RAS mm"):
        return outputs.points_of(manifest, at.source.indices_at(_lps(manifest, at_places, asked.unit, at)))
    at_places = at_places[:, ::-1] if asked.last_axis_first else at_places
    sizes = np.asarray(at.grid.shape[3 - axes :], np.float64)
    if asked.unit == "0 to 1":
        at_places = at_places * sizes - 0.5
    elif asked.unit == "-1 to 1":
        at_places = (at_places + 1) / 2 * sizes - 0.5
    return outputs.points_of(manifest, _back(_three(at_places), at))


def boxes(
    manifest: Manifest,
    asked: Detection,
    tiles: Sequence[tuple[tuple[int, ...], Named]],
    at: Prepared,
    axes: int,
) -> tuple[Box, ...]:
    """The boxes of every part that the network looked at, `tiles` of (first voxel, outputs)."""
    axes = 3 if asked.unit != "voxels" else axes
    lows, highs, scores, classes = [], [], [], []
    for first, named in tiles:
        corners = _numbers(pick(manifest, named, asked.boxes))
        low, high = _corners(
            manifest, corners.reshape(-1, corners.shape[-1] if corners.size else 2 * axes), asked, axes
        )
        shift = np.asarray(first[3 - axes :], np.float64) if asked.unit == "voxels" else np.zeros(axes)
        lows.append(low + shift)
        highs.append(high + shift)
        likely = _numbers(pick(manifest, named, asked.scores)).reshape(-1)
        scores.append(_sigmoid(likely) if asked.activation == "sigmoid" else likely)
        if asked.labels is not None:
            kinds = _numbers(pick(manifest, named, asked.labels)).reshape(-1)
            classes.append(np.rint(kinds).astype(int) - asked.first_label)
    low, high = np.concatenate(lows), np.concatenate(highs)
    if asked.unit == "voxels":
        offset = 0.5 if asked.origin == "edge" else 0.0
        low, high = low - offset, high - offset
        if axes == 2:
            low, high = (np.insert(side, 0, level, axis=1) for side, level in ((low, -0.5), (high, 0.5)))
        low, high = outputs.boxes_in_voxels(low, high, at.source.into(at.grid))
    else:
        ends = _lps(manifest, low, asked.unit, at), _lps(manifest, high, asked.unit, at)
        low, high = outputs.boxes_in_voxels(np.minimum(*ends), np.maximum(*ends), at.source.affine)
    return outputs.boxes_of(
        manifest,
        low,
        high,
        np.concatenate(scores),
        np.concatenate(classes) if asked.labels is not None else None,
        shape=at.source.shape,
        # Neighbouring parts see the same thing twice.
        nms_iou=asked.nms_iou or (0.5 if len(tiles) > 1 else None),
        at_most=asked.at_most,
    )


def _corners(
    manifest: Manifest, given: NDArray[np.float64], asked: Detection, axes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner, (box, axes) each, in the order of the network's axes."""
    if given.shape[1] != 2 * axes:
        raise BrokenModel(
            f"model {manifest.identity} gave boxes of {given.shape[1]} numbers, and {2 * axes} make one"
        )
    if asked.layout == "pairs":
        first, second = given[:, 0::2], given[:, 1::2]
    else:
        first, second = given[:, :axes], given[:, axes:]
    if asked.layout == "corner and size":
        second = first + second
    elif asked.layout == "centre and size":
        first, second = first - second / 2, first + second / 2
    if asked.last_axis_first and asked.unit == "voxels":
        first, second = first[:, ::-1], second[:, ::-1]
    return first, second


def verdicts(manifest: Manifest, options: TensorOptions, named: Named) -> tuple[Verdict, ...]:
    """What a classifier says."""
    asked = options.classification
    return outputs.verdicts_of(manifest, _numbers(pick(manifest, named, asked.output)), asked.activation)


def quantities(manifest: Manifest, options: TensorOptions, named: Named) -> tuple[Measurement, ...]:
    """The numbers that a model estimates."""
    return outputs.quantities_of(manifest, _numbers(pick(manifest, named, options.regression.output)))


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.detach().to("cpu", torch.float64).numpy())


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _lps(manifest: Manifest, places: NDArray[np.float64], unit: str, at: Prepared) -> NDArray[np.float64]:
    if not at.measured:
        raise BrokenModel(f"model {manifest.identity}: places in {unit} need a volume in a patient")
    return places * np.array([-1.0, -1.0, 1.0]) if unit == "RAS mm" else places


def _back(places: NDArray[Any], at: Prepared) -> NDArray[np.float64]:
    """Voxels of the network's grid as voxels of the source's."""
    return at.source.indices_at(at.grid.points_at(places))


def _three(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places in an image as places in its one slice."""
    return np.insert(places, 0, 0.0, axis=1) if places.shape[1] == 2 else places
