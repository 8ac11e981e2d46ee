"""
A picture of what was found: an axial and a coronal slice with the segments in their colours.

As radiologists hold films: the patient's right is on the left of the picture, head and breastbone on top.
The picture is for a demonstration or a README; what counts are the objects in the archive.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ledger.errors import StudyError

CAPTION = "AI - not verified, not for diagnosis"

_HEIGHT_PX = 420  # of each view; the width follows from the patient's proportions
_MARGIN_PX = 16
_LINE_PX = 22
_OPACITY = 0.45
_LUNG_WINDOW_HU = (-600.0, 1500.0)  # centre, width: the usual one for lungs
_BACKGROUND, _TEXT, _WARNING = (16, 18, 22), (235, 235, 235), (255, 196, 64)


class CannotDraw(StudyError):
    """These files are not a volume with a segmentation of it."""


@dataclass(frozen=True, slots=True)
class Legend:
    """How a segment is shown."""

    label: str
    colour_rgb: tuple[int, int, int]


def draw(
    volume: hd.Volume,
    label_map: NDArray[np.integer],
    legend: Mapping[int, Legend],
    *,
    window: tuple[float, float] = _LUNG_WINDOW_HU,
) -> Image.Image:
    """The picture of `volume` with `label_map`, both (slice, row, column); `window` is centre and width."""
    # Axes towards the feet, the back and the patient's left: then [k] is an axial and [:, k] a coronal view.
    grey = volume.to_patient_orientation("FPL")
    labels = volume.with_array(label_map).to_patient_orientation("FPL")
    feet_mm, back_mm, left_mm = grey.spacing
    axial, coronal = _middle(labels.array, 0), _middle(labels.array, 1)
    views = [
        _view(grey.array[axial], labels.array[axial], (back_mm, left_mm), legend, window),
        _view(grey.array[:, coronal], labels.array[:, coronal], (feet_mm, left_mm), legend, window),
    ]
    return _page(views, [entry for number, entry in sorted(legend.items()) if (label_map == number).any()])


def overlay(images: Sequence[Path], segmentation: Path) -> bytes:
    """The picture of a BINARY segmentation on its own source images, as PNG. Raises `CannotDraw`.

    Everything is read from the files, positions included: what is drawn is what a viewer would draw.
    """
    try:
        if len(images) == 1:
            volume = hd.imread(images[0]).get_volume()
        else:
            volume = hd.get_volume_from_series([pydicom.dcmread(path) for path in images])
        segments = hd.seg.segread(segmentation)
        # Where segments overlap, the later ones are drawn over the earlier ones.
        drawn = segments.get_volume(combine_segments=True, skip_overlap_checks=True)
        labels = drawn.match_geometry(volume)
        legend = {number: _legend(segments, number) for number in segments.segment_numbers}
    except (
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        RuntimeError,
        pydicom.errors.InvalidDicomError,
    ) as error:
        raise CannotDraw(f"the images and {segmentation.name} cannot be drawn: {error}") from error
    window = _LUNG_WINDOW_HU if _in_hounsfield_units(volume.array) else _window_of(volume.array)
    picture = io.BytesIO()
    draw(volume, labels.array.astype(np.uint16), legend, window=window).save(picture, "PNG")
    return picture.getvalue()


def _legend(segments: hd.seg.Segmentation, number: int) -> Legend:
    description = segments.get_segment_description(number)
    colour = hd.color.CIELabColor.from_dicom_value(description.RecommendedDisplayCIELabValue)
    red, green, blue = (int(v) for v in colour.to_rgb())
    return Legend(str(description.SegmentLabel), (red, green, blue))


def _in_hounsfield_units(values: NDArray[np.float64]) -> bool:
    """Only CT has values far below zero: air is at -1000 HU."""
    return bool(values.min() < -500)


def _window_of(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, (1, 99))
    return float(low + high) / 2, max(float(high - low), 1.0)


def _middle(labels: NDArray[np.integer], axis: int) -> int:
    """The middle of what is drawn along `axis`; of the volume where nothing is."""
    others = tuple(a for a in range(3) if a != axis)
    used = np.flatnonzero(labels.any(axis=others))
    return int(used[len(used) // 2]) if used.size else labels.shape[axis] // 2


def _view(
    values: NDArray[np.float64],
    labels: NDArray[np.integer],
    spacing_mm: tuple[float, float],
    legend: Mapping[int, Legend],
    window: tuple[float, float],
) -> Image.Image:
    """One slice (row, column) in grey with its segments, in the patient's proportions."""
    centre, width = window
    grey = np.clip((values - centre) / width + 0.5, 0, 1) * 255  # LINEAR_EXACT (PS3.3 §C.11.2.1.3.2)
    colours = np.repeat(grey[..., None], 3, axis=2)
    for number, entry in legend.items():
        mask = labels == number
        colours[mask] = (1 - _OPACITY) * colours[mask] + _OPACITY * np.array(entry.colour_rgb)
    rows, columns = labels.shape
    size = (round(_HEIGHT_PX * columns * spacing_mm[1] / (rows * spacing_mm[0])), _HEIGHT_PX)
    return Image.fromarray(colours.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


def _page(views: Sequence[Image.Image], legend: Sequence[Legend]) -> Image.Image:
    width = sum(view.width for view in views) + _MARGIN_PX * (len(views) + 1)
    height = _HEIGHT_PX + 2 * _MARGIN_PX + _LINE_PX * (len(legend) + 1) + _MARGIN_PX
    page = Image.new("RGB", (width, height), _BACKGROUND)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    x = _MARGIN_PX
    for view in views:
        page.paste(view, (x, _MARGIN_PX))
        middle = _MARGIN_PX + _HEIGHT_PX // 2
        pen.text((x + 6, middle), "R", _TEXT, font=font)
        pen.text((x + view.width - 6, middle), "L", _TEXT, font=font, anchor="ra")
        x += view.width + _MARGIN_PX
    y = _HEIGHT_PX + 2 * _MARGIN_PX
    for entry in legend:
        pen.rectangle((_MARGIN_PX, y + 3, _MARGIN_PX + 14, y + 17), fill=entry.colour_rgb)
        pen.text((_MARGIN_PX + 24, y), entry.label, _TEXT, font=font)
        y += _LINE_PX
    pen.text((_MARGIN_PX, y), CAPTION, _WARNING, font=font)
    return page
