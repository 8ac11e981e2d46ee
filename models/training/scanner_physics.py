"""
What the scanner does to the truth: slice profile, kernel, noise with its texture, and streaks.

A kernel is its modulation transfer function, 1 at frequency 0, so that no kernel changes a density; the noise
has the power spectrum that filtered back-projection gives it: the ramp times the square of that function.
"""

from concurrent.futures import ThreadPoolExecutor

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from models.training.scanners import Kernel, Scanner
from models.training.thorax_build import Build

_FWHM_MM: dict[Kernel, float] = {"smooth": 1.3, "standard": 0.75, "sharp": 0.45}
_PAD = 12
_SHOULDERS_Z = 88.0


def scanned(
    hu: NDArray[np.float32],
    geometry: hd.VolumeGeometry,
    scanner: Scanner,
    build: Build,
    *,
    seed: int,
    threads: int = 2,
) -> NDArray[np.int16]:
    """`hu` (slices, rows, columns) as the scanner stores it: whole Hounsfield units from -1024 to 3071."""
    seen = _profiled(hu, geometry.spacing[0], scanner.slice_profile_mm)
    spacing = (geometry.spacing[1], geometry.spacing[2])
    rows, columns = hu.shape[1] + 2 * _PAD, hu.shape[2] + 2 * _PAD
    size = (fft.next_fast_len(rows, True), fft.next_fast_len(columns, True))
    frequency = np.hypot(
        np.fft.fftfreq(size[0], spacing[0])[:, None], np.fft.rfftfreq(size[1], spacing[1])[None, :]
    ).astype(np.float32)
    transfer = mtf(frequency, scanner.kernel)
    grain = _noise_filter(frequency, transfer, size)
    stored = np.empty(hu.shape, np.int16)

    def look(k: int) -> None:
        padded = np.pad(seen[k], _PAD, mode="reflect" if min(seen[k].shape) > _PAD else "edge")
        picture = fft.irfft2(fft.rfft2(padded, size) * transfer, size)
        crop = (slice(_PAD, _PAD + hu.shape[1]), slice(_PAD, _PAD + hu.shape[2]))
        picture = picture[crop]
        if scanner.seen_noise_hu:
            white = np.random.default_rng([seed, 2, k]).standard_normal(size, np.float32)
            texture = fft.irfft2(fft.rfft2(white) * grain, size)[crop]
            picture += texture * _deviation(geometry, k, scanner, build)
        stored[k] = np.clip(np.rint(picture), -1024, 3071)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(look, range(len(hu))))
    return stored


def mtf(frequency: NDArray[np.float32], kernel: Kernel) -> NDArray[np.float32]:
    """Of a kernel, at frequencies in cycles per mm: 1 at 0; the sharp one rises above 1 before it falls."""
    sigma = _FWHM_MM[kernel] / 2.3548
    gauss = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    if kernel == "sharp":
        return np.asarray(gauss * (1 + 0.9 * (1 - np.exp(-((frequency / 0.35) ** 2)))), np.float32)
    return np.asarray(gauss, np.float32)


def _noise_filter(
    frequency: NDArray[np.float32], transfer: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Turns white noise of deviation 1 into the scanner's, of deviation 1."""
    amplitude = np.sqrt(frequency + 0.02) * transfer
    weight = np.full(frequency.shape[1], 2.0)  # rfft keeps half of the plane
    weight[0] = 1
    if size[1] % 2 == 0:
        weight[-1] = 1
    power = float((amplitude**2 * weight).sum() / (size[0] * size[1]))
    return np.asarray(amplitude / np.sqrt(power), np.float32)


def _profiled(hu: NDArray[np.float32], spacing_mm: float, profile_mm: float | None) -> NDArray[np.float32]:
    """Slices thicker than their distance; one slice is already the mean of its own."""
    if profile_mm is None or profile_mm <= spacing_mm:
        return hu
    # A box convolved with a box: together as wide (in variance) as the profile asked for.
    sigma = np.sqrt(profile_mm**2 - spacing_mm**2) / np.sqrt(12) / spacing_mm
    return np.asarray(ndimage.gaussian_filter1d(hu, sigma, axis=0, mode="nearest"), np.float32)


def _deviation(geometry: hd.VolumeGeometry, k: int, scanner: Scanner, build: Build) -> NDArray[np.float32]:
    """The noise at every voxel of slice k: most in the middle of the body, more between the shoulders."""
    axes, origin = geometry.affine[:3, :3], geometry.affine[:3, 3]
    rows = np.arange(geometry.spatial_shape[1], dtype=np.float32)[:, None]
    columns = np.arange(geometry.spatial_shape[2], dtype=np.float32)[None, :]
    fx, fy, fz = build.factors
    x, y, z = (
        (origin[a] + axes[a, 0] * k + axes[a, 1] * rows + axes[a, 2] * columns) / f
        for a, f in zip(range(3), (fx, fy, fz), strict=True)
    )
    depth = np.clip(1 - (x / 185) ** 2 - ((y - 5) / 130) ** 2, 0, 1)
    shoulders = 1 + 0.7 * np.clip((z - _SHOULDERS_Z) / 30, 0, 1)
    return np.asarray(scanner.seen_noise_hu * (0.45 + 0.55 * np.sqrt(depth)) * shoulders, np.float32)
