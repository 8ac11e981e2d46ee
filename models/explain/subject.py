"""What a runtime gives to be explained: its network, and what the network looked at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.contract import Context, Given
from models.prepare.ladder import Plan

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainable:
    """A network with its input.

    `network` takes (n, C, …) and gives logits: (n, K) of the whole, or with `dense` (n, K, …) of every voxel.
    """

    network: Network
    given: Tensor  #: (C, …), prepared
    labels: tuple[str, ...]  #: of the K channels, as findings call them; empty: not reported, background
    back: Callable[
        [Tensor], NDArray[np.float32]
    ]  #: a map over `given` (…) → (slice, row, column) of the source
    module: nn.Module | None = None  #: whose layers can be looked into; None for TorchScript and ONNX
    others: tuple[Network, ...] = ()  #: the other networks of an ensemble
    dense: bool = False
    activation: Literal["softmax", "sigmoid"] = "softmax"
    thresholds: tuple[float, ...] = ()  #: of a dense sigmoid, ½ where there are none
    window: tuple[int, ...] = ()  #: of a dense network; empty: it sees all at once
    plan: Plan = field(default_factory=Plan)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(n, K, …)."""
        logits = logits.float()
        return torch.softmax(logits, 1) if self.activation == "softmax" else torch.sigmoid(logits)

    def drawn(self, logits: Tensor, channel: int) -> Tensor:
        """Where a dense network draws `channel`: (n, …) bool."""
        if self.activation == "softmax":
            return logits.argmax(1) == channel
        level = self.thresholds[channel] if self.thresholds else 0.5
        return torch.sigmoid(logits[:, channel].float()) >= level


@runtime_checkable
class Explaining(Protocol):
    """A model whose runtime lets it be explained."""

    def explainable(self, given: Given, context: Context) -> Explainable:
        """What findings on `given` came from. Raises as `run` does."""
