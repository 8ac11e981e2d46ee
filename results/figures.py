"""Numbers and units as people write them: in sentences, in tables, and beside marks."""

import re

from results.findings import Concept
from results.words import plain

#: UCUM as people write it.
_UNITS = {"[hnsf'U]": "HU", "1": "", "a": "years", "mo": "months", "wk": "weeks", "d": "days"}
_ANNOTATION = re.compile(r"\{([^{}]*)\}")  # UCUM §6: "{score}" says what is counted
_ROUND = 1e9  #: from here on nobody counts the zeros


def figure(value: float, digits: int = 4, *, signed: bool = False) -> str:
    """`value` with `digits` that count, and never an exponent where people expect none."""
    sign = "+" if signed else ""
    whole = 10**digits <= abs(value) < _ROUND or float(f"{abs(value):.{digits}g}") == 10**digits
    return f"{value:{sign}.0f}" if whole else f"{value:{sign}.{digits}g}"


def unit_said(unit: Concept) -> str:
    """What stands after a number; empty for a number of nothing."""
    return _UNITS.get(unit.value, plain(_ANNOTATION.sub(r"\1", unit.value)))


def quantity(value: float, unit: Concept, digits: int = 4) -> str:
    """As in: 12346 mm3; 11.25 years; 1 month."""
    said, number = unit_said(unit), figure(value, digits)
    if number == "1" and unit.value in ("a", "mo", "wk", "d"):
        said = said.removesuffix("s")
    return f"{number} {said}".rstrip()


def within(name: str) -> str:
    """`name` in the middle of a sentence: small letters, but abbreviations as they are."""
    return " ".join(word.lower() if word[1:] == word[1:].lower() else word for word in name.split())
