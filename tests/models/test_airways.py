"""Trachea and bronchi on a working grid of 2 mm: a tube of air between two lungs."""

import numpy as np
import pytest

from models.chest.airways import Airways, find_airways

SHAPE, SPACING_MM = (60, 70, 100), (2.0, 2.0, 2.0)
MIDDLE = 50


def chest(*, air_hu: float, darker: int) -> tuple[Airways, np.ndarray]:
    """The airways found, and the trachea that is there: 35 ml of air with `darker` voxels of -1000 HU."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    hu = np.full(SHAPE, -1000.0, np.float32)
    body = np.broadcast_to((y > 4) & (y < 66) & (x > 4) & (x < 96), SHAPE)
    hu[body] = 40
    trachea = ((y - 35) ** 2 + (x - MIDDLE) ** 2 < 5.2**2) & (z > 5)
    lungs = (z < 50) & (y > 10) & (y < 60) & (abs(x - MIDDLE) > 9) & (abs(x - MIDDLE) < 40)
    hu[lungs], hu[trachea] = -850, air_hu
    hu[-1, 35, MIDDLE : MIDDLE + darker] = -1000  # where it is looked for first
    return find_airways(hu, body, body & (hu < -400), SPACING_MM), trachea


@pytest.mark.parametrize("darker", [0, 1, 4])
def test_air_that_is_all_alike_fills_the_trachea_in_one_step_and_nothing_has_burst(darker: int) -> None:
    found, trachea = chest(air_hu=-985, darker=darker)

    assert found.found
    assert (found.lumen & trachea).sum() > 0.95 * trachea.sum()
    assert (found.lumen & ~trachea).sum() < 0.05 * trachea.sum()
