"""
Which grey a modality value is shown in: by the image's own VOI LUT or window, or by what is usual.

The image says best itself (PS3.3 §C.11.2). Where it offers several windows the first is meant, unless what
was found lies in the lungs, whose vessels and nodules are black or white in any window but one for them.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from results.grid import plane_attribute
from worker.elements import HeaderUnreadable, numbers_of, value_of
from worker.frames import has_functional_groups
from worker.pixels import PixelFormat, Rescale

_LUNG_CENTRE_MAXIMUM_HU = -300.0  # Windows for lungs are centred on -700 to -500.
_GREYS = 255.0


class Scale(Protocol):
    """From modality values to grey."""

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """(row, column) of eight bits."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """A VOI window (PS3.3 §C.11.2.1.2); `function` is VOI LUT Function."""

    centre: float
    width: float
    function: str = "LINEAR"

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """(row, column) of eight bits."""
        x = values.astype(np.float32)
        if self.function == "SIGMOID":
            shown = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (x - self.centre) / self.width, -80, 80)))
        elif self.function == "LINEAR_EXACT":
            shown = (x - self.centre) / self.width + 0.5
        elif self.width <= 1:  # LINEAR, and nothing between black and white
            shown = np.where(x <= self.centre - 0.5, 0.0, 1.0)
        else:
            shown = (x - (self.centre - 0.5)) / (self.width - 1.0) + 0.5
        return np.asarray(np.rint(np.clip(shown, 0.0, 1.0) * _GREYS), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Table:
    """A VOI LUT (PS3.3 §C.11.2.1.1): grey of the values from `first` on."""

    first: int
    greys: NDArray[np.uint8]

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """(row, column) of eight bits; values beyond its ends have the grey of the end."""
        place = np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(self.greys) - 1)
        return np.asarray(self.greys[place])


LUNG = Window(-600.0, 1500.0)
SOFT_TISSUE = Window(40.0, 400.0)


def offered(dataset: Dataset, frame: int | None, *, lungs: bool) -> Window | None:
    """The window that the image asks for; of several, one for lungs where `lungs`. `frame` is from 1."""
    group = _group(dataset, frame)
    try:
        centres, widths = numbers_of(group, "WindowCenter"), numbers_of(group, "WindowWidth")
        function = str(value_of(group, "VOILUTFunction") or "LINEAR").strip()
    except HeaderUnreadable:
        return None
    smallest = 1.0 if function == "LINEAR" else 0.0
    windows = [
        Window(centre, width, function)
        for centre, width in zip(centres, widths, strict=False)
        if np.isfinite([centre, width]).all() and width >= smallest and width > 0
    ]
    if lungs:
        windows = [one for one in windows if one.centre <= _LUNG_CENTRE_MAXIMUM_HU]
    return windows[0] if windows else None


def usual(modality: str, body_part: str, *, lungs: bool) -> Window | None:
    """The window of a CT that asks for none; None for others, whose values have no scale of their own."""
    if modality != "CT":
        return None
    chest = any(part in body_part.upper() for part in ("CHEST", "LUNG", "THORAX"))
    return LUNG if lungs or chest else SOFT_TISSUE


def window_of_values(values: NDArray[Any], modality: str) -> Window:
    """A window from the values themselves, without the few that are far out."""
    if not values.size:
        return Window(0.0, 1.0, "LINEAR_EXACT")
    low, high = (float(v) for v in np.percentile(values, (1.0, 99.5)))
    if modality in ("PT", "NM"):
        low = min(0.0, low)  # Counts: nothing is black.
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return Window((low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT")


def voi_table(dataset: Dataset, frame: int | None) -> Table | None:
    """The first VOI LUT of an image; None where it has none that can be read."""
    if has_functional_groups(dataset):
        return None  # Enhanced images have windows (PS3.3 §C.7.6.16.2.10).
    try:
        (first, *_) = value_of(dataset, "VOILUTSequence") or [None]
        if first is None:
            return None
        entries, start, bits = (int(number) for number in value_of(first, "LUTDescriptor"))
        data = value_of(first, "LUTData")
    except (HeaderUnreadable, TypeError, ValueError):
        return None
    entries = entries or 65_536
    wide = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data, dtype=np.int64)
    if isinstance(data, bytes) and len(data) < 2 * entries:
        wide = np.frombuffer(data, np.uint8)
    if wide.size < entries or not 0 < bits <= 16:
        return None
    greys = np.clip(wide[:entries].astype(np.float64) / ((1 << bits) - 1), 0.0, 1.0)
    signed = value_of(dataset, "PixelRepresentation") == 1 or _reaches_below_zero(dataset)
    if signed and start >= 1 << 15:
        start -= 1 << 16  # A signed number that was read as an unsigned one
    return Table(start, np.rint(greys * _GREYS).astype(np.uint8))


def _reaches_below_zero(dataset: Dataset) -> bool:
    return any(number < 0 for number in numbers_of(dataset, "RescaleIntercept"))


def rescaled_padding(dataset: Dataset, format: PixelFormat, rescale: Rescale) -> tuple[float, float] | None:
    """The least and the greatest modality value that stand for no tissue (PS3.3 §C.7.5.1.1.2)."""
    ends = [
        _stored(value_of(dataset, keyword), format)
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
    ]
    known = [end for end in ends if end is not None]
    if ends[0] is None or rescale.table is not None:
        return None
    values = rescale.apply(np.array([min(known), max(known)], dtype=np.int64))
    return float(values.min()), float(values.max())


def _stored(value: object, format: PixelFormat) -> int | None:
    """A stored value, whatever representation it was written or read in."""
    if isinstance(value, bytes):
        value = int.from_bytes(value[:2], "little")
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None
    span = 1 << format.bits_allocated
    if format.signed and number >= span // 2:
        return int(number - span)
    if not format.signed and number < 0:
        return int(number + span)
    return int(number)


def _group(dataset: Dataset, frame: int | None) -> Dataset:
    """Where the window of a frame is: at the top, or in its functional groups."""
    if frame is None or not has_functional_groups(dataset):
        return dataset
    group = Dataset()
    for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction"):
        found = plane_attribute(dataset, frame, "FrameVOILUTSequence", keyword, required=False)
        if found is not None:
            setattr(group, keyword, found)
    return group
