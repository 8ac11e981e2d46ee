"""
Parametric maps → Advanced Blending Presentation States (PS3.3 §A.33.7): the map in colour over its own
images.

One for each map. The images come first, in grey and by their own window; the map second, black where it is
lowest, through red and yellow to white where it is highest. Each has half of the light: so it is the same
picture whichever of the two a viewer takes the opacity for.
"""

from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.result import Role
from results import codes
from results.appearance import displayed_area, image_references, is_grey, windows
from results.asked import Asked
from results.findings import HeatMap
from results.grid import Grid, grid_of
from results.headers import result_headers
from results.icc import SRGB
from results.parametric_map import kept_maps
from results.presentation_state import identify_presentation
from results.words import map_description

ADVANCED_BLENDING_PRESENTATION_STATE_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.11.8")

OPACITY = 0.5
_ENTRIES = 256


def build(asked: Asked) -> list[Dataset]:
    """One for each parametric map that was made, without file meta information; none over images in
    colour.
    """
    maps = asked.of(Role.PARAMETRIC_MAP)
    if not maps or not is_grey(asked.source):
        return []
    grid = grid_of(asked.source)
    kept = kept_maps(asked.findings, asked.source)
    return [
        _build(asked, grid, one, dataset, index)
        for index, (one, dataset) in enumerate(zip(kept, maps, strict=True))
    ]


def name_of(one: HeatMap) -> str:
    """What the object is called in its UIDs: there may be several."""
    return f"{Role.BLENDING} {one.label}"


def _build(asked: Asked, grid: Grid, one: HeatMap, parametric_map: Dataset, index: int) -> Dataset:
    source = asked.source
    dataset = result_headers(
        asked,
        Role.BLENDING,
        sop_class=ADVANCED_BLENDING_PRESENTATION_STATE_STORAGE,
        series_description=map_description(asked, one, "blend"),
        index=index,
        name=name_of(one),
        variant=str(parametric_map.SOPInstanceUID),
    )
    identify_presentation(dataset, "AI EXPLANATION" if one.explains else "AI MAP")
    planes = range(len(grid.planes))
    images = image_references(grid, planes)
    below = _input(1, str(dataset.StudyInstanceUID), str(source.first.SeriesInstanceUID), images)
    # In the values of the images' own Modality LUT, which no presentation state of this kind replaces.
    below.SoftcopyVOILUTSequence = windows(source, grid, planes, {})
    if not below.SoftcopyVOILUTSequence:
        del below.SoftcopyVOILUTSequence
    map_reference = Dataset()
    map_reference.ReferencedSOPClassUID = parametric_map.SOPClassUID
    map_reference.ReferencedSOPInstanceUID = parametric_map.SOPInstanceUID
    above = _input(2, str(dataset.StudyInstanceUID), str(parametric_map.SeriesInstanceUID), [map_reference])
    low, high = float(one.values.min()), float(one.values.max())
    window = Dataset()
    window.WindowCenter, window.WindowWidth = f"{(low + high) / 2:.8g}", f"{(high - low) or 1.0:.8g}"
    window.VOILUTFunction = "LINEAR_EXACT"
    above.SoftcopyVOILUTSequence = [window]
    above.PaletteColorLookupTableSequence = [_palette()]
    below.GeometryForDisplay, above.GeometryForDisplay = "TRUE", "FALSE"
    dataset.AdvancedBlendingSequence = [below, above]
    dataset.PixelPresentation = "TRUE_COLOR"
    dataset.BlendingDisplaySequence = [_display()]
    dataset.DisplayedAreaSelectionSequence = [displayed_area(source, grid, images)]
    dataset.ICCProfile = SRGB
    dataset.ReferencedSeriesSequence = [
        _series(str(source.first.SeriesInstanceUID), images),
        _series(str(parametric_map.SeriesInstanceUID), [map_reference]),
    ]
    codes.identify_schemes(dataset, asked.run.provenance.schemes)
    return dataset


def _input(number: int, study: str, series: str, images: list[Dataset]) -> Dataset:
    item = Dataset()
    item.BlendingInputNumber = number
    item.StudyInstanceUID, item.SeriesInstanceUID = study, series
    item.ReferencedImageSequence = images
    item.TimeSeriesBlending = "FALSE"
    return item


def _display() -> Dataset:
    inputs = []
    for number in (1, 2):
        item = Dataset()
        item.BlendingInputNumber = number
        inputs.append(item)
    display = Dataset()
    display.BlendingDisplayInputSequence = inputs
    display.BlendingMode = "FOREGROUND"
    display.RelativeOpacity = OPACITY
    return display


def _palette() -> Dataset:
    """From black through red and yellow to white, in three equal parts."""
    item = Dataset()
    for position, colour in enumerate(("Red", "Green", "Blue")):
        steps = (3 * entry / (_ENTRIES - 1) - position for entry in range(_ENTRIES))
        values = [round(0xFFFF * min(max(step, 0.0), 1.0)) for step in steps]
        setattr(item, f"{colour}PaletteColorLookupTableDescriptor", [_ENTRIES, 0, 16])
        data = b"".join(value.to_bytes(2, "little") for value in values)
        setattr(item, f"{colour}PaletteColorLookupTableData", data)
    return item


def _series(series: str, images: list[Dataset]) -> Dataset:
    """As Common Instance Reference has it (PS3.3 §C.12.2): instances, and no frames of them."""
    item = Dataset()
    item.SeriesInstanceUID = series
    item.ReferencedInstanceSequence = []
    for image in images:
        reference = Dataset()
        reference.ReferencedSOPClassUID = image.ReferencedSOPClassUID
        reference.ReferencedSOPInstanceUID = image.ReferencedSOPInstanceUID
        item.ReferencedInstanceSequence.append(reference)
    return item
