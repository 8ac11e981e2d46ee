"""
Many tubes at once: how much of every voxel lies in any of them.

All pairs of a tube and a block that it may touch are evaluated together; a voxel keeps the largest share.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.training.chest_trees import Capsule
from models.training.thorax_blocks import Blocks
from models.training.thorax_build import Build


def placed(capsules: Sequence[Capsule], build: Build) -> np.ndarray:
    """(n, 8) mm of the patient: start x, y, z, end x, y, z, both radii; from canonical capsules."""
    if not capsules:
        return np.empty((0, 8))
    start = build.patient(np.array([one.start for one in capsules]))
    end = build.patient(np.array([one.end for one in capsules]))
    radii = np.array([(one.start_mm, one.end_mm) for one in capsules]) * build.mm
    return np.concatenate([start, end, radii], 1)


def covered(blocks: Blocks, tubes: np.ndarray) -> tuple[Tensor, Tensor]:
    """The blocks (n,) that the tubes (m, 8) reach, and how much of their voxels they cover (n, voxels)."""
    reach = blocks.edge_mm + max(blocks.spacing)
    found = [blocks.near(one[:3], one[3:6], one[6:].max() + reach) for one in tubes]
    owner = np.repeat(np.arange(len(tubes)), [len(one) for one in found])
    rows = np.concatenate([*found, np.empty(0, np.int64)])
    device = blocks.device
    pair_tube = torch.tensor(tubes[owner], dtype=torch.float32, device=device)
    pair_row = torch.tensor(rows, device=device)
    middles = [blocks.centres[pair_row, axis, None] for axis in range(3)]
    close = _distance(middles, pair_tube)[:, 0] < blocks.radius_mm + reach
    pair_tube, pair_row = pair_tube[close], pair_row[close]
    unique, place = torch.unique(pair_row, return_inverse=True)
    cover = torch.zeros((len(unique), len(blocks.offsets)), device=device)
    # Pairs of one block follow each other: the largest share of each run of them is the block's.
    order = torch.argsort(place, stable=True)
    pair_tube, place = pair_tube[order], place[order]
    for some in blocks.chunks(torch.arange(len(place), device=device)):
        share = torch.zeros((len(some), len(blocks.offsets)), device=device)
        for part in blocks.parts:
            share += (
                0.5 - _distance(blocks.at(unique[place[some]], part), pair_tube[some]) / blocks.edge_mm
            ).clamp_(0, 1)
        share /= len(blocks.parts)
        index = place[some, None].expand_as(share)
        cover.scatter_reduce_(0, index, share, "amax")
    return unique, cover


def _distance(at: Sequence[Tensor], tubes: Tensor) -> Tensor:
    """Distance of the points (n, k), as x, y, z, to tube n of `tubes` (n, 8): (n, k)."""
    along = [tubes[:, 3 + axis, None] - tubes[:, axis, None] for axis in range(3)]
    length = (along[0].square() + along[1].square() + along[2].square()).clamp_min(1e-6)
    offset = [at[axis] - tubes[:, axis, None] for axis in range(3)]
    t = (
        offset[0] * (along[0] / length) + offset[1] * (along[1] / length) + offset[2] * (along[2] / length)
    ).clamp_(0, 1)
    away = (offset[0] - t * along[0]).square()
    away += (offset[1] - t * along[1]).square()
    away += (offset[2] - t * along[2]).square()
    return away.clamp_min_(1e-9).sqrt_() - (tubes[:, 6, None] + t * (tubes[:, 7, None] - tubes[:, 6, None]))
