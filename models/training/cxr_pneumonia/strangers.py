"""
Drawings of what is no frontal chest film: parts of the body, the chest from the side, and shapes of no kind.

Each is a picture of SIDE_DRAWN × SIDE_DRAWN in which brighter is denser, of no unit, placed at random. They
are schemes, and so is `front`, the frontal chest that goes with them: what is drawn is not to be told from
what is a film by its being drawn.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE_DRAWN = 64
Drawing = NDArray[np.float64]
Draw = Callable[[np.random.Generator], Drawing]


def _across(
    chance: np.random.Generator,
    turn: float = 25,
    size: tuple[float, float] = (0.7, 1.3),
    shift: float = 0.25,
) -> tuple[Drawing, Drawing]:
    """Rows and columns of every pixel from -1 to 1, turned (degrees), sized, shifted and stretched."""
    line = np.linspace(-1, 1, SIDE_DRAWN)
    y, x = np.meshgrid(line, line, indexing="ij")
    angle, larger = np.deg2rad(chance.uniform(-turn, turn)), chance.uniform(*size)
    stretch = np.exp(chance.uniform(-0.2, 0.2))
    x, y = x - chance.uniform(-shift, shift), y - chance.uniform(-shift, shift)
    rows = (np.cos(angle) * y + np.sin(angle) * x) / larger * stretch
    return rows, (-np.sin(angle) * y + np.cos(angle) * x) / larger / stretch


def _dome(y: Drawing, x: Drawing, at: tuple[float, float], half: tuple[float, float]) -> Drawing:
    """1 in the middle of an ellipse, 0 from its edge on; `at` and `half` its axes: row, column."""
    return np.clip(1 - ((y - at[0]) / half[0]) ** 2 - ((x - at[1]) / half[1]) ** 2, 0, None)


def hand(chance: np.random.Generator) -> Drawing:
    """A palm, five fingers, and bones in them."""
    y, x = _across(chance, 180 if chance.random() < 0.3 else 30)
    palm = _dome(y, x, (0.45, 0), (chance.uniform(0.3, 0.5), chance.uniform(0.3, 0.5))) > 0
    drawn = chance.uniform(0.3, 0.8) * palm
    apart, fan = chance.uniform(0.13, 0.25), chance.uniform(0, 0.25)
    for number in range(-2, 3):
        top, half = -chance.uniform(0.5, 0.9) + 0.1 * abs(number), chance.uniform(0.05, 0.09)
        away = np.abs(x - number * apart - fan * number * np.clip(0.4 - y, 0, None))
        drawn = np.maximum(drawn, 0.5 * ((away < half) & (y > top) & (y < 0.5)))
        joints = np.sin(chance.uniform(12, 24) * y) > -0.95
        bone = (away < half / 2) & (y > top + 0.05) & (y < 0.8) & joints
        drawn = drawn + chance.uniform(0.3, 0.9) * bone
    return np.asarray(drawn)


def limb(chance: np.random.Generator) -> Drawing:
    """One or two long bones, wider at the joint."""
    y, x = _across(chance, 180)
    bones = int(chance.integers(1, 3))
    drawn = 0.5 * (np.abs(x) < chance.uniform(0.3, 0.6))
    for number in range(bones):
        wider = 1.2 * np.clip(np.abs(y - chance.uniform(-0.2, 0.2)) - 0.5, 0, None)
        joint = np.exp(-(((y - chance.uniform(-0.6, 0.6)) / 0.12) ** 2))
        middle = 0 if bones == 1 else (number - 0.5) * 0.3
        drawn = drawn + 0.7 * (np.abs(x - middle) < chance.uniform(0.08, 0.16) * (1 + wider + joint))
    return np.asarray(drawn)


def head(chance: np.random.Generator) -> Drawing:
    """A ring of bone, eye sockets, teeth."""
    y, x = _across(chance, 40, (0.6, 1.1))
    skull = _dome(y, x, (0, 0), (0.85, chance.uniform(0.6, 0.8)))
    drawn = 0.5 * (skull > 0) + 0.8 * ((skull > 0) & (skull < chance.uniform(0.08, 0.25)))
    for side in (-1, 1):
        drawn = drawn - chance.uniform(0, 0.4) * (_dome(y, x, (0.25, side * 0.28), (0.14, 0.17)) > 0)
    return np.asarray(drawn + 0.4 * ((np.abs(y - 0.65) < 0.08) & (np.abs(x) < 0.3)))


def belly(chance: np.random.Generator) -> Drawing:
    """A trunk without lungs: spine, pelvis, gas here and there."""
    y, x = _across(chance, 10, (0.9, 1.4))
    drawn = np.clip(1 - 0.35 * x**2, 0, None) * (np.abs(x) < chance.uniform(0.8, 1.3))
    drawn = drawn + 0.4 * ((np.abs(x) < 0.1) & (y < 0.5))
    for side in (-1, 1):
        drawn = drawn + 0.4 * (_dome(y, x, (0.55, side * 0.45), (0.3, 0.28)) > 0)
    for _ in range(int(chance.integers(0, 6))):
        row, column = chance.uniform(-0.6, 0.4), chance.uniform(-0.6, 0.6)
        gas = _dome(y, x, (row, column), (chance.uniform(0.05, 0.2), chance.uniform(0.05, 0.2))) > 0
        drawn = drawn - chance.uniform(0.1, 0.4) * gas
    return np.asarray(drawn)


def breast(chance: np.random.Generator) -> Drawing:
    """Half a disc at an edge, with strands."""
    y, x = _across(chance, 15)
    x = x * chance.choice((-1, 1))
    inside = _dome(y, x, (0, -1), (chance.uniform(0.6, 0.9), chance.uniform(0.8, 1.5))) > 0
    return np.asarray(inside * (1.2 + 0.6 * np.clip(np.sin(14 * x + 5 * np.sin(7 * y)), 0, 1)))


def shapes(chance: np.random.Generator) -> Drawing:
    """Ellipses, waves and slopes of no meaning."""
    y, x = _across(chance)
    drawn = np.zeros_like(x)
    for _ in range(int(chance.integers(1, 8))):
        row, column = chance.uniform(-1, 1, 2)
        one = _dome(y, x, (row, column), (chance.uniform(0.1, 0.9), chance.uniform(0.1, 0.9)))
        drawn = drawn + chance.uniform(-1, 1) * (one if chance.random() < 0.5 else one > 0)
    if chance.random() < 0.4:
        drawn = drawn + chance.uniform(0, 0.6) * np.sin(chance.uniform(2, 20) * x + chance.uniform(-6, 6) * y)
    if chance.random() < 0.5:
        drawn = drawn + chance.uniform(-1, 1) * x + chance.uniform(-1, 1) * y
    return np.asarray(drawn)


def clouds(chance: np.random.Generator) -> Drawing:
    """Noise, from fine to coarse."""
    noise = chance.normal(0, 20, (SIDE_DRAWN, SIDE_DRAWN))
    return np.asarray(ndimage.gaussian_filter(noise, np.exp(chance.uniform(0, 3))))


def side(chance: np.random.Generator) -> Drawing:
    """The chest from the side: one dark field in the middle, bright back and breast bone."""
    y, x = _across(chance, 8, (0.8, 1.25), 0.12)
    x = x * chance.choice((-1, 1))
    half = chance.uniform(0.5, 0.95)
    drawn = chance.uniform(0.5, 1) * (np.abs(x) < half) + 0.3 * np.clip(1 - (x / half) ** 2, 0, None)
    row, column = chance.uniform(-0.2, 0.1), chance.uniform(-0.15, 0.1)
    wide = min(chance.uniform(0.25, 0.8), half * 0.95)
    lung = np.sqrt(_dome(y, x, (row, column), (chance.uniform(0.5, 0.95), wide)))
    drawn = drawn - chance.uniform(0.3, 1) * lung
    back = np.exp(-(((x - half * 0.75 - 0.1 * np.sin(2 * y)) / 0.12) ** 2)) * (0.8 + 0.2 * np.sin(24 * y))
    drawn = drawn + chance.uniform(0, 0.5) * back
    drawn = drawn + chance.uniform(0, 0.4) * np.exp(-(((x + half * 0.9) / 0.06) ** 2))
    if chance.random() < 0.6:
        drawn = drawn + chance.uniform(0.1, 0.6) * (_dome(y, x, (0.35, -0.2), (0.25, 0.25)) > 0)
    if chance.random() < 0.6:
        drawn = np.maximum(drawn, chance.uniform(0.6, 1) * ((y > 0.55 + 0.2 * x) & (np.abs(x) < half)))
    if chance.random() < 0.6:
        drawn = drawn + chance.uniform(0.2, 0.7) * ((y < -0.55) & (np.abs(x) < half))
    return np.asarray(drawn)


def front(chance: np.random.Generator) -> Drawing:
    """The frontal chest: a dark field on each side of what is bright."""
    y, x = _across(chance, 5, (0.9, 1.25), 0.08)
    drawn = 1.0 * (np.abs(x) < chance.uniform(0.85, 1.6))
    dark = chance.uniform(0.3, 0.9)
    for way in (-1, 1):
        row, column = chance.uniform(-0.15, 0.05), way * chance.uniform(0.42, 0.5)
        lung = np.sqrt(_dome(y, x, (row, column), (chance.uniform(0.6, 0.9), chance.uniform(0.3, 0.4))))
        drawn = drawn - dark * chance.uniform(0.8, 1.2) * lung
    drawn = drawn + chance.uniform(0, 0.5) * np.exp(-((x / 0.12) ** 2))
    if chance.random() < 0.7:
        drawn = drawn + chance.uniform(0.1, 0.5) * (_dome(y, x, (0.3, 0.12), (0.3, 0.3)) > 0)
    if chance.random() < 0.7:
        drawn = np.maximum(drawn, chance.uniform(0.7, 1.1) * (y > 0.6))
    return np.asarray(drawn)


KINDS: tuple[Draw, ...] = (hand, limb, head, belly, breast, shapes, clouds, side)


def drawings(kinds: tuple[Draw, ...], count: int, seed: int) -> NDArray[np.float32]:
    """(count, SIDE_DRAWN, SIDE_DRAWN): of each kind in turn, a little blurred and noisy."""
    chance = np.random.default_rng([seed, 17])
    made = np.zeros((count, SIDE_DRAWN, SIDE_DRAWN), np.float32)
    for number in range(count):
        drawn = ndimage.gaussian_filter(kinds[number % len(kinds)](chance), chance.uniform(0.3, 1.2))
        noise = np.exp(chance.uniform(-6, -2.5)) * (drawn.std() + 1e-3)
        made[number] = drawn + chance.normal(0, noise, drawn.shape)
    return made
