"""The body on the working grid, with lungs and spine where they are seen, and the slab that is measured."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.builtin.body_ct import organs
from models.builtin.body_ct.shell import Shell, find_shell
from models.builtin.calcium_ct.bones import Skeleton, find_skeleton
from models.builtin.calcium_ct.region import dome
from models.builtin.calcium_ct.view import View, whole_chest
from models.chest.body import find_body
from models.contract import NotForThisModel
from models.prepare.morphology import Mask, Spacing

_BONE_HU = 130.0
CHEST, AT_L3, ALL = "carina to diaphragm", "at L3", "in all images"  #: what a slab is called


@dataclass(frozen=True, slots=True)
class Trunk:
    """Masks are (z, y, x) on the working grid; None is what was not found."""

    hu: NDArray[np.float32]
    spacing_mm: Spacing
    body: Mask
    shell: Shell
    chest: View | None
    skeleton: Skeleton | None
    dome: int | None  #: the plane of the top of the right hemidiaphragm


def find_trunk(hu: NDArray[np.float32], spacing_mm: Spacing) -> Trunk:
    """Raises `NotForThisModel` where there is no body, or no wall of one."""
    body = find_body(hu, spacing_mm)
    shell = find_shell(hu, body, spacing_mm)
    chest: View | None = None
    skeleton: Skeleton | None = None
    with suppress(NotForThisModel):  # An abdomen: fat has no need of lungs.
        chest = whole_chest(hu, spacing_mm)
    with suppress(NotForThisModel):
        skeleton = find_skeleton(hu, body, _BONE_HU, spacing_mm)
    top = None if chest is None else dome(chest.right)
    return Trunk(hu, spacing_mm, body, shell, chest, skeleton, top)


def slab_of(trunk: Trunk, drawn: Mapping[str, Mask], slices: int) -> tuple[str, slice]:
    """How the slab is called whose fat and muscle are measured, and its planes of the `slices` imaged."""
    if organs.L3 in drawn:
        return AT_L3, organs.middle_planes(drawn[organs.L3])
    carina = None if trunk.chest is None else trunk.chest.carina
    if carina is not None and trunk.dome is not None and trunk.dome < carina:
        scale = slices / trunk.hu.shape[0]
        return CHEST, slice(round(trunk.dome * scale), round((carina + 1) * scale))
    return ALL, slice(0, slices)
