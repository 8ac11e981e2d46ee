"""The age of the patient, and whom the model was trained on: children of about 1 to 5 years, and adults."""

import re
from collections.abc import Mapping
from datetime import date

_AGE = re.compile(r"^0*(\d{1,3})\s*([DWMY]?)$")
_DAYS = {"D": 1.0, "W": 7.0, "M": 30.44, "Y": 365.25}
_YEAR = 365.25
_OLDEST = 130.0
CHILDREN, ADULTS, EITHER = "children", "adults", "either"
_CHILD_UNTIL, _ADULT_FROM = 12.0, 18.0
_TRAINED_CHILDREN = (1.0, 6.0)


def years(headers: Mapping[str, str]) -> float | None:
    """From Patient's Age (0010,1010), else birth date and study date; None where neither can be read.

    Age strings without a unit are not of the standard and common: they are years.
    """
    found = _AGE.match(headers.get("PatientAge", "").strip().upper())
    if found:
        age = int(found[1]) * _DAYS[found[2] or "Y"] / _YEAR
        return age if age <= _OLDEST else None
    born, imaged = _day(headers.get("PatientBirthDate", "")), _day(headers.get("StudyDate", ""))
    if born is None or imaged is None or not 0 <= (imaged - born).days <= _OLDEST * _YEAR:
        return None
    return (imaged - born).days / _YEAR


def group(age: float | None) -> tuple[str, tuple[str, ...]]:
    """(which calibration, what a reader must know of it)."""
    if age is None:
        return EITHER, ("The age of the patient is not known: the probability is less certain.",)
    if age >= _ADULT_FROM:
        return ADULTS, ()
    low, high = _TRAINED_CHILDREN
    outside = (
        f"The patient is {age:.0f} years old; the model was trained on children of about 1 to 5 years and on "
        "adults."
        if age >= 1
        else "The patient is younger than 1 year; the model was trained on children of about 1 to 5 years "
        "and on adults."
    )
    caution = () if low <= age < high else (outside,)
    return (CHILDREN if age < _CHILD_UNTIL else EITHER), caution


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None
