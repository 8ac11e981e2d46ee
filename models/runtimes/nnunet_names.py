"""
Which names in an nnU-Net folder its own package may look up.

nnU-Net turns names of the plans into Python objects (`pydoc.locate`, and a search of its modules) and calls
them with what the plans say: a name such as `torch.hub.load` runs a program. So each of them is looked at
before nnU-Net sees it, and only names of its networks, of PyTorch's layers and of its own classes pass.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from models.runtimes.nnunet_plans import NotPlans, inherited

_NETWORK = re.compile(
    r"dynamic_network_architectures\.architectures\.[a-z0-9_]{1,64}\."
    r"(PlainConvUNet|ResidualEncoderUNet|ResidualUNet|Primus(V[23])?[XSBML]?)"
)
_LAYER = re.compile(
    r"torch\.nn\.(modules\.(conv|batchnorm|instancenorm|normalization|activation|dropout|linear)\.)?"
    r"(Conv[123]d|InstanceNorm[123]d|BatchNorm[123]d|GroupNorm|LayerNorm|Dropout[123]?d?|AlphaDropout|Identity"
    r"|LeakyReLU|ReLU|ReLU6|PReLU|ELU|SELU|CELU|GELU|SiLU|Mish|Hardswish|Softplus|Tanh|Sigmoid)"
)
_POOLS = frozenset({"conv", "avg", "max"})  #: how an encoder strides; nnU-Net looks none of them up

#: What nnU-Net looks for in modules of its own package, and of the trainers that the site gave it: the words
#: that its own names have, so that none reaches what such a module has imported.
_TRAINER = re.compile(r"\w{0,100}Trainer\w{0,100}", re.ASCII)
_MANAGER = re.compile(r"\w{0,100}LabelManager\w{0,100}", re.ASCII)
_PREPROCESSOR = re.compile(r"\w{0,100}Preprocessor\w{0,100}", re.ASCII)
_NORMALISER = re.compile(r"\w{0,100}Normalization\w{0,100}", re.ASCII)
_RESAMPLING = re.compile(r"resample_\w{1,100}|no_resampling_hack", re.ASCII)


def looked_at(plans: Mapping[str, Any], name: str, trainer: str) -> dict[str, Any]:
    """The plans with the configuration `name` alone, of which nnU-Net may look up every name.

    Raises `NotPlans` where it may not.
    """
    try:
        chosen = inherited(plans["configurations"], name)
        chosen.pop("inherits_from", None)
        _known(trainer, _TRAINER, "trainer")
        _known(plans.get("label_manager", "LabelManager"), _MANAGER, "label manager")
        _known(chosen.get("preprocessor_name", "DefaultPreprocessor"), _PREPROCESSOR, "preprocessor")
        for scheme in chosen["normalization_schemes"]:
            _known(scheme, _NORMALISER, "normalization")
        for what in ("data", "probabilities", "seg"):
            if (function := chosen.get(f"resampling_fn_{what}")) is not None:
                _known(function, _RESAMPLING, f"resampling of {what}")
        if "architecture" in chosen:
            _architecture(chosen["architecture"])
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        if isinstance(error, NotPlans):
            raise
        raise NotPlans(f"plans.json lacks or garbles {error}") from error
    return {**plans, "configurations": {name: chosen}}


def _architecture(architecture: Mapping[str, Any]) -> None:
    _known(architecture["network_class_name"], _NETWORK, "network")
    arguments = architecture["arch_kwargs"]
    for key in architecture["_kw_requires_import"]:
        if arguments[key] is not None:
            _known(arguments[key], _LAYER, f"{key} of the network")
    # Trainers look up layers by themselves, so that no text passes that only might be one.
    for key, text in _texts(arguments):
        if not (key == "pool" and text in _POOLS):
            _known(text, _LAYER, f"{key} of the network")


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, Mapping):
        for below, value in node.items():
            yield from _texts(value, below)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, key)


def _known(name: object, known: re.Pattern[str], what: str) -> None:
    if not isinstance(name, str) or known.fullmatch(name) is None:
        raise NotPlans(
            f"its {what} is {str(name)[:100]!r}, which is no name of nnU-Net's or of a layer of PyTorch: "
            f"it could be any program, so it is not looked up"
        )
