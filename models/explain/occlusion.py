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
from models.prepare.tiling import Tiling, monai_starts, part_of
from models.prepare.windows import predict


def occlusion(
    subject: Explainable, channel: int, tile: Sequence[int], *, overlap: float = 0.5, batch: int = 4
) -> Tensor:
    """By how much the probability of `channel` falls: (…) of `subject.given`; below 0 where it rises.

    For a network that answers for every voxel, the probability is the mean over what it draws, in the window
    around the middle of that; elsewhere the map is 0.
    """
    with torch.no_grad():
        where = _looked_at(subject, channel)
        image = part_of(subject.given, where)
        sides = [min(pair) for pair in zip(tile, image.shape[1:], strict=True)]
        tiling = Tiling.of(image.shape[1:], sides, overlap, monai_starts)
        mask = subject.drawn(subject.network(image[None]), channel)[0] if subject.dense else None
        before = _score(subject, channel, image[None], mask)[0]
        hidden = image.float().mean()
        falls = torch.zeros(image.shape[1:], device=image.device)
        times = torch.zeros_like(falls)
        places = tiling.places()
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
        whole = torch.zeros(subject.given.shape[1:], device=image.device)
        part_of(whole, where).copy_(falls / times)
        return whole


def _score(subject: Explainable, channel: int, images: Tensor, mask: Tensor | None) -> Tensor:
    """(n,): the probability of `channel`, for a dense network its mean within `mask`."""
    probabilities = subject.probabilities(subject.network(images))[:, channel]
    if mask is None:
        return probabilities
    return probabilities[:, mask].mean(1) if mask.any() else probabilities.flatten(1).mean(1)


def _looked_at(subject: Explainable, channel: int) -> list[slice]:
    """All of the image, or where a dense network sees windows the one around the middle of what it draws."""
    shape = subject.given.shape[1:]
    if not (subject.dense and subject.window):
        return [slice(0, n) for n in shape]
    drawn = predict(
        subject.network,
        subject.given,
        window=subject.window,
        reduce=lambda logits: subject.drawn(logits[None], channel)[0],
        plan=subject.plan,
    )
    filled = drawn.nonzero().float()
    middle = filled.mean(0) if len(filled) else torch.tensor(shape) / 2
    where = []
    for at, wanted, n in zip(middle.tolist(), subject.window, shape, strict=True):
        side = n if wanted <= 0 else min(wanted, n)
        first = min(max(round(at - side / 2), 0), n - side)
        where.append(slice(first, first + side))
    return where
