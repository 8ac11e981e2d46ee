"""Which series go to which model?

Rules are data, one `[[rule]]` each in `wetread.toml`, and read like the sentence that they mean. Every rule
answers for every series: taken, or which condition failed first, in words. So "why is there no result?" has
an answer.

    [[rule]]
    name = "lungs of chest CT"
    model = "lung_ct"
    modality = "CT"
    body_part = ["CHEST", "THORAX"]
    description = "lung|thorax|chest"
    at_least = 60
    spacing_max_mm = 3.0
    deliver_to = ["archive"]

Two rules that take one series are two jobs, and one rule that takes two series is two jobs, unless `choose`
says which one it wants. What is no image for a model (scouts, reports, screenshots, our own results) is
never chosen.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from dicom_node.not_images import why_never
from dicom_node.priors import Priors
from dicom_node.series_facts import SeriesFacts
from ledger.identifiers import AETitle, Digest, Uid
from ledger.job import NewJob, Priority
from ledger.study import RoutingNote


def _several(value: Any) -> Any:
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


def _keywords(attributes: Mapping[str, str]) -> Mapping[str, str]:
    if not attributes:
        return attributes
    from pydicom.datadict import tag_for_keyword  # noqa: PLC0415  `wetread status` need not wait for pydicom.

    for keyword in attributes:
        if tag_for_keyword(keyword) is None:
            raise ValueError(
                f"{keyword!r} is not the keyword of a DICOM attribute (PS3.6), such as ConvolutionKernel"
            )
    return attributes


Words = Annotated[frozenset[str], BeforeValidator(_several), AfterValidator(_upper)]
AETitles = Annotated[frozenset[str], BeforeValidator(_several), AfterValidator(_ae_titles)]
Pattern = Annotated[str, AfterValidator(_pattern)]  # A regular expression; upper and lower case are the same.


# As `_text` quotes it.
_QUOTED = re.compile(r""" is (?:'.*?'|".*?"), rule asks /""", re.DOTALL)


class Rule(BaseModel, frozen=True, extra="forbid"):
    """One line of site policy. Every condition that is given has to hold."""

    name: str = Field(min_length=1, max_length=64)  # What the console and the history call it.
    model: str = Field(min_length=1)  # `name` or `name@version`, as `wetread models` lists them.
    modality: Words = Field(min_length=1)  # Modality (0008,0060)
    # Body Part Examined (0018,0015); none means any. Scanners may leave it out: then `description`,
    # `study_description` or `protocol` has to stand in for it; a rule with none of them refuses.
    body_part: Words = frozenset()
    description: Pattern | None = None  # found in Series Description (0008,103E)
    study_description: Pattern | None = None  # found in Study Description (0008,1030)
    protocol: Pattern | None = None  # found in Protocol Name (0018,1030)
    attributes: Annotated[
        Mapping[str, Pattern], AfterValidator(_keywords)
    ] = {}  # any top-level attribute by keyword
    calling: AETitles = frozenset()  # AE titles of senders; none means any
    at_least: int = Field(default=1, ge=1)  # images, frames counted singly; fewer is a scout or a key image
    at_most: int | None = Field(default=None, ge=1)
    # Distance between slices along their normal, median. Of multi-frame instances the headers do not tell it:
    # their spacing is judged when they are loaded.
    spacing_min_mm: float | None = Field(default=None, gt=0)
    spacing_max_mm: float | None = Field(default=None, gt=0)
    # Which of several series of one study: one reconstruction in two kernels is two series, and two jobs.
    choose: Literal["all", "thinnest", "most"] = "all"
    # When it is asked: of all series once the study is judged complete, or of each series as soon as that is
    # complete by itself (see [closing] witnesses), and again with the study.
    when: Literal["study", "series"] = "study"
    priority: Priority = Priority.ROUTINE
    deliver_to: Annotated[
        tuple[str, ...], BeforeValidator(_several)
    ] = ()  # names of peers; none: a shadow run
    settings: Mapping[str, str | int | float | bool] = {}  # handed to the model
    # Earlier studies of the patient, fetched when a study is taken. Its job does not wait for them. They are
    # here for readers of the result, and never analysed as if they were new.
    priors: Priors | None = None

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.at_most is not None and self.at_most < self.at_least:
            raise ValueError(
                f"at_most ({self.at_most}) is below at_least ({self.at_least}): nothing can match"
            )
        low, high = self.spacing_min_mm, self.spacing_max_mm
        if low is not None and high is not None and high < low:
            raise ValueError(f"spacing_max_mm ({high}) is below spacing_min_mm ({low}): nothing can match")
        if self.when == "series" and self.choose != "all":
            raise ValueError(
                f'choose = "{self.choose}" compares the series of a whole study: leave out when = "series"'
            )
        if len(set(self.deliver_to)) < len(self.deliver_to):
            raise ValueError("deliver_to names a peer twice")
        return self

    def refusal(self, series: SeriesFacts) -> str | None:
        """The first condition that does not hold, as a sentence; None where the rule takes the series."""
        conditions = (
            why_never(series),
            _modality(self, series),
            _body_part(self, series),
            _text(self.description, series, "SeriesDescription", "series description"),
            _text(self.study_description, series, "StudyDescription", "study description"),
            _text(self.protocol, series, "ProtocolName", "protocol name"),
            *(
                _text(pattern, series, keyword, keyword)
                for keyword, pattern in sorted(self.attributes.items())
            ),
            _sender(self, series),
            _count(self, series),
            _spacing(self, series),
        )
        return next((condition for condition in conditions if condition), None)


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """What one rule says of one series."""

    rule: Rule
    series: SeriesFacts
    taken: bool
    because: str


def route(series: SeriesFacts, rules: Iterable[Rule]) -> list[RuleAnswer]:
    """The answer of every rule, in the order of the rules."""
    answers = []
    for rule in rules:
        refusal = rule.refusal(series)
        answers.append(RuleAnswer(rule, series, refusal is None, refusal or _summary(series)))
    return answers


def route_study(study: Sequence[SeriesFacts], rules: Sequence[Rule]) -> list[RuleAnswer]:
    """The answer of every rule for every series of a study, after each rule has chosen among them."""
    answers = [
        answer for series in sorted(study, key=lambda each: each.series) for answer in route(series, rules)
    ]
    for rule in rules:
        if rule.choose == "all":
            continue
        taken = [answer.series for answer in answers if answer.rule is rule and answer.taken]
        if len(taken) < 2:
            continue
        best = min(taken, key=_thinnest_first if rule.choose == "thinnest" else _most_first)
        answers = [
            _outdone(answer, best)
            if answer.rule is rule and answer.taken and answer.series is not best
            else answer
            for answer in answers
        ]
    return answers


def job_key(rule: Rule, inputs: Iterable[Uid]) -> Digest:
    """The same for the same rule, model, settings and images in any order: the same job, opened once."""
    asked = {
        "rule": rule.name,
        "model": rule.model,
        "settings": dict(rule.settings),
        "inputs": sorted(str(uid) for uid in inputs),
    }
    return Digest.parse(sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest())


def new_job(answer: RuleAnswer) -> NewJob:
    """The job that a rule asks for by taking a series."""
    rule, series = answer.rule, answer.series
    return NewJob(
        key=job_key(rule, (instance.sop_instance for instance in series.instances)),
        series_id=series.series_id,
        rule=rule.name,
        model=rule.model,
        settings=dict(rule.settings),
        priority=rule.priority,
        destinations=rule.deliver_to,
        inputs=tuple(instance.id for instance in series.instances),
    )


def routing_note(answer: RuleAnswer) -> RoutingNote:
    """What the history says of an answer."""
    return RoutingNote(
        series_id=answer.series.series_id,
        rule=answer.rule.name,
        taken=answer.taken,
        because=answer.because,
    )


def _modality(rule: Rule, series: SeriesFacts) -> str | None:
    if series.modality in rule.modality:
        return None
    return f"modality is {series.modality or 'not given'}, rule asks {_any_of(rule.modality)}"


def _body_part(rule: Rule, series: SeriesFacts) -> str | None:
    if not rule.body_part:
        return None
    given = series.headers.get("BodyPartExamined", "").strip().upper()
    if given in rule.body_part:
        return None
    if given:
        return f"body part is {given}, rule asks {_any_of(rule.body_part)}"
    if rule.description or rule.study_description or rule.protocol:
        return None
    return (
        f"body part is not given, rule asks {_any_of(rule.body_part)} and has no pattern for a description "
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


def _sender(rule: Rule, series: SeriesFacts) -> str | None:
    if not rule.calling or rule.calling & series.callings:
        return None
    return f"sent by {_any_of(series.callings)}, rule asks {_any_of(rule.calling)}"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _count(rule: Rule, series: SeriesFacts) -> str | None:
    if series.images < rule.at_least:
        return f"{_images(series.images)}, rule asks at least {rule.at_least}"
    if rule.at_most is not None and series.images > rule.at_most:
        return f"{_images(series.images)}, rule asks at most {rule.at_most}"
    return None


def _spacing(rule: Rule, series: SeriesFacts) -> str | None:
    low, high = rule.spacing_min_mm, rule.spacing_max_mm
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


def _summary(series: SeriesFacts) -> str:
    spacing = f" at {series.spacing_mm:.2f} mm" if series.spacing_mm is not None else ""
    return f"{series.modality}, {series.images} {'image' if series.images == 1 else 'images'}{spacing}"


# Unknown spacing comes last; what is still equal is decided by the UID, so that arrival order is not.
def _thinnest_first(series: SeriesFacts) -> tuple[float, int, Uid]:
    return (
        series.spacing_mm if series.spacing_mm is not None else float("inf"),
        -series.images,
        series.series,
    )


def _most_first(series: SeriesFacts) -> tuple[int, float, Uid]:
    return (
        -series.images,
        series.spacing_mm if series.spacing_mm is not None else float("inf"),
        series.series,
    )


def _outdone(answer: RuleAnswer, best: SeriesFacts) -> RuleAnswer:
    asked = "the thinnest slices" if answer.rule.choose == "thinnest" else "the most images"
    because = (
        f"rule chooses {asked}: series {best.series} ({_summary(best)}) rather than this ({answer.because})"
    )
    return RuleAnswer(answer.rule, answer.series, False, because)


def _any_of(words: Iterable[str]) -> str:
    return " or ".join(sorted(words)) or "nobody"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
