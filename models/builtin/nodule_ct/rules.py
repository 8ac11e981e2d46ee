"""
Is it a nodule? Rules that take points away, each with its reason; what is left is the score.

A spot begins with `_START` points. A rule takes away nothing below its first limit, all its points beyond its
second, and a part in between. The score, 1 / (1 + e^-points left), orders what was found.

The limits were set by hand; the points were fitted (logistic regression without negative points) to nodules
of LIDC-IDRI and to what looks like them in real scans, as the card says, but for those of "at the hilum",
"buried" and "drawn out", which hardly stood in what was fitted to. It is no probability all the same: what
was fitted to held far more nodules than a chest does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from models.builtin.nodule_ct.features import Features

_START = 5.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Points that are taken away the farther `of` the features goes from `none_at` towards `all_at`."""

    name: str
    because: str  #: what it is instead, or why it says little
    of: Callable[[Features], float]
    none_at: float
    all_at: float
    points: float

    def taken(self, features: Features) -> float:
        """How many points of a spot this rule takes away."""
        way = (self.of(features) - self.none_at) / (self.all_at - self.none_at)
        return self.points * min(1.0, max(0.0, way))


RULES = (
    Rule(
        name="elongated",
        because="a vessel or a scar along its course",
        of=lambda f: f.elongation,
        none_at=1.3,
        all_at=2.2,
        points=1.7,
    ),
    Rule(
        name="drawn out",
        because="so much longer than wide: a vessel that runs on",
        of=lambda f: f.elongation,
        none_at=2.2,
        all_at=3.5,
        points=2.0,
    ),
    Rule(
        name="flat",
        because="a fissure, a band of atelectasis, pleural thickening",
        of=lambda f: f.flatness,
        none_at=1.3,
        all_at=2.2,
        points=0.9,
    ),
    Rule(
        name="leads on",
        because="vessels take a large part of its surface",
        of=lambda f: f.vessels,
        none_at=0.05,
        all_at=0.45,
        points=0.6,
    ),
    Rule(
        name="no bulge",
        because="hardly thicker than what leads away from it: a bend or a fork",
        of=lambda f: f.bulge,
        none_at=2.5,
        all_at=1.05,
        points=1.8,
    ),
    Rule(
        name="passes through",
        because="thick on two sides: a vessel that goes on behind it",
        of=lambda f: f.through,
        none_at=0.1,
        all_at=0.5,
        points=1.0,
    ),
    Rule(
        name="among vessels",
        because="much around it is as bright: the hilum, a bundle of vessels, consolidation",
        of=lambda f: f.crowd,
        none_at=0.05,
        all_at=0.25,
        points=1.3,
    ),
    Rule(
        name="at the hilum",
        because="it lies on a large airway, where the great vessels of the lung do",
        of=lambda f: f.to_airway_mm,
        none_at=12.0,
        all_at=6.0,
        points=1.5,
    ),
    Rule(
        name="in the wall",
        because="a bulge of wall, heart or diaphragm",
        of=lambda f: f.wall,
        none_at=0.2,
        all_at=0.45,
        points=2.1,
    ),
    Rule(
        name="buried",
        because="hardly any lung around it: fat and vessels of the mediastinum, a rib",
        of=lambda f: f.wall,
        none_at=0.36,
        all_at=0.55,
        points=2.0,
    ),
    Rule(
        name="not round",
        because="for its contrast it hardly responds to the search for balls",
        of=lambda f: f.roundness,
        none_at=0.15,
        all_at=0.03,
        points=0.9,
    ),
    Rule(
        name="weak",
        because="it hardly responds to the search for balls",
        of=lambda f: f.response_hu,
        none_at=100.0,
        all_at=30.0,
        points=1.7,
    ),
    Rule(
        name="bright",
        because="brighter than soft tissue: a vessel with contrast medium",
        of=lambda f: f.core_hu,
        none_at=120.0,
        all_at=250.0,
        points=1.0,
    ),
    Rule(
        name="faint",
        because="hardly brighter than the lung: noise or blurred vessels",
        of=lambda f: f.contrast_hu,
        none_at=300.0,
        all_at=120.0,
        points=1.1,
    ),
    Rule(
        name="small",
        because="the smaller, the more vessels look like it",
        of=lambda f: f.diameter_mm,
        none_at=12.0,
        all_at=7.0,
        points=1.5,
    ),
    Rule(
        name="very small",
        because="it has hardly any shape left",
        of=lambda f: f.diameter_mm,
        none_at=7.0,
        all_at=3.5,
        points=3.3,
    ),
)


def points_taken(features: Features) -> dict[str, float]:
    """By rule: what it takes away, where that is anything."""
    return {rule.name: taken for rule in RULES if (taken := rule.taken(features)) > 0}


def score_of(features: Features) -> float:
    """0 … 1: how much a spot looks like a nodule."""
    return 1 / (1 + math.exp(sum(points_taken(features).values()) - _START))
