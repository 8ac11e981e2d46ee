"""
What a model is given, as nnU-Net's channels: a volume, an image, registered series, the latest of a timeline.

Networks are no wiser than their training images lay: one that saw axes running to right, front and head must
not be given a patient upside down. Folders made with nnU-Net's reorienting reader say so themselves; for all
others the site says it (`orientation`), or the volume is given as it was loaded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from models.contract import Given, Image, NotForThisModel, SeriesSet, Timeline
from models.prepare.orientation import Canonical

#: Where x, y and z run to, from the patient: "RAS" as in NIfTI, "LPS" as in DICOM.
Orientation = Annotated[str, Field(pattern="^[RL][AP][SI]$")]

_SAME_MM = 1e-3  #: grids whose corners are nearer to one another are the same
_NO_SLICES_MM = 999.0  #: what nnU-Net takes for the distance of slices where there is one


@dataclass(frozen=True, slots=True)
class Images:
    """Channels on one grid, (slice, row, column) each."""

    arrays: tuple[NDArray[Any], ...]
    spacing_mm: tuple[float, float, float]
    canonical: Canonical | None  #: None for an image, which no patient's axes go through
    voxel_mm3: float | None

    def turned(self, orientation: str | None) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
        """(channel, z, y, x) with its spacing in mm, lying as `orientation` says, or as given."""
        channels = np.stack([self.view(array, orientation) for array in self.arrays]).astype(np.float32)
        if orientation is None or self.canonical is None:
            return channels, self.spacing_mm
        return channels, self.canonical.spacing_mm

    def back(self, labels: NDArray[np.uint16], orientation: str | None) -> NDArray[np.uint16]:
        """`labels` (z, y, x) of turned channels, on the grid that was given."""
        found = np.empty(self.arrays[0].shape, np.uint16)
        self.view(found, orientation)[...] = labels
        return found

    def view(self, array: NDArray[Any], orientation: str | None) -> NDArray[Any]:
        """`array` (slice, row, column) as (z, y, x) that lie so, sharing its memory."""
        if orientation is None or self.canonical is None:
            return array
        view = self.canonical.view(array)  # towards head, back and left
        x, y, z = tuple(orientation)
        return view[:: 1 if z == "S" else -1, :: 1 if y == "P" else -1, :: 1 if x == "L" else -1]


def images_of(given: Given, names: Sequence[str]) -> Images:
    """The channels `names` of what is given. Raises `NotForThisModel` where they are not there."""
    match given:
        case Image():
            return _of_image(given, names)
        case SeriesSet():
            return _of_series(given, names)
        case Timeline():
            return _of_volume(given.current, names)
    return _of_volume(given, names)


def _of_volume(volume: hd.Volume, names: Sequence[str]) -> Images:
    if len(names) != 1:
        raise NotForThisModel(
            f"The model looks at {len(names)} registered series ({', '.join(names)}), and was given one."
        )
    return _images([volume.array], volume)


def _of_image(image: Image, names: Sequence[str]) -> Images:
    array = image.array
    channels = [array[None]] if array.ndim == 2 else [array[None, :, :, n] for n in range(array.shape[2])]
    if len(channels) != len(names):
        raise NotForThisModel(
            f"The model looks at images of {len(names)} channels, this has {len(channels)}."
        )
    # nnU-Net takes pixels for squares of one millimetre in images that no patient's axes go through.
    rows, columns = image.spacing_mm or (1.0, 1.0)
    return Images(tuple(channels), (_NO_SLICES_MM, rows, columns), None, None)


def _of_series(series: SeriesSet, names: Sequence[str]) -> Images:
    """Each channel by its name, brought onto the reference grid where it lies on another one."""
    by_name = {_plain(name): volume for name, volume in series.volumes.items()}
    missing = [name for name in names if _plain(name) not in by_name]
    if missing:
        raise NotForThisModel(
            f"The model looks at {', '.join(names)}; there is no series for {', '.join(missing)}."
        )
    reference = series.on_reference
    return _images([_on(reference, by_name[_plain(name)]) for name in names], reference)


def _images(arrays: Sequence[NDArray[Any]], volume: hd.Volume) -> Images:
    spacing = volume.spacing
    between_slices, between_rows, between_columns = (float(mm) for mm in spacing)
    return Images(
        tuple(arrays),
        (between_slices, between_rows, between_columns),
        Canonical.of(volume),
        between_slices * between_rows * between_columns,
    )


def _on(reference: hd.Volume, volume: hd.Volume) -> NDArray[Any]:
    """`volume` on the grid of `reference`, trilinear; 0, which nnU-Net takes for nothing, outside of it."""
    to_index = np.linalg.inv(np.asarray(volume.affine)) @ np.asarray(reference.affine)
    size = np.asarray(reference.spatial_shape) - 1
    corners = np.array([(*(size * [n >> 2 & 1, n >> 1 & 1, n & 1]), 1.0) for n in range(8)])
    away = (corners @ np.asarray(volume.affine).T - corners @ np.asarray(reference.affine).T)[:, :3]
    if volume.spatial_shape == reference.spatial_shape and np.abs(away).max() < _SAME_MM:
        return np.asarray(volume.array)
    return np.asarray(
        ndimage.affine_transform(
            np.asarray(volume.array, np.float32),
            to_index[:3, :3],
            to_index[:3, 3],
            output_shape=reference.spatial_shape,
            order=1,
        )
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
