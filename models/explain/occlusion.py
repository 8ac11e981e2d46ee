"""
Occlusion: by how much a probability falls when a part of the image is hidden.

Needs nothing of a network but its answer, so it works for TorchScript and ONNX, at the price of running the
network once for every tile. Hidden parts take the mean of the image; where tiles overlap their falls are
averaged. Equal to `monai.visualize.OcclusionSensitivity(mode="mean_img")`, as a fall instead of what is left.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.explain.subject import Explainable
from models.prepare.tiling import Padding, Tiling, monai_starts, part_of
from models.prepare.windows import predict


def occlusion(subject: Explainable, channel: int, tile: Sequence[int], *, overlap: float = 0.5) -> Tensor:
    """By how much the probability of `channel` falls: (…) of `subject.given`; below 0 where it rises.

    For a network that answers for every voxel, the probability is the mean over what it draws, in the window
    around the middle of that; elsewhere the map is 0. As many tiles go through the network at once as its
    plan has in a batch.
    """
    with torch.no_grad():
        # Windows that are larger than the image see it padded, as when findings were made.
        window = subject.window or (0,) * (subject.given.ndim - 1)
        around = Tiling.of(subject.given.shape[1:], window, 0.0, monai_starts)
        padded = around.pad(subject.given, Padding())
        where = _looked_at(subject, channel, around) if subject.dense else [slice(0, n) for n in around.size]
        falls = torch.zeros(around.size, device=padded.device)
        part_of(falls, where).copy_(_falls(subject, channel, part_of(padded, where), tile, overlap))
        return part_of(falls, around.unpadded(subject.given.shape[1:]))


def _falls(subject: Explainable, channel: int, image: Tensor, tile: Sequence[int], overlap: float) -> Tensor:
    """Of one `image` (C, …) that the network sees at once: (…)."""
    sides = [min(pair) for pair in zip(tile, image.shape[1:], strict=True)]
    tiling = Tiling.of(image.shape[1:], sides, overlap, monai_starts)
    mask = subject.drawn(subject.network(image[None]), channel)[0] if subject.dense else None
    before = _score(subject, channel, image[None], mask)[0]
    hidden = image.float().mean()
    falls = torch.zeros(image.shape[1:], device=image.device)
    times = torch.zeros_like(falls)
    places, batch = tiling.places(), subject.plan.batch
    for first in range(0, len(places), batch):
        parts = [
            [slice(at, at + side) for at, side in zip(place, tiling.window, strict=True)]
            for place in places[first : first + batch]
        ]
        images = image.expand(len(parts), *image.shape).clone()
        for one, part in zip(images, parts, strict=True):
            part_of(one, part).fill_(hidden)
        for part, score in zip(parts, _score(subject, channel, images, mask), strict=True):
            part_of(falls, part).add_(before - score)
            part_of(times, part).add_(1)
    return falls / times


def _score(subject: Explainable, channel: int, images: Tensor, mask: Tensor | None) -> Tensor:
    """(n,): the probability of `channel`, for a dense network its mean within `mask`."""
    probabilities = subject.probabilities(subject.network(images))[:, channel]
    if mask is None:
        return probabilities
    return probabilities[:, mask].mean(1) if mask.any() else probabilities.flatten(1).mean(1)


def _looked_at(subject: Explainable, channel: int, around: Tiling) -> list[slice]:
    """The window around the middle of what is drawn, on the padded grid; without windows all of it."""
    if around.window == around.size:
        return [slice(0, n) for n in around.size]
    drawn = predict(
        subject.network,
        subject.given,
        window=subject.window,
        reduce=lambda logits: subject.drawn(logits[None], channel)[0],
        plan=subject.plan,
    )
    filled = drawn.nonzero().float().cpu() + torch.tensor(around.before)
    middle = filled.mean(0) if len(filled) else torch.tensor(around.size) / 2
    first = [
        min(max(round(at - side / 2), 0), n - side)
        for at, side, n in zip(middle.tolist(), around.window, around.size, strict=True)
    ]
    return [slice(a, a + side) for a, side in zip(first, around.window, strict=True)]
