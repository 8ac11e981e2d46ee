"""
How a frontal chest radiograph lies: upright or turned by quarters, its greys the right way round or not.

Lungs are darker than what is between and below them, a heart is broad below and a mediastinum narrow above,
and a neck has air beside it. Nine such comparisons are made of the image in each of the eight ways in which
it can lie, and the way in which they hold best is how it lies. Their weights were fitted to radiographs of
children and adults and rounded (`python -m benchmarks.chest_lie` does it again, and says how often they are
right on patients that were held out).
Windowing changes nothing: grey values are replaced by their ranks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.images.grid import Plane, reduced

SIDE = 48  #: rows and columns of the picture that is looked at
Ranks = NDArray[np.float64]  #: (SIDE, SIDE), -1 the darkest, 1 the brightest
Box = tuple[float, float, float, float]  #: top, bottom, left, right in parts of the field

_LUNGS: tuple[Box, ...] = ((0.3, 0.6, 0.2, 0.4), (0.3, 0.6, 0.6, 0.8))
#: weight, brighter, darker
COMPARISONS: tuple[tuple[float, tuple[Box, ...], tuple[Box, ...]], ...] = (
    # The spine and the lungs
    (2.5, ((0.25, 0.65, 0.44, 0.56),), ((0.25, 0.65, 0.2, 0.38), (0.25, 0.65, 0.62, 0.8))),
    # The abdomen and the lungs
    (2.5, ((0.85, 1.0, 0.15, 0.45), (0.85, 1.0, 0.55, 0.85)), _LUNGS),
    # The abdomen and the shoulders
    (1.5, ((0.85, 1.0, 0.1, 0.45), (0.85, 1.0, 0.55, 0.9)), ((0.0, 0.12, 0.1, 0.4), (0.0, 0.12, 0.6, 0.9))),
    # The heart and the mediastinum above it
    (3.0, ((0.5, 0.72, 0.35, 0.65),), ((0.15, 0.35, 0.35, 0.65),)),
    # The upper corners and the lower ones, given the two comparisons above
    (3.0, ((0.0, 0.2, 0.0, 0.12), (0.0, 0.2, 0.88, 1.0)), ((0.75, 1.0, 0.0, 0.12), (0.75, 1.0, 0.88, 1.0))),
    # The lungs and what is beside them: air, where the arms are away from the chest
    (0.5, _LUNGS, ((0.3, 0.65, 0.08, 0.16), (0.3, 0.65, 0.84, 0.92))),
    # The heart lies to the left of the patient
    (1.5, ((0.6, 0.75, 0.55, 0.7),), ((0.6, 0.75, 0.3, 0.45),)),
    # The neck and the air beside it
    (2.5, ((0.0, 0.1, 0.4, 0.6),), ((0.0, 0.1, 0.0, 0.25), (0.0, 0.1, 0.75, 1.0))),
)
_DOMES = 1.5
WEIGHTS = np.array([*(weight for weight, *_ in COMPARISONS), _DOMES])


@dataclass(frozen=True, slots=True)
class Lie:
    """How an image lies, and how well that fits."""

    turned_deg: int  #: clockwise, by which the image was turned: 0, 90, 180 or 270
    inverted: bool
    fit: float  #: of the best of the eight ways
    as_sent: float  #: the fit of the image as it was sent

    @property
    def upright(self) -> bool:
        """Whether it lies best as it was sent."""
        return not self.turned_deg and not self.inverted

    def righted(self, plane: Plane) -> Plane:
        """The plane as it would lie upright, darker where more X-rays arrived."""
        turned = np.rot90(plane, self.turned_deg // 90)
        return np.ascontiguousarray(-turned if self.inverted else turned)


def lie_of(field: Plane) -> Lie:
    """How the frontal radiograph `field` lies, which is brighter where fewer X-rays arrived."""
    fits = ways(ranks(field)) @ WEIGHTS
    best = int(fits.argmax())
    return Lie(
        turned_deg=90 * (best // 2), inverted=best % 2 == 1, fit=float(fits[best]), as_sent=float(fits[0])
    )


def ranks(field: Plane) -> Ranks:
    """A field of any shape on `SIDE` x `SIDE`, as ranks."""
    fine = square(field, 2 * SIDE)
    small = reduced(fine, 2).astype(np.float64)
    order = small.ravel().argsort(kind="stable").argsort(kind="stable")
    return (2.0 * order / (order.size - 1) - 1.0).reshape(SIDE, SIDE)


def square(field: Plane, side: int) -> Plane:
    """A field of any shape on `side` x `side`; the aspect ratio is not kept."""
    coarse = reduced(field, max(1, min(field.shape) // (2 * side)))
    zoom = [side / length for length in coarse.shape]
    found = ndimage.zoom(coarse, zoom, order=1, mode="nearest", grid_mode=True)
    return np.asarray(found[:side, :side], np.float32)


def ways(picture: Ranks) -> NDArray[np.float64]:
    """(8, comparisons): as it is, inverted; then turned back by 90, 180, 270 degrees, each as it is and
    inverted.
    """
    turned = [np.rot90(picture, quarter) for quarter in range(4)]
    return np.array([_compared(sign * one) for one in turned for sign in (1.0, -1.0)])


def _compared(picture: Ranks) -> list[float]:
    found = [_mean(picture, bright) - _mean(picture, dark) for _, bright, dark in COMPARISONS]
    return [*found, _domes(picture)]


def _mean(picture: Ranks, boxes: tuple[Box, ...]) -> float:
    means = []
    for top, bottom, left, right in boxes:
        rows, columns = slice(int(top * SIDE), int(bottom * SIDE)), slice(int(left * SIDE), int(right * SIDE))
        means.append(float(picture[rows, columns].mean()))
    return sum(means) / len(means)


def _domes(picture: Ranks) -> float:
    """From lung to abdomen is a sharper step than from lung to shoulder: the diaphragm is a dome."""
    reach, found = SIDE // 8, 0.0
    for left, right in ((0.15, 0.4), (0.6, 0.85)):
        down = ndimage.gaussian_filter1d(picture[:, int(left * SIDE) : int(right * SIDE)].mean(axis=1), 1.0)
        step = down[reach:] - down[:-reach]
        found += float(step[SIDE // 3 :].max() + step[: SIDE - SIDE // 3 - reach].min()) / 2
    return found
