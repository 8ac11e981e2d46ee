"""
Findings → a softcopy presentation state (PS3.3 §A.33): the source's images with everything marked on them.

For viewers that draw neither segmentations nor reports, which is most of those in hospitals. It changes no
image and holds no measurement that a program could read, so it stands beside the others and never instead.

Greyscale for images in grey, colour for images in colour. It refers to the images that have something on
them, and to no other; it repeats how they look (`results.appearance`), for it replaces what they say of that.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.result import Role
from results import codes
from results.annotations import LAYERS, Layer, Mark, marks
from results.appearance import (
    displayed_area,
    grey_values,
    image_references,
    is_grey,
    presentation_lut_shape,
    shutter,
)
from results.asked import Asked
from results.findings import Findings
from results.grid import Grid, grid_of
from results.headers import result_headers
from results.icc import SRGB
from results.source import Source
from results.words import DISCLAIMER, long_string, plain, series_description

GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.11.1")
COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.11.2")

#: Graphic Data is FL, whose length has sixteen bits in explicit transfer syntaxes (PS3.5 §7.1.2): so many
#: points are 65,520 bytes.
_MOST_POINTS = 8190


def build(asked: Asked) -> list[Dataset]:
    """The presentation state, without file meta information; none where there is nothing to mark.

    Raises `NotEncodable` where the findings do not fit the source.
    """
    findings, source, run = asked.findings, asked.source, asked.run
    if not _anything(findings, source):
        return []
    grid = grid_of(source)
    found = marks(findings, grid, run)
    if not found:
        return []
    planes = sorted({one.plane for one in found})
    references = image_references(grid, planes)
    grey = is_grey(source)
    dataset = result_headers(
        asked,
        Role.PRESENTATION,
        sop_class=GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE
        if grey
        else COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE,
        series_description=series_description(asked, "marks on images"),
    )
    identify_presentation(dataset, "AI MARKS")
    series = Dataset()
    series.SeriesInstanceUID = str(source.first.SeriesInstanceUID)
    series.ReferencedImageSequence = references
    dataset.ReferencedSeriesSequence = [series]
    shutter(dataset, source)
    dataset.DisplayedAreaSelectionSequence = [displayed_area(source, grid, references)]
    if grey:
        grey_values(dataset, source, grid, planes)
        dataset.PresentationLUTShape = presentation_lut_shape(source)
    else:
        dataset.ICCProfile = source.first.get("ICCProfile") or SRGB
    dataset.GraphicAnnotationSequence = list(_annotations(found, grid))
    used = {one.layer for one in found}
    layers = [layer for layer in LAYERS if layer in used]
    dataset.GraphicLayerSequence = [_layer(layer, order) for order, layer in enumerate(layers, start=1)]
    codes.identify_schemes(dataset, run.provenance.schemes)
    return [dataset]


def identify_presentation(dataset: Dataset, label: str) -> None:
    """Presentation State Identification (PS3.3 §C.11.10)."""
    dataset.PresentationCreationDate = dataset.ContentDate
    dataset.PresentationCreationTime = dataset.ContentTime
    del dataset.ContentDate, dataset.ContentTime
    dataset.ContentLabel = label
    dataset.ContentDescription = plain(DISCLAIMER, 64)
    dataset.ContentCreatorName = None  # Type 2: no person made it


def _anything(findings: Findings, source: Source) -> bool:
    """Whether there may be something to mark. Of what is said of a whole series, no image shows it."""
    lesions = any(segment.is_lesion for segment in findings.segments)
    verdicts = source.is_one_image and findings.verdicts
    return bool(lesions or findings.boxes or findings.points or verdicts)


def _annotations(found: Sequence[Mark], grid: Grid) -> Iterator[Dataset]:
    """One item for each layer on each image."""
    for (plane, layer), members in groupby(found, key=lambda one: (one.plane, one.layer)):
        item = Dataset()
        item.ReferencedImageSequence = image_references(grid, [plane])
        item.GraphicLayer = layer.name
        together = list(members)
        item.TextObjectSequence = [_text(one) for one in together]
        graphics = [_graphic(line, one) for one in together for line in _short_enough(one.lines)]
        if graphics:
            item.GraphicObjectSequence = graphics
        yield item


def _short_enough(lines: Sequence[NDArray[np.float64]]) -> Iterator[NDArray[np.float64]]:
    """Lines of at most so many points: longer ones in parts, each of which goes on where the last one
    ends.
    """
    for line in lines:
        for start in range(0, max(len(line) - 1, 1), _MOST_POINTS - 1):
            yield line[start : start + _MOST_POINTS]


def _graphic(line: NDArray[np.float64], mark: Mark) -> Dataset:
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(line)
    item.GraphicData = [float(one) for one in line.reshape(-1)]
    item.GraphicType = "POINT" if len(line) == 1 else "POLYLINE"
    if len(line) > 1 and bool((line[0] == line[-1]).all()):
        item.GraphicFilled = "N"  # what is under it is what a reader has to see
    item.TrackingID, item.TrackingUID = long_string(mark.name), str(mark.tracking)
    return item


def _text(mark: Mark) -> Dataset:
    left, top, right, bottom = mark.corners
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "PIXEL"
    item.UnformattedTextValue = mark.text
    item.BoundingBoxTopLeftHandCorner = [left, top]
    item.BoundingBoxBottomRightHandCorner = [right, bottom]
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    if mark.anchor is not None:
        item.AnchorPointAnnotationUnits = "PIXEL"
        item.AnchorPoint = list(mark.anchor)
        item.AnchorPointVisibility = "Y"
    item.TrackingID, item.TrackingUID = long_string(mark.name), str(mark.tracking)
    return item


def _layer(layer: Layer, order: int) -> Dataset:
    item = Dataset()
    item.GraphicLayer = layer.name
    item.GraphicLayerOrder = order
    item.GraphicLayerRecommendedDisplayGrayscaleValue = 0xFFFF
    item.GraphicLayerRecommendedDisplayCIELabValue = list(
        hd.color.CIELabColor.from_rgb(*layer.colour_rgb).value
    )
    item.GraphicLayerDescription = layer.description
    return item
