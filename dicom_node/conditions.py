"""What a rule asks of a series, condition by condition, and the first that does not hold, in words."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import inf, isnan
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from dicom_node.series_facts import SeriesFacts
from dicom_node.technical import TECHNICAL
from ledger.identifiers import AETitle

#: What scanners write into Contrast/Bolus Agent (0018,0010) where none was given.
NO_AGENT = frozenset({"", "NO", "NONE", "N/A", "NA", "WITHOUT", "NO CONTRAST", "NON CONTRAST", "OHNE"})


def contrast_given(headers: Mapping[str, str]) -> bool:
    """Whether the headers of a series name a contrast medium."""
    return headers.get("ContrastBolusAgent", "").strip(" \0").upper() not in NO_AGENT


# As `_text` and `_range` quote it.
_QUOTED = re.compile(r""" is (?:'.*?'|".*?"), rule asks /""", re.DOTALL)
_NUMBERS = re.compile(r"\b([A-Z]\w+) is [-+.\w]+(?: and [-+.\w]+)*, rule asks (?=at |-?[\d.]+)")
_MATCHES = {True: "it matches", False: "it does not match"}
_SHOWN_MAXIMUM = 64  # characters of a value that somebody else wrote

#: Key, keyword of the attribute, and what people call it.
_TEXTS = (
    ("description", "SeriesDescription", "series description"),
    ("study_description", "StudyDescription", "study description"),
    ("protocol", "ProtocolName", "protocol name"),
)


@dataclass(frozen=True, slots=True)
class Judged:
    """One condition of a rule and one series: what was asked, what is there, and whether that will do.

    `asked` and `found` quote no free text of headers; `refusal`, for the history, does.
    """

    condition: str  #: its key; with the attribute, where it is about one: "ranges.EchoTime"
    asked: str
    found: str
    refusal: str | None

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.refusal is None


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
        return next((one.refusal for one in self.judged(series) if one.refusal), None)

    def judged(self, series: SeriesFacts) -> Iterator[Judged]:
        """Every condition that is asked, in the order in which they are."""
        if self.modality:
            yield _modality(self, series)
        if self.body_part:
            yield _body_part(self, series)
        for key, keyword, words in _TEXTS:
            pattern: str | None = getattr(self, key)
            if pattern is not None:
                yield _text(key, pattern, series, keyword, words)
        for keyword, pattern in sorted(self.attributes.items()):
            yield _text(f"attributes.{keyword}", pattern, series, keyword, keyword)
        for keyword, asked in sorted(self.ranges.items()):
            yield _range(asked, series, keyword)
        if self.contrast is not None:
            yield _contrast(self.contrast, series)
        if self.calling:
            yield _sender(self, series)
        yield from _count(self, series)
        yield from _spacing(self, series)


def _modality(asked: Conditions, series: SeriesFacts) -> Judged:
    found, wanted = _shown(series.modality), _any_of(asked.modality)
    refusal = None
    if series.modality not in asked.modality:
        refusal = f"modality is {series.modality or 'not given'}, rule asks {wanted}"
    return Judged("modality", wanted, found, refusal)


def _body_part(asked: Conditions, series: SeriesFacts) -> Judged:
    given = series.headers.get("BodyPartExamined", "").strip().upper()
    wanted = _any_of(asked.body_part)
    if given in asked.body_part:
        return Judged("body_part", wanted, _shown(given), None)
    if given:
        return Judged("body_part", wanted, _shown(given), f"body part is {given}, rule asks {wanted}")
    if asked.description or asked.study_description or asked.protocol:
        return Judged("body_part", wanted, "not given; a description stands in for it", None)
    refusal = (
        f"body part is not given, rule asks {wanted} and has no pattern for a description to go by instead"
    )
    return Judged("body_part", wanted, "not given", refusal)


def _text(key: str, pattern: str, series: SeriesFacts, keyword: str, words: str) -> Judged:
    value = series.headers.get(keyword, "").strip()
    matches = _compiled(pattern).search(value) is not None
    # Whoever typed free text may have named the patient.
    found = _shown(value) if keyword in TECHNICAL or not value else _MATCHES[matches]
    refusal = f"{words} is {repr(value) if value else 'not given'}, rule asks /{pattern}/"
    return Judged(key, f"/{pattern}/", found, None if matches else refusal)


def without_values(because: str) -> str:
    """A reason of the rules without the free text and the numbers of headers that it quotes, unless they tell
    only how the image was made: who typed it may have named the patient.
    """
    without = _QUOTED.sub(" does not match, rule asks /", because)
    return _NUMBERS.sub(
        lambda said: said[0] if said[1] in TECHNICAL else f"{said[1]} is outside, rule asks ", without
    )


def _range(asked: tuple[float, float], series: SeriesFacts, keyword: str) -> Judged:
    """Every value of the attribute lies within."""
    low, high = asked
    wanted = (
        f"at most {high:g}" if low == -inf else f"at least {low:g}" if high == inf else f"{low:g} to {high:g}"
    )
    key = f"ranges.{keyword}"
    value = series.headers.get(keyword, "").strip(" \0")
    try:
        numbers = [float(part) for part in value.split("\\")] if value else []
    except ValueError:
        return Judged(key, wanted, "no number", f"{keyword} is no number, rule asks for one")
    holds = bool(numbers) and all(low <= number <= high for number in numbers)
    found = " and ".join(f"{number:g}" for number in numbers) or "not given"
    shown = found if keyword in TECHNICAL or not numbers else ("within" if holds else "outside")
    return Judged(key, wanted, shown, None if holds else f"{keyword} is {found}, rule asks {wanted}")


def _contrast(asked: bool, series: SeriesFacts) -> Judged:
    found = "named" if contrast_given(series.headers) else "not named"
    wanted = "one" if asked else "none"
    holds = asked is contrast_given(series.headers)
    refusal = None if holds else f"a contrast medium is {found}, rule asks {wanted}"
    return Judged("contrast", wanted, found, refusal)


def _sender(asked: Conditions, series: SeriesFacts) -> Judged:
    found, wanted = _any_of(series.callings), _any_of(asked.calling)
    holds = bool(asked.calling & series.callings)
    return Judged("calling", wanted, found, None if holds else f"sent by {found}, rule asks {wanted}")


def images(count: int) -> str:
    """So many, in words."""
    return "1 image" if count == 1 else f"{count} images"


def _count(asked: Conditions, series: SeriesFacts) -> Iterator[Judged]:
    found = images(series.images)
    if asked.at_least > 1:
        wanted = f"at least {asked.at_least}"
        few = series.images < asked.at_least
        yield Judged("at_least", wanted, found, f"{found}, rule asks {wanted}" if few else None)
    if asked.at_most is not None:
        wanted = f"at most {asked.at_most}"
        many = series.images > asked.at_most
        yield Judged("at_most", wanted, found, f"{found}, rule asks {wanted}" if many else None)


def _spacing(asked: Conditions, series: SeriesFacts) -> Iterator[Judged]:
    spacing = series.spacing_mm
    limits = (("spacing_max_mm", asked.spacing_max_mm, True), ("spacing_min_mm", asked.spacing_min_mm, False))
    for key, limit, high in limits:
        if limit is None:
            continue
        wanted = f"at {'most' if high else 'least'} {limit:g} mm"
        if spacing is not None:
            # A hundredth of a millimetre is rounding of positions, not policy.
            beyond = spacing > limit + 0.01 if high else spacing < limit - 0.01
            refusal = f"slice spacing is {spacing:.2f} mm, rule asks {wanted}" if beyond else None
            yield Judged(key, wanted, f"{spacing:.2f} mm", refusal)
        elif series.multi_frame:
            yield Judged(key, wanted, "told when the frames are loaded", None)
        else:
            refusal = "slice spacing cannot be told from the positions, and the rule asks for it"
            yield Judged(key, wanted, "not told by the positions", refusal)


def _any_of(words: Iterable[str]) -> str:
    return " or ".join(sorted(words)) or "nobody"


def _shown(value: str) -> str:
    return value[:_SHOWN_MAXIMUM] or "not given"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
