"""
The full thorax on a grid: organs, lungs with their diseases, trees, fissures, nodules, calcium; then the
scanner. `phantoms.chest` calls it as soon as any of that is asked for.

Everything is a function of patient coordinates: a grid that is turned, shifted or finer sees the same one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from typing import Any

import highdicom as hd
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.training import thorax_anatomy as anatomy
from models.training.chest_trees import Capsule
from models.training.coronaries import ARTERIES, path
from models.training.lesions import Calcification, CalciumTruth, Disease, LookAlike, Nodule, NoduleTruth
from models.training.scanner_physics import scanned
from models.training.scanners import Scanner
from models.training.thorax_blocks import Blocks, undivided
from models.training.thorax_build import ADULT, Build
from models.training.thorax_capsules import covered, placed
from models.training.thorax_layers import BLOOD_HU, Layer, Tissue, layers
from models.training.thorax_lesions import Sheet, draw_calcification, draw_nodule
from models.training.thorax_lung import Field, Present, parenchyma, present
from models.training.thorax_mimics import draw_look_alike
from models.training.thorax_points import Points
from models.training.thorax_trees import Trees, trees

Distance = Callable[[Points], Tensor]
LUMEN_HU, WALL_HU, FISSURE_MM = -990.0, 10.0, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Whom the scanner sees."""

    seed: int = 0
    build: Build = ADULT
    nodules: tuple[Nodule, ...] = ()
    mimics: tuple[LookAlike, ...] = ()
    diseases: tuple[Disease, ...] = ()
    calcifications: tuple[Calcification, ...] = ()
    contrast_hu: float = 0.0  #: enhancement of the blood at 120 kV
    prone: bool = False
    erect: bool = False  #: as for a radiograph: fluid runs to the diaphragm, gas rises; no table
    arms: bool = False  #: hanging: the heads of the humeri lie beside the shoulders


@dataclass(slots=True, eq=False)
class Drawing:
    """A thorax being drawn, in blocks."""

    blocks: Blocks
    hu: Tensor  # (blocks, voxels)
    tissue: Tensor
    lobes: Tensor
    disease: Tensor
    vessels: Tensor
    airways: Tensor
    fissures: Tensor

    def volumes(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Each part by its name, (slices, rows, columns); its blocks are given up: memory costs time."""
        for part in fields(self)[1:]:
            yield part.name, self.blocks.volume(getattr(self, part.name)).cpu().numpy()
            delattr(self, part.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What was drawn, all (slices, rows, columns)."""

    hu: NDArray[np.int16]
    tissue: NDArray[np.uint8]
    lobes: NDArray[np.uint8]  #: 1 … 5 as `thorax_anatomy.lobe`; 0 is no lung
    disease: NDArray[np.uint8]
    vessels: NDArray[np.bool_]
    airways: NDArray[np.bool_]
    fissures: NDArray[np.bool_]
    nodule_labels: NDArray[np.uint8]
    calcium_labels: NDArray[np.uint8]
    nodules: tuple[NoduleTruth, ...]
    calcium: tuple[CalciumTruth, ...]


def draw(patient: Patient, geometry: hd.VolumeGeometry, scanner: Scanner, *, device: str = "cpu") -> Drawn:
    """Draw `patient` on the grid and scan it. The device may be a GPU; noise is drawn on the processor."""
    with undivided() as threads:
        return _drawn(patient, geometry, scanner, device, threads)


def _drawn(
    patient: Patient, geometry: hd.VolumeGeometry, scanner: Scanner, device: str, threads: int
) -> Drawn:
    blocks = Blocks.of(geometry, device)
    grown = trees(patient.seed)
    drawing = Drawing(
        blocks,
        blocks.full(-1000.0, torch.float32),
        *(blocks.full(0, torch.uint8) for _ in range(3)),
        *(blocks.full(0, torch.bool) for _ in range(3)),
    )
    _paint_organs(drawing, patient, scanner, threads)
    _paint_coronaries(drawing, patient, scanner)
    _paint_lungs(drawing, patient, threads)
    _paint_trees(drawing, patient, grown, scanner)
    whole = {name: _breathed(volume, blocks, scanner.motion_mm) for name, volume in drawing.volumes()}
    return _with_lesions(whole, patient, grown, geometry, scanner)


def _paint_organs(drawing: Drawing, patient: Patient, scanner: Scanner, threads: int) -> None:
    blocks, build = drawing.blocks, patient.build
    middles = build.canonical(blocks.middles())
    painted = layers(
        build, scanner, patient.contrast_hu, prone=patient.prone, erect=patient.erect, arms=patient.arms
    )
    for layer in painted:

        def distance(at: Points, layer: Layer = layer) -> Tensor:
            return layer.distance(build.canonical(at)) * build.mm

        surface, deep = blocks.reached(layer.distance(middles) * build.mm)
        drawing.hu[deep] = layer.hu
        drawing.tissue[deep] = int(layer.tissue)

        def paint(rows: Tensor, layer: Layer = layer, distance: Distance = distance) -> None:
            share = blocks.coverage(rows, distance)
            drawing.hu[rows] += share * (layer.hu - drawing.hu[rows])
            drawing.tissue[rows] = torch.where(share >= 0.5, int(layer.tissue), drawing.tissue[rows])

        blocks.each(surface, paint, threads)


def _paint_coronaries(drawing: Drawing, patient: Patient, scanner: Scanner) -> None:
    pieces = []
    for artery in ARTERIES:
        points = path(artery, patient.build.heart)
        pieces += [Capsule(a, b, 1.6, 1.5) for a, b in pairwise(points)]
    rows, share = covered(drawing.blocks, placed(pieces, patient.build))
    blood = BLOOD_HU + patient.contrast_hu * scanner.iodine_factor
    drawing.hu[rows] += share * (blood - drawing.hu[rows])
    drawing.tissue[rows] = torch.where(share >= 0.5, int(Tissue.BLOOD), drawing.tissue[rows])


def _paint_lungs(drawing: Drawing, patient: Patient, threads: int) -> None:
    """Parenchyma, diseases and fissures; effusion is drawn as what displaces lung."""
    blocks, build = drawing.blocks, patient.build
    texture = Field(patient.seed, 6.4, blocks.device)
    down = (0.0, 0.0, -1.0) if patient.erect else (0.0, -1.0 if patient.prone else 1.0, 0.0)
    ill = present(patient.diseases, patient.seed, build, down, blocks.device)
    at_middles = anatomy.lungs(build.canonical(blocks.middles()), build) * build.mm
    surface, deep = blocks.reached(at_middles)

    def distance(at: Points) -> Tensor:
        return anatomy.lungs(build.canonical(at), build) * build.mm

    def paint(rows: Tensor, inside: bool) -> None:
        share = torch.ones(1, device=blocks.device) if inside else blocks.coverage(rows, distance)
        at = build.canonical(blocks.at(rows))
        hu = parenchyma(at, texture, prone=patient.prone)
        lobe = anatomy.lobe(at)
        code = torch.zeros_like(lobe)
        fissure = _fissure(at, blocks, build)
        hu = hu + (1 - ((fissure - FISSURE_MM / 2) / blocks.edge_mm + 0.5).clamp(0, 1)) * min(
            1.0, FISSURE_MM / blocks.edge_mm
        ) * (-100 - hu)
        for one in ill:
            part = one.share(at, lobe, blocks.edge_mm)
            hu = _ill(hu, part, one)
            code = torch.where(part >= 0.5, one.code, code)
        drawing.hu[rows] += share * (hu - drawing.hu[rows])
        own = (share >= 0.5).expand_as(hu)
        tissue = torch.where(code == 3, int(Tissue.EFFUSION), int(Tissue.LUNG)).to(torch.uint8)
        drawing.tissue[rows] = torch.where(own, tissue, drawing.tissue[rows])
        drawing.lobes[rows] = torch.where(own & (code != 3), lobe, 0).to(torch.uint8)
        drawing.disease[rows] = torch.where(own, code, 0).to(torch.uint8)
        drawing.fissures[rows] = own & (fissure < max(FISSURE_MM / 2, 0.6 * blocks.edge_mm)) & (code != 3)

    blocks.each(deep, partial(paint, inside=True), threads)
    blocks.each(surface, partial(paint, inside=False), threads)


def _ill(hu: Tensor, part: Tensor, one: Present) -> Tensor:
    if one.disease.kind == "emphysema":
        return hu + part * (one.hu - hu)
    # Disease only adds to what is there: ground glass over consolidation stays consolidation.
    return hu + part * (one.hu - hu).clamp_min(0)


def _fissure(at: Points, blocks: Blocks, build: Build) -> Tensor:
    """The distance to the nearest fissure, mm of the patient."""
    oblique = anatomy.oblique_fissure(at)
    horizontal = anatomy.horizontal_fissure(at).abs()
    right_front = (at.x < anatomy.MIDLINE_X) & (oblique < 0)
    return torch.minimum(oblique.abs(), torch.where(right_front, horizontal, 1e3)) * build.mm


def _paint_trees(drawing: Drawing, patient: Patient, grown: Trees, scanner: Scanner) -> None:
    """Vessels only within the lungs; airways with their walls wherever there is body."""
    blocks, build = drawing.blocks, patient.build
    rows, share = covered(blocks, placed(grown.vessels, build))
    in_lung = drawing.lobes[rows] > 0
    blood = BLOOD_HU + patient.contrast_hu * scanner.iodine_factor
    hu = drawing.hu[rows]
    drawing.hu[rows] = torch.where(in_lung, hu + share * (blood - hu).clamp_min(0), hu)
    drawing.vessels[rows] = in_lung & (share >= 0.5)
    rows, share = covered(blocks, placed(grown.walls(), build))
    hu, body = drawing.hu[rows], drawing.tissue[rows] > int(Tissue.TABLE)
    drawing.hu[rows] = torch.where(body, hu + share * (WALL_HU - hu), hu)
    wall = body & (share >= 0.5) & (drawing.lobes[rows] == 0)
    drawing.tissue[rows] = torch.where(wall, int(Tissue.AIRWAY_WALL), drawing.tissue[rows])
    rows, share = covered(blocks, placed(grown.airways, build))
    drawing.hu[rows] += share * (LUMEN_HU - drawing.hu[rows])
    drawing.airways[rows] = share >= 0.5


def _breathed(volume: NDArray[Any], blocks: Blocks, motion_mm: float) -> NDArray[Any]:
    """Slices moved against each other as the chest breathes while it is scanned: whole rows, in steps.

    One breath takes 40 mm of table travel; the wall moves by `motion_mm` between its ends.
    """
    if not motion_mm:
        return volume
    up = blocks.axes[1, 1] / blocks.spacing[1] ** 2  # rows for a millimetre to the back
    moved = volume.copy()
    for k in range(len(volume)):
        z = blocks.origin[2] + blocks.axes[2, 0] * k
        moved[k] = np.roll(volume[k], round(float(0.5 * motion_mm * np.sin(2 * np.pi * z / 40) * up)), axis=0)
    return moved


def _with_lesions(
    whole: dict[str, NDArray[Any]],
    patient: Patient,
    grown: Trees,
    geometry: hd.VolumeGeometry,
    scanner: Scanner,
) -> Drawn:
    """Nodules, mimics and calcium on the finished grid; then the scanner."""
    hu = whole["hu"].astype(np.float32, copy=False)
    tissue = whole["tissue"]
    nodule_labels = np.zeros(hu.shape, np.uint8)
    calcium_labels = np.zeros(hu.shape, np.uint8)
    sheet = Sheet(hu, geometry, patient.build, grown)
    for mimic in patient.mimics:
        draw_look_alike(mimic, sheet)
    nodules = tuple(
        draw_nodule(nodule, label, sheet, nodule_labels) for label, nodule in enumerate(patient.nodules, 1)
    )
    blood = BLOOD_HU + patient.contrast_hu * scanner.iodine_factor
    calcium = tuple(
        draw_calcification(one, label, sheet, calcium_labels, scanner=scanner, blood_hu=blood)
        for label, one in enumerate(patient.calcifications, 1)
    )
    tissue[whole["vessels"]] = Tissue.VESSEL
    tissue[whole["airways"]] = Tissue.AIRWAY
    tissue[whole["fissures"] & (tissue == Tissue.LUNG)] = Tissue.FISSURE
    tissue[nodule_labels > 0] = Tissue.NODULE
    tissue[calcium_labels > 0] = Tissue.CALCIFICATION
    whole["lobes"][whole["airways"]] = 0
    return Drawn(
        hu=scanned(hu, geometry, scanner, patient.build, seed=patient.seed),
        tissue=tissue,
        lobes=whole["lobes"],
        disease=whole["disease"],
        vessels=whole["vessels"],
        airways=whole["airways"],
        fissures=whole["fissures"],
        nodule_labels=nodule_labels,
        calcium_labels=calcium_labels,
        nodules=nodules,
        calcium=calcium,
    )
