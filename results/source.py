"""The images that a result is about: their headers, in the order of the volume's slices."""

from dataclasses import dataclass

import highdicom as hd
from pydicom import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One series as it was received.

    `datasets` are headers without pixel data. Single-frame instances are in the order of the volume's first
    axis, so that `datasets[k]` is slice k; an enhanced multi-frame series has one data set, whose frame for
    slice k is `frames[k]` (1-based).

    `geometry` is None where it is not a volume. One data set, with one of its frames in `frames` where it has
    several, is an image that can be drawn upon; of anything else only a report can be made.
    """

    datasets: tuple[Dataset, ...]
    geometry: hd.VolumeGeometry | None
    frames: tuple[int, ...] | None = None

    @property
    def first(self) -> Dataset:
        """The header that patient and study attributes are copied from."""
        return self.datasets[0]

    @property
    def is_one_image(self) -> bool:
        """Whether it is one image, or one frame that is named of one, without a volume."""
        if self.geometry is not None or len(self.datasets) != 1:
            return False
        return (
            int(self.first.get("NumberOfFrames") or 1) == 1 if self.frames is None else len(self.frames) == 1
        )
