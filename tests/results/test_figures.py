"""A reader sees numbers as people write them: no exponent, and no code of a unit."""

from dataclasses import replace

import pytest

from results.figures import figure, quantity, within
from results.findings import Concept, Measurement
from results.sentences import sentences
from tests.results.series import source
from tests.results.test_follow_up import DARKER, GRADE, GROWN, followed


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [
        (1691.2, 3, "1691"),
        (999.96, 3, "1000"),
        (12345.6, 4, "12346"),
        (-12345.6, 4, "-12346"),
        (0.42134, 3, "0.421"),
        (412.0, 4, "412"),
        (0.0, 4, "0"),
    ],
)
def test_a_number_has_the_digits_that_count_and_no_exponent(value: float, digits: int, said: str) -> None:
    assert figure(value, digits) == said


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (1, "mo", "1 month"),
        (3, "mo", "3 months"),
        (11.25, "a", "11.25 years"),
        (-861.24, "[hnsf'U]", "-861.2 HU"),
        (412, "1", "412"),
        (412, "{score}", "412 score"),
        (12345.6, "mm3", "12346 mm3"),
    ],
)
def test_a_unit_is_what_people_call_it(value: float, unit: str, said: str) -> None:
    assert quantity(value, Concept(unit, "UCUM", "any")) == said


def test_an_abbreviation_keeps_its_capitals_in_a_sentence() -> None:
    assert within("Volume") == "volume"
    assert within("Fractional Probabilistic Segmentation") == "fractional probabilistic segmentation"
    assert within("LAA at or below -950 HU") == "LAA at or below -950 HU"


def test_large_values_stand_in_sentences_as_in_the_table() -> None:
    score = Measurement(
        name=Concept("112058", "DCM", "Calcium score"), value=12345.6, unit=Concept("1", "UCUM", "no units")
    )
    said = replace(
        followed(),
        grades=(replace(GRADE, inputs=(score,)),),
        comparisons=(replace(GROWN, now=1413.4, then=100.0), replace(DARKER, now=2000.0, then=-3000.0)),
    )
    lines = sentences(said, source())
    assert "Nodule risk: category 4A (Calcium score 12346)." in lines
    assert "Nodule 1: volume 1413 ml, was 100 ml on 2025-06-01 (215 days before): +1313 %." in lines
    assert "15th percentile of attenuation 2000 HU, was -3000 HU on 2025-06-01: +5000 HU." in lines
    assert not any("e+0" in line for line in lines)
