"""What a set of rules would do with a study, condition by condition: the answer to "why does it not match?".

Routing tells the first condition that fails; here all of them are told, with what was found. No free text of
headers and no number that is about a person is in the answer: of those it says only whether they will do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.conditions import Judged, images, without_values
from dicom_node.not_images import why_never
from dicom_node.routing import Rule, RuleAnswer, route_study
from dicom_node.series_facts import SeriesFacts, images_of
from ledger.identifiers import Uid

_IMAGES_MAXIMUM = 500  # of one series, where a rule asks about each


@dataclass(frozen=True, slots=True)
class InputTried:
    """One input of a rule that has several."""

    name: str
    conditions: tuple[Judged, ...]

    @property
    def holds(self) -> bool:
        """Whether the series could fill it."""
        return all(one.holds for one in self.conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTried:
    """One rule and one series."""

    rule: str
    model: str
    taken: bool
    because: str
    never: str  #: why no rule is asked at all of this series; empty where rules are
    conditions: tuple[Judged, ...]
    inputs: tuple[InputTried, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesTried:
    """One series and all rules, in the order of the rules."""

    series: Uid
    number: str  #: Series Number (0020,0011); empty where it has none
    modality: str
    images: int
    spacing_mm: float | None
    rules: tuple[RuleTried, ...]


def tried(study: Sequence[SeriesFacts], rules: Sequence[Rule]) -> list[SeriesTried]:
    """What every rule says of every series of a study, the series in the order of their numbers."""
    answers = {(id(one.rule), one.series.series_id): one for one in route_study(study, rules)}
    return [
        SeriesTried(
            series=series.series,
            number=series.headers.get("SeriesNumber", "").strip()[:12],
            modality=series.modality[:16],
            images=series.images,
            spacing_mm=series.spacing_mm,
            rules=tuple(_tried(rule, series, answers[id(rule), series.series_id]) for rule in rules),
        )
        for series in sorted(study, key=_in_order)
    ]


def _in_order(series: SeriesFacts) -> tuple[int, Uid]:
    number = series.headers.get("SeriesNumber", "").strip()
    return (int(number) if number.isdecimal() and len(number) < 10 else 1 << 31, series.series)


def _tried(rule: Rule, series: SeriesFacts, answer: RuleAnswer) -> RuleTried:
    return RuleTried(
        rule=rule.name,
        model=rule.model,
        taken=answer.taken,
        because=without_values(answer.because),
        never=why_never(series) or "",
        conditions=_of_images(rule, series) if rule.each == "image" else tuple(rule.judged(series)),
        inputs=tuple(InputTried(one.name, tuple(one.judged(series))) for one in rule.inputs),
    )


def _of_images(rule: Rule, series: SeriesFacts) -> tuple[Judged, ...]:
    """Each condition over all images: it holds where it holds for one of them."""
    found = [tuple(rule.judged(one)) for one in images_of(series)[:_IMAGES_MAXIMUM]]
    return tuple(_together(of_one) for of_one in zip(*found, strict=True))


def _together(judged: Sequence[Judged]) -> Judged:
    first = judged[0]
    hold = sum(one.holds for one in judged)
    said = {one.found for one in judged}
    found = first.found if len(said) == 1 else f"it holds for {hold} of {images(len(judged))}"
    return Judged(first.condition, first.asked, found, None if hold else first.refusal)
