"""
The images with what was found painted on them, Secondary Capture: for viewers that show only images.

One object of many frames for a volume (Multi-frame True Color, PS3.3 §A.8.5), each frame one slice at the
source's resolution and in its place in the patient; a single frame (PS3.3 §A.8.1) for one image. Below the
image is a strip with the warning and the names of the colours: it hides no anatomy, and moves no pixel off
its place. Heat maps come in further objects. Why so: `docs/decisions/0028-pictures-for-plain-viewers.md`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import DSfloat

from ledger.identifiers import Uid
from ledger.result import Role
from results import codes
from results.asked import Asked
from results.capture import captured, pixels_of
from results.findings import HeatMap
from results.grid import Grid, NotEncodable, Place, Plane, grid_of
from results.headers import result_headers
from results.paint import Painter, heat_range, in_colour, paint_heat
from results.pictures import NoPicture, Pictures
from results.segmentation import frame_of_reference, reference_source
from results.sides import letters, sides_of
from results.strip import Strip, compose
from results.words import DISCLAIMER, map_description, plain, series_description

MULTI_FRAME_TRUE_COLOR = Uid("1.2.840.10008.5.1.4.1.1.7.4")
SECONDARY_CAPTURE = Uid("1.2.840.10008.5.1.4.1.1.7")

#: More would be a second copy of the study, in colour.
FRAMES_MAXIMUM = 100
PIXEL_BYTES_MAXIMUM = 64 << 20
#: Of a map: what is colder than this share of its range is not looked at.
_WARM = 0.1


@dataclass(frozen=True, slots=True)
class _Show:
    """One object: which planes, painted how."""

    name: str  #: in the UIDs
    what: str  #: in the series description
    planes: tuple[int, ...]
    of: int  #: planes that have something on them
    one: HeatMap | None = None  #: the map; None: everything else that was found


@dataclass(frozen=True, slots=True)
class _Scene:
    """What all objects of a run are painted from."""

    asked: Asked
    grid: Grid
    painter: Painter
    pictures: Pictures


def build(asked: Asked) -> list[Dataset]:
    """The overlays, without file meta information; none where nothing is drawn or no picture can be made.

    Raises `NotEncodable` where findings do not fit the source.
    """
    if asked.pictures is None or not drawable(asked):
        return []
    grid = grid_of(asked.source)
    scene = _Scene(asked, grid, Painter(asked.findings, grid), asked.pictures)
    try:
        return [_build(scene, show, index) for index, show in enumerate(_shows(scene))]
    except NoPicture:
        return []  # The page and the report say so, and everything else is there.


def drawable(asked: Asked) -> bool:
    """Whether the findings have anything that lies on images."""
    findings = asked.findings
    return bool(findings.segments or findings.boxes or findings.points or findings.maps)


def role_of(one: HeatMap | None) -> str:
    """The name of an overlay in the UIDs that derive from the run."""
    return Role.OVERLAY if one is None else f"{Role.OVERLAY} {one.label}"


def description_of(asked: Asked, one: HeatMap | None) -> str:
    """Series Description (0008,103E)."""
    if one is None:
        return series_description(asked, "overlay")
    return map_description(asked, one, "overlay")


def frames_allowed(rows: int, columns: int) -> int:
    """How many frames of a colour picture one object may have; one in any case."""
    return max(1, min(FRAMES_MAXIMUM, PIXEL_BYTES_MAXIMUM // (rows * columns * 3)))


def spread(planes: Sequence[int], keys: Sequence[int], most: int) -> tuple[int, ...]:
    """At most `most` of `planes`, in order: the keys as far as they go, the others evenly spread."""
    if len(planes) <= most:
        return tuple(planes)
    chosen = set(keys[:most])
    for count in range(most, 0, -1):
        even = {planes[k] for k in np.linspace(0, len(planes) - 1, count).round().astype(int).tolist()}
        if len(chosen | even) <= most:
            return tuple(sorted(chosen | even))
    return tuple(sorted(chosen))


def _shows(scene: _Scene) -> Iterator[_Show]:
    asked, grid, painter = scene.asked, scene.grid, scene.painter
    drawn = painter.planes
    longest = max((len(painter.legend(plane)) for plane in drawn), default=0)
    strip = Strip(grid.rows, grid.columns, longest)
    most = frames_allowed(grid.rows * strip.factor + strip.height, strip.width)
    if drawn:
        yield _Show(
            role_of(None), description_of(asked, None), spread(drawn, painter.key_planes, most), len(drawn)
        )
    for one in asked.findings.maps:
        if one.values.shape != grid.shape:
            raise NotEncodable(f"the map {one.label!r} is {one.values.shape}, the source {grid.shape}")
        low, high = heat_range(one)
        hottest = one.values.max(axis=(1, 2))
        warm = np.flatnonzero(hottest >= low + _WARM * (high - low)).tolist() or [int(hottest.argmax())]
        chosen = spread(warm, [int(hottest.argmax())], most)
        yield _Show(role_of(one), description_of(asked, one), chosen, len(warm), one)


def _build(scene: _Scene, show: _Show, index: int) -> Dataset:
    asked, grid, painter = scene.asked, scene.grid, scene.painter
    source = asked.source
    volume = grid.place is not None
    dataset = result_headers(
        asked,
        Role.OVERLAY,
        sop_class=MULTI_FRAME_TRUE_COLOR if volume else SECONDARY_CAPTURE,
        series_description=show.what,
        index=index,
        name=show.name,
        variant=asked.profile.transfer_syntax,
    )
    legends = [painter.legend(plane) for plane in show.planes] if show.one is None else [[]]
    strip = Strip(grid.rows, grid.columns, max(len(entries) for entries in legends), show.one)
    frame_of_reference(dataset, source, grid)
    captured(dataset, asked)
    reference_source(dataset, source, grid)
    left_out = f" {show.of - len(show.planes)} of {show.of} slices are left out." * (
        show.of > len(show.planes)
    )
    about = "" if show.one is None else f" {show.one.label}"
    dataset.DerivationDescription = plain(
        f"What was found, painted on the images.{about}{left_out} {DISCLAIMER}", 1024
    )
    frames = (_frame(scene, show, plane, strip, left_out) for plane in show.planes)
    pixels_of(dataset, frames, len(show.planes), rle=asked.profile.transfer_syntax == "rle")
    if volume and grid.place is not None:
        cosines = [float(v) for v in grid.place.orientation]
        dataset.PatientOrientation = [letters(cosines[:3]), letters(cosines[3:])]
        _place(dataset, scene, show, grid.place, strip)
    # General Reference (PS3.3 §C.12.4): one item for each frame, in their order. The functional groups of
    # such an object have no Derivation Image.
    dataset.SourceImageSequence = [source_image(grid.planes[k]) for k in show.planes]
    dataset.DerivationCodeSequence = [codes.coded(codes.DERIVED_BY_INFERENCE)]
    codes.identify_schemes(dataset, asked.run.provenance.schemes)
    return dataset


def _caption(asked: Asked, plane: int, left_out: str) -> str:
    """Which image it is, by the number that viewers show, and how many are not here."""
    source = asked.source
    if source.frames is not None:
        return f"Frame {source.frames[plane]}.{left_out}"
    number = source.datasets[plane].get("InstanceNumber")
    named = len(source.datasets) > 1 and number not in (None, "")
    return f"Image {number}.{left_out}" if named else left_out.strip()


def _frame(scene: _Scene, show: _Show, plane: int, strip: Strip, left_out: str) -> NDArray[np.uint8]:
    picture = in_colour(shown(scene.pictures, plane, strip))
    entries = []
    if show.one is None:
        scene.painter.paint(picture, plane)
        entries = scene.painter.legend(plane)
    else:
        paint_heat(picture, show.one.values[plane], heat_range(show.one))
    sides = sides_of(scene.asked.source, scene.grid)
    return compose(picture, entries, strip, sides, _caption(scene.asked, plane, left_out))


def shown(pictures: Pictures, plane: int, strip: Strip) -> NDArray[np.uint8]:
    """The plane in grey. Raises `NoPicture` where it is not as large as the source says."""
    grey = pictures.grey(plane)
    if grey.shape != (strip.rows, strip.columns):
        raise NoPicture(f"The image is {grey.shape}, its header says {(strip.rows, strip.columns)}.")
    return grey


def _place(dataset: Dataset, scene: _Scene, show: _Show, place: Place, strip: Strip) -> None:
    """Each frame in its place in the patient, by functional groups (PS3.3 §C.7.6.16)."""
    dataset.FrameIncrementPointer = Tag("PageNumberVector")
    dataset.PageNumberVector = list(range(1, len(show.planes) + 1))

    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [_digits(float(step) / strip.factor) for step in place.pixel_spacing]
    if strip.factor == 1:
        measures.PixelSpacing = place.pixel_spacing
    measures.SliceThickness = place.slice_thickness or f"{place.spacing_mm:.10g}"
    orientation.ImageOrientationPatient = place.orientation
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for plane in (scene.grid.planes[k] for k in show.planes):
        position, item = Dataset(), Dataset()
        position.ImagePositionPatient = _corner(plane.position, place, strip.factor)
        item.PlanePositionSequence = [position]
        groups.append(item)
    dataset.PerFrameFunctionalGroupsSequence = groups


def source_image(plane: Plane) -> Dataset:
    """An item of Source Image Sequence (0008,2112): the one image that a picture was made of."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = plane.sop_class, plane.sop_instance
    if plane.frame is not None:
        item.ReferencedFrameNumber = plane.frame
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [codes.coded(codes.SOURCE_IMAGE)]
    return item


def _corner(
    position: MultiValue[DSfloat] | None, place: Place, factor: int
) -> MultiValue[DSfloat] | list[str] | None:
    """Image Position of a frame whose pixels are enlarged: the first small pixel's centre."""
    if factor == 1 or position is None:
        return position
    row, column = np.array(place.orientation, dtype=float).reshape(2, 3)
    between_rows, between_columns = (float(step) for step in place.pixel_spacing)
    back = (1 - 1 / factor) / 2
    moved = np.array(position, dtype=float) - back * (row * between_columns + column * between_rows)
    return [_digits(float(x)) for x in moved]


def _digits(number: float) -> str:
    """A decimal string (DS) of at most sixteen characters."""
    return f"{number:.9g}"
