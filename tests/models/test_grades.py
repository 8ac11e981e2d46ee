"""A quantity is placed on the scales that the manifest names, and what is proposed there is said."""

import pytest
from pydantic import ValidationError

from ledger.job import Outcome
from models.outputs import findings_of, quantities_of
from results import codes
from results.findings import Concept, Findings, Grade, Measurement
from tests.models.manifests import manifest

SCORE = {"value": "112058", "scheme": "DCM", "meaning": "Calcium score"}
ONE = {"value": "1", "scheme": "UCUM", "meaning": "no units"}
LAB = {"designator": "99LAB", "name": "Codes of the lab", "organization": "The lab"}
SCALE = {"value": "RISK", "scheme": "99LAB", "meaning": "Risk"}


def value(name: str) -> dict[str, str]:
    return {"value": name.upper(), "scheme": "99LAB", "meaning": name}


STEPS = [
    {"at_least": 1, "value": value("low")},
    {"at_least": 100, "value": value("high"), "recommendation": "Repeat in 12 months.", "interval": 12},
]


def graded(score: float, **more: object) -> Findings:
    scale = {"index": 0, "label": "Calcium risk", "scale": SCALE, "steps": STEPS, **more}
    facts = manifest(quantities=[{"index": 0, "name": SCORE, "unit": ONE}], grades=[scale], schemes=[LAB])
    return findings_of(facts, measurements=quantities_of(facts, [score]))


@pytest.mark.parametrize(
    ("score", "grade"), [(0.99, None), (1.0, "low"), (99.9, "low"), (100.0, "high"), (1e6, "high")]
)
def test_a_step_begins_with_its_own_limit_and_below_the_lowest_there_is_no_grade(
    score: float, grade: str | None
) -> None:
    grades = graded(score).grades
    assert [one.value.meaning for one in grades] == ([] if grade is None else [grade])
    for one in grades:
        assert [number.value for number in one.inputs] == [score]


def test_what_is_not_a_number_is_not_graded() -> None:
    said = graded(float("nan"))
    assert (said.outcome, said.grades, said.recommendations) == (Outcome.NOTHING, (), ())


def test_a_step_that_proposes_something_gives_a_recommendation_about_the_grade() -> None:
    (proposed,) = graded(400).recommendations
    assert proposed.text == "Repeat in 12 months."
    assert proposed.kind == codes.RECOMMENDATION
    assert proposed.about == ("Calcium risk",)
    assert proposed.interval == Measurement(name=codes.FOLLOW_UP_INTERVAL, value=12, unit=codes.MONTH)
    assert graded(5).recommendations == ()


def test_a_scale_of_no_quantity_or_whose_steps_do_not_rise_is_no_manifest() -> None:
    with pytest.raises(ValidationError, match="needs a quantity with index 1"):
        graded(5, index=1)
    with pytest.raises(ValidationError, match="do not rise"):
        graded(5, steps=[*reversed(STEPS)])
    with pytest.raises(ValidationError, match="codes of 99OTHER need a"):
        graded(5, scale={**SCALE, "scheme": "99OTHER"})


def test_what_is_said_of_a_finding_that_is_not_there_is_refused() -> None:
    scale = Concept("RISK", "99LAB", "Risk")
    grade = Grade(label="Risk", scale=scale, value=scale, about=("Nodule 7",))
    with pytest.raises(ValueError, match="'Nodule 7', which is not among the findings"):
        Findings(outcome=Outcome.FOUND, grades=(grade,))
