"""
Does what was drawn lie where the images are? For everything that has the images' own grid.

Read as a stranger would: places from each frame, and compared with the source's own headers. Thousands of
frames repeat a few hundred places; whatever is byte for byte the same is read once.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from results.expect import CheckFailed, expect, near
from results.source import Source

TOLERANCE_MM = 0.01
_OWN_AXES = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]  #: along the rows and columns of the image itself

T = TypeVar("T")

#: (SOP Instance UID, frame) of an image, or of a frame of it
PlaneName = tuple[str, int | None]


class Places:
    """Where the frames of one object say that they lie."""

    def __init__(self, source: Source, what: str) -> None:
        """`what` names the object in sentences."""
        self.slice_of = {plane: index for index, plane in enumerate(planes_of(source))}
        self._source, self._what = source, what
        self._read: dict[tuple[str, bytes], Any] = {}
        self._agreed: set[tuple[PlaneName, tuple[float, ...]]] = set()

    def of(self, group: Dataset, index: int) -> tuple[PlaneName, int, NDArray[np.float64]]:
        """The one image that frame `index` (0-based) was derived from, which slice of the volume that is, and
        where the frame lies (LPS mm; zeros on an image without a place): where its source image lies.

        Raises `CheckFailed`.
        """
        name = f"{self._what}: frame {index + 1}"
        images = self.once(group, "DerivationImageSequence", _images)
        if len(images) != 1:
            raise CheckFailed(f"{name} was derived from {len(images)} images")
        plane, preserved = images[0]
        if preserved != "YES":
            raise CheckFailed(f"{name} does not preserve spatial locations")
        k = self.slice_of.get(plane)
        if k is None:
            raise CheckFailed(f"{name} refers to {plane[0]}, which is no source image")
        if self._source.geometry is None:
            return plane, k, np.zeros(3)
        position = self.once(group, "PlanePositionSequence", _position)
        if (plane, position) not in self._agreed:
            theirs = [
                float(v) for v in of_plane(self._source, k, "PlanePositionSequence", "ImagePositionPatient")
            ]
            expect(
                near(position, theirs, TOLERANCE_MM),
                f"{name} lies at {list(position)}, its source image at {theirs} (LPS mm)",
            )
            self._agreed.add((plane, position))
        return plane, k, np.array(position)

    def once(self, group: Dataset, keyword: str, read: Callable[[Dataset], T]) -> T:
        """What `read` makes of the sequence `keyword` of `group`, once for equal bytes."""
        tag = Tag(tag_for_keyword(keyword) or 0)
        element = group.get_item(tag) if tag in group else None
        if not isinstance(element, RawDataElement) or not element.value:
            return read(group)
        key = (keyword, element.value)
        if key not in self._read:
            self._read[key] = read(group)
        found: T = self._read[key]
        return found


def _images(group: Dataset) -> list[tuple[PlaneName, str]]:
    """The images that a frame was derived from, and whether spatial locations are preserved."""
    return [
        (
            (str(image.ReferencedSOPInstanceUID), _frame(image)),
            str(image.get("SpatialLocationsPreserved", "")),
        )
        for item in group.DerivationImageSequence
        for image in item.SourceImageSequence
    ]


def _frame(image: Dataset) -> int | None:
    frame = image.get("ReferencedFrameNumber")
    return None if frame is None else int(frame)


def _position(group: Dataset) -> tuple[float, ...]:
    return tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)


def check_grid(dataset: Dataset, source: Source, what: str) -> None:
    """Rows, columns, spacing, orientation and frame of reference are the source's. Raises `CheckFailed`."""
    first = source.first
    size, theirs = (dataset.Rows, dataset.Columns), (first.Rows, first.Columns)
    expect(size == theirs, f"{what}: {size[0]} x {size[1]} pixels, the source has {theirs[0]} x {theirs[1]}")
    if source.geometry is None:
        _check_no_place(dataset, first, what)
        return
    expect(
        str(dataset.FrameOfReferenceUID) == str(first.FrameOfReferenceUID),
        f"{what}: Frame of Reference UID is {dataset.FrameOfReferenceUID}, "
        f"of the source {first.FrameOfReferenceUID}",
    )
    shared = dataset.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    spacing = [float(v) for v in measures.PixelSpacing]
    source_spacing = [float(v) for v in of_plane(source, 0, "PixelMeasuresSequence", "PixelSpacing")]
    # An error of spacing or direction grows towards the far corner: there it may be 0.01 mm.
    reach = max(size)
    expect(
        near(spacing, source_spacing, TOLERANCE_MM / reach),
        f"{what}: pixel spacing is {spacing} mm, of the source {source_spacing} mm",
    )
    cosines = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    source_cosines = [
        float(v) for v in of_plane(source, 0, "PlaneOrientationSequence", "ImageOrientationPatient")
    ]
    expect(
        near(cosines, source_cosines, TOLERANCE_MM / (reach * max(spacing))),
        f"{what}: image orientation is {cosines}, of the source {source_cosines}",
    )
    between, expected = float(measures.SpacingBetweenSlices), float(source.geometry.spacing[0])
    expect(
        near([between], [expected], TOLERANCE_MM / len(planes_of(source))),
        f"{what}: slices are {between} mm apart, of the source {expected} mm",
    )


def _check_no_place(dataset: Dataset, image: Dataset, what: str) -> None:
    """What is drawn on an image without a place claims none either: its axes are the image's own."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    groups = [shared, *dataset.PerFrameFunctionalGroupsSequence]
    own = _own_spacing(image)
    claimed = "FrameOfReferenceUID" in dataset or any("PlanePositionSequence" in group for group in groups)
    for group in groups:
        measured = group.get("PixelMeasuresSequence") or [Dataset()]
        turned = group.get("PlaneOrientationSequence") or [Dataset()]
        cosines = turned[0].get("ImageOrientationPatient") or _OWN_AXES
        spacing = [float(one) for one in measured[0].get("PixelSpacing") or own]
        claimed = claimed or spacing != own or [float(one) for one in cosines] != _OWN_AXES
    expect(
        not claimed,
        f"{what}: lies somewhere in the patient, but the image does not say where it does",
    )


def _own_spacing(image: Dataset) -> list[float]:
    """Between rows and between columns as an image says; 1 where it says nothing that can be."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        said = [float(one) for one in np.atleast_1d(image.get(keyword) or [])]
        if len(said) == 2 and min(said) > 0:
            return said
    return [1.0, 1.0]


def check_references(dataset: Dataset, source: Source, used: Iterable[PlaneName], what: str) -> None:
    """Referenced Series Sequence lists the one source series and exactly the instances that were used.

    Raises `CheckFailed`.
    """
    series = dataset.ReferencedSeriesSequence
    listed = [str(item.SeriesInstanceUID) for item in series]
    theirs = str(source.first.SeriesInstanceUID)
    expect(listed == [theirs], f"{what}: refers to the series {listed}, the source is {theirs}")
    instances = {str(item.ReferencedSOPInstanceUID) for item in series[0].ReferencedInstanceSequence}
    expect(
        instances == {uid for uid, _ in used},
        f"{what}: the instances that it lists are not those of the volume",
    )


def planes_of(source: Source) -> list[PlaneName]:
    """(SOP Instance UID, frame) of each slice of the volume."""
    if source.frames is not None:
        return [(str(source.first.SOPInstanceUID), frame) for frame in source.frames]
    return [(str(image.SOPInstanceUID), None) for image in source.datasets]


def of_plane(source: Source, k: int, group: str, keyword: str) -> list[float]:
    """`keyword` of slice `k` as the source's headers have it."""
    if source.frames is None:
        return list(source.datasets[k][keyword].value)
    frame = source.first.PerFrameFunctionalGroupsSequence[source.frames[k] - 1]
    holder = frame if group in frame else source.first.SharedFunctionalGroupsSequence[0]
    return list(holder[group].value[0][keyword].value)
