"""
What is said of a score: a segment, a measurement where the scan allows one, and the category of CAC-DRS.

CAC-DRS (Hecht et al., J Cardiovasc CT 2018): A0 is a score of 0, A1 1 to 99, A2 100 to 299, A3 300
and more. Its second part, the number of vessels, is not given: vessels are not told apart here.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ledger.job import Outcome
from models.builtin.calcium_ct.scoring import Scored
from results import codes
from results.findings import Concept, Findings, Grade, Measurement, Segment

LABEL = "Coronary calcification"
_COLOUR_RGB = (255, 196, 37)

#: The category's lower end, its code, and how it is read.
CATEGORIES = (
    (300.0, "CACDRSA3", "CAC-DRS A3 (Agatston score 300 or more)"),
    (100.0, "CACDRSA2", "CAC-DRS A2 (Agatston score 100 to 299)"),
    (0.0, "CACDRSA1", "CAC-DRS A1 (Agatston score 1 to 99)"),
)
NONE = ("CACDRSA0", "CAC-DRS A0 (Agatston score 0)")


def category(agatston: float) -> Concept:
    """The category of a score; a score above 0 is at least A1, however small."""
    code, meaning = next(
        ((code, meaning) for above, code, meaning in CATEGORIES if agatston > 0 and agatston >= above), NONE
    )
    return Concept(code, codes.OURS.designator, meaning)


def answer(
    scored: Scored,
    label_map: NDArray[np.uint8],
    *,
    full: bool,
    lowest_hu: float,
    mass_factor: float | None,
    cautions: Sequence[str],
    timings: dict[str, float],
) -> Findings:
    """Findings with the score (`full`) or with the category alone."""
    numbers = _numbers(scored, mass_factor) if full else ()
    grade = Grade(
        label="Coronary calcium",
        scale=codes.CAC_DRS,
        value=category(scored.agatston),
        inputs=numbers[:1],
        about=(LABEL,) if scored.lesions else (),
        site=codes.CORONARY_ARTERY,
    )
    if not scored.lesions:
        return Findings(
            outcome=Outcome.NOTHING,
            because=f"No calcification of {lowest_hu:.0f} HU or more was found in the region of the heart.",
            measurements=numbers[:1],
            grades=(grade,),
            cautions=tuple(cautions),
            timings=timings,
        )
    volume = Measurement(name=codes.VOLUME, value=scored.volume_mm3, unit=codes.CUBIC_MILLIMETRE)
    segment = Segment(
        number=1,
        label=LABEL,
        category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        kind=codes.VASCULAR_CALCIFICATION,
        colour_rgb=_COLOUR_RGB,
        measurements=(*numbers[:1], volume, *numbers[1:]),
    )
    return Findings(
        outcome=Outcome.FOUND,
        label_map=label_map,
        segments=(segment,),
        grades=(grade,),
        cautions=tuple(cautions),
        timings=timings,
    )


def _numbers(scored: Scored, mass_factor: float | None) -> tuple[Measurement, ...]:
    """The Agatston score, and the mass where the site has a calibration."""
    score = Measurement(
        name=codes.CALCIUM_SCORE,
        value=scored.agatston,
        unit=codes.NO_UNITS,
        method=codes.AGATSTON,
    )
    if mass_factor is None:
        return (score,)
    mass = Measurement(name=codes.CALCIUM_MASS, value=scored.mass_mg(mass_factor), unit=codes.MILLIGRAM)
    return score, mass
