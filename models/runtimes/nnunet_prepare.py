"""
From an image to what the network was trained on: transposed, cropped, normalised, resampled, in this order.

Arrays are (channel, z, y, x). Normalisation is computed with NumPy in float32, as in the training, so that a
mean over a hundred million voxels is rounded in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.contract import NotForThisModel
from models.runtimes.nnunet_plans import Channel, Configuration, Resampling
from models.runtimes.nnunet_resample import Resampler, Three, axis_apart, new_shape

_TINY = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The network's input, and what is needed to go back from its output."""

    data: Tensor  #: (channel, z, y, x), float32 on the CPU
    shape: Three  #: of the transposed image
    box: tuple[slice, slice, slice]  #: of it, what was kept
    back: Resampler  #: from the grid of `data` to that of `box`


def prepare(
    image: NDArray[np.float32],
    spacing_mm: Sequence[float],
    configuration: Configuration,
    *,
    linear: bool,
    device: torch.device,
) -> Prepared:
    """`image` (channel, z, y, x) at `spacing_mm` as the plans want it; `linear`: splines of order 1 at most.

    Raises `NotForThisModel` for an image that is zero everywhere.
    """
    forward = configuration.forward
    turned = image.transpose(0, *(axis + 1 for axis in forward))
    spacing = [spacing_mm[axis] for axis in forward]
    box, mask = _not_zero(turned)
    # A copy: normalising must not change what was given.
    data = np.array(turned[(slice(None), *box)], np.float32)
    for values, channel in zip(data, configuration.channels, strict=True):
        _normalise(values, channel, mask)
    target = list(configuration.spacing_mm)
    if len(target) == 2:
        target = [spacing[0], *target]  # Slices stay as they are.
    cropped = _three(data.shape[1:])
    shape = new_shape(cropped, spacing, target)
    there = _resampler(cropped, shape, spacing, target, configuration.data, linear=linear, device=device)
    # The splines of the way back are chosen by the spacing that the network has, then by the image's.
    back = _resampler(shape, cropped, target, spacing, configuration.logits, linear=linear, device=device)
    tensor = torch.from_numpy(np.ascontiguousarray(data))
    if not there.idle:
        tensor = torch.stack([there.whole(values).cpu() for values in tensor])
    return Prepared(data=tensor, shape=_three(turned.shape[1:]), box=box, back=back)


def _resampler(
    given: Three,
    wanted: Three,
    spacing_mm: Sequence[float],
    target_mm: Sequence[float],
    resampling: Resampling,
    *,
    linear: bool,
    device: torch.device,
) -> Resampler:
    apart = axis_apart(resampling, spacing_mm, target_mm)
    if linear:
        resampling = Resampling(min(resampling.order, 1), min(resampling.order_across, 1), resampling.apart)
    return Resampler(given, wanted, resampling, apart, device)


def _not_zero(image: NDArray[np.float32]) -> tuple[tuple[slice, slice, slice], NDArray[np.bool_]]:
    """The box around what is not zero in any channel, and within it what is not zero or enclosed by it."""
    mask = image[0] != 0
    for channel in image[1:]:
        mask |= channel != 0
    if mask.all():  # A CT nearly always; filling holes of nothing takes seconds.
        return (slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2])), mask
    edges = []
    for axis in range(3):
        inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(inside):
            raise NotForThisModel("Every voxel of the image is zero: there is nothing to look at.")
        edges.append(slice(int(inside[0]), int(inside[-1]) + 1))
    box = (edges[0], edges[1], edges[2])
    # What encloses a hole encloses it within the box too.
    return box, ndimage.binary_fill_holes(mask[box])


def _normalise(values: NDArray[np.float32], channel: Channel, mask: NDArray[np.bool_]) -> None:
    """In place, one channel (z, y, x)."""
    of = channel.intensities
    match channel.normaliser:
        case "CTNormalization":
            np.clip(values, of.low, of.high, out=values)
            values -= of.mean
            values /= max(of.std, _TINY)
        case "ZScoreNormalization" if channel.within_mask:
            inside = values[mask]
            values[mask] = (inside - inside.mean()) / max(inside.std(), _TINY)
        case "ZScoreNormalization":
            values -= values.mean()
            # The deviation of what the mean was taken from: it is the same.
            values /= max(values.std(), _TINY)
        case "RescaleTo01Normalization":
            values -= values.min()
            values /= max(values.max(), _TINY)
        case "RGBTo01Normalization":
            if values.min() < 0 or values.max() > 255:
                raise NotForThisModel(
                    f"Channel {channel.name} is made for colours from 0 to 255, and has "
                    f"{values.min():g} to {values.max():g}."
                )
            values /= 255.0
        case "NoNormalization":
            pass


def _three(shape: Sequence[int]) -> Three:
    z, y, x = shape
    return z, y, x
