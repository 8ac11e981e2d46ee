"""
What a segment of a manifest is: its own words and codes, or those of the structure that it names.

What the manifest says itself goes before what `models.structures` says of the structure.
"""

import colorsys
import importlib
from difflib import get_close_matches
from typing import Any

from models.contract import BrokenModel
from models.manifest import Manifest, SegmentOut
from results.findings import Segment

_GOLDEN = 0.618033988749895  # Hues that are that far apart stay distinct however many there are.


def resolved(manifest: Manifest, segment: SegmentOut) -> Segment:
    """The segment with everything that a result says of it. Raises `BrokenModel`."""
    known = _structure(manifest, segment) if segment.structure else None
    label = segment.label or (known.label if known else "")
    category = segment.category or (known.category if known else None)
    kind = segment.kind or (known.kind if known else None)
    if not label or category is None or kind is None:
        raise BrokenModel(
            f"model {manifest.identity}: segment {segment.number} needs a label, a category and a kind, or "
            "the name of a structure that gives them"
        )
    return Segment(
        number=segment.number,
        label=label,
        category=category,
        kind=kind,
        laterality=segment.laterality or (known.laterality if known else None),
        colour_rgb=segment.colour_rgb or (known.colour_rgb if known else None) or colour(segment.number),
    )


def colour(number: int) -> tuple[int, int, int]:
    """A colour for segment `number` where nobody chose one: the same for the same number."""
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1.0, 0.65, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _structure(manifest: Manifest, segment: SegmentOut) -> Any:
    try:
        known = importlib.import_module("models.structures").STRUCTURES
    except ModuleNotFoundError:
        known = {}
    if segment.structure in known:
        return known[segment.structure]
    close = get_close_matches(segment.structure, known, n=1)
    guess = f"did you mean {close[0]!r}?" if close else "give label, category and kind instead"
    raise BrokenModel(
        f"model {manifest.identity}: segment {segment.number} is of structure {segment.structure!r}, which "
        f"is not in the table of structures; {guess}"
    )
