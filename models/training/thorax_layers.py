"""The order in which the thorax is painted: each organ over those before it, with tissue and density."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from models.training import thorax_anatomy as anatomy
from models.training import thorax_bones as bones
from models.training.scanners import Scanner
from models.training.thorax_build import Build
from models.training.thorax_points import Points, both, either, tubes

FAT_HU, SKIN_HU, MUSCLE_HU, SOFT_HU, MYOCARDIUM_HU, BLOOD_HU = -100.0, 10.0, 55.0, 38.0, 48.0, 42.0
LIVER_HU, SPLEEN_HU, DISC_HU, CORD_HU, CARTILAGE_HU, GAS_HU = 60.0, 50.0, 75.0, 30.0, 110.0, -985.0
FLUID_HU, MARROW_HU, TRABECULAR_HU, COMPACT_HU = 15.0, 190.0, 165.0, 720.0
OUTSIDE_HU, TABLE_HU = -1000.0, -150.0


class Tissue(IntEnum):
    """The numbers of `Phantom.tissue`."""

    OUTSIDE = 0
    TABLE = 1
    SKIN = 2
    FAT = 3
    MUSCLE = 4
    BONE = 5
    CARTILAGE = 6
    SOFT = 7  #: mediastinum, discs, cord, oesophagus
    MYOCARDIUM = 8
    BLOOD = 9  #: chambers and great vessels
    AORTA = 10
    LIVER = 11
    SPLEEN = 12
    STOMACH = 13  #: its fluid
    GAS = 14  #: in the stomach
    LUNG = 15
    VESSEL = 16  #: in the lungs
    AIRWAY = 17  #: lumen
    NODULE = 18
    CALCIFICATION = 19
    EFFUSION = 20
    FISSURE = 21
    AIRWAY_WALL = 22


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One organ: a signed distance at canonical points, in canonical mm."""

    tissue: Tissue
    hu: float
    distance: Callable[[Points], Tensor]


def layers(
    build: Build, scanner: Scanner, contrast_hu: float, *, prone: bool, erect: bool, arms: bool
) -> list[Layer]:
    """Everything but lungs and what is in them; `contrast_hu` is the enhancement of blood at 120 kV."""
    iodine = contrast_hu * scanner.iodine_factor
    calcium = scanner.hu_per_mg_per_ml / 1.3
    blood = BLOOD_HU + iodine
    higher, size = build.diaphragm_mm, build.heart
    fat = build.fat_mm / build.mm

    def skin(at: Points) -> Tensor:
        surface = anatomy.torso(at) - fat
        return either(surface, anatomy.breasts(at, build.breasts_mm)) if build.breasts_mm else surface

    def above(at: Points) -> Tensor:
        return anatomy.diaphragm(at, higher)

    def rib(at: Points) -> Tensor:
        return bones.rib(at, anatomy.wall(at))

    def compact(at: Points) -> Tensor:
        return both(rib(at), -bones.cartilage_end(at))

    def gas(at: Points) -> Tensor:
        level = (at.z + 92) * -1 if erect else (at.y + 22) * (-1 if prone else 1)
        return both(anatomy.stomach(at, higher) + 3, level)

    painted = [
        Layer(Tissue.SKIN, SKIN_HU, skin),
        Layer(Tissue.FAT, FAT_HU, lambda at: skin(at) + 1.8),
        Layer(
            Tissue.MUSCLE,
            MUSCLE_HU,
            lambda at: both(bones.muscles(at, anatomy.wall(at)), anatomy.torso(at) + 1),
        ),
        Layer(Tissue.FAT, FAT_HU, lambda at: anatomy.wall(at) - 2.0),
        Layer(Tissue.LIVER, LIVER_HU + 0.3 * iodine, lambda at: anatomy.liver(at, higher)),
        Layer(Tissue.SPLEEN, SPLEEN_HU + 0.35 * iodine, lambda at: anatomy.spleen(at, higher)),
        Layer(Tissue.SOFT, SOFT_HU, lambda at: anatomy.stomach(at, higher)),
        Layer(Tissue.STOMACH, FLUID_HU, lambda at: anatomy.stomach(at, higher) + 3),
        # The diaphragm itself, a sheet of muscle of 3 mm.
        Layer(Tissue.MUSCLE, MUSCLE_HU, lambda at: both((above(at) - 1.5).abs() - 1.5, anatomy.wall(at))),
        Layer(Tissue.SOFT, SOFT_HU, _oesophagus),
        Layer(
            Tissue.MYOCARDIUM,
            MYOCARDIUM_HU + 0.3 * iodine,
            lambda at: both(anatomy.heart(at, size), above(at) + 2),
        ),
        Layer(Tissue.BLOOD, blood, lambda at: both(anatomy.chambers(at, size), above(at) + 4)),
        Layer(Tissue.BLOOD, blood, lambda at: either(anatomy.great_vessels(at), anatomy.neck_vessels(at))),
        Layer(Tissue.AORTA, blood, anatomy.aorta),
        Layer(Tissue.CARTILAGE, CARTILAGE_HU, rib),
        Layer(Tissue.BONE, COMPACT_HU * calcium, compact),
        Layer(Tissue.BONE, MARROW_HU * calcium, lambda at: compact(at) + 1.7),
        Layer(Tissue.SOFT, DISC_HU, bones.vertebra),
        Layer(Tissue.BONE, 0.6 * COMPACT_HU * calcium, lambda at: both(bones.vertebra(at), -bones.disc(at))),
        Layer(
            Tissue.BONE, TRABECULAR_HU * calcium, lambda at: both(bones.vertebra(at), -bones.disc(at)) + 1.4
        ),
        Layer(Tissue.BONE, 0.75 * COMPACT_HU * calcium, bones.arches),
        Layer(Tissue.SOFT, CORD_HU, bones.canal),
    ]
    for bone in (
        bones.sternum,
        bones.clavicles,
        bones.shoulder_blades,
        *([bones.humeral_heads] if arms else []),
    ):
        painted.append(Layer(Tissue.BONE, COMPACT_HU * calcium, bone))
        painted.append(Layer(Tissue.BONE, MARROW_HU * calcium, _within(bone, 1.7)))
    if build.stomach_gas:
        painted.append(Layer(Tissue.GAS, GAS_HU, gas))
    if not erect:
        bed = -124.0 if prone else 130.0
        painted.insert(0, Layer(Tissue.TABLE, TABLE_HU, lambda at: _table(at, bed, fat)))
    return painted


def _within(distance: Callable[[Points], Tensor], mm: float) -> Callable[[Points], Tensor]:
    """What lies at least `mm` below the surface."""
    return lambda at: distance(at) + mm


def _oesophagus(at: Points) -> Tensor:
    return tubes(at, anatomy.OESOPHAGUS, 7.5)


def _table(at: Points, bed_y: float, fat: float) -> Tensor:
    """A flat couch under the patient, hollowed like a trough."""
    y = (
        at.y
        - (bed_y + (fat - 13) * (1 if bed_y > 0 else -1))
        + 0.0006 * at.x.square() * (1 if bed_y > 0 else -1)
    )
    return both(y.abs() - 8, at.x.abs() - 205)
