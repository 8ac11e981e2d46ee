"""
Do the painted images on disk show the right slices, and on each what the model drew there and nothing else?

Read as a viewer would, pixel by pixel: where nothing was found a frame is the image in grey, to the bit;
where something was, it is in its colour, an outline around a tint. Letters stand at the edges only.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless
from scipy import ndimage

from results.asked import Asked
from results.expect import (
    expect,
    expect_equipment,
    expect_identity,
    expect_provenance,
    expect_uids,
    near,
)
from results.findings import Findings, HeatMap
from results.grid import TOLERANCE_MM, Grid, grid_of
from results.overlay import description_of, drawable, role_of
from results.pictures import NoPicture, Pictures

_WHAT = "overlay"
_WARNING = (255, 196, 64)
_TINT, _VEIL = 0.25, 0.6

Planes = dict[int, NDArray[np.uint8]]


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless the overlays, as read back, show what was found."""
    if asked.pictures is None or not drawable(asked):
        expect(not read, f"{_WHAT}: there is one, and nothing to show")
        return
    grid = grid_of(asked.source)
    drawn = _planes_with_something(asked.findings, grid)
    shows: list[HeatMap | None] = [*([None] if drawn else []), *asked.findings.maps]
    if not read and _cannot_be_shown(asked.pictures, len(grid.planes)):
        return
    expect(len(read) == len(shows), f"{_WHAT}: {len(read)} objects, expected {len(shows)}")
    for dataset, one in zip(read, shows, strict=True):
        _check_headers(dataset, one, asked)
        frames = _frames(dataset, asked, grid)
        if one is None:
            _expect_all(dataset, set(frames), drawn)
        for plane, frame in frames.items():
            grey, inside = _source_pixels(frame, plane, asked.pictures, grid)
            if one is None:
                _check_painted(grey, inside, plane, asked.findings, grid)
            else:
                _check_veil(grey, inside, plane, one, grid)


def _cannot_be_shown(pictures: Pictures, planes: int) -> bool:
    try:
        for plane in range(planes):
            pictures.grey(plane)
    except NoPicture:
        return True
    return False


def _check_headers(dataset: Dataset, one: HeatMap | None, asked: Asked) -> None:
    expect_identity(_WHAT, dataset, asked.source)
    expect_uids(_WHAT, dataset, asked, role_of(one), asked.profile.transfer_syntax)
    expect_provenance(_WHAT, dataset, asked.run)
    expect_equipment(_WHAT, dataset)
    expect_picture(_WHAT, dataset)
    said = str(dataset.SeriesDescription)
    expect(said == description_of(asked, one), f"{_WHAT}: it is described as {said!r}")
    expect(
        dataset.get("FrameOfReferenceUID") == asked.source.first.get("FrameOfReferenceUID")
        or asked.source.geometry is None,
        f"{_WHAT}: its frame of reference is not that of the images",
    )


def expect_picture(what: str, dataset: Dataset) -> None:
    """A derived picture in colour with letters in its pixels (checklist of PS3.3 §C.7.6.1, §C.8.6.2)."""
    expect(dataset.Modality == "OT", f"{what}: Modality is {dataset.Modality}")
    kind = list(dataset.ImageType)[:2]
    expect(kind == ["DERIVED", "SECONDARY"], f"{what}: its Image Type is {kind}")
    expect(dataset.BurnedInAnnotation == "YES", f"{what}: it does not say that text is burned in")
    expect(dataset.PhotometricInterpretation == "RGB", f"{what}: it is not in RGB")
    expect(bool(dataset.get("ConversionType")), f"{what}: it has no Conversion Type")


def _frames(dataset: Dataset, asked: Asked, grid: Grid) -> Planes:
    """Plane of the grid → (row, column, 3), by the image that each frame names."""
    count = int(dataset.get("NumberOfFrames", 1))
    names = {(plane.sop_instance, plane.frame): k for k, plane in enumerate(grid.planes)}
    pixels = list(decoded(dataset))
    expect(len(pixels) == count, f"{_WHAT}: {len(pixels)} frames in the pixels, {count} in the header")
    found: Planes = {}
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    images = dataset.SourceImageSequence
    expect(len(images) == count, f"{_WHAT}: it names {len(images)} images for {count} frames")
    for number, (image, frame) in enumerate(zip(images, pixels, strict=True)):
        reference = image.get("ReferencedFrameNumber")
        name = str(image.ReferencedSOPInstanceUID), None if reference is None else int(reference)
        expect(name in names, f"{_WHAT}: frame {number + 1} is of an image that was not analysed")
        plane = names[name]
        expect(plane not in found, f"{_WHAT}: two frames show plane {plane}")
        found[plane] = frame
        if groups is not None:
            _check_position(dataset, groups[number], plane, number, grid)
    return found


def _check_position(dataset: Dataset, group: Dataset, plane: int, number: int, grid: Grid) -> None:
    """The far corner of the image, computed from the frame's own geometry, is that of the source's plane."""
    assert grid.place is not None
    shared = dataset.SharedFunctionalGroupsSequence[0]
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(
        2, 3
    )
    between = [float(step) for step in shared.PixelMeasuresSequence[0].PixelSpacing]
    position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
    factor = int(dataset.Columns) // grid.columns
    ours = [
        position
        + row * between[1] * (factor * (c + 0.5) - 0.5)
        + column * between[0] * (factor * (r + 0.5) - 0.5)
        for r, c in ((0, 0), (grid.rows - 1, grid.columns - 1))
    ]
    theirs = [
        (grid.place.affine @ [plane, r, c, 1])[:3] for r, c in ((0, 0), (grid.rows - 1, grid.columns - 1))
    ]
    expect(
        near(np.ravel(ours), np.ravel(theirs), 2 * TOLERANCE_MM),
        f"{_WHAT}: frame {number + 1} does not lie where plane {plane} is",
    )


def decoded(dataset: Dataset) -> Iterator[NDArray[np.uint8]]:
    """The frames of a colour picture, (row, column, 3), one after the other."""
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        yield from iter_pixels(dataset, raw=True)
        return
    shape = int(dataset.Rows), int(dataset.Columns), 3
    size = int(np.prod(shape))
    stored = np.frombuffer(dataset.PixelData, np.uint8)
    for start in range(0, stored.size - size + 1, size):
        yield stored[start : start + size].reshape(shape)


def _source_pixels(
    frame: NDArray[np.uint8], plane: int, pictures: Pictures, grid: Grid
) -> tuple["_Pixels", NDArray[np.bool_]]:
    """What is shown for each pixel of the source, and which of them are away from letters."""
    width = frame.shape[1]
    factor, rest = divmod(width, grid.columns)
    expect(
        rest == 0 and factor > 0 and frame.shape[0] > factor * grid.rows,
        f"{_WHAT}: {frame.shape[:2]} pixels for an image of {(grid.rows, grid.columns)}",
    )
    strip = frame[factor * grid.rows :]
    expect(
        int((strip == _WARNING).all(axis=-1).sum()) > 20, f"{_WHAT}: the warning below the image is not there"
    )
    middle = factor // 2
    shown = frame[middle : factor * grid.rows : factor, middle::factor]
    letter = max(13.0, width / 38)
    edge_rows, edge_columns = (int(np.ceil(n * letter / factor)) for n in (2.2, 3.6))
    inside = np.zeros(shown.shape[:2], dtype=np.bool_)
    inside[edge_rows : grid.rows - edge_rows, edge_columns : grid.columns - edge_columns] = True
    return _Pixels(shown.astype(np.int16), pictures.grey(plane).astype(np.int16)), inside


class _Pixels:
    """What is shown, (row, column, 3), and the image in grey, (row, column)."""

    def __init__(self, shown: NDArray[np.int16], grey: NDArray[np.int16]) -> None:
        self.shown, self.grey = shown, grey

    def differs(self) -> NDArray[np.bool_]:
        """Where it is not the image."""
        return np.asarray((self.shown != self.grey[..., None]).any(axis=-1))


def _planes_with_something(findings: Findings, grid: Grid) -> set[int]:
    planes: set[int] = set()
    for number, layer in enumerate(findings.layers if findings.segments else ()):
        own = [segment.number for segment in findings.segments if segment.layer == number]
        for k in np.flatnonzero(layer.any(axis=(1, 2))).tolist():
            if (
                k not in planes
                and np.bincount(layer[k].ravel(), minlength=max(own, default=0) + 1)[own].any()
            ):
                planes.add(k)
    for box in findings.boxes:
        planes.update(k for k in range(len(grid.planes)) if _holds(box.low[0], box.high[0], k))
    planes.update(int(np.floor(point.at[0] + 0.5)) for point in findings.points)
    return planes


def _holds(low: float, high: float, plane: int) -> bool:
    """Whether a box from `low` to `high` is on `plane`: it holds its centre, or none and lies next to it."""
    if np.ceil(low) > np.floor(high):
        return bool(np.floor((low + high) / 2 + 0.5) == plane)
    return low <= plane <= high


def _expect_all(dataset: Dataset, shown: set[int], drawn: set[int]) -> None:
    expect(
        shown <= drawn, lambda: f"{_WHAT}: it shows planes with nothing on them: {sorted(shown - drawn)[:5]}"
    )
    missing = len(drawn - shown)
    said = f"{missing} of {len(drawn)} slices are left out" in str(dataset.DerivationDescription)
    expect(not missing or said, f"{_WHAT}: {missing} planes are missing, and it does not say so")


def _check_painted(
    pixels: _Pixels, inside: NDArray[np.bool_], plane: int, findings: Findings, grid: Grid
) -> None:
    line = max(1, round(max(grid.rows, grid.columns) / 640))
    marks, edges = _marks(plane, findings, grid, line)
    layers = findings.layers[:, plane] if len(findings.layers) else np.zeros((0, grid.rows, grid.columns))
    covered = (layers > 0).sum(axis=0)
    elsewhere = inside & (covered == 0) & ~marks
    expect(
        not (pixels.differs() & elsewhere).any(),
        f"{_WHAT}: plane {plane} is not the image where nothing was found",
    )
    boxes = [ndimage.find_objects(layer.astype(np.int32)) for layer in layers]
    for segment in findings.segments:
        box = (
            boxes[segment.layer][segment.number - 1] if len(boxes[segment.layer]) >= segment.number else None
        )
        if box is None:
            continue
        # A little more than the segment, for what lies beside its edge.
        box = tuple(slice(max(side.start - line - 1, 0), side.stop + line + 1) for side in box)
        mask = layers[segment.layer][box] == segment.number
        alone = mask & (covered[box] == 1) & ~marks[box] & inside[box]
        if not alone.any():
            continue
        shown, grey = pixels.shown[box], pixels.grey[box][..., None]
        colour = np.array(segment.colour_rgb, dtype=np.int16)
        deep = ndimage.binary_erosion(mask, iterations=1, structure=_square(line))
        rim = mask & ~ndimage.binary_erosion(mask)
        expect(
            bool((shown[alone & rim] == colour).all()),
            f"{_WHAT}: the outline of {segment.label!r} on plane {plane} is not where the model drew it",
        )
        tinted = alone & deep
        meant = grey + _TINT * (colour - grey)
        expect(
            bool((np.abs(shown[tinted] - meant[tinted]) <= 1).all()),
            f"{_WHAT}: the inside of {segment.label!r} on plane {plane} is not the image with a tint",
        )
    for label, edge in edges:
        seen = edge & inside
        expect(
            not seen.any() or bool(pixels.differs()[seen].any()),
            f"{_WHAT}: {label!r} is not on plane {plane}, where the model found it",
        )


def _square(line: int) -> NDArray[np.bool_]:
    return np.ones((2 * line + 1, 2 * line + 1), dtype=np.bool_)


def _marks(
    plane: int, findings: Findings, grid: Grid, line: int
) -> tuple[NDArray[np.bool_], list[tuple[str, NDArray[np.bool_]]]]:
    """Where boxes and landmarks may be on a plane, all of them and one by one."""
    rows, columns = np.indices((grid.rows, grid.columns))
    found: list[tuple[str, NDArray[np.bool_]]] = []
    for box in findings.boxes:
        if _holds(box.low[0], box.high[0], plane):
            (_, top, left), (_, bottom, right) = box.low, box.high
            within = (rows >= top - 1) & (rows <= bottom + 1) & (columns >= left - 1) & (columns <= right + 1)
            deep = (rows > top + line + 1) & (rows < bottom - line - 1)
            deep &= (columns > left + line + 1) & (columns < right - line - 1)
            found.append((box.label, within & ~deep))
    for point in findings.points:
        if np.floor(point.at[0] + 0.5) == plane:
            away = np.maximum(np.abs(rows - point.at[1]), np.abs(columns - point.at[2]))
            found.append((point.label, (away <= 8 * line) & (away >= 1)))
    everywhere = np.zeros((grid.rows, grid.columns), dtype=np.bool_)
    for _, area in found:
        everywhere |= area
    return everywhere, found


def _check_veil(pixels: _Pixels, inside: NDArray[np.bool_], plane: int, one: HeatMap, grid: Grid) -> None:
    low, high = float(one.values.min()), float(one.values.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    share = np.clip((one.values[plane].astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)[..., None]
    colour = np.clip(np.concatenate([share * 3, share * 3 - 1, share * 3 - 2], axis=-1), 0, 1) * 255
    grey = pixels.grey[..., None]
    meant = grey + _VEIL * share * (colour - grey)
    expect(
        bool((np.abs(pixels.shown - meant)[inside] <= 2).all()),
        f"{_WHAT}: plane {plane} does not show the values of {one.label!r}",
    )
