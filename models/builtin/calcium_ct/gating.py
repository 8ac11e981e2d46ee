"""
Was the heart held still by its own rhythm? Only then is an Agatston score one that compares with others.

What the scanner wrote decides; words of a description count only where the images are as narrow as a heart,
for nobody reconstructs a chest like that.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

HEART_SIZED_MM = 300.0  #: a chest needs more

#: Attributes that only a scan with an electrocardiogram has (PS3.3 §C.7.6.18, §C.8.2.1).
_TECHNIQUE = "CardiacSynchronizationTechnique"
_PHASES = (
    "NominalPercentageOfCardiacPhase", "TriggerTime", "NominalCardiacTriggerDelayTime", "LowRRValue",
    "HighRRValue", "CardiacRRIntervalSpecified", "BeatRejectionFlag",
)  # fmt: skip
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "StudyDescription")
_WORDS = re.compile(
    r"\b(?:ca[- ]?sc(?:ore|oring)?|calcium[- ]?scor\w*|cardiac|coronar\w*|heart|agatston|cacs?|ecg)\b|gated",
    re.IGNORECASE,
)
_NOT_GATED = re.compile(r"\b(?:non|not|no|un)[-_ ]?(?:ecg[-_ ]?)?gat", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Gating:
    """Whether the scan was gated, and how that is known."""

    gated: bool
    because: str


def gating(headers: Mapping[str, str], width_mm: float) -> Gating:
    """Judge a series by its headers and the width of its images."""
    technique = headers.get(_TECHNIQUE, "").strip().upper()
    if technique == "NONE":
        return Gating(False, "its headers say that it was not synchronised with the heart")
    if technique:
        return Gating(True, f"Cardiac Synchronization Technique is {technique}")
    said = next((keyword for keyword in _PHASES if _says_something(headers, keyword)), None)
    if said is not None:
        return Gating(True, f"the headers give {said}")
    words = " ".join(headers.get(keyword, "") for keyword in _DESCRIPTIONS)
    if _NOT_GATED.search(words):
        return Gating(False, "its description says that it was not gated")
    if width_mm < HEART_SIZED_MM and _WORDS.search(words.replace("_", " ")):
        return Gating(True, f"its description names the heart and its images are {width_mm:.0f} mm wide")
    return Gating(False, "nothing in its headers says that it was gated")


def _says_something(headers: Mapping[str, str], keyword: str) -> bool:
    """Some scanners write zeros into every attribute that they know; 0 % of the cycle is a phase."""
    value = headers.get(keyword, "").strip()
    return bool(value) and (keyword == _PHASES[0] or value.strip("0.") not in ("", "NO"))
