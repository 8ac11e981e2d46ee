"""
Where the source's pixels are: its planes in the order of the volume's slices, in the source's own digits.

A result repeats position, orientation and spacing as the source wrote them, not as arithmetic would write
them again: some viewers match a segmentation's frames to the images by comparing the text.

A radiograph, a mammogram, a photograph or a frame of ultrasound has no place in the patient. Its grid is one
plane without a place, and what is drawn on it corresponds pixel by pixel (PS3.3 §A.51.5.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
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
    #: Image Position (Patient), LPS mm: the centre of the first pixel; None on an image without a place
    position: MultiValue[DSfloat] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a volume lies in the patient."""

    orientation: MultiValue[DSfloat]  #: direction cosines along a row, then along a column
    pixel_spacing: MultiValue[DSfloat]  #: mm between rows, between columns
    slice_thickness: DSfloat | None  #: mm; None where the source does not say
    spacing_mm: float  #: between slices
    affine: NDArray[np.float64]  #: (slice, row, column) index → LPS mm, 4 × 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The source's voxels, or pixels."""

    rows: int
    columns: int
    planes: tuple[Plane, ...]
    place: Place | None  #: None: an image
    #: mm between the rows and columns of an image, perhaps as they are at its detector; None: it does not say
    pixel_spacing: MultiValue[DSfloat] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return len(self.planes), self.rows, self.columns

    @property
    def step_mm(self) -> tuple[float, float, float] | None:
        """Between slices, rows and columns; None on an image, whose millimetres are not those of a place."""
        if self.place is None:
            return None
        between_rows, between_columns = (float(v) for v in self.place.pixel_spacing)
        return self.place.spacing_mm, between_rows, between_columns


def grid_of(source: Source) -> Grid:
    """The grid of `source`. Raises `NotEncodable` where its headers and its geometry disagree, or where it is
    neither a volume nor one image.
    """
    if source.geometry is None:
        return _grid_of_image(source)
    return _grid_of_volume(source, source.geometry)


def _grid_of_image(source: Source) -> Grid:
    image, frame = source.first, None
    if len(source.datasets) > 1 or len(source.frames or (1,)) > 1:
        raise NotEncodable("the source is neither a volume nor one image, so nothing can be drawn on it")
    if source.frames is not None:
        (frame,) = source.frames
    elif int(image.get("NumberOfFrames") or 1) > 1:
        raise NotEncodable("the source image has several frames, and it is not said which one was looked at")
    rows, columns = image.get("Rows"), image.get("Columns")
    if not rows or not columns:
        raise NotEncodable("the source image does not say how many rows and columns it has")
    plane = Plane(str(image.SOPClassUID), str(image.SOPInstanceUID), frame)
    said = (image.get(keyword) for keyword in ("PixelSpacing", "ImagerPixelSpacing"))
    spacing = next((one for one in said if _is_spacing(one)), None)
    return Grid(rows=int(rows), columns=int(columns), planes=(plane,), place=None, pixel_spacing=spacing)


def _is_spacing(said: object) -> bool:
    """Whether it is two distances. Some devices write zeros where they know none."""
    return isinstance(said, MultiValue) and len(said) == 2 and all(float(one) > 0 for one in said)


def _grid_of_volume(source: Source, geometry: hd.VolumeGeometry) -> Grid:
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
    place = Place(
        orientation=plane_attribute(first, frame, "PlaneOrientationSequence", "ImageOrientationPatient"),
        pixel_spacing=plane_attribute(first, frame, measures, "PixelSpacing"),
        slice_thickness=thickness or None,
        spacing_mm=float(geometry.spacing[0]),
        affine=np.asarray(geometry.affine, dtype=np.float64),
    )
    _agree(rows, columns, planes, place, first)
    return Grid(rows=rows, columns=columns, planes=tuple(planes), place=place)


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


def _agree(rows: int, columns: int, planes: Sequence[Plane], place: Place, first: Dataset) -> None:
    """The volume's affine is that of the headers, so a mask on the one is a mask on the other."""
    if (first.Rows, first.Columns) != (rows, columns):
        raise NotEncodable(f"the volume is {rows} x {columns}, the images are {first.Rows} x {first.Columns}")
    along_row = np.asarray(place.orientation[:3], dtype=float) * float(place.pixel_spacing[1])
    along_column = np.asarray(place.orientation[3:], dtype=float) * float(place.pixel_spacing[0])
    # The far corner of each slice shows a wrong direction or spacing at its largest.
    corner = along_row * (columns - 1) + along_column * (rows - 1)
    positions = np.array([[float(x) for x in plane.position or ()] for plane in planes])
    indices = np.zeros((len(planes), 4))
    indices[:, 0] = np.arange(len(planes))
    indices[:, 3] = 1
    expected = (indices @ place.affine.T)[:, :3]
    expected_corner = expected + (place.affine[:3, 1] * (rows - 1) + place.affine[:3, 2] * (columns - 1))
    off = max(np.abs(positions - expected).max(), np.abs(positions + corner - expected_corner).max())
    if off > TOLERANCE_MM:
        raise NotEncodable(f"the volume lies {off:.3f} mm beside its own images")
