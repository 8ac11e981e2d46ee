"""
Is this a frontal chest radiograph at all, the right way up? Asked before anything is said about it.

First the header (modality, body part, view, colour, size), then the picture: how far it is from the frontal
chest films of the training set, as a normal distribution with a few strong directions describes them
(probabilistic principal components; Tipping and Bishop, J R Stat Soc B 1999). What fits better upside down,
on its side or as its own negative is told from what fits in no way. Last a small network (`frontal`) is asked
whether light and dark lie as in a frontal view.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.builtin.cxr_pneumonia.frontal import Frontal
from models.contract import NotForThisModel

COARSE = 16  #: pixels of the side of what the gate looks at
MODALITIES = ("CR", "DX")
_CHEST = ("CHEST", "THORAX", "LUNG", "TORAX", "THORACIC")
_SIDEWAYS = ("LL", "RL", "LLD", "RLD", "LATERAL", "LAT", "LLO", "RLO")
_ONE_GREY = 0.4  #: of a picture may be of one and the same grey; of the training films at most 0.15 was
_NEGATIVE = 0.6  #: of the limit is as strange as a film may be that is taken for a negative
_MARGIN = 0.8  #: another way round is taken for right where it is stranger by this factor less


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What frontal chest films look like, and how strange a film may be."""

    mean: NDArray[np.float64]  #: (COARSE²)
    directions: NDArray[np.float64]  #: (k, COARSE²), orthonormal
    variance: NDArray[np.float64]  #: (k,) along them
    rest: float  #: variance of each pixel that no direction explains
    limit: float  #: a film that is stranger is refused
    contrast: float  #: least spread of the means of squares
    detail: tuple[float, float]  #: least and most of what is finer than the squares
    likeness: float  #: least correlation with the mean film

    def strangeness(self, picture: NDArray[np.uint8]) -> float:
        """Squared distance in standard deviations for each pixel: about 1 for a usual film."""
        away = coarse(picture) - self.mean
        along = self.directions @ away
        left = float(away @ away - along @ along)
        return (float((along**2 / self.variance).sum()) + left / self.rest) / away.size

    def unlike(self, picture: NDArray[np.uint8]) -> str:
        """What is wrong with a picture that is no chest film; empty: nothing."""
        seen = coarse(picture)
        if seen.std() < self.contrast:
            return "it has no large light and dark parts"
        least, most = self.detail
        if not least <= detail(picture) <= most:
            return "it is far smoother or rougher"
        if likeness(seen, self.mean) < self.likeness:
            return "light and dark lie elsewhere"
        strange = self.strangeness(picture)
        return (
            f"its distance is {strange:.1f} where {self.limit:.1f} is usual" if strange > self.limit else ""
        )


def detail(picture: NDArray[np.uint8]) -> float:
    """Mean distance from the means of squares, 0 to 1."""
    means = coarse(picture).reshape(COARSE, COARSE)
    step = picture.shape[0] // COARSE
    return float(np.abs(picture / 255 - np.kron(means, np.ones((step, step)))).mean())


def likeness(seen: NDArray[np.float64], mean: NDArray[np.float64]) -> float:
    """Correlation of two (COARSE²)."""
    return float(np.corrcoef(seen, mean)[0, 1]) if seen.std() > 0 else 0.0


def coarse(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(SIDE, SIDE) → (COARSE²): means of squares, 0 to 1."""
    step = picture.shape[0] // COARSE
    blocks = picture.reshape(COARSE, step, COARSE, step).astype(np.float64) / 255
    return np.asarray(blocks.mean((1, 3)).reshape(-1))


def refuse_by_header(headers: Mapping[str, str], array: NDArray[Any]) -> None:
    """Refuse what its header says is no frontal chest radiograph."""
    modality = headers.get("Modality", "").strip().upper()
    if modality not in MODALITIES:
        raise NotForThisModel(
            f"This model reads chest radiographs (CR, DX); the modality of this image is "
            f"{modality or 'not stated'}."
        )
    if array.ndim != 2:
        raise NotForThisModel("This image is in colour: no radiograph as it came from the detector.")
    part = headers.get("BodyPartExamined", "").strip().upper()
    if part and not any(name in part for name in _CHEST):
        raise NotForThisModel(
            f"This model reads radiographs of the chest; the body part of this one is {part}."
        )
    view = headers.get("ViewPosition", "").strip().upper()
    if view in _SIDEWAYS:
        raise NotForThisModel(f"This model reads frontal radiographs; the view of this one is {view}.")


def negative(usual: Usual, picture: NDArray[np.uint8]) -> bool:
    """Whether the picture is to be turned round, black for white, before it is read.

    Raises `NotForThisModel` for a picture that looks like no upright frontal chest film either way.
    """
    if np.bincount(picture.reshape(-1)).max() > _ONE_GREY * picture.size:
        raise NotForThisModel("Most of the image is of one grey: no radiograph of a chest.")
    upright, inverted = usual.strangeness(picture), usual.strangeness(255 - picture)
    best = min(upright, inverted)
    for name, turned in (
        ("upside down", picture[::-1]),
        ("on its side", np.rot90(picture)),
        ("on its side", np.rot90(picture, 3)),
    ):
        other = min(usual.strangeness(turned), usual.strangeness(255 - turned))
        if other <= usual.limit and other < _MARGIN * best:
            raise NotForThisModel(
                f"The image seems to be {name}: only an upright frontal chest film is read."
            )
    if (
        inverted < _MARGIN * upright
        and inverted <= _NEGATIVE * usual.limit
        and not usual.unlike(255 - picture)
    ):
        return True
    if wrong := usual.unlike(picture):
        raise NotForThisModel(f"The image does not look like a frontal chest radiograph: {wrong}.")
    return False


def refuse_other_views(frontal: Frontal, least: float, picture: NDArray[np.uint8]) -> None:
    """Refuse a picture, turned the right way round by now, that `frontal` takes for something else."""
    if float(frontal.asked(picture[None])[0]) < least:
        raise NotForThisModel(
            "The image does not look like a frontal chest radiograph: heart, lungs and spine are not where a "
            "frontal view shows them."
        )
