"""Small networks with random weights, whose logits differ everywhere."""

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn


def unet(classes: int = 5, channels: int = 1, axes: int = 3, seed: int = 0) -> nn.Module:
    """A real MONAI UNet that looks at its whole neighbourhood."""
    torch.manual_seed(seed)
    return UNet(
        spatial_dims=axes,
        in_channels=channels,
        out_channels=classes,
        channels=(4, 8, 16),
        strides=(2, 2),
        num_res_units=1,
    ).eval()


class Mix(nn.Module):
    """A convolution to `classes` channels: as many as one likes, and cheap."""

    def __init__(self, classes: int, channels: int = 1, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.mix = nn.Conv3d(channels, classes, 3, padding=1)

    def forward(self, windows: Tensor) -> Tensor:
        mixed: Tensor = self.mix(windows)
        return mixed


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """A volume (C, …) that is neither constant nor white noise."""
    generator = torch.Generator().manual_seed(seed)
    volume = torch.randn(shape, generator=generator)
    for axis in range(1, volume.ndim):
        volume = volume + volume.roll(1, axis) + volume.roll(-1, axis)
    return volume / volume.std()
