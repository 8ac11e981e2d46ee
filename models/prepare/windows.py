"""
A network over a whole volume, window by window, in memory that does not grow with classes × volume.

The answer is that of MONAI's `SlidingWindowInferer` (and, with other places and weights, of nnU-Net's
predictor): a mean of overlapping windows, weighted by a Gaussian. The way is another one: labels are taken
from the mean logits of a part of the volume as soon as no further window touches it, and the logits are
forgotten. See `slab` for what is held, `ladder` for what a `Plan` may change, `tiling` for where windows lie.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from models.contract import BrokenModel, Memory
from models.prepare.demand import demand
from models.prepare.ladder import OverLimit, Plan
from models.prepare.progress import tell
from models.prepare.reducers import Reducer, Reduction, reducer_of
from models.prepare.slab import Slab
from models.prepare.tiling import Padding, Place, Starts, Tiling, gaussian, monai_starts, part_of

Network = Callable[[Tensor], Tensor]  #: (n, C, window) → (n, K, window)


def predict(
    network: Network,
    volume: Tensor,
    *,
    window: Sequence[int],
    reduce: Reduction | Reducer = "argmax",
    thresholds: Sequence[float] | None = None,
    plan: Plan | None = None,
    importance: Literal["gaussian", "constant"] | Tensor = "gaussian",
    starts: Starts = monai_starts,
    padding: Padding | None = None,
    device: torch.device | str | None = None,
    classes: int | None = None,
    inside_bytes: int = 0,
    sums_of_weights: torch.dtype = torch.float32,
) -> Tensor:
    """What `network` says of `volume` (C, z, y, x), on the volume's grid.

    `reduce` is "argmax": labels (z, y, x), uint8 or above 256 channels uint16; "sigmoid": bool (K, z, y, x),
    where the sigmoid reaches the channel's threshold; "logits", "softmax" or "probabilities" (sigmoids):
    (K, z, y, x); or a function of mean logits, see `reducers`. `window` has a side for each axis of the
    volume, and one that is not positive takes the whole axis. `importance` may be a tensor (window).

    The network computes on `device`, by default the volume's. The answer lies where the sums do
    (`plan.sums_on`); logits, softmax and probabilities of a streaming plan always lie in host memory.

    A limit of the plan is looked at before anything runs where the caller knows the number of `classes`,
    otherwise after the first windows; `inside_bytes` is what the network takes for one window, where known.

    Raises `OverLimit` where the plan's limit would not do and whatever `network` raises, to be given to
    `ladder.climb`; and `BrokenModel` where the network's output does not fit its input.
    """
    plan = plan or Plan()
    tiling = Tiling.of(volume.shape[1:], window, plan.overlap, starts)
    at = torch.device(device) if device is not None else volume.device
    run = _Run(
        network=network,
        tiling=tiling,
        plan=plan,
        device=at,
        whole=reduce in ("logits", "softmax", "probabilities"),
        need=partial(
            demand,
            tuple(volume.shape[1:]),
            window=tiling.window,
            channels=volume.shape[0],
            plan=plan,
            reduce=reduce,
            on_gpu=at.type != "cpu",
            inside_bytes=inside_bytes,
        ),
        reducer=reducer_of(reduce, thresholds),
        weights=_weights(importance, tiling.window),
        sums_of_weights=sums_of_weights,
    )
    if classes is not None:
        run.look_at_limit(classes)
    with torch.no_grad():
        answer = run.over(tiling.pad(volume, padding or Padding()))
        return part_of(answer, tiling.unpadded(volume.shape[1:]))


def _weights(importance: Literal["gaussian", "constant"] | Tensor, window: tuple[int, ...]) -> Tensor:
    if isinstance(importance, Tensor):
        if tuple(importance.shape) != window:
            raise ValueError(f"weights of {tuple(importance.shape)} do not fit a window of {window}")
        return importance.float()
    return gaussian(window) if importance == "gaussian" else torch.ones(window)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One pass over one volume."""

    network: Network
    tiling: Tiling
    plan: Plan
    device: torch.device
    whole: bool  #: the answer has all channels in floats
    need: Callable[..., Memory]  #: of `classes`
    reducer: Reducer
    weights: Tensor
    sums_of_weights: torch.dtype
    _answer: Tensor | None = None

    @property
    def sums_device(self) -> torch.device:
        # What is not blended is not summed up, and its labels are small.
        host = self.plan.sums_on == "host" and self.plan.blending
        return torch.device("cpu") if host else self.device

    @property
    def answer_device(self) -> torch.device:
        host = self.plan.sums_on == "host" or (self.whole and self.plan.streaming)
        return torch.device("cpu") if host else self.device

    def look_at_limit(self, classes: int) -> None:
        """Raise `OverLimit` where a network of so many classes takes more than the plan allows."""
        if self.plan.limit is None:
            return
        need = self.need(classes=classes)
        if need.device > self.plan.limit.device or need.host > self.plan.limit.host:
            raise OverLimit(need, self.plan.limit)

    def over(self, volume: Tensor) -> Tensor:
        """The answer on the padded grid of `volume` (C, …)."""
        plan = self.plan
        # Where all logits are kept, and where the sums are, a slab beside them would only be on top.
        streaming = plan.streaming and not (self.whole and self.sums_device.type == "cpu")
        axis = self.tiling.long_axis if streaming else 0
        depth = self.tiling.window[axis] if streaming else self.tiling.size[axis]
        sums: Slab | None = None
        weights = self.weights.to(self.sums_device)
        weights_of_sums = weights.to(plan.sums)
        for place, logits in self._logits(volume, self.tiling.places(axis)):
            if not plan.blending:
                owned = self.tiling.owned(place)
                within = tuple(
                    slice(part.start - first, part.stop - first)
                    for part, first in zip(owned, place, strict=True)
                )
                self._keep(owned, self.reducer(part_of(logits, within).clone()))
                continue
            if sums is None:
                sums = Slab(
                    logits.shape[0],
                    self.tiling.size,
                    axis=axis,
                    depth=depth,
                    dtype=plan.sums,
                    device=self.sums_device,
                    dtype_of_weights=self.sums_of_weights,
                )
            if streaming:
                self._finish(axis, sums.advance(place[axis]))
            # Where nnU-Net's rounding is wanted logits stay as they come.
            part = logits if self.sums_of_weights == plan.sums else logits.to(plan.sums)
            sums.add(place, part, weights_of_sums, weights)
        if sums is not None:
            self._finish(axis, sums.rest())
        assert self._answer is not None
        return self._answer

    def _finish(self, axis: int, parts: Iterator[tuple[slice, Tensor, Tensor]]) -> None:
        for planes, sums, weights in parts:
            where = tuple(planes if at == axis else slice(None) for at in range(len(self.tiling.size)))
            # In the type of the sums: with any other, all of them would be turned into it beside themselves.
            self._keep(where, self.reducer(sums.div_(weights.to(sums.dtype))))

    def _keep(self, where: tuple[slice, ...], part: Tensor) -> None:
        size = self.tiling.size
        axes = len(size)
        if self._answer is None:
            if tuple(part.shape[-axes:]) == size:
                self._answer = part.to(self.answer_device)  # All of it at once: no second copy.
                return
            self._answer = torch.empty(
                (*part.shape[:-axes], *size), dtype=part.dtype, device=self.answer_device
            )
        part_of(self._answer, where).copy_(part)

    def _logits(self, volume: Tensor, places: list[Place]) -> Iterator[tuple[Place, Tensor]]:
        """(place, logits (K, window)) of every window, in order, on the device of the sums.

        Where a GPU computes and the host adds up, the next windows are on their way while these are added.
        """
        waiting: tuple[list[Place], _Arriving] | None = None
        for first in range(0, len(places), self.plan.batch):
            group = places[first : first + self.plan.batch]
            logits = self._forward(self._gather(volume, group))
            if first == 0:
                self.look_at_limit(logits.shape[1])
            arriving = _Arriving.of(logits, self.sums_device)
            del logits
            if not arriving.underway:
                yield from zip(group, arriving.there(), strict=True)
                tell(first + len(group), len(places))
                continue
            if waiting is not None:
                yield from zip(waiting[0], waiting[1].there(), strict=True)
                tell(first, len(places))
            waiting = group, arriving
        if waiting is not None:
            yield from zip(waiting[0], waiting[1].there(), strict=True)

    def _gather(self, volume: Tensor, group: list[Place]) -> Tensor:
        sides = self.tiling.window
        windows = [
            part_of(volume, [slice(at, at + side) for at, side in zip(place, sides, strict=True)])
            for place in group
        ]
        stacked = torch.stack(windows)  # (n, C, window)
        if stacked.device != self.device:
            if self.device.type == "cuda":
                stacked = stacked.pin_memory()
            stacked = stacked.to(self.device, non_blocking=True)
        if self.plan.channels_last and stacked.ndim in (4, 5):
            layout = torch.channels_last if stacked.ndim == 4 else torch.channels_last_3d
            stacked = stacked.contiguous(memory_format=layout)
        return stacked

    def _forward(self, windows: Tensor) -> Tensor:
        with _autocast(self.plan, self.device):
            logits = self.network(windows)
        if not isinstance(logits, Tensor) or (
            logits.shape[0] != windows.shape[0] or logits.shape[2:] != windows.shape[2:]
        ):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise BrokenModel(
                f"the network gave {given} for windows of {tuple(windows.shape)}: what is needed is "
                f"(n, classes, …) of the same size"
            )
        return logits


def _autocast(plan: Plan, device: torch.device) -> AbstractContextManager[object]:
    # bfloat16 on a CPU that does not have it took fifty times as long as float32.
    if plan.autocast is None or device.type == "cpu":
        return nullcontext()
    return torch.autocast(device.type, dtype=plan.autocast)


@dataclass(frozen=True, slots=True)
class _Arriving:
    """Logits (n, K, window) on their way to where the sums are."""

    logits: Tensor
    event: torch.cuda.Event | None

    @classmethod
    def of(cls, logits: Tensor, device: torch.device) -> "_Arriving":
        if logits.device.type != "cuda" or device.type != "cpu":
            return cls(logits.to(device=device), None)
        # Without pinned memory the copy would wait for the GPU, and the GPU for the sums.
        host = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        host.copy_(logits, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return cls(host, event)

    @property
    def underway(self) -> bool:
        return self.event is not None

    def there(self) -> Tensor:
        if self.event is not None:
            self.event.synchronize()
        return self.logits
