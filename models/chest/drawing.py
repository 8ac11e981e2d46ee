"""
From masks on the working grid to labels on the grid of the images.

The edge of a mask on the working grid is known to about a working voxel. Within that, the source decides: a
voxel darker than the threshold draws the edge outwards, a brighter one inwards. As the pull is below a half,
nothing appears away from the mask, and no vessel makes a hole deep inside it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.prepare.morphology import Mask, box_of
from models.prepare.resample import Triple, enlarge

_PULL = 0.35  # how far the source voxels may move the edge, in parts of the soft mask's 0 … 1
_PULL_HU = 350.0  # so far from the threshold a voxel pulls with all its weight


def draw(
    labels: NDArray[np.uint8],
    source: NDArray[np.generic],
    touching: Mapping[int, Mask],
    apart: Mapping[int, Mask],
    *,
    threshold_hu: float,
    device: torch.device,
) -> None:
    """Write the numbers of masks (z, y, x) into `labels`, the canonical view of a label map of zeros.

    `source` are the Hounsfield units of the voxels of `labels`. Where two masks of `touching` meet, each
    voxel goes to the one that has more of it; those of `apart` keep a wall between them and the others.
    """
    masks = {**touching, **apart}
    union = np.logical_or.reduce(list(masks.values()))
    if not union.any():
        return
    soft = np.stack(list(masks.values())).astype(np.float32)
    extent = box_of(union)[0]
    scale = labels.shape[0] / soft.shape[1]
    first, last = int((extent.start - 1) * scale), int(np.ceil((extent.stop + 1) * scale))
    slices = slice(max(0, first), min(labels.shape[0], last))
    for where, planes in enlarge(soft, _triple(labels.shape), slices, device):
        hu = torch.from_numpy(np.ascontiguousarray(source[where], np.float32)).to(device)
        pull = ((threshold_hu - hu) / _PULL_HU).clamp_(-1, 1).mul_(_PULL)
        beside = planes[:, : len(touching)]
        inside = beside.sum(1) + pull > 0.5
        drawn = _most(beside, tuple(touching)).mul_(inside)
        for channel, number in enumerate(apart, len(touching)):
            drawn.masked_fill_((planes[:, channel] + pull > 0.5) & ~inside, number)
        labels[where] = drawn.cpu().numpy()


def _most(planes: Tensor, numbers: Sequence[int]) -> Tensor:
    """The number of what has most of each voxel, the first of equals: (k, channel, Y, X) → (k, Y, X).

    One comparison after the other: torch's argmax along a short axis takes hundreds of times as long.
    """
    best = planes[:, 0]
    most = torch.full(best.shape, numbers[0], dtype=torch.uint8, device=planes.device)
    for channel, number in enumerate(numbers[1:], 1):
        more = planes[:, channel] > best
        most.masked_fill_(more, number)
        best = torch.maximum(best, planes[:, channel])
    return most


def _triple(shape: tuple[int, ...]) -> Triple:
    z, y, x = shape
    return z, y, x
