"""
What can be put into a phantom, as frozen values: nodules, their mimics, calcifications and diseases.

Points are LPS millimetres of the patient, lengths millimetres. What a value says is the truth that a model is
measured against; `phantoms.Phantom` carries it on, completed by what only drawing shows (where an attached
nodule came to lie, which part of it the pleura cut off).
"""

from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float, float]
Kind = Literal["solid", "part-solid", "ground glass", "calcified", "spiculated"]
Attached = Literal["vessel", "pleura", "fissure"]
Illness = Literal["emphysema", "consolidation", "effusion", "scar", "ground glass"]
Mimic = Literal[
    "branch point", "end-on", "bend", "rib end", "fissure thickening", "mucus plug", "apical scar"
]
Where = Literal[
    "both", "right", "left", "right upper", "right middle", "right lower", "left upper", "left lower"
]

SMALLEST_NODULE_MM, LARGEST_NODULE_MM = 1.0, 60.0
SOLID_HU, GROUND_GLASS_HU, CALCIFIED_HU = 40.0, -600.0, 420.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """A round opacity of at most 3 cm, as a rule; `diameter_mm` is that of the ball of the same volume.

    The volume is that of the formula before anything cuts it: π d³ / 6. An attached nodule moves from
    `centre_mm` to the nearest vessel, pleura or fissure; the pleura cuts off what would lie outside the lung.
    `lobulation` is how far the surface wanders from an ellipsoid (0 … 0.3 of the radius), `elongation` the
    ratio of the longest to the shortest of its three axes.
    """

    centre_mm: Point
    diameter_mm: float
    kind: Kind = "solid"
    attached: Attached | None = None
    solid_fraction: float = 0.35  #: of the volume, where the kind is part-solid
    lobulation: float = 0.06
    elongation: float = 1.15
    hu: float | None = None  #: None: 40 solid, -600 ground glass, 420 calcified
    seed: int = 0  #: of its shape

    def __post_init__(self) -> None:
        if not SMALLEST_NODULE_MM <= self.diameter_mm <= LARGEST_NODULE_MM:
            raise ValueError(f"a nodule of {self.diameter_mm} mm: it must measure 1 to 60 mm")
        if (
            not 0 < self.solid_fraction < 1
            or not 0 <= self.lobulation <= 0.3
            or not 1 <= self.elongation <= 2
        ):
            raise ValueError(
                "a nodule's solid fraction lies between 0 and 1, its lobulation in 0 to 0.3, "
                "its elongation in 1 to 2"
            )

    @property
    def body_hu(self) -> float:
        """Hounsfield units of the outer part, the whole of it unless it is part-solid."""
        if self.hu is not None:
            return self.hu
        if self.kind == "calcified":
            return CALCIFIED_HU
        return GROUND_GLASS_HU if self.kind in ("ground glass", "part-solid") else SOLID_HU


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAlike:
    """What a detector takes for a nodule and is none."""

    centre_mm: Point
    kind: Mimic
    size_mm: float = 6.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calcification:
    """A ball of calcium hydroxyapatite: its mass is known, so its size follows from its density."""

    centre_mm: Point
    mass_mg: float
    density_mg_per_ml: float = 400.0
    artery: str = ""  #: left main, LAD, LCX, RCA; empty where it lies elsewhere

    def __post_init__(self) -> None:
        if self.mass_mg <= 0 or self.density_mg_per_ml <= 0:
            raise ValueError("a calcification has a mass and a density above zero")

    @property
    def volume_mm3(self) -> float:
        return 1000 * self.mass_mg / self.density_mg_per_ml

    @property
    def radius_mm(self) -> float:
        return float((3 * self.volume_mm3 / (4 * 3.141592653589793)) ** (1 / 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Disease:
    """A disease of the lung: `extent` is the part (0 … 1) of `where` that it takes.

    An effusion takes the dependent part of the pleural space; it and nothing else is no lung any more.
    """

    kind: Illness
    where: Where = "both"
    extent: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.extent <= 0.95:
            raise ValueError(f"a disease's extent of {self.extent}: it must lie above 0 and at most at 0.95")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoduleTruth:
    """What a perfect reader would measure of one nodule; lengths and volumes of the formula, not the voxels.

    `long_axis_mm` and `short_axis_mm` are the longest diameter in an axial plane and the longest
    perpendicular to it in that plane; the mean diameter is their mean.
    """

    label: int  #: its number in `Phantom.nodule_labels`
    nodule: Nodule
    centre_mm: Point  #: where it came to lie
    volume_mm3: float  #: of what lies inside the lung
    long_axis_mm: float
    short_axis_mm: float
    solid_fraction: float  #: 1 of solid, spiculated and calcified ones, 0 of ground glass

    @property
    def mean_diameter_mm(self) -> float:
        return (self.long_axis_mm + self.short_axis_mm) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CalciumTruth:
    """A calcification as drawn: `hu` is what it adds to its background at this tube voltage."""

    label: int  #: its number in `Phantom.calcium_labels`
    calcification: Calcification
    added_hu: float
