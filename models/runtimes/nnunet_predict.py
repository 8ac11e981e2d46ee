"""
From prepared channels to a label map on the image's grid, window by window and slab by slab.

Where the network's grid is the image's, labels are taken as windows are done with, and logits never exist as
a whole. Where it is not, nnU-Net resamples logits, not labels: they are kept on the network's grid, in half
precision as nnU-Net does, and each slab of the fine grid is labelled channel by channel with a running
maximum.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from models.prepare.ladder import Plan
from models.prepare.progress import stretch
from models.prepare.reducers import Reducer, Reduction
from models.prepare.reducers import labels as highest
from models.prepare.tiling import nnunet_starts
from models.prepare.windows import predict
from models.runtimes.nnunet_network import Mean
from models.runtimes.nnunet_plans import Configuration, Labels
from models.runtimes.nnunet_prepare import Prepared
from models.runtimes.nnunet_resample import Resampler, slabs

Resampled = Literal["cubic", "linear", "nearest labels"]

_SLAB_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """All folds of one configuration, on one device."""

    folds: Sequence[nn.Module]  #: each (n, channels, patch) → (n, heads, patch)
    configuration: Configuration
    device: torch.device

    def labels(self, prepared: Prepared, resampling: Resampled, plan: Plan) -> NDArray[np.uint16]:
        """The label map (z, y, x) of the image that was prepared, in the axes that it was given in."""
        labels, back = self.configuration.labels, prepared.back
        if plan.streaming and (back.idle or resampling == "nearest labels"):
            inside = nearest(self._predict(Mean(self.folds), prepared.data, plan, labelling(labels)), back)
        else:
            logits = self._logits(prepared.data, plan)
            if resampling == "nearest labels":
                inside = nearest(_by_slab(logits, labels), back)
            else:
                inside = _by_slab(logits, labels) if back.idle else label_by_slab(logits, back, labels)
        whole = np.zeros(prepared.shape, np.uint16)
        whole[prepared.box] = inside.cpu().numpy()
        return whole.transpose(self.configuration.backward)

    def _logits(self, data: Tensor, plan: Plan) -> Tensor:
        """Mean logits of all folds (heads, z, y, x), rounded after each fold as nnU-Net rounds them."""
        first, *others = self.folds
        with stretch(0, len(self.folds)):
            total = self._predict(first, data, plan, "logits")
        for number, fold in enumerate(others, start=1):
            with stretch(number, len(self.folds)):
                total += self._predict(fold, data, plan, "logits").to(total.device)
        return total.div_(len(self.folds)) if others else total

    def _predict(self, network: nn.Module, data: Tensor, plan: Plan, reduce: Reduction | Reducer) -> Tensor:
        patch = self.configuration.patch
        flat = len(patch) == 2
        weights = importance(patch)
        return predict(
            _slice_by_slice(network) if flat else network,
            data,
            window=(1, *patch) if flat else patch,
            reduce=reduce,
            plan=plan,
            importance=weights[None] if flat else weights,
            starts=nnunet_starts,
            device=self.device,
            classes=self.configuration.labels.heads,
            sums_of_weights=plan.sums,
        )


def _slice_by_slice(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network of slices for windows that are one slice thick: (n, channels, 1, y, x)."""
    return lambda windows: network(windows.squeeze(2)).unsqueeze(2)


@lru_cache(maxsize=8)
def importance(patch: tuple[int, ...]) -> Tensor:
    """nnU-Net's weights of a voxel in its window: a Gaussian, 10 in the middle, as precise as float16."""
    impulse = np.zeros(patch)
    impulse[tuple(side // 2 for side in patch)] = 1.0
    blurred = ndimage.gaussian_filter(impulse, [side / 8 for side in patch], mode="constant")
    weights = (blurred / blurred.max() * 10).astype(np.float16)
    weights[weights == 0] = weights[weights > 0].min()
    return torch.from_numpy(weights.astype(np.float32))


def labelling(labels: Labels) -> Reducer:
    """What takes labels from logits (heads, …): the largest channel's number, or region upon region."""
    return highest if labels.regions is None else partial(region_upon_region, regions=labels.regions)


def region_upon_region(logits: Tensor, regions: tuple[int, ...]) -> Tensor:
    """The value of the last region that a voxel is in; regions may lie within one another."""
    return _regions(((logits[n] for n in range(len(regions)))), regions)


def _regions(channels: Iterator[Tensor], regions: tuple[int, ...]) -> Tensor:
    drawn: Tensor | None = None
    for logits, value in zip(channels, regions, strict=True):
        inside = torch.sigmoid(logits.float()) > 0.5
        if drawn is None:
            drawn = torch.zeros(inside.shape, dtype=torch.int32, device=inside.device)
        drawn.masked_fill_(inside, value)
    assert drawn is not None
    return drawn.to(torch.uint8 if max(regions) < 256 else torch.uint16)


def _by_slab(logits: Tensor, labels: Labels) -> Tensor:
    """Labels (z, y, x) of logits (heads, z, y, x) on the same grid, without a copy of all of them."""
    label = labelling(labels)
    return torch.cat([label(logits[:, planes]) for planes in slabs(logits.shape[1], 16)])


def label_by_slab(logits: Tensor, back: Resampler, labels: Labels) -> Tensor:
    """Labels (z, y, x) on the grid `back` leads to, of `logits` (heads, z, y, x), a few planes at a time."""
    answer = torch.empty(back.wanted, dtype=torch.uint16 if _wide(labels) else torch.uint8)
    bounds = [back.bounds(channel) for channel in logits]
    for planes in slabs(back.wanted[0], back.planes_at_once(_SLAB_BYTES)):
        # Rounded to half precision, as nnU-Net keeps them: of two that are then equal the first one wins.
        channels = (
            back.part(channel, planes, bound).half() for channel, bound in zip(logits, bounds, strict=True)
        )
        part = _highest(channels) if labels.regions is None else _regions(channels, labels.regions)
        answer[planes] = part.to(answer.dtype).cpu()
    return answer


def _highest(channels: Iterator[Tensor]) -> Tensor:
    best = next(channels)
    number = torch.zeros(best.shape, dtype=torch.int16, device=best.device)
    for n, logits in enumerate(channels, start=1):
        number.masked_fill_(logits > best, n)
        best = torch.maximum(best, logits)
    return number


def nearest(labels: Tensor, back: Resampler) -> Tensor:
    """The label of the voxel that the middle of a voxel lies in: (z, y, x) on the grid `back` leads to."""
    if back.idle:
        return labels
    for axis, (many, wanted) in enumerate(zip(back.given, back.wanted, strict=True)):
        at = ((torch.arange(wanted, dtype=torch.float64) + 0.5) * (many / wanted)).floor().long()
        labels = labels.index_select(axis, at.clamp(max=many - 1))
    return labels


def _wide(labels: Labels) -> bool:
    return max(labels.regions or (labels.heads,)) > 255
