"""Networks with random weights as a runtime would hand them over."""

import numpy as np
import torch
from monai.networks.nets import DenseNet, UNet
from torch import Tensor, nn

from models.explain.subject import Explainable
from tests.models.prepare.networks import smooth


def classifier(axes: int = 3, classes: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return DenseNet(
        spatial_dims=axes,
        in_channels=1,
        out_channels=classes,
        init_features=4,
        growth_rate=4,
        block_config=(2, 2),
    ).eval()


def segmenter(classes: int = 3) -> nn.Module:
    torch.manual_seed(2)
    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        channels=(4, 8, 16),
        strides=(2, 2),
        num_res_units=1,
    ).eval()


def unchanged(values: Tensor) -> np.ndarray:
    """`back` of a subject whose volume was not changed: (slice, row, column)."""
    three = values if values.ndim == 3 else values[None]
    return three.detach().numpy().astype(np.float32)


def of_classifier(axes: int = 3, **options) -> Explainable:
    module = classifier(axes)
    given = smooth(1, *((24, 20, 28) if axes == 3 else (40, 48)))
    usual = {"network": module, "labels": ("Mass", "Nodule", "Effusion"), "module": module}
    return Explainable(given=given, back=unchanged, **(usual | options))


def of_segmenter(**options) -> Explainable:
    module = segmenter()
    usual = {"labels": ("", "Liver", "Spleen"), "module": module, "dense": True}
    return Explainable(network=module, given=smooth(1, 24, 16, 20), back=unchanged, **(usual | options))


class Bright(nn.Module):
    """Says class 1 the surer the brighter one corner is."""

    def forward(self, images: Tensor) -> Tensor:
        corner = images[:, 0, :6, :6, :6].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(corner), corner], 1)
