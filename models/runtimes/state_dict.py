"""
Weights in safetensors or a PyTorch checkpoint, and the name of the architecture that they are for.

The safest of all forms: the file holds numbers, the layers are MONAI's or Wetread's own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.contract import BrokenModel
from models.runtimes.architectures import Unfit, broken, network
from models.runtimes.archives import state_dict
from models.runtimes.proposals import proposal
from models.runtimes.tensors.model import Forward, TensorModel
from models.runtimes.tensors.named import by_name
from models.runtimes.tensors.options import TensorOptions, understood


class StateDictOptions(TensorOptions):
    """What only weights by themselves need."""

    architecture: str  #: a name in `models.runtimes.architectures`
    arguments: Mapping[str, Any] = {}
    weights_key: str = ""  #: where in the checkpoint the weights lie; empty: the usual places
    prefix: str = ""  #: taken off the names of the weights: "module.", "net."


class StateDict(TensorModel):
    """Implements `models.contract.Model`."""

    endings: ClassVar[tuple[str, ...]] = (".safetensors", ".pt", ".pth", ".ckpt")

    def _understood(self) -> StateDictOptions:
        return understood(self.manifest, StateDictOptions)

    def _opened(self, device: torch.device) -> Forward:
        options = self.options
        assert isinstance(options, StateDictOptions)
        weights = state_dict(self.package, self._file(), options.weights_key)
        if options.prefix:
            unlike = next((name for name in weights if not name.startswith(options.prefix)), None)
            if unlike is not None:
                raise BrokenModel(
                    f"model {self.manifest.identity}: the weight {unlike} does not begin with "
                    f"{options.prefix!r}"
                )
            weights = {name.removeprefix(options.prefix): one for name, one in weights.items()}
        try:
            net = network(options.architecture, options.arguments, weights).to(device)
        except Unfit as unfit:
            raise broken(self.manifest.identity, unfit) from unfit
        self._module = net

        def forward(images: Tensor) -> Mapping[str, Tensor]:
            return by_name(net(images), self.manifest)

        return forward


def propose(folder: Path) -> dict[str, Any]:
    """A file of weights does not say of which architecture they are."""
    return proposal(
        "state_dict",
        folder,
        StateDict.endings,
        missing=(
            "Say in [options] architecture and [options.arguments] which network the weights are for.",
            "Say in [options.prepare] what the network expects: orientation, spacing, intensity.",
        ),
    )
