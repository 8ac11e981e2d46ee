"""What a rule asks of a series, condition by condition, and the first that does not hold, in words."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from math import inf, isnan
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from dicom_node.series_facts import SeriesFacts
from ledger.identifiers import AETitle

#: What scanners write into Contrast/Bolus Agent (0018,0010) where none was given.
NO_AGENT = frozenset({"", "NO", "NONE", "N/A", "NA", "WITHOUT", "NO CONTRAST", "NON CONTRAST", "OHNE"})


def contrast_given(headers: Mapping[str, str]) -> bool:
    """Whether the headers of a series name a contrast medium."""
    return headers.get("ContrastBolusAgent", "").strip(" \0").upper() not in NO_AGENT


# As `_text` quotes it.
_QUOTED = re.compile(r""" is (?:'.*?'|".*?"), rule asks /""", re.DOTALL)


def several(value: Any) -> Any:
    """One word may stand for a list of one: `modality = "CT"`."""
    return [value] if isinstance(value, str) else value


def _upper(values: frozenset[str]) -> frozenset[str]:
    return frozenset(value.strip().upper() for value in values)


def _ae_titles(values: frozenset[str]) -> frozenset[str]:
    return frozenset(str(AETitle.parse(value)) for value in values)


def _pattern(text: str) -> str:
    try:
        _compiled(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


def _keywords(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    if not attributes:
        return attributes
    from pydicom.datadict import tag_for_keyword  # noqa: PLC0415  `wetread status` need not wait for pydicom.

    for keyword in attributes:
        if tag_for_keyword(keyword) is None:
            raise ValueError(
                f"{keyword!r} is not the keyword of a DICOM attribute (PS3.6), such as ConvolutionKernel"
            )
    return attributes


def _open_ends(value: Any) -> Any:
    """What JSON cannot say, it says by null: an end that is none."""
    if not isinstance(value, dict):
        return value
    return {
        keyword: [end if pair[k] is None else pair[k] for k, end in enumerate((-inf, inf))]
        if isinstance(pair, list | tuple) and len(pair) == 2
        else pair
        for keyword, pair in value.items()
    }


def _ordered(ranges: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
    for keyword, (low, high) in ranges.items():
        if isnan(low) or isnan(high) or high < low:
            raise ValueError(f"the range of {keyword} is from {low:g} to {high:g}: nothing can match")
    return ranges


Words = Annotated[frozenset[str], BeforeValidator(several), AfterValidator(_upper)]
AETitles = Annotated[frozenset[str], BeforeValidator(several), AfterValidator(_ae_titles)]
Pattern = Annotated[str, AfterValidator(_pattern)]  # A regular expression; upper and lower case are the same.
# `[0, 30]`: both ends belong to it; `inf` stands for no end.
Ranges = Annotated[
    Mapping[str, tuple[float, float]],
    BeforeValidator(_open_ends),
    AfterValidator(_keywords),
    AfterValidator(_ordered),
]


class Conditions(BaseModel, frozen=True, extra="forbid"):
    """What can be asked of a series. Every condition that is given has to hold."""

    modality: Words = frozenset()  # Modality (0008,0060). A rule needs it, or each of its inputs does.
    # Body Part Examined (0018,0015); none means any. Scanners may leave it out: then `description`,
    # `study_description` or `protocol` has to stand in for it; a rule with none of them refuses.
    body_part: Words = frozenset()
    description: Pattern | None = None  # found in Series Description (0008,103E)
    study_description: Pattern | None = None  # found in Study Description (0008,1030)
    protocol: Pattern | None = None  # found in Protocol Name (0018,1030)
    attributes: Annotated[
        Mapping[str, Pattern], AfterValidator(_keywords)
    ] = {}  # any top-level attribute by keyword
    # Numbers by keyword, both ends included: `{EchoTime = [0, 30], InversionTime = [2000, inf]}`.
    ranges: Ranges = {}
    contrast: bool | None = None  # whether Contrast/Bolus Agent (0018,0010) names one; left out: either
    calling: AETitles = frozenset()  # AE titles of senders; none means any
    at_least: int = Field(default=1, ge=1)  # images, frames counted singly; fewer is a scout or a key image
    at_most: int | None = Field(default=None, ge=1)
    # Distance between slices along their normal, median. Of multi-frame instances the headers do not tell it:
    # their spacing is judged when they are loaded.
    spacing_min_mm: float | None = Field(default=None, gt=0)
    spacing_max_mm: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.at_most is not None and self.at_most < self.at_least:
            raise ValueError(
                f"at_most ({self.at_most}) is below at_least ({self.at_least}): nothing can match"
            )
        low, high = self.spacing_min_mm, self.spacing_max_mm
        if low is not None and high is not None and high < low:
            raise ValueError(f"spacing_max_mm ({high}) is below spacing_min_mm ({low}): nothing can match")
        return self

    def unmet(self, series: SeriesFacts) -> str | None:
        """The first condition that does not hold, as a sentence; None where all do."""
        conditions = (
            _modality(self, series),
            _body_part(self, series),
            _text(self.description, series, "SeriesDescription", "series description"),
            _text(self.study_description, series, "StudyDescription", "study description"),
            _text(self.protocol, series, "ProtocolName", "protocol name"),
            *(
                _text(pattern, series, keyword, keyword)
                for keyword, pattern in sorted(self.attributes.items())
            ),
            *(_range(asked, series, keyword) for keyword, asked in sorted(self.ranges.items())),
            _contrast(self, series),
            _sender(self, series),
            _count(self, series),
            _spacing(self, series),
        )
        return next((condition for condition in conditions if condition), None)


def _modality(asked: Conditions, series: SeriesFacts) -> str | None:
    if not asked.modality or series.modality in asked.modality:
        return None
    return f"modality is {series.modality or 'not given'}, rule asks {_any_of(asked.modality)}"


def _body_part(asked: Conditions, series: SeriesFacts) -> str | None:
    if not asked.body_part:
        return None
    given = series.headers.get("BodyPartExamined", "").strip().upper()
    if given in asked.body_part:
        return None
    if given:
        return f"body part is {given}, rule asks {_any_of(asked.body_part)}"
    if asked.description or asked.study_description or asked.protocol:
        return None
    return (
        f"body part is not given, rule asks {_any_of(asked.body_part)} and has no pattern for a description "
        "to go by instead"
    )


def _text(pattern: str | None, series: SeriesFacts, keyword: str, words: str) -> str | None:
    if pattern is None:
        return None
    value = series.headers.get(keyword, "").strip()
    if _compiled(pattern).search(value):
        return None
    return f"{words} is {repr(value) if value else 'not given'}, rule asks /{pattern}/"


def without_values(because: str) -> str:
    """A reason of the rules without the free text of headers that it quotes: who typed it may have named the
    patient.
    """
    return _QUOTED.sub(" does not match, rule asks /", because)


def _range(asked: tuple[float, float], series: SeriesFacts, keyword: str) -> str | None:
    """Every value of the attribute lies within."""
    low, high = asked
    value = series.headers.get(keyword, "").strip(" \0")
    try:
        numbers = [float(part) for part in value.split("\\")] if value else []
    except ValueError:
        return f"{keyword} is no number, rule asks for one"
    if numbers and all(low <= number <= high for number in numbers):
        return None
    found = " and ".join(f"{number:g}" for number in numbers) or "not given"
    words = (
        f"at most {high:g}" if low == -inf else f"at least {low:g}" if high == inf else f"{low:g} to {high:g}"
    )
    return f"{keyword} is {found}, rule asks {words}"


def _contrast(asked: Conditions, series: SeriesFacts) -> str | None:
    if asked.contrast is None or asked.contrast is contrast_given(series.headers):
        return None
    found, wanted = ("not named", "one") if asked.contrast else ("named", "none")
    return f"a contrast medium is {found}, rule asks {wanted}"


def _sender(asked: Conditions, series: SeriesFacts) -> str | None:
    if not asked.calling or asked.calling & series.callings:
        return None
    return f"sent by {_any_of(series.callings)}, rule asks {_any_of(asked.calling)}"


def images(count: int) -> str:
    """So many, in words."""
    return "1 image" if count == 1 else f"{count} images"


def _count(asked: Conditions, series: SeriesFacts) -> str | None:
    if series.images < asked.at_least:
        return f"{images(series.images)}, rule asks at least {asked.at_least}"
    if asked.at_most is not None and series.images > asked.at_most:
        return f"{images(series.images)}, rule asks at most {asked.at_most}"
    return None


def _spacing(asked: Conditions, series: SeriesFacts) -> str | None:
    low, high = asked.spacing_min_mm, asked.spacing_max_mm
    if low is None and high is None:
        return None
    spacing = series.spacing_mm
    if spacing is None:
        if series.multi_frame:
            return None
        return "slice spacing cannot be told from the positions, and the rule asks for it"
    # A hundredth of a millimetre is rounding of positions, not policy.
    if high is not None and spacing > high + 0.01:
        return f"slice spacing is {spacing:.2f} mm, rule asks at most {high:g} mm"
    if low is not None and spacing < low - 0.01:
        return f"slice spacing is {spacing:.2f} mm, rule asks at least {low:g} mm"
    return None


def _any_of(words: Iterable[str]) -> str:
    return " or ".join(sorted(words)) or "nobody"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
