"""
Which parts of a body are measured, and why others are not.

Every part is either a piece or a sentence that says why there is none: silence would look like nothing found.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.builtin.body_ct import organs, quality
from models.builtin.body_ct.bone import vertebral_bodies
from models.builtin.body_ct.liver import find_liver
from models.builtin.body_ct.say import Piece
from models.builtin.body_ct.shell import MUSCLE_HU, cut_at_the_sides
from models.builtin.body_ct.trunk import CHEST, Trunk, slab_of
from models.ct import contrast_given
from models.prepare.morphology import Mask, Spacing, convex_hull
from models.prepare.resample import on_source


@dataclass(slots=True, kw_only=True)
class Pieces:
    """Takes a body to pieces on the grid of the images, whose axes are (z, y, x)."""

    trunk: Trunk
    source: NDArray[Any]
    spacing_mm: Spacing  #: of the images
    headers: Mapping[str, str]
    drawn: Mapping[str, Mask]  #: by another model
    pieces: list[Piece] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    def all(self, most_bones: int) -> None:
        """Fat, muscle, bone and liver."""
        place, planes = slab_of(self.trunk, self.drawn, self.source.shape[0])
        self.fat(place, planes)
        self.muscle(place, planes)
        self.bones(most_bones)
        self.liver()

    def fat(self, place: str, planes: slice) -> None:
        """Under the skin, and inside the wall."""
        shell = self.trunk.shell
        scale = self.trunk.body.shape[0] / self.source.shape[0]
        measured = slice(
            int(planes.start * scale), max(int(planes.stop * scale), int(planes.start * scale) + 1)
        )
        if cut_at_the_sides(self.trunk.body[measured]):
            self.cautions.append("Fat was not measured: the images are narrower than the body.")
            return
        for label, key, mask in (
            ("Subcutaneous fat", "subcutaneous fat", shell.subcutaneous),
            ("Other fat", "other fat", shell.other_fat),
        ):
            self._add(Piece(f"{label}, {place}", key, _only(self._imaged(mask), planes), area=True))

    def muscle(self, place: str, planes: slice) -> None:
        """What was drawn as muscle and is as dense; else, in a chest, the wall between fat and lungs."""
        low, high = MUSCLE_HU
        muscles = organs.muscle_of(self.drawn)
        if muscles is not None:
            dense = _only(muscles & (self.source >= low) & (self.source <= high), planes)
            label = "Skeletal muscle" if organs.MUSCLE in self.drawn else "Muscles that were drawn"
            if dense.any():
                self._add(Piece(f"{label}, {place}", "skeletal_muscle", dense, area=True))
                return
        trunk = self.trunk
        if trunk.chest is None or place != CHEST:
            self.cautions.append(
                "Muscle was not measured: outside the chest it needs a model that draws muscles."
            )
            return
        lungs = trunk.chest.right | trunk.chest.left
        cavity = np.stack([convex_hull(plane) for plane in lungs])
        wall = trunk.shell.inside & ~cavity & (trunk.hu >= low) & (trunk.hu <= high)
        if trunk.skeleton is not None:
            wall &= ~trunk.skeleton.mask
        wall = _only(self._imaged(wall), planes)
        self._add(Piece(f"Muscle of chest wall, {place}", "skeletal_muscle", wall, area=True))

    def bones(self, most: int) -> None:
        """L1 where it was drawn, else vertebral bodies by their height."""
        if quality.too_thick_for_bone(self.spacing_mm[0], self.headers):
            self.cautions.append("Bone was not measured: slices of more than 5 mm mix it with discs.")
            return
        if organs.L1 in self.drawn:
            inner = organs.core(organs.L1, self.drawn[organs.L1], self.spacing_mm)
            if inner.any():
                self._add(Piece("Trabecular bone of L1", organs.L1, inner))
                return
        trunk = self.trunk
        carina = None if trunk.chest is None else trunk.chest.carina
        if trunk.skeleton is None or carina is None:
            self.cautions.append("Bone was not measured: no carina was found from which to say its height.")
            return
        bodies = list(vertebral_bodies(trunk.hu, trunk.skeleton, trunk.spacing_mm))
        if not bodies:
            self.cautions.append("Bone was not measured: no vertebral body could be told from the next.")
        for body in bodies[:most]:
            height = round((body.plane - carina) * trunk.spacing_mm[0])
            where = f"{abs(height)} mm {'above' if height > 0 else 'below'} the carina"
            self._add(Piece(f"Vertebral body {where}", "vertebra", self._imaged(body.cylinder)))

    def liver(self) -> None:
        """Inside the organ that was drawn, with the spleen; else below the right diaphragm."""
        if contrast_given(self.headers):
            self.cautions.append("Liver was not measured: contrast medium was given.")
            return
        inside = {
            key: organs.core(key, self.drawn[key], self.spacing_mm)
            for key in (organs.LIVER, organs.SPLEEN)
            if key in self.drawn
        }
        for key, inner in inside.items():
            self._add(Piece(f"{key.capitalize()}, inside its outline", key, inner))
        if organs.LIVER in inside:
            return
        trunk = self.trunk
        if trunk.chest is None:
            self.cautions.append("Liver was not measured: no lungs are seen above it.")
            return
        liver = find_liver(trunk.hu, trunk.chest.right, trunk.dome, trunk.spacing_mm)
        if liver.cylinder is None:
            self.cautions.append(f"Liver was not measured: {liver.because}.")
        else:
            self._add(Piece("Liver below the right diaphragm", "liver", self._imaged(liver.cylinder)))

    def _add(self, piece: Piece) -> None:
        self.pieces.append(piece)

    def _imaged(self, mask: Mask) -> Mask:
        slices, rows, columns = self.source.shape
        return on_source(mask, (slices, rows, columns))


def _only(mask: Mask, planes: slice) -> Mask:
    """`mask`, which is ours to change, in `planes` alone."""
    mask[: planes.start] = mask[planes.stop :] = False
    return mask
