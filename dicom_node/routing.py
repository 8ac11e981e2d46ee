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

A model of several series (MR channels, phases of contrast) names them; one study fills each with one series:

    [[rule]]
    name = "gliomas"
    model = "brats"
    modality = "MR"
    [[rule.inputs]]
    name = "t1c"
    contrast = true
    ranges = {RepetitionTime = [0, 2500]}
    [[rule.inputs]]
    name = "flair"
    ranges = {InversionTime = [1500, inf]}

Two rules that take one series are two jobs, and one rule that takes two series is two jobs, unless `choose`
says which one it wants. What is no image for a model (scouts, reports, screenshots, our own results) is
never chosen.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dicom_node.conditions import Conditions, images, several, without_values
from dicom_node.not_images import why_never
from dicom_node.priors import Priors
from dicom_node.series_facts import SeriesFacts, images_of, most_first, thinnest_first
from dicom_node.several import RuleInput, fill
from ledger.identifiers import Digest, InstanceId, Uid
from ledger.job import EARLIER, NewJob, Priority
from ledger.study import RoutingNote

__all__ = [
    "Rule",
    "RuleAnswer",
    "RuleInput",
    "jobs_of",
    "route",
    "route_study",
    "routing_note",
    "without_values",
]


class Rule(Conditions, frozen=True, extra="forbid"):
    """One line of site policy. Every condition that is given has to hold."""

    name: str = Field(min_length=1, max_length=64)  # What the console and the history call it.
    model: str = Field(min_length=1)  # `name` or `name@version`, as `wetread models` lists them.
    # Several series for one job, by the names that the model's manifest gives its inputs; the first one's
    # grid is that of the findings. What the rule itself asks holds for each of them.
    inputs: tuple[RuleInput, ...] = ()
    # Several inputs have to share their coordinates (Frame of Reference UID); "any" lets others through, and
    # the findings then say that nothing was registered.
    frame_of_reference: Literal["same", "any"] = "same"
    # What one job is about. "image": each image by itself, as models of radiographs and photographs want it;
    # then the conditions are asked of each image.
    each: Literal["series", "image"] = "series"
    # Which of several series of one study: one reconstruction in two kernels is two series, and two jobs.
    choose: Literal["all", "thinnest", "most"] = "all"
    # When it is asked: of all series once the study is judged complete, or of each series as soon as that is
    # complete by itself (see [closing] witnesses), and again with the study.
    when: Literal["study", "series"] = "study"
    priority: Priority = Priority.ROUTINE
    deliver_to: Annotated[
        tuple[str, ...], BeforeValidator(several)
    ] = ()  # names of peers; none: a shadow run
    settings: Mapping[str, str | int | float | bool] = {}  # handed to the model
    # Earlier studies of the patient, fetched when a study is taken. They are here for readers of the result,
    # or for a model of timelines, whose job waits for them; and never analysed as if they were new.
    priors: Priors | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [one.name for one in self.inputs]
        if len(set(names)) < len(names):
            raise ValueError("two inputs of the rule have the same name")
        if len(names) == 1:
            raise ValueError("one input needs no name: give its conditions to the rule itself")
        if not self.modality and (not self.inputs or not all(one.modality for one in self.inputs)):
            raise ValueError("modality has to be given: in the rule, or in each of its inputs")
        if self.when == "series" and (self.choose != "all" or self.inputs):
            what = "several inputs" if self.inputs else f'choose = "{self.choose}"'
            raise ValueError(f'{what} compares the series of a whole study: leave out when = "series"')
        if self.inputs and (self.choose != "all" or self.each == "image"):
            raise ValueError("a rule with inputs chooses for each of them: leave out choose and each")
        if self.each == "image" and self.choose != "all":
            raise ValueError('each = "image" takes single images: leave out choose')
        if self.waits and (self.inputs or self.each == "image" or self.when == "series"):
            raise ValueError("only a rule that takes one series, with its study, can wait for priors")
        if len(set(self.deliver_to)) < len(self.deliver_to):
            raise ValueError("deliver_to names a peer twice")
        for name, value in self.settings.items():
            # It equals nothing, not even itself: these rules would be new ones at every start.
            if isinstance(value, float) and math.isnan(value):
                raise ValueError(f"settings: {name} is nan, which no model can be told")
        return self

    @property
    def waits(self) -> bool:
        """Whether its jobs are given earlier examinations, and wait for them."""
        return self.priors is not None and self.priors.wait_s > 0

    def refusal(self, series: SeriesFacts) -> str | None:
        """The first condition that does not hold, as a sentence; None where the rule takes the series."""
        return why_never(series) or self.unmet(series)


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """What one rule says of one series."""

    rule: Rule
    series: SeriesFacts
    taken: bool
    because: str
    input: str = ""  #: which of several inputs the series fills
    images: tuple[SeriesFacts, ...] = ()  #: those taken, where the rule asks about each


@dataclass(frozen=True, slots=True)
class EarlierKnown:
    """What a rule can be given of the patient's earlier examinations now."""

    series: tuple[SeriesFacts, ...] = ()  #: one of each examination, the latest first
    settled: bool = False  #: No more of them will come.
    because: str = ""


def route(series: SeriesFacts, rules: Iterable[Rule]) -> list[RuleAnswer]:
    """The answer of every rule, in the order of the rules. None of them has several inputs."""
    return [_image_by_image(rule, series) if rule.each == "image" else _whole(rule, series) for rule in rules]


def _whole(rule: Rule, series: SeriesFacts) -> RuleAnswer:
    refusal = rule.refusal(series)
    return RuleAnswer(rule, series, refusal is None, refusal or _summary(series))


def _image_by_image(rule: Rule, series: SeriesFacts) -> RuleAnswer:
    never = why_never(series)
    if never is not None:
        return RuleAnswer(rule, series, False, never)
    found = images_of(series)
    refusals = [rule.refusal(one) for one in found]
    taken = tuple(one for one, refusal in zip(found, refusals, strict=True) if refusal is None)
    reasons = sorted({refusal for refusal in refusals if refusal is not None})
    if not taken:
        return RuleAnswer(rule, series, False, "; ".join(reasons[:3]))
    left = f"; {len(found) - len(taken)} left out: {'; '.join(reasons[:3])}" if reasons else ""
    because = f"{series.modality}, {images(len(taken))} one by one{left}"
    return RuleAnswer(rule, series, True, because, images=taken)


def route_study(study: Sequence[SeriesFacts], rules: Sequence[Rule]) -> list[RuleAnswer]:
    """The answer of every rule for every series of a study, after each rule has chosen among them."""
    ordered = sorted(study, key=lambda each: each.series)
    single = [rule for rule in rules if not rule.inputs]
    answers = [answer for series in ordered for answer in route(series, single)]
    for rule in single:
        if rule.choose == "all":
            continue
        taken = [answer.series for answer in answers if answer.rule is rule and answer.taken]
        if len(taken) < 2:
            continue
        best = min(taken, key=thinnest_first if rule.choose == "thinnest" else most_first)
        answers = [
            _outdone(answer, best)
            if answer.rule is rule and answer.taken and answer.series is not best
            else answer
            for answer in answers
        ]
    for rule in rules:
        if rule.inputs:
            answers += _together(rule, ordered)
    return answers


def _together(rule: Rule, study: Sequence[SeriesFacts]) -> list[RuleAnswer]:
    """What a rule with several inputs says of each series: which input it fills, or why none."""
    filled = fill(rule.inputs, study, refusal=rule.refusal, one_frame=rule.frame_of_reference == "same")
    answers = []
    for series in study:
        name = filled.taken.get(series.series_id)
        because = f"{name}: {_summary(series)}" if name is not None else filled.because[series.series_id]
        answers.append(RuleAnswer(rule, series, name is not None, because, input=name or ""))
    return answers


def jobs_of(answers: Sequence[RuleAnswer], earlier: Mapping[str, EarlierKnown] | None = None) -> list[NewJob]:
    """The jobs that rules ask for by what they took; `earlier` for each rule that waits."""
    jobs = []
    for rule in dict.fromkeys(answer.rule.name for answer in answers if answer.taken):
        taken = [answer for answer in answers if answer.taken and answer.rule.name == rule]
        asked = taken[0].rule
        if asked.inputs:
            jobs.append(_several_job(asked, taken))
        elif asked.each == "image":
            jobs += [_image_job(asked, image) for answer in taken for image in answer.images]
        else:
            before = (earlier or {}).get(rule, EarlierKnown())
            jobs += [_job(asked, answer.series, before) for answer in taken]
    return jobs


def job_key(rule: Rule, inputs: Iterable[Uid], *, parts: Mapping[str, Iterable[Uid]] | None = None) -> Digest:
    """The same for the same rule, model, settings and images in any order: the same job, opened once.

    `parts` are further images by what they are to the model: another input, an earlier examination.
    """
    asked: dict[str, object] = {
        "rule": rule.name,
        "model": rule.model,
        "settings": dict(rule.settings),
        "inputs": sorted(str(uid) for uid in inputs),
    }
    if parts is not None:
        asked["parts"] = {name: sorted(str(uid) for uid in uids) for name, uids in parts.items()}
    if rule.waits and rule.priors is not None:
        asked["earlier_asked"] = rule.priors.number
    return Digest.parse(sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest())


def _job(rule: Rule, series: SeriesFacts, earlier: EarlierKnown) -> NewJob:
    job = NewJob(
        key=job_key(rule, _uids(series)),
        series_id=series.series_id,
        rule=rule.name,
        model=rule.model,
        settings=dict(rule.settings),
        priority=rule.priority,
        destinations=rule.deliver_to,
        inputs=_ids(series),
    )
    if not rule.waits or rule.priors is None:
        return job
    parts = {f"{EARLIER}{number}": one for number, one in enumerate(earlier.series, start=1)}
    return replace(
        job,
        key=job_key(rule, _uids(series), parts={name: _uids(one) for name, one in parts.items()}),
        inputs=(*job.inputs, *(id for one in parts.values() for id in _ids(one))),
        names=(*("" for _ in job.inputs), *(name for name, one in parts.items() for _ in one.instances)),
        earlier_asked=rule.priors.number,
        wait_s=0.0 if earlier.settled else rule.priors.wait_s,
    )


def _image_job(rule: Rule, image: SeriesFacts) -> NewJob:
    """About this one image: a later image of the series overtakes nothing."""
    (uid,) = _uids(image)
    return replace(_job(rule, image, EarlierKnown()), subject=str(uid))


def _several_job(rule: Rule, taken: Sequence[RuleAnswer]) -> NewJob:
    """About all of them at once: whichever grows or changes, it is another one in the place of this."""
    by_name = {answer.input: answer.series for answer in taken}
    ordered = [(one.name, by_name[one.name]) for one in rule.inputs]
    return replace(
        _job(rule, ordered[0][1], EarlierKnown()),
        key=job_key(rule, (), parts={name: _uids(series) for name, series in ordered}),
        inputs=tuple(id for _, series in ordered for id in _ids(series)),
        names=tuple(name for name, series in ordered for _ in series.instances),
        subject="several series",
    )


def _uids(series: SeriesFacts) -> list[Uid]:
    return [instance.sop_instance for instance in series.instances]


def _ids(series: SeriesFacts) -> tuple[InstanceId, ...]:
    return tuple(instance.id for instance in series.instances)


def routing_note(answer: RuleAnswer) -> RoutingNote:
    """What the history says of an answer."""
    return RoutingNote(
        series_id=answer.series.series_id,
        rule=answer.rule.name,
        taken=answer.taken,
        because=answer.because,
    )


def _summary(series: SeriesFacts) -> str:
    spacing = f" at {series.spacing_mm:.2f} mm" if series.spacing_mm is not None else ""
    return f"{series.modality}, {images(series.images)}{spacing}"


def _outdone(answer: RuleAnswer, best: SeriesFacts) -> RuleAnswer:
    asked = "the thinnest slices" if answer.rule.choose == "thinnest" else "the most images"
    because = (
        f"rule chooses {asked}: series {best.series} ({_summary(best)}) rather than this ({answer.because})"
    )
    return RuleAnswer(answer.rule, answer.series, False, because)
