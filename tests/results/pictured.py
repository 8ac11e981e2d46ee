"""Runs with pictures: a source whose every pixel is known, and all that is painted on it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ledger.result import Role
from results.asked import Asked
from results.findings import Findings
from results.grid import grid_of
from results.pictures import NoPicture
from results.profile import PROFILES, Profile
from results.source import Source
from tests.results.everything import everything, everything_on_an_image
from tests.results.images import image_source
from tests.results.made import asked
from tests.results.series import KINDS, source

PAGES = frozenset({Role.OVERLAY, Role.SUMMARY, Role.DOCUMENT})
PLAIN = PROFILES["plain-pacs"]


@dataclass(frozen=True)
class Ramp:
    """Grey values of which no two planes, rows or columns nearby are the same."""

    shape: tuple[int, int, int]
    broken_from: int | None = None  #: the first plane that cannot be read

    def grey(self, plane: int) -> NDArray[np.uint8]:
        if self.broken_from is not None and plane >= self.broken_from:
            raise NoPicture("The images cannot be drawn: a file is gone.")
        rows, columns = np.indices(self.shape[1:])
        return ((rows * 7 + columns * 3 + plane * 11) % 200).astype(np.uint8)


def pictured(
    kind: str = "axial CT", said: Findings | None = None, of: Source | None = None, profile: Profile = PLAIN
) -> Asked:
    """What is asked of the picture kinds: everything, on a series of `kind` or an image of it."""
    if kind in KINDS:
        of, said = of or source(KINDS[kind]), said or everything(kind)
        if kind == "odd-sized CT":  # too small for the boxes and points of the others
            said = replace(said, boxes=(), points=())
    else:
        of, said = of or image_source(kind), said or everything_on_an_image()
    shape = grid_of(of).shape if of.geometry is not None or len(of.datasets) == 1 else (1, 1, 1)
    return asked(said, of, profile=profile, pictures=Ramp(shape))
