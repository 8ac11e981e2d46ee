"""What the folders of the equality tests are like: one idiosyncrasy of nnU-Net after the other."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

ZSCORE, RESCALE, RGB, NONE = (
    f"{name}Normalization" for name in ("ZScore", "RescaleTo01", "RGBTo01", "No")
)  # fmt: skip
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A folder and an image for it; arrays are (z, y, x)."""

    shape: tuple[int, int, int] = (20, 26, 24)
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    target_mm: tuple[float, ...] = (1.0, 1.0, 1.0)
    patch: tuple[int, ...] = (16, 16, 16)
    strides: tuple[tuple[int, ...], ...] = ((1, 1, 1), (2, 2, 2))
    kind: str = "PlainConvUNet"
    labels: tuple[tuple[str, Any], ...] = (("background", 0), ("liver", 1), ("spleen", 2), ("aorta", 3))
    regions: tuple[int, ...] | None = None
    normalisers: tuple[str, ...] = ("CTNormalization",)
    masked: tuple[bool, ...] = (False,)
    folds: int = 1
    forward: tuple[int, int, int] = (0, 1, 2)
    mirror: bool = True
    step_size: float = 0.5
    data: tuple[int, int] = (3, 0)  #: orders of the splines, within and across slices
    logits: tuple[int, int] = (1, 0)
    apart: bool | None = None
    border: int = 0  #: voxels of nothing around the image

    @property
    def channels(self) -> int:
        return len(self.normalisers)

    def image(self) -> np.ndarray:
        """(channel, z, y, x): smooth noise in which a network of random weights finds borders."""
        rng = np.random.default_rng(sum(self.shape))
        image = np.stack(
            [ndimage.gaussian_filter(rng.normal(size=self.shape), 1.5) * 2000 for _ in range(self.channels)]
        ).astype(np.float32)
        if RGB in self.normalisers:
            image = (image - image.min()) / (image.max() - image.min()) * 255
        if self.border:
            inside = np.zeros(self.shape, bool)
            inside[tuple(slice(self.border, -self.border) for _ in range(3))] = True
            image[:, ~inside] = 0
            image[:, self.shape[0] // 2, self.shape[1] // 2, self.shape[2] // 2] = 0  # enclosed: not outside
        return image


FLAT = {"patch": (16, 16), "strides": ((1, 1), (2, 2))}

CASES: dict[str, Case] = {
    "3d on its own grid": Case(),
    "3d resampled": Case(shape=(12, 26, 24), spacing_mm=(3.0, 1.1, 1.1), target_mm=(1.5, 1.5, 1.5)),
    "3d resampled by cubic logits": Case(spacing_mm=(1.3, 0.8, 0.9), logits=(3, 0)),
    "residual encoder": Case(kind="ResidualEncoderUNet", strides=((1, 1, 1), (2, 2, 2), (1, 2, 2))),
    "anisotropic": Case(
        kind="ResidualEncoderUNet",
        shape=(9, 30, 30),
        spacing_mm=(5.5, 0.8, 0.8),
        target_mm=(5.0, 1.0, 1.0),
        patch=(8, 16, 16),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    ),
    "anisotropic along another axis": Case(
        shape=(30, 28, 9), spacing_mm=(0.8, 0.8, 4.0), target_mm=(1.0, 1.0, 3.0), patch=(16, 16, 8)
    ),
    "slices linear between one another": Case(
        shape=(9, 26, 24), spacing_mm=(4.0, 1.1, 1.1), target_mm=(3.0, 1.0, 1.0), data=(3, 1), logits=(1, 1),
        apart=True, patch=(8, 16, 16),
    ),
    "2d": Case(shape=(7, 40, 36), spacing_mm=(5.0, 0.8, 0.8), target_mm=(1.0, 1.0), **FLAT),
    "2d residual, never mirrored": Case(
        shape=(5, 40, 36), target_mm=(1.0, 1.0), kind="ResidualEncoderUNet", mirror=False, **FLAT
    ),
    "regions of two channels, cropped": Case(
        shape=(24, 30, 28), labels=tuple(REGIONS.items()), regions=(1, 2, 3), normalisers=(ZSCORE, ZSCORE),
        masked=(True, False), border=4,
    ),
    "two folds, transposed": Case(folds=2, forward=(1, 0, 2), spacing_mm=(1.4, 1.0, 1.0)),
    "three channels, three normalisers": Case(normalisers=(RESCALE, NONE, ZSCORE), masked=(False,) * 3),
    "colours": Case(shape=(22, 34, 32), normalisers=(RGB,) * 3, masked=(False,) * 3),
    "smaller than a window": Case(shape=(10, 13, 24)),
    "an ignore label, wider steps": Case(
        labels=(("background", 0), ("liver", 1), ("ignore", 2)), step_size=0.75
    ),
}  # fmt: skip
