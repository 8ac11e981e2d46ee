"""From a bundle's answer to findings: its axes, its boxes and its classes in the words of the manifest."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from torch import Tensor

from models.contract import BrokenModel
from models.manifest import Manifest
from models.outputs import (
    Drawn,
    boxes_in_voxels,
    boxes_of,
    draw_channels,
    draw_labels,
    maps_of,
    points_of,
    thresholds_of,
)
from models.runtimes.bundles.inputs import Read
from models.runtimes.bundles.running import PREDICTION, Answer, on_source_grid
from results.findings import Box, HeatMap, Point

_LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_WHOLE = 1e-3  # how far from a whole number a label may be after it was brought back


def draw(manifest: Manifest, answer: Answer, images: Read) -> Drawn:
    """Segments: of a map of labels where the answer has one channel, of channels that may overlap otherwise.

    Several channels are probabilities or decisions; each reaches its segment's threshold or does not.
    """
    predicted = _predicted(answer)
    labels = predicted.shape[0] == 1 and not any(one.threshold is not None for one in manifest.segments)
    there = on_source_grid(predicted, images, labels=labels or _decided(predicted))
    if labels:
        return draw_labels(manifest, _labels(there))
    return draw_channels(manifest, _grid(there) >= _thresholds(manifest, there.shape[0]))


def maps(manifest: Manifest, answer: Answer, images: Read) -> tuple[HeatMap, ...]:
    """One map of numbers for each channel that the manifest names."""
    there = on_source_grid(_predicted(answer).float(), images, labels=False)
    return maps_of(manifest, _grid(there).astype(np.float32))


def vector(answer: Answer) -> NDArray[np.float64]:
    """The numbers of a classifier or of a regression, in one row."""
    return _predicted(answer).detach().float().cpu().numpy().astype(np.float64).reshape(-1)


def points(manifest: Manifest, answer: Answer, images: Read) -> tuple[Point, ...]:
    """Landmarks from coordinates in voxels of what the network was shown: (point, axis) or (axis, point)."""
    found = _predicted(answer).detach().float().cpu().numpy().astype(np.float64)
    found = found.reshape([size for size in found.shape if size != 1] or [1])
    axes = len(images.shape)
    if found.ndim != 2 or axes not in found.shape:
        raise BrokenModel(
            f"model {manifest.identity} gives points as {found.shape}; {axes} coordinates make one"
        )
    by_point = found if found.shape[1] == axes else found.T
    return points_of(manifest, _on_grid(by_point, answer, images))


def boxes(
    manifest: Manifest, answer: Answer, images: Read, postprocessing: Compose, names: "BoxNames"
) -> tuple[Box, ...]:
    """Boxes, wherever the bundle's postprocessing left them: in voxels, or in millimetres of either frame."""
    for name in names:
        if not isinstance(answer.data.get(name), Tensor | np.ndarray):
            raise BrokenModel(f"model {manifest.identity} gives no {name!r}, which its boxes need")
    corners = np.asarray(torch.as_tensor(answer.data[names[0]]).float().cpu(), np.float64).reshape(-1, 6)
    low, high = _corners(corners, _box_mode(postprocessing))
    frame = _box_frame(postprocessing)
    affine = images.affine if frame is not None else _index_of_index(answer, images)
    if frame == "LPS":
        affine = np.asarray(_LPS_OF_RAS @ affine, np.float64)
    if frame is None:
        # A box in voxels of what the network was shown: through millimetres it is a box of the source.
        low_at, high_at = boxes_in_voxels(low, high, np.asarray(np.linalg.inv(affine), np.float64))
    else:
        low_at, high_at = boxes_in_voxels(low, high, affine)
    shape = _zyx(images.shape)
    return boxes_of(
        manifest,
        low_at[:, ::-1],
        high_at[:, ::-1],
        np.asarray(torch.as_tensor(answer.data[names[2]]).float().cpu(), np.float64),
        np.asarray(torch.as_tensor(answer.data[names[1]]).cpu()),
        shape=shape,
    )


#: Where a detector puts boxes, classes and scores.
BoxNames = tuple[str, str, str]


def _predicted(answer: Answer) -> Tensor:
    predicted = answer.data.get(PREDICTION)
    if isinstance(predicted, np.ndarray):
        predicted = torch.as_tensor(predicted)
    if not isinstance(predicted, Tensor):
        raise BrokenModel(f"the bundle's postprocessing gives no {PREDICTION!r}")
    return predicted


def _decided(predicted: Tensor) -> bool:
    """Whether these are decisions already, which may not be interpolated."""
    return not predicted.is_floating_point() or bool(((predicted == 0) | (predicted == 1)).all())


def _labels(there: Tensor) -> NDArray[Any]:
    """(slice, row, column) of whole numbers. Raises `BrokenModel` for what are none."""
    numbers = there[0]
    if numbers.is_floating_point():
        whole = numbers.round()
        if not bool((torch.nan_to_num(numbers - whole).abs() <= _WHOLE).all()):
            raise BrokenModel(
                "the bundle gives one channel of numbers that are no labels: give its segments a threshold "
                "if they are probabilities"
            )
        numbers = torch.nan_to_num(whole)
    low, high = (int(one) for one in torch.aminmax(numbers)) if numbers.numel() else (0, 0)
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise BrokenModel(f"the bundle gives labels from {low} to {high}")
    small = numbers.to(torch.uint8 if high <= np.iinfo(np.uint8).max else torch.int32)
    array = _grid(small[None])[0]
    return np.asarray(array if array.dtype == np.uint8 else array.astype(np.uint16))


def _grid(there: Tensor) -> NDArray[Any]:
    """(channel, slice, row, column) from (channel, column, row[, slice]), on the host."""
    turned = there.permute(0, 3, 2, 1) if there.ndim == 4 else there.permute(0, 2, 1)[:, None]
    return np.asarray(turned.contiguous().cpu().numpy())


def _thresholds(manifest: Manifest, channels: int) -> NDArray[np.float32]:
    return np.asarray(thresholds_of(manifest, channels), np.float32)[:, None, None, None]


def _index_of_index(answer: Answer, images: Read) -> NDArray[np.float64]:
    """Voxels of what the network was shown → voxels of the source, (column, row, slice); 4 × 4."""
    shown = np.asarray(answer.image.affine.cpu().numpy(), np.float64)
    return np.asarray(np.linalg.inv(images.affine) @ shown, np.float64)


def _on_grid(by_point: NDArray[np.float64], answer: Answer, images: Read) -> NDArray[np.float64]:
    """(point, 3): slice, row, column."""
    places = np.zeros((len(by_point), 3))
    places[:, : by_point.shape[1]] = by_point
    moved = _index_of_index(answer, images)
    return np.asarray((places @ moved[:3, :3].T + moved[:3, 3])[:, ::-1], np.float64)


def _corners(boxes_: NDArray[np.float64], mode: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high corners, of the box modes of MONAI that have six numbers."""
    if mode in ("cccwhd", "ccc whd", "CenterSizeMode"):
        return boxes_[:, :3] - boxes_[:, 3:] / 2, boxes_[:, :3] + boxes_[:, 3:] / 2
    if mode in ("xyzwhd", "CornerSizeMode"):
        return boxes_[:, :3], boxes_[:, :3] + boxes_[:, 3:]
    if mode in ("xxyyzz", "CornerCornerModeTypeB"):
        return boxes_[:, 0::2], boxes_[:, 1::2]
    if mode in ("xyzxyz", "CornerCornerModeTypeA"):
        return boxes_[:, :3], boxes_[:, 3:]
    raise BrokenModel(f"the bundle leaves boxes in the mode {mode!r}, which is none of MONAI's")


def _box_mode(postprocessing: Compose) -> str:
    mode: Any = "xyzxyz"
    for one in postprocessing.transforms:
        if type(one).__name__ == "ConvertBoxModed":
            mode = one.converter.dst_mode
        elif type(one).__name__ == "ConvertBoxToStandardModed":
            mode = "xyzxyz"
    if isinstance(mode, str):
        return mode
    return mode.__name__ if isinstance(mode, type) else type(mode).__name__


def _box_frame(postprocessing: Compose) -> Literal["LPS", "RAS"] | None:
    """The frame that the boxes are in; None: voxels of what the network was shown."""
    frame: Literal["LPS", "RAS"] | None = None
    for one in postprocessing.transforms:
        if type(one).__name__ == "AffineBoxToWorldCoordinated":
            frame = "LPS" if one.affine_lps_to_ras else "RAS"
    return frame


def _zyx(shape: Sequence[int]) -> tuple[int, int, int]:
    column, row, *slices = shape
    return (slices[0] if slices else 1), row, column
