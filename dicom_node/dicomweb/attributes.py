"""From text to the DICOM JSON model (PS3.18 Annex F), for the answers of QIDO-RS.

What a query asks for is what the header walker has read: top-level attributes by keyword, as text. Metadata,
with sequences and everything else, is made from the file itself: see `reader`.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

Json = dict[str, Any]

_WHOLE = frozenset({"IS", "SL", "SS", "UL", "US", "SV", "UV"})
_REAL = frozenset({"DS", "FL", "FD"})
_ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "SQ"})
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


@lru_cache(maxsize=4096)
def tag_of(name: str) -> str | None:
    """The tag of a keyword, or of eight hexadecimal digits, as DICOM JSON writes it; None for neither."""
    if len(name) == 8 and all(c in "0123456789abcdefABCDEF" for c in name):
        return name.upper()
    tag = tag_for_keyword(name)
    return None if tag is None else f"{tag:08X}"


@lru_cache(maxsize=4096)
def keyword_of(tag: str) -> str:
    """The keyword of a tag in DICOM JSON's writing; "" where it has none."""
    return keyword_for_tag(int(tag, 16))


@lru_cache(maxsize=4096)
def vr_of(tag: str) -> str:
    """The VR of a standard attribute; UN where it has none."""
    try:
        return dictionary_VR(int(tag, 16))[:2]
    except KeyError:
        return "UN"


def described(headers: Mapping[str, str]) -> Json:
    """The attributes by tag, in the order of their tags; what has no text form is left out."""
    entries = {}
    for keyword, text in headers.items():
        tag = tag_of(keyword)
        if tag is not None and vr_of(tag) not in _BINARY:
            entries[tag] = element(tag, text)
    return dict(sorted(entries.items()))


def element(tag: str, text: str) -> Json:
    """One attribute; `text` joins several values by a backslash."""
    vr = vr_of(tag)
    if text == "":
        return {"vr": vr}
    texts = [text] if vr in _ONE_VALUE else text.split("\\")
    return {"vr": vr, "Value": [_value(vr, each.strip(" ") if vr != "UT" else each) for each in texts]}


def _value(vr: str, text: str) -> Any:
    if text == "":
        return None
    if vr == "PN":
        return {name: group for name, group in zip(_GROUPS, text.split("="), strict=False) if group}
    try:
        if vr in _WHOLE:
            return int(text)
        if vr in _REAL:
            number = float(text)
            return number if math.isfinite(number) else text
    except ValueError:
        return text  # PS3.18 §F.2.3: a number that is none stays a text.
    return text
