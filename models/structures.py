"""
What models draw: one table of structures, each with its code, its side and its colour.

Model zoos name the same organ in a dozen ways and none of them in code. A manifest says
`structure = "kidney_left"` and a result then carries (64033007, SCT, Kidney) with the modifier
(7771000, SCT, Left), whichever model drew it.

Rule 1: the table is data (`structures.toml`), and tests compare its codes with the dictionary of PS3.16.
Rule 2: a code that no dictionary and no public mapping confirms is a private one (99WETREAD), never a guess.
Rule 3: both sides of a pair come from one line, so they can differ in nothing but the side.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from results.codes import (
    ANATOMICAL_STRUCTURE,
    LEFT,
    MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
    RIGHT,
)
from results.findings import PRIVATE_SCHEME, Concept, Measurement, Segment

#: Segmentation property categories (CID 7150), by the names that the table gives them.
CATEGORIES: Mapping[str, Concept] = MappingProxyType(
    {
        "anatomical_structure": ANATOMICAL_STRUCTURE,
        "tissue": Concept("85756007", "SCT", "Tissue"),
        "physical_object": Concept("260787004", "SCT", "Physical object"),
        "morphologically_abnormal_structure": MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
    }
)

#: The right one of a pair is darker than the left one, and one of unknown side is between.
_SHADES = {"left": 1.0, "right": 0.75, "": 0.87}
_SIDES = {"left": LEFT, "right": RIGHT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One thing that a model can draw. The laterality is None where there is none or the kind says it."""

    key: str
    label: str  #: plain English, as a radiologist reads it
    category: Concept  #: CID 7150
    kind: Concept  #: segmented property type
    laterality: Concept | None = None  #: CID 244
    region: Concept | None = None  #: what it is in, where the kind does not say it: a cyst of the kidney
    colour_rgb: tuple[int, int, int]
    confirmed: bool  #: its code stands in a dictionary or a public mapping; otherwise it is a private one

    def segment(self, number: int, *, label: str = "", measurements: tuple[Measurement, ...] = ()) -> Segment:
        """The segment `number` of a finding that is this, under a `label` of its own where there is one."""
        return Segment(
            number=number,
            label=label or self.label,
            category=self.category,
            kind=self.kind,
            laterality=self.laterality,
            colour_rgb=self.colour_rgb,
            measurements=measurements,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageClass:
    """One thing that a model can say of a whole image."""

    label: str
    finding: Concept


def key_of(label: str, source: str = "general") -> str | None:
    """The key of what `source` (a bundle, "totalsegmentator") calls `label`; None where we know none.

    Case, hyphens and the place of the side do not matter: "Right Kidney", "kidney_right" and "left rib 1"
    are found.
    """
    name = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    words = name.split("_")
    sides = [word for word in words if word in _SIDES]
    for meant in _meanings(name, source):
        if meant in STRUCTURES:
            return meant
    if len(sides) == 1:
        rest = "_".join(word for word in words if word not in _SIDES)
        for meant in _meanings(rest, source):
            if f"{meant}_{sides[0]}" in STRUCTURES:
                return f"{meant}_{sides[0]}"
    return None


def _meanings(name: str, source: str) -> Iterator[str]:
    """What `name` may stand for, the source's own meaning first."""
    for table in (ALIASES.get(source, {}), ALIASES["general"]):
        if name in table:
            yield table[name]
    yield name


def _read(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[Structure]:
    for category, structures in rows.items():
        for key, row in structures.items():
            unsided = _structure(key, row, CATEGORIES[category])
            if not row.get("paired", False):
                yield unsided
                continue
            yield replace(unsided, colour_rgb=_shade(unsided.colour_rgb, ""))
            for side, laterality in _SIDES.items():
                yield replace(
                    unsided,
                    key=f"{key}_{side}",
                    label=f"{side.capitalize()} {row['label']}",
                    laterality=laterality,
                    colour_rgb=_shade(unsided.colour_rgb, side),
                )


def _structure(key: str, row: Mapping[str, Any], category: Concept) -> Structure:
    label = str(row["label"])
    label = label[0].upper() + label[1:]
    if private := row.get("private"):
        kind = Concept(private, PRIVATE_SCHEME, row.get("meaning", label))
    else:
        kind = Concept(row["code"], row.get("scheme", "SCT"), row["meaning"])
    region = row.get("region")
    red, green, blue = bytes.fromhex(row["colour"].removeprefix("#"))
    return Structure(
        key=key,
        label=label,
        category=category,
        kind=kind,
        region=Concept(region[0], "SCT", region[1]) if region else None,
        colour_rgb=(red, green, blue),
        confirmed=not private,
    )


def _shade(rgb: tuple[int, int, int], side: str) -> tuple[int, int, int]:
    red, green, blue = (round(value * _SHADES[side]) for value in rgb)
    return red, green, blue


_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

#: Every structure by its key.
STRUCTURES: Mapping[str, Structure] = MappingProxyType(
    {structure.key: structure for structure in _read(_TABLE["structures"])}
)
#: What can be said of a whole image, by key.
CLASSES: Mapping[str, ImageClass] = MappingProxyType(
    {
        key: ImageClass(label=row["label"], finding=Concept(row["code"], "SCT", row["meaning"]))
        for key, row in _TABLE["classes"].items()
    }
)
#: Other people's names: source → name → key (of a pair, the unsided one).
ALIASES: Mapping[str, Mapping[str, str]] = MappingProxyType(_TABLE["aliases"])
