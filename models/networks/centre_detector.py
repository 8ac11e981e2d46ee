"""
A detector without anchors: where the centre of something is, and how large it is ("Objects as Points",
Zhou et al. 2019, https://arxiv.org/abs/1904.07850).

Small enough to be read in one sitting; a place for weights of one's own, and not the state of the art.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class CentreDetector(nn.Module):
    """Boxes of one image: `forward` gives boxes, scores and labels, the surest first."""

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        classes: int = 1,
        features: int = 16,
        *,
        stride: int = 2,
        at_most: int = 50,
    ) -> None:
        """A feature map at `stride` input voxels, from it a heat map for each class and the sides of a
        box.
        """
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
        self.spatial_dims, self.stride, self.at_most = spatial_dims, stride, at_most
        self.body = nn.Sequential(
            convolution(in_channels, features, 3, padding=1, stride=stride),
            nn.LeakyReLU(0.1),
            convolution(features, features, 3, padding=1),
            nn.LeakyReLU(0.1),
        )
        self.heat = convolution(features, classes, 1)
        self.sides = convolution(features, spatial_dims, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:  # (1, C, axes)
        """Boxes (box, low corner then high corner) in voxels from the first one's edge, scores, labels
        from 0.
        """
        features = self.body(image)
        heat = torch.sigmoid(self.heat(features))[0]  # (classes, axes / stride)
        pool = functional.max_pool2d if self.spatial_dims == 2 else functional.max_pool3d
        peaks = heat * (pool(heat[None], 3, stride=1, padding=1)[0] == heat)
        scores, where = peaks.flatten().topk(min(self.at_most, peaks.numel()))
        # Not `unravel_index`, which cannot be traced.
        places: list[Tensor] = []
        for size in reversed(peaks.shape[1:]):
            places.insert(0, where % size)
            where = torch.div(where, size, rounding_mode="floor")
        cells, labels = torch.stack(places, dim=1), where  # (box, axes), (box)
        sides = functional.softplus(self.sides(features))[0]  # (axes, axes / stride)
        extent = sides[(slice(None), *cells.T)].T * self.stride
        centre = (cells + 0.5) * self.stride
        return {
            "boxes": torch.cat([centre - extent / 2, centre + extent / 2], dim=1),
            "scores": scores,
            "labels": labels,
        }
