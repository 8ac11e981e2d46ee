"""
Both branches together: their evidence is added place by place, and its sum is the logit.

As the last layer is a convolution, Grad-CAM (`models.explain`) shows just that evidence.
"""

import torch
from torch import Tensor, nn

from models.builtin.cxr_pneumonia.deep import PLACES_DEEP, Deep
from models.builtin.cxr_pneumonia.network import PLACES, Textures, spread


class Both(nn.Module):
    """(n, 1, SEEN, SEEN) in 0 to 1 → (n, 1) logit."""

    def __init__(self) -> None:
        super().__init__()
        self.textures, self.deep = Textures(), Deep()
        self.shares = nn.Parameter(torch.ones(2))  #: of the first and the second branch
        self.usual = nn.Parameter(torch.zeros(PLACES, PLACES))  #: evidence of the mean film, taken off
        self.evidence = nn.Conv2d(1, 1, 1, bias=False)  #: changes nothing: it is where Grad-CAM looks
        nn.init.ones_(self.evidence.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The logit of pneumonia: what all places speak for it."""
        spoken: Tensor = self.evidence(self.spoken(x))
        return spoken.sum((2, 3))

    def spoken(self, x: Tensor) -> Tensor:
        """(n, 1, PLACES, PLACES): evidence for (above 0) and against (below 0) pneumonia at each place."""
        deep = spread(self.deep.spoken(x)[:, 0], PLACES)[:, None] / (PLACES // PLACES_DEEP) ** 2
        return self.shares[0] * self.textures.spoken(x) + self.shares[1] * deep - self.usual

    def centre(self, spoken: Tensor) -> None:
        """Take off what each place says of the mean film, (PLACES, PLACES); the sum stays as it was."""
        with torch.no_grad():
            self.usual.add_(spoken - spoken.mean())
