"""Enhanced multi-frame images: every frame's plane and modality transform, out of the functional groups.

What all frames share is said once, what differs is said per frame (PS3.3 §C.7.6.16); an attribute may be in
either place. One such image is a volume when its frames are one stack: one frame at every position. Time
series, echoes, b-values and several stacks in one image are refused with the dimension that they differ in.
"""

from collections import Counter
from collections.abc import Sequence

from pydicom import Dataset
from pydicom.datadict import dictionary_description
from pydicom.tag import Tag

from worker.defects import Defect, NotAVolume
from worker.elements import has, numbers_of, value_of
from worker.geometry import SAME_POSITION_MM, Plane
from worker.pixels import PixelFormat, Rescale, rescale_of


def has_functional_groups(dataset: Dataset) -> bool:
    """Whether this is an enhanced image, rather than a cine loop or a single frame."""
    return has(dataset, "PerFrameFunctionalGroupsSequence") or has(dataset, "SharedFunctionalGroupsSequence")


def planes_of_frames(dataset: Dataset, format: PixelFormat, name: str) -> list[Plane]:
    """The plane of every frame, in the order of the frames. Raises `NotAVolume`."""
    frame_of_reference = str(value_of(dataset, "FrameOfReferenceUID") or "")
    shared, per_frame = _groups(dataset, format.frames, name)
    planes = []
    for number, frame in enumerate(per_frame, 1):
        position = _values(shared, frame, "PlanePositionSequence", "ImagePositionPatient", 3)
        orientation = _values(shared, frame, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
        spacing = _values(shared, frame, "PixelMeasuresSequence", "PixelSpacing", 2)
        if position is None or orientation is None or spacing is None:
            raise NotAVolume(
                Defect.NO_GEOMETRY, f"Frame {number} of {name} has no position, orientation or pixel spacing."
            )
        planes.append(
            Plane(
                position=(position[0], position[1], position[2]),
                orientation=(*orientation[:3], *orientation[3:]),  # type: ignore[arg-type]
                pixel_spacing=(spacing[0], spacing[1]),
                rows=format.rows,
                columns=format.columns,
                frame_of_reference=frame_of_reference,
                name=f"frame {number}",
            )
        )
    _check_one_stack(dataset, per_frame, planes, name)
    return planes


def rescales_of_frames(dataset: Dataset, format: PixelFormat, *, sop_class: str, name: str) -> list[Rescale]:
    """The modality transform of every frame, in the order of the frames. Raises `NotAVolume`."""
    shared, per_frame = _groups(dataset, format.frames, name)
    common = _item(shared, "PixelValueTransformationSequence")
    return [
        rescale_of(
            _item(frame, "PixelValueTransformationSequence") or common or Dataset(),
            sop_class=sop_class,
            name=f"Frame {number} of {name}",
        )
        for number, frame in enumerate(per_frame, 1)
    ]


def is_localizer(dataset: Dataset) -> bool:
    """Image Type value 3 says so (PS3.3 §C.8.2.1.1.1); for enhanced images, at the top level."""
    return "LOCALIZER" in [str(value).upper() for value in _several(value_of(dataset, "ImageType"))[2:3]]


def _several(value: object) -> list[object]:
    """A value of any multiplicity as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)


def _groups(dataset: Dataset, frames: int, name: str) -> tuple[Dataset, Sequence[Dataset]]:
    shared = value_of(dataset, "SharedFunctionalGroupsSequence") or [Dataset()]
    per_frame = value_of(dataset, "PerFrameFunctionalGroupsSequence") or []
    if len(per_frame) != frames:
        raise NotAVolume(
            Defect.NOT_A_STACK,
            f"{name} has {frames} frames, and functional groups for {len(per_frame)} of them.",
        )
    return shared[0], per_frame


def _item(group: Dataset, sequence: str) -> Dataset | None:
    items = value_of(group, sequence)
    return items[0] if items else None


def _values(shared: Dataset, frame: Dataset, sequence: str, keyword: str, count: int) -> list[float] | None:
    """The numbers in the one place or the other; None where they are in neither."""
    for group in (frame, shared):
        item = _item(group, sequence)
        numbers = [] if item is None else numbers_of(item, keyword)
        if numbers:
            return numbers if len(numbers) == count else None
    return None


def _check_one_stack(
    dataset: Dataset, per_frame: Sequence[Dataset], planes: Sequence[Plane], name: str
) -> None:
    """Refuse several frames at one place, and say what they differ in."""
    places = Counter(
        (
            tuple(round(x / SAME_POSITION_MM) for x in plane.position),
            tuple(round(x, 3) for x in plane.orientation),
        )
        for plane in planes
    )
    if len(places) == len(planes):
        return
    low, high = min(places.values()), max(places.values())
    times = f"{high}" if low == high else f"{low} to {high}"
    differing = _differing_dimensions(dataset, per_frame, planes)
    raise NotAVolume(
        Defect.NOT_A_STACK,
        f"{name} holds {len(planes)} frames, {times} at each of {len(places)} positions"
        + (f"; they differ in {', '.join(differing)}." if differing else "."),
    )


def _differing_dimensions(
    dataset: Dataset, per_frame: Sequence[Dataset], planes: Sequence[Plane]
) -> list[str]:
    """The dimensions (PS3.3 §C.7.6.17) whose index differs among the frames of one position."""
    pointers = [
        value_of(item, "DimensionIndexPointer") for item in value_of(dataset, "DimensionIndexSequence") or []
    ]
    seen: dict[tuple[float, ...], list[object]] = {}
    differing: set[int] = set()
    for frame, plane in zip(per_frame, planes, strict=True):
        content = _item(frame, "FrameContentSequence")
        indices = _several(value_of(content, "DimensionIndexValues")) if content is not None else []
        first = seen.setdefault(plane.position, indices)
        differing |= {k for k, (a, b) in enumerate(zip(first, indices, strict=False)) if a != b}
    return [_dimension_name(pointers[k]) for k in sorted(differing) if k < len(pointers)]


def _dimension_name(pointer: object) -> str:
    try:
        return dictionary_description(Tag(pointer))  # type: ignore[arg-type]
    except (KeyError, ValueError, TypeError):
        return f"the private dimension {pointer}"
