"""What is taken for a nodule and is none, drawn at a place; the trees bring their own besides."""

import numpy as np
from numpy.typing import NDArray

from models.training import thorax_anatomy as anatomy
from models.training.lesions import LookAlike
from models.training.thorax_layers import BLOOD_HU
from models.training.thorax_lesions import Sheet, box_around, in_lung, onto, shares

_PLUG_HU, _BONE_HU, _SCAR_HU, _THICKENING_HU = 25.0, 350.0, 0.0, -30.0


def draw_look_alike(mimic: LookAlike, sheet: Sheet) -> None:
    """Paint it, within the lung only (a rib's end also in the wall)."""
    hu, geometry, build, grown = sheet.hu, sheet.geometry, sheet.build, sheet.grown
    random = np.random.default_rng([mimic.seed, 61])
    centre = np.array(mimic.centre_mm, float)
    size = mimic.size_mm
    value = BLOOD_HU
    if mimic.kind in ("rib end", "apical scar"):
        centre = onto(centre, lambda at: anatomy.lungs(at, build), 0.0, build)
        value = _BONE_HU if mimic.kind == "rib end" else _SCAR_HU
    elif mimic.kind == "fissure thickening":
        centre = onto(centre, anatomy.oblique_fissure, 0.0, build)
        value = _THICKENING_HU
    elif mimic.kind == "mucus plug":
        ends = build.patient(np.array([one.end for one in grown.airways[2:]]))
        centre = ends[np.linalg.norm(ends - centre, axis=1).argmin()]
        value = _PLUG_HU
    pieces = _pieces(mimic, random)
    found = box_around(geometry, (float(centre[0]), float(centre[1]), float(centre[2])), 3.2 * size)
    if found is None:
        return
    box, offsets = found
    normal = np.array([0.0, -0.62, 0.78]) if mimic.kind == "fissure thickening" else None

    def inside(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        if mimic.kind == "rib end":
            return np.asarray(np.linalg.norm(points / np.array([1, 1, 0.8]), axis=-1) < size / 2)
        if mimic.kind == "apical scar":
            rough = 1 + 0.35 * np.sin(points @ np.array([1.1, 0.7, 0.4]) * 6 / size + mimic.seed)
            return np.asarray(np.linalg.norm(points, axis=-1) < size * 0.6 * rough)
        if normal is not None:
            across = points @ normal
            flat = np.linalg.norm(points - across[..., None] * normal, axis=-1)
            return np.asarray((flat / (0.9 * size)) ** 2 + (across / (0.22 * size)) ** 2 < 1)
        hit = np.zeros(points.shape[:-1], bool)
        for start, end, radius in pieces:
            along = end - start
            t = np.clip((points - start) @ along / max(float(along @ along), 1e-9), 0, 1)
            hit |= np.linalg.norm(points - start - t[..., None] * along, axis=-1) < radius
        return hit

    share = shares(offsets.reshape(-1, 3), geometry, inside, 1.5 * size).reshape(offsets.shape[:-1])
    if mimic.kind != "rib end":
        share = np.where(in_lung(offsets + centre, build), share, 0)
    view = hu[box]
    view += share * np.maximum(value - view, 0)


def _pieces(
    mimic: LookAlike, random: np.random.Generator
) -> list[tuple[NDArray[np.float64], NDArray[np.float64], float]]:
    """Tubes (start, end, radius) in mm from the centre."""
    r, far = mimic.size_mm / 2, 2.6 * mimic.size_mm
    way = random.standard_normal((3, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    zero = np.zeros(3)
    if mimic.kind == "branch point":
        return [(zero, way[0] * far, 0.8 * r), (zero, way[1] * far, 0.64 * r), (zero, -way[0] * far, r)]
    if mimic.kind == "end-on":
        up = np.array([0.12, 0.1, 1.0])
        return [(-up * far, up * far, r)]
    if mimic.kind == "bend":
        return [(zero, way[0] * far, r), (zero, way[1] * far, r)]
    if mimic.kind == "mucus plug":
        return [(-way[0] * 0.9 * mimic.size_mm, way[0] * 0.9 * mimic.size_mm, 0.8 * r)]
    return []
