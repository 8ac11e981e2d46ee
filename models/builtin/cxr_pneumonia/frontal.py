"""
The gate's last question: do light and dark lie as in a frontal view? A network of 15 000 weights answers it.

It was taught real frontal films, radiographs of phantoms from the front and from the side, drawings of other
things (hands, limbs, heads, bellies, breasts, shapes), and films turned, cut, shuffled and inverted. What
`Usual` cannot tell from a film, since coarse light and dark are alike, it can.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

LOOK = 32  #: pixels of the side of what it is given
_WIDTHS = (12, 24, 40)


class Frontal(nn.Module):
    """(n, 1, LOOK, LOOK) of ranks, 0 to 1 → (n,): above 0 more likely a frontal chest film than not."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        i = 1
        for o in _WIDTHS:
            layers += [nn.Conv2d(i, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
            layers += [nn.Conv2d(o, o, 3, 1, 1, groups=o, bias=False), nn.Conv2d(o, o, 1, bias=False)]
            layers += [nn.BatchNorm2d(o), nn.ReLU(), nn.AvgPool2d(2)]
            i = o
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.3)
        self.say = nn.Linear(i * (LOOK >> len(_WIDTHS)) ** 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The logit of a frontal chest film."""
        said: Tensor = self.say(self.drop(self.body(4 * (x - 0.5)).flatten(1)))
        return said[:, 0]

    def asked(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(n, SIDE, SIDE) standard pictures → (n,): the mean of a picture and its mirror image."""
        step = pictures.shape[-1] // LOOK
        given = torch.from_numpy(pictures)[:, None].to(self.say.weight.device)
        x = as_ranks(functional.avg_pool2d(given.float() / 255, step))
        with torch.inference_mode():
            return np.asarray(((self(x) + self(x.flip(-1))) / 2).double().cpu().numpy())


def as_ranks(x: Tensor) -> Tensor:
    """(n, 1, r, c) → the share of its pixels that are darker, for each picture by itself."""
    flat = x.flatten(1)
    order = flat.argsort(dim=1, stable=True).argsort(dim=1).float()
    return (order / (flat.shape[1] - 1)).reshape(x.shape)
