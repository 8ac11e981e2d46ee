"""
The second branch: a residual network that was trained from end to end, and whose answer is a sum as well.

    picture → ranks and local contrast → stem → three residual blocks of 48, 96 and 192 maps
            → evidence on 6 × 6 places → their mean

Convolutions of 3 × 3 with batch normalisation and identity paths (He et al., CVPR 2016). The first branch
(`network`) knows where in the film a texture lies; this one weighs all places alike.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PLACES_DEEP = 6
_WIDTHS = (32, 48, 96, 192)
_KEPT = 0.7  #: of the maps in training
_QUIET = 0.05  #: spread of ranks below which local contrast is not enlarged
_SQUARE = 4  #: pixels of a side of what neighbourhoods are made of


class Deep(nn.Module):
    """(n, 1, SEEN, SEEN) in 0 to 1 → (n,) logit."""

    def __init__(self) -> None:
        super().__init__()
        first, *others = _WIDTHS
        self.stem = nn.Conv2d(2, first, 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(first)
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in zip(_WIDTHS[:-1], others, strict=True)))
        self.speak = nn.Conv2d(_WIDTHS[-1], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The logit of pneumonia."""
        maps = self.maps(x).float().mean((2, 3), keepdim=True)
        maps = functional.dropout(maps, 1 - _KEPT, self.training)
        with torch.autocast(x.device.type, enabled=False):
            said: Tensor = self.speak(maps)
        return said[:, 0, 0, 0]

    def spoken(self, x: Tensor) -> Tensor:
        """(n, 1, PLACES_DEEP, PLACES_DEEP): evidence at each place; its sum is the logit."""
        said: Tensor = self.speak(self.maps(x).float())
        return said / PLACES_DEEP**2

    def maps(self, x: Tensor) -> Tensor:
        """(n, 192, PLACES_DEEP, PLACES_DEEP): what was found at each place."""
        with torch.autocast(x.device.type, enabled=False):
            x = torch.cat((4 * (x - 0.5), _contrast(x)), 1).contiguous(memory_format=torch.channels_last)
        found: Tensor = self.blocks(functional.relu(self.stem_norm(self.stem(x)), inplace=True))
        return found


class Block(nn.Module):
    """Two convolutions beside a path that only halves the side: (n, i, s, s) → (n, o, s/2, s/2)."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o)
        self.second, self.second_norm = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.path = nn.Conv2d(i, o, 2, 2, bias=False)
        nn.init.zeros_(self.second_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Both together."""
        y = functional.relu(self.first_norm(self.first(x)), inplace=True)
        return functional.relu(self.path(x) + self.second_norm(self.second(y)), inplace=True)


def _contrast(x: Tensor) -> Tensor:
    """Ranks without their local mean, in local standard deviations."""
    centred = x - _soft(x)
    return centred / (_soft(centred.square()).clamp_min(0).sqrt() + _QUIET)


def _soft(x: Tensor) -> Tensor:
    """Means of squares, those twice blurred, and brought back to the size of `x`."""
    small = functional.avg_pool2d(x, _SQUARE)
    for _ in range(2):
        small = functional.avg_pool2d(small, 3, 1, 1, count_include_pad=False)
    return functional.interpolate(small, scale_factor=_SQUARE, mode="bilinear", align_corners=False)
