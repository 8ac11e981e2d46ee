"""
A picture of what was found: an axial and a coronal slice with the segments in their colours.

As radiologists hold films: the patient's right is on the left of the picture, head and breastbone on top.
The picture is for a demonstration or a README; what counts are the objects in the archive.
"""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ledger.errors import StudyError
from results.lettering import drawable, font
from results.paint import Entry, in_colour, paint_labels
from results.strip import BACKGROUND, CAPTION, TEXT, WARNING

_HEIGHT_PX = 420  # of each view; the width follows from the patient's proportions
_MARGIN_PX = 16
_LINE_PX = 22
_LUNG_WINDOW_HU = (-600.0, 1500.0)  # centre, width: the usual one for lungs


class CannotDraw(StudyError):
    """These files are not a volume with a segmentation of it."""


def draw(
    volume: hd.Volume,
    label_map: NDArray[np.integer],
    legend: Mapping[int, Entry],
    *,
    window: tuple[float, float] = _LUNG_WINDOW_HU,
) -> Image.Image:
    """The picture of `volume` with `label_map`, both (slice, row, column); `window` is centre and width."""
    # Axes towards the feet, the back and the patient's left: then [k] is an axial and [:, k] a coronal view.
    grey = volume.to_patient_orientation("FPL")
    labels = volume.with_array(label_map).to_patient_orientation("FPL")
    feet_mm, back_mm, left_mm = grey.spacing
    axial, coronal = _fullest(labels.array, 0), _fullest(labels.array, 1)
    views = [
        _view(grey.array[axial], labels.array[axial], (back_mm, left_mm), legend, window),
        _view(grey.array[:, coronal], labels.array[:, coronal], (feet_mm, left_mm), legend, window),
    ]
    return _page(views, [entry for number, entry in sorted(legend.items()) if (label_map == number).any()])


def overlay(images: Sequence[Path], segmentation: Path) -> bytes:
    """The picture of a BINARY segmentation on its own source images, as PNG. Raises `CannotDraw`.

    Everything is read from the files, positions included: what is drawn is what a viewer would draw. An image
    without a place in the patient (a film, a photograph) is drawn as it is stored, without sides.
    """
    try:
        segments = hd.seg.segread(segmentation)
        legend = {number: _legend(segments, number) for number in segments.segment_numbers}
        image = hd.imread(images[0]) if len(images) == 1 else None
        if image is not None and image.get_volume_geometry() is None:
            page = _on_image(image, segments, legend)
        else:
            page = _on_volume(_volume_of(images) if image is None else image.get_volume(), segments, legend)
    except (
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        RuntimeError,
        pydicom.errors.InvalidDicomError,
    ) as error:
        raise CannotDraw(f"the images and {segmentation.name} cannot be drawn: {error}") from error
    picture = io.BytesIO()
    page.save(picture, "PNG")
    return picture.getvalue()


def _volume_of(images: Sequence[Path]) -> hd.Volume:
    return hd.get_volume_from_series([pydicom.dcmread(path) for path in images])


def _on_volume(volume: hd.Volume, segments: hd.seg.Segmentation, legend: Mapping[int, Entry]) -> Image.Image:
    # Where segments overlap, the later ones are drawn over the earlier ones.
    drawn = segments.get_volume(combine_segments=True, skip_overlap_checks=True)
    labels = drawn.match_geometry(volume).array.astype(np.uint16)
    window = _LUNG_WINDOW_HU if _in_hounsfield_units(volume.array) else _window_of(volume.array)
    return draw(volume, labels, legend, window=window)


def _on_image(image: hd.Image, segments: hd.seg.Segmentation, legend: Mapping[int, Entry]) -> Image.Image:
    drawn = _labels_on(image, segments)
    number = int(np.argmax(np.count_nonzero(drawn, axis=(1, 2))))  # of a loop, the frame that shows most
    seen, labels = image.get_frame(number + 1, apply_voi_transform=None), drawn[number]
    view = _view(seen, labels, (1.0, 1.0), legend, _window_of(seen))
    return _page(
        [view], [legend[number] for number in sorted(legend) if (labels == number).any()], sides=False
    )


def _labels_on(image: hd.Image, segments: hd.seg.Segmentation) -> NDArray[np.integer]:
    """(frame, row, column); where segments overlap, the later ones."""
    if image.number_of_frames == 1:
        ask = partial(segments.get_pixels_by_source_instance, [image.SOPInstanceUID])
    else:
        frames = range(1, image.number_of_frames + 1)
        ask = partial(segments.get_pixels_by_source_frame, image.SOPInstanceUID, frames)
    return np.asarray(
        ask(combine_segments=True, skip_overlap_checks=True, assert_missing_frames_are_empty=True)
    )


def _legend(segments: hd.seg.Segmentation, number: int) -> Entry:
    description = segments.get_segment_description(number)
    colour = hd.color.CIELabColor.from_dicom_value(description.RecommendedDisplayCIELabValue)
    red, green, blue = (int(v) for v in colour.to_rgb())
    return Entry(str(description.SegmentLabel), (red, green, blue))


def _in_hounsfield_units(values: NDArray[np.float64]) -> bool:
    """Only CT has values far below zero: air is at -1000 HU."""
    return bool(values.min() < -500)


def _window_of(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, (1, 99))
    return float(low + high) / 2, max(float(high - low), 1.0)


def _fullest(labels: NDArray[np.integer], axis: int) -> int:
    """The slice along `axis` that shows most of what is drawn; the middle of the volume where nothing is."""
    others = tuple(a for a in range(3) if a != axis)
    shown = np.count_nonzero(labels, axis=others)
    return int(shown.argmax()) if shown.any() else labels.shape[axis] // 2


def _view(
    values: NDArray[np.float64],
    labels: NDArray[np.integer],
    spacing_mm: tuple[float, float],
    legend: Mapping[int, Entry],
    window: tuple[float, float],
) -> Image.Image:
    """One slice (row, column) or (row, column, 3) with its segments, in the patient's proportions."""
    picture = values.astype(np.uint8) if values.ndim == 3 else in_colour(_grey(values, window))
    last = max(legend, default=0)
    colours = [legend[number].colour if number in legend else (0, 0, 0) for number in range(1, last + 1)]
    paint_labels(picture, np.where(np.isin(labels, list(legend)), labels, 0), colours, line=1)
    rows, columns = labels.shape
    size = (round(_HEIGHT_PX * columns * spacing_mm[1] / (rows * spacing_mm[0])), _HEIGHT_PX)
    return Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)


def _grey(values: NDArray[np.float64], window: tuple[float, float]) -> NDArray[np.uint8]:
    centre, width = window
    # LINEAR_EXACT (PS3.3 §C.11.2.1.3.2)
    return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1) * 255, np.uint8)


def _page(views: Sequence[Image.Image], legend: Sequence[Entry], *, sides: bool = True) -> Image.Image:
    width = sum(view.width for view in views) + _MARGIN_PX * (len(views) + 1)
    height = _HEIGHT_PX + 2 * _MARGIN_PX + _LINE_PX * (len(legend) + 1) + _MARGIN_PX
    page = Image.new("RGB", (width, height), BACKGROUND)
    pen, face = ImageDraw.Draw(page), font(15)
    x = _MARGIN_PX
    for view in views:
        page.paste(view, (x, _MARGIN_PX))
        middle = _MARGIN_PX + _HEIGHT_PX // 2
        if sides:
            pen.text((x + 6, middle), "R", TEXT, font=face)
            pen.text((x + view.width - 6, middle), "L", TEXT, font=face, anchor="ra")
        x += view.width + _MARGIN_PX
    y = _HEIGHT_PX + 2 * _MARGIN_PX
    for entry in legend:
        pen.rectangle((_MARGIN_PX, y + 3, _MARGIN_PX + 14, y + 17), fill=entry.colour)
        pen.text((_MARGIN_PX + 24, y), drawable(entry.label), TEXT, font=face)
        y += _LINE_PX
    pen.text((_MARGIN_PX, y), CAPTION, WARNING, font=face)
    return page
