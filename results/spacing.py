"""How far apart the pixels of a source are, for the proportions of a picture; not for measuring."""

from results.grid import Grid, plane_attribute
from results.source import Source

_KEYWORDS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")


def between_pixels(source: Source, grid: Grid) -> tuple[float, float]:
    """Between rows and between columns: in mm, or as a proportion; equal where the header does not say."""
    if grid.place is not None:
        first, second = (float(step) for step in grid.place.pixel_spacing)
        return first, second
    for keyword in _KEYWORDS:
        try:
            first, second = (float(step) for step in _said(source, keyword) or ())
        except (TypeError, ValueError):
            continue
        if first > 0 and second > 0:
            return first, second
    return 1.0, 1.0


def _said(source: Source, keyword: str):  # type: ignore[no-untyped-def]  # of the type of its keyword
    """As the image has it, or the frame of it in its functional group."""
    image, found = source.first, None
    if source.frames is not None and "PerFrameFunctionalGroupsSequence" in image:
        found = plane_attribute(image, source.frames[0], "PixelMeasuresSequence", keyword, required=False)
    return image.get(keyword) if found is None else found
