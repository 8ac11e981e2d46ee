"""Going to the slices of a case in OHIF, and looking at the colours of its segments there."""

import numpy as np
from scipy import ndimage

from models.training.phantoms import LEFT_LUNG, RIGHT_LUNG
from tests.peers.loopback import until
from tests.viewers.chest import LABELS, NODULE
from tests.viewers.corpus import Case
from tests.viewers.ohif import Ohif

CROSS = ndimage.generate_binary_structure(2, 1)[None]
#: Which channel is higher than which, by segment: orange, blue, green.
HUES = {RIGHT_LUNG: (0, 2), LEFT_LUNG: (2, 0), NODULE: (1, 0)}


def picture(case: Case, what: str) -> str:
    """The name of a screenshot."""
    return f"ohif-{case.name}-{what}".replace(" ", "-")


def slice_of_nodule(case: Case) -> int:
    """The slice with most of the nodule."""
    return int((case.findings.label_map == NODULE).sum(axis=(1, 2)).argmax())


def go_to(viewer: Ohif, case: Case, number: int) -> None:
    """Bring slice `number` of the volume to the viewport; a radiograph is there."""
    if case.slices == 1:
        return
    rows, columns = case.findings.label_map.shape[1:]
    middle = case.places(np.array([[number, rows // 2, columns // 2]]))[0]
    until(
        lambda: viewer.to_place(middle) and viewer.off(middle) < 0.1,
        within_s=20,
        what=f"slice {number} is in the viewport",
    )


def share(colours: np.ndarray, high: int, low: int) -> float:
    """How many of `colours` (n, 3) have clearly more of the channel `high` than of `low`."""
    return float(np.mean(colours[:, high] - colours[:, low] > 25))


def has_colour(
    viewer: Ohif, case: Case, segment: int, number: int, *, name: str, hue: tuple[int, int] | None = None
) -> None:
    """Wait until a segment has its colour (or `hue`) all over slice `number`, if it is on it at all."""
    # Two voxels off the border, where the screen interpolates.
    inside = ndimage.binary_erosion(case.findings.label_map == segment, CROSS, iterations=2)
    if not inside[number].any():
        return
    places = case.places(case.pixels(inside, number))
    until(
        lambda: share(viewer.colours_at(places, name), *(hue or HUES[segment])) >= 0.98,
        within_s=20,
        what=f"{LABELS[segment]} has its colour on slice {number}",
    )


def share_coloured(viewer: Ohif, places: np.ndarray, name: str) -> float:
    """How many of the places (n, 3) LPS mm are neither black, white nor grey."""
    return float(np.mean(np.ptp(viewer.colours_at(places, name), axis=1) > 25))
