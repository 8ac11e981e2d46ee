"""
The scanner of a phantom, as a frozen value: tube voltage, kernel, noise, slice profile, motion.

Tube voltage. Calcium: 130 HU for 100 mg/ml of hydroxyapatite at 120 kV (the meaning of Agatston's threshold),
at other voltages in the ratio of the thresholds that score the same calcium alike (Gräni 2018: 207, 177, 145,
130, 119 HU at 70, 80, 100, 120, 135 kV). Iodine: 1.9 times as much at 70 as at 120 kV (Eur Radiol Exp 2020,
10.1186/s41747-020-00184-z), a power of the voltage in between.
"""

from dataclasses import dataclass
from math import log
from typing import Literal

Kernel = Literal["smooth", "standard", "sharp"]

_SAME_CALCIUM_HU = {70.0: 207.0, 80.0: 177.0, 100.0: 145.0, 120.0: 130.0, 135.0: 119.0}
_HU_PER_MG_PER_ML_AT_120 = 1.3
_IODINE_AT_70 = 1.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """How a chest is seen; the plain one sees it perfectly but for 14 HU of noise.

    `noise_hu` is the deviation in the middle of the chest at full dose; it grows with 1/√dose. A slice
    profile thicker than the distance of the slices makes them overlap; None is as thick as that distance.
    `motion_mm` is how far the chest moves with breath while it is scanned (steps at its outlines) and the
    heart beats (calcifications smear).
    """

    kvp: float = 120.0
    kernel: Kernel = "standard"
    noise_hu: float = 14.0
    slice_profile_mm: float | None = None
    dose: float = 1.0
    motion_mm: float = 0.0

    def __post_init__(self) -> None:
        if not 70 <= self.kvp <= 140:
            raise ValueError(f"{self.kvp} kV: the tables reach from 70 to 140 kV")
        if self.noise_hu < 0 or self.dose <= 0 or self.motion_mm < 0:
            raise ValueError("noise and motion are not negative and the dose is above zero")

    @property
    def seen_noise_hu(self) -> float:
        """Its deviation in the middle of the chest at this dose."""
        return float(self.noise_hu / self.dose**0.5)

    @property
    def hu_per_mg_per_ml(self) -> float:
        """What a milligram of calcium hydroxyapatite per millilitre adds at this tube voltage."""
        ratio = _between(_SAME_CALCIUM_HU, self.kvp) / _SAME_CALCIUM_HU[120.0]
        return _HU_PER_MG_PER_ML_AT_120 * ratio

    @property
    def iodine_factor(self) -> float:
        """The enhancement by iodine at this tube voltage, where it is 1 at 120 kV."""
        return float((120 / self.kvp) ** (log(_IODINE_AT_70) / log(120 / 70)))


def _between(table: dict[float, float], kvp: float) -> float:
    """The power law between two neighbours of the table, or past its last."""
    known = sorted(table)
    above = next((one for one in known[1:] if one >= kvp), known[-1])
    below = known[known.index(above) - 1]
    power = log(table[above] / table[below]) / log(above / below)
    return float(table[below] * (kvp / below) ** power)
