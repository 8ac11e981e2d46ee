"""The day on which images were made."""

from collections.abc import Mapping
from datetime import date

#: The first of these that is a date (PS3.3 §C.7.6.1, §C.7.3.1, §C.7.2.1).
_DATES = ("AcquisitionDate", "SeriesDate", "StudyDate")


def day_of(headers: Mapping[str, str]) -> date | None:
    """By `headers`, keyword → text; None where no date can be read."""
    for keyword in _DATES:
        text = headers.get(keyword, "").strip()
        if len(text) == 8 and text.isdigit():
            try:
                return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
            except ValueError:
                continue
    return None
