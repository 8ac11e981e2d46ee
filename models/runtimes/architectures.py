"""
Which architectures a manifest may name, and a network built from its name and arguments.

A name is looked up in a list and never imported as it stands, and arguments are numbers, words and lists of
them; so a manifest can ask for a network and for nothing else. Before memory is taken for it, its shapes are
compared with those of the weights.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ledger.errors import SiteError
from models.contract import BrokenModel

OURS = {"CentreDetector": "models.networks.centre_detector"}
MONAI = frozenset({
    "AHNet", "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "Classifier", "DAF3D", "DenseNet",
    "DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264", "DynUNet", "EfficientNetBN", "FlexibleUNet",
    "HighResNet", "MedNeXt", "Regressor", "RegUNet", "SegResNet", "SegResNetDS", "SegResNetVAE", "SENet154",
    "SEResNet50", "SEResNet101", "SEResNet152", "SEResNext50", "SEResNext101", "SwinUNETR", "UNETR", "UNet",
    "ViT", "VNet", "resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200",
})  # fmt: skip

_LARGEST_INTEGER = 16_384
_LONGEST = 256


class MonaiMissing(SiteError):
    """MONAI is not installed."""


class Unfit(ValueError):
    """Name, arguments or weights do not make a network; the message ends a sentence."""


def network(name: str, arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> nn.Module:
    """The architecture `name` with `weights`, ready to compute. Raises `Unfit` and `MonaiMissing`."""
    made = _architecture(name)
    _look_at(arguments)
    try:
        if "pretrained" in inspect.signature(made).parameters:
            arguments = {**arguments, "pretrained": False}  # Of some it is True where nothing is said.
        with torch.device("meta"):
            _compare(made(**arguments).state_dict(), weights)
        net: nn.Module = made(**arguments)
    except (Unfit, MemoryError):
        raise
    except Exception as error:  # An architecture may complain about its arguments in any way it likes.
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise Unfit(f"{name} does not take the arguments that it is given: {text}") from error
    net.load_state_dict(dict(weights), strict=True)
    return net.eval()


def _architecture(name: str) -> Any:
    if name in OURS:
        return getattr(importlib.import_module(OURS[name]), name)
    if name not in MONAI:
        raise Unfit(f"there is no architecture {name!r}: {', '.join(sorted(MONAI | set(OURS)))}")
    try:
        nets = importlib.import_module("monai.networks.nets")
    except ImportError as missing:
        raise MonaiMissing(
            f"the architecture {name} is one of MONAI's, and MONAI is not installed: pip install "
            "wetread[monai]"
        ) from missing
    return getattr(nets, name)


def _look_at(value: Any, name: str = "arguments", depth: int = 0) -> None:
    """Raise `Unfit` unless `value` is made of numbers and words of a sensible size."""
    match value:
        case bool() | float():
            if name.endswith("pretrained") and value:
                raise Unfit(f"{name} would fetch weights from elsewhere: they are in the model's own files")
        case int():
            if abs(value) > _LARGEST_INTEGER:
                raise Unfit(f"{name} is {value}, and no layer is larger than {_LARGEST_INTEGER}")
        case str():
            if len(value) > _LONGEST or "/" in value or "pretrained" in name:
                raise Unfit(f"{name} is {value[:40]!r}, and names of files or long words are not taken")
        case list() | tuple() if len(value) <= _LONGEST and depth < 4:
            for place, one in enumerate(value):
                _look_at(one, f"{name}[{place}]", depth + 1)
        case Mapping() if len(value) <= _LONGEST and depth < 4:
            for key, one in value.items():
                _look_at(one, str(key) if depth == 0 else f"{name}.{key}", depth + 1)
        case _:
            raise Unfit(f"{name} is no number, word or list that an architecture takes")


def _compare(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    lacking = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    other = [name for name in wanted if name in given and wanted[name].shape != given[name].shape]
    if not (lacking or unknown or other):
        return
    parts = [f"lack {_some(lacking)}"] if lacking else []
    parts += [f"have {_some(unknown)}, which it does not know"] if unknown else []
    if other:
        first = other[0]
        parts.append(
            f"have {first} of {tuple(given[first].shape)} where it needs {tuple(wanted[first].shape)}"
            + (f" and {len(other) - 1} more of another shape" if len(other) > 1 else "")
        )
    raise Unfit(f"the weights are not of this architecture with these arguments: they {', '.join(parts)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def broken(identity: str, unfit: Unfit) -> BrokenModel:
    """The error that says of which model it is."""
    return BrokenModel(f"model {identity}: {unfit}")
