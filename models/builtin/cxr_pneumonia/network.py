"""The first branch: one layer of learned filters at two scales, what passes a threshold, weights on places.

    picture → local contrast → 64 filters of 8 × 8, fine and coarse → how far above (and below) a threshold
            → weights for each filter and each of 4 × 4 fields → evidence on 24 × 24 places → their sum

The filters are centres of clusters of whitened patches (Coates, Ng and Lee, AISTATS 2011), learned without
labels; the weights are a logistic regression. That is little enough to be trained on one processor core in
minutes, and every place's part of the answer can be read off: the sum of the evidence *is* the logit.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SEEN = 96  #: pixels of the side of what the network is given
FILTERS, PATCH, FIELDS, GREYS, PLACES = 64, 8, 4, 12, 24
THRESHOLD = 0.7  #: of a filter's answer, in its standard deviations
_WINDOW = 13  #: pixels of the side of a neighbourhood for local contrast, twice blurred
_QUIET = 0.05  #: spread of ranks below which local contrast is not enlarged


class Textures(nn.Module):
    """(n, 1, SEEN, SEEN) in 0 to 1 → (n, 1) logit."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, FILTERS, PATCH, 2, PATCH // 2 - 1)
        self.coarse = nn.Conv2d(1, FILTERS, PATCH, 2, PATCH // 2 - 1)
        self.fine_weight = nn.Parameter(torch.zeros(2 * FILTERS, FIELDS, FIELDS))
        self.coarse_weight = nn.Parameter(torch.zeros(2 * FILTERS, FIELDS, FIELDS))
        self.grey_weight = nn.Parameter(torch.zeros(GREYS, GREYS))
        self.usual = nn.Parameter(torch.zeros(PLACES, PLACES))  #: evidence of the mean film, taken off

    def forward(self, x: Tensor) -> Tensor:
        """The logit of pneumonia: what all places speak for it."""
        return self.spoken(x).sum((2, 3))

    def spoken(self, x: Tensor) -> Tensor:
        """(n, 1, PLACES, PLACES): evidence for (above 0) and against (below 0) pneumonia at each place."""
        fine, coarse = self.answers(x)
        grey = spread(self.grey_weight[None], PLACES) * functional.avg_pool2d(x, SEEN // PLACES)
        return (
            _weighed(fine, self.fine_weight) + _weighed(coarse, self.coarse_weight)
            + grey / (PLACES // GREYS) ** 2 - self.usual
        )  # fmt: skip

    def answers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 2 FILTERS, 48, 48) and (n, 2 FILTERS, 24, 24): above the threshold, then below its negative."""
        return (
            _beyond(self.fine(local_contrast(x))),
            _beyond(self.coarse(local_contrast(functional.avg_pool2d(x, 2)))),
        )

    def fields(self, x: Tensor) -> Tensor:
        """(n, features): what the weights are for, in the order of `fine_weight`, `coarse_weight`, grey."""
        fine, coarse = (functional.adaptive_avg_pool2d(one, FIELDS).flatten(1) for one in self.answers(x))
        return torch.cat((fine, coarse, functional.avg_pool2d(x, SEEN // GREYS).flatten(1)), 1)

    def weigh(self, weight: Tensor, mean: Tensor, offset: float) -> None:
        """Take over the weights of features (features,); `mean` of them is the film that speaks `offset`."""
        many = 2 * FILTERS * FIELDS**2
        with torch.no_grad():
            self.fine_weight.copy_(weight[:many].reshape(2 * FILTERS, FIELDS, FIELDS))
            self.coarse_weight.copy_(weight[many : 2 * many].reshape(2 * FILTERS, FIELDS, FIELDS))
            self.grey_weight.copy_(weight[2 * many :].reshape(GREYS, GREYS))
            spoken = weight * mean
            by_field = spoken[: 2 * many].reshape(-1, FIELDS, FIELDS).sum(0, keepdim=True)
            usual = spread(by_field, PLACES)[0] / (PLACES // FIELDS) ** 2
            grey = spoken[2 * many :].reshape(1, GREYS, GREYS)
            usual = usual + spread(grey, PLACES)[0] / (PLACES // GREYS) ** 2
            self.usual.copy_(usual - offset / PLACES**2)


def _weighed(answers: Tensor, weight: Tensor) -> Tensor:
    """(n, C, s, s) → (n, 1, PLACES, PLACES): means over fields by their weights, shared out to places."""
    side = answers.shape[-1]
    spoken = (answers * spread(weight, side)).sum(1, keepdim=True) / (side // FIELDS) ** 2
    step = side // PLACES
    return functional.avg_pool2d(spoken, step) * step**2 if step > 1 else spoken


def spread(weight: Tensor, side: int) -> Tensor:
    """(C, f, f) → (C, side, side), each field its own."""
    step = side // weight.shape[-1]
    return weight.repeat_interleave(step, -1).repeat_interleave(step, -2)


def _beyond(answer: Tensor) -> Tensor:
    return torch.cat((functional.relu(answer - THRESHOLD), functional.relu(-answer - THRESHOLD)), 1)


def local_contrast(x: Tensor) -> Tensor:
    """(n, 1, r, c) of ranks without their local mean, in local standard deviations."""
    centred = x - _blurred(x)
    return centred / (_blurred(centred.square()).clamp_min(0).sqrt() + _QUIET)


def _blurred(x: Tensor) -> Tensor:
    half = _WINDOW // 2
    for _ in range(2):  # Along one side, then the other: the same as a square, and several times faster.
        x = functional.avg_pool2d(x, (_WINDOW, 1), 1, (half, 0), count_include_pad=False)
        x = functional.avg_pool2d(x, (1, _WINDOW), 1, (0, half), count_include_pad=False)
    return x
