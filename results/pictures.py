"""
What a radiologist would see of one slice: the window between an encoder and the pixels.

Encoders have headers only; who has the files hands them a `Pictures`. Pictures repeat for people what is
said in code elsewhere: one that cannot be made stops no machine-readable object, and the reader is told.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ledger.errors import StudyError
from results.findings import Findings

#: Said to readers in place of the pictures.
NOT_DRAWN = "The images could not be drawn, so there are no pictures of the findings."


class NoPicture(StudyError):
    """The pixels of a source image cannot be shown: damaged, gone, or of a kind that is not read here."""


class Pictures(Protocol):
    """The planes of a source's grid, each as a grey picture."""

    def grey(self, plane: int) -> NDArray[np.uint8]:
        """Plane `plane` of the grid, from 0, as (row, column): 0 is black, 255 white. Raises `NoPicture`."""
        ...


def about_lungs(findings: Findings) -> bool:
    """Whether anything that was found lies in the lungs, which are black in the windows of other organs."""
    concepts = [
        *(segment.kind for segment in findings.segments),
        *(one for box in findings.boxes for one in (box.kind, box.site)),
        *(point.site for point in findings.points),
        *(one for verdict in findings.verdicts for one in (verdict.finding, verdict.site)),
    ]
    meanings = {one.meaning.lower() for one in concepts if one is not None}
    return any(part in meaning for meaning in meanings for part in ("lung", "pulmonary", "bronch", "pneumo"))
