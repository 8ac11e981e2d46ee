"""
Where the source's pixels are: its planes in the order of the volume's slices, in the source's own digits.

A result repeats position, orientation and spacing as the source wrote them, not as arithmetic would write
them again: some viewers match a segmentation's frames to the images by comparing the text.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DSfloat

from ledger.errors import ModelError
from results.source import Source

TOLERANCE_MM = 0.01


class NotEncodable(ModelError):
    """What the model said does not fit the images that it was given."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice of the volume, and the one image (or frame of it) that it came from."""

    sop_class: str
    sop_instance: str
    frame: int | None  #: 1-based; None where the image has but one
    position: MultiValue[DSfloat]  #: Image Position (Patient), LPS mm: the centre of the first pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The source's voxels."""

    rows: int
    columns: int
    orientation: MultiValue[DSfloat]  #: direction cosines along a row, then along a column
    pixel_spacing: MultiValue[DSfloat]  #: mm between rows, between columns
    slice_thickness: DSfloat | None  #: mm; None where the source does not say
    spacing_mm: float  #: between slices
    planes: tuple[Plane, ...]
    affine: NDArray[np.float64]  #: (slice, row, column) index → LPS mm, 4 × 4

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return len(self.planes), self.rows, self.columns

    @property
    def voxel_mm3(self) -> float:
        """The volume of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))


def grid_of(source: Source) -> Grid:
    """The grid of `source`. Raises `NotEncodable` where its headers and its geometry disagree."""
    geometry = source.geometry
    if geometry is None:
        raise NotEncodable("the source series is not a volume, so nothing can be drawn on it")
    slices, rows, columns = geometry.spatial_shape
    frames = source.frames
    if len(source.datasets if frames is None else frames) != slices:
        raise NotEncodable(f"the volume has {slices} slices, its source another number of images")
    planes: list[Plane] = []
    for index in range(slices):
        image = source.datasets[index] if frames is None else source.first
        frame = None if frames is None else frames[index]
        position = plane_attribute(image, frame, "PlanePositionSequence", "ImagePositionPatient")
        planes.append(Plane(str(image.SOPClassUID), str(image.SOPInstanceUID), frame, position))
    first, frame = source.first, None if frames is None else frames[0]
    measures = "PixelMeasuresSequence"
    thickness = plane_attribute(first, frame, measures, "SliceThickness", required=False)
    grid = Grid(
        rows=rows,
        columns=columns,
        orientation=plane_attribute(first, frame, "PlaneOrientationSequence", "ImageOrientationPatient"),
        pixel_spacing=plane_attribute(first, frame, measures, "PixelSpacing"),
        slice_thickness=thickness or None,
        spacing_mm=float(geometry.spacing[0]),
        planes=tuple(planes),
        affine=np.asarray(geometry.affine, dtype=np.float64),
    )
    _agree(grid, first)
    return grid


def plane_attribute(  # type: ignore[no-untyped-def]
    image: Dataset, frame: int | None, group: str, keyword: str, *, required: bool = True
):  # the value has the type of its keyword
    """`keyword` of one plane: at the top of a single-frame image, in a group of an enhanced one."""
    if frame is None:
        found = image.get(keyword)
    else:
        per_frame = image.PerFrameFunctionalGroupsSequence[frame - 1]
        shared = image.SharedFunctionalGroupsSequence[0]
        item = (per_frame.get(group) or shared.get(group) or [Dataset()])[0]
        found = item.get(keyword)
    if found is None and required:
        raise NotEncodable(f"the source image {image.SOPInstanceUID} has no {keyword}")
    return found


def _agree(grid: Grid, first: Dataset) -> None:
    """The volume's affine is that of the headers, so a mask on the one is a mask on the other."""
    if (first.Rows, first.Columns) != (grid.rows, grid.columns):
        raise NotEncodable(
            f"the volume is {grid.rows} x {grid.columns}, the images are {first.Rows} x {first.Columns}"
        )
    along_row = np.asarray(grid.orientation[:3], dtype=float) * float(grid.pixel_spacing[1])
    along_column = np.asarray(grid.orientation[3:], dtype=float) * float(grid.pixel_spacing[0])
    # The far corner of each slice shows a wrong direction or spacing at its largest.
    corner = along_row * (grid.columns - 1) + along_column * (grid.rows - 1)
    positions = np.array([[float(x) for x in plane.position] for plane in grid.planes])
    indices = np.zeros((len(grid.planes), 4))
    indices[:, 0] = np.arange(len(grid.planes))
    indices[:, 3] = 1
    expected = (indices @ grid.affine.T)[:, :3]
    expected_corner = expected + (
        grid.affine[:3, 1] * (grid.rows - 1) + grid.affine[:3, 2] * (grid.columns - 1)
    )
    off = max(np.abs(positions - expected).max(), np.abs(positions + corner - expected_corner).max())
    if off > TOLERANCE_MM:
        raise NotEncodable(f"the volume lies {off:.3f} mm beside its own images")
