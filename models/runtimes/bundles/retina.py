"""
The two functions of torchvision that MONAI's RetinaNet asks for, where torchvision is not installed.

torchvision has to match torch to the build, and its wheel for the CPU is another one than PyPI's. Detection
in MONAI needs of it only how many layers to train and a way to get at the features between layers.
"""

from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from types import SimpleNamespace

from torch import Tensor, nn


class Between(nn.ModuleDict):
    """The layers of a network up to the last that is wanted, under their own names, so that weights fit."""

    def __init__(self, network: nn.Module, return_layers: Mapping[str, str]) -> None:
        kept: OrderedDict[str, nn.Module] = OrderedDict()
        left = set(return_layers)
        for name, layer in network.named_children():
            if not left:
                break
            kept[name] = layer
            left.discard(name)
        if left:
            raise ValueError(f"the network has no layers {', '.join(sorted(left))}")
        super().__init__(kept)
        self.wanted = dict(return_layers)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """What comes out of every wanted layer, by the name that was asked for."""
        found: dict[str, Tensor] = OrderedDict()
        for name, layer in self.items():
            features = layer(features)
            if name in self.wanted:
                found[self.wanted[name]] = features
        return found


def layers_to_train(
    is_trained: bool, trainable_backbone_layers: int | None, max_value: int, default_value: int
) -> int:
    """How many; nothing is trained here, so it is only a number that is handed on."""
    if not is_trained:
        return max_value
    return default_value if trainable_backbone_layers is None else trainable_backbone_layers


def ready() -> None:
    """Make MONAI's RetinaNet usable without torchvision; leave a torchvision that is there alone."""
    if find_spec("torchvision") is not None:
        return
    from monai.apps.detection.networks import retinanet_network  # noqa: PLC0415  a part of the extra
    from monai.networks.blocks import backbone_fpn_utils  # noqa: PLC0415

    retinanet_network._validate_trainable_layers = layers_to_train
    backbone_fpn_utils.torchvision_models = SimpleNamespace(
        _utils=SimpleNamespace(IntermediateLayerGetter=Between)
    )
