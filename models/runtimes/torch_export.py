"""
A network that was written by `torch.export.save`: `.pt2`.

The file holds a graph of PyTorch's operators and its weights; it needs no Python of whoever made it. It is
a program nevertheless, and opened only where the site trusts it (see `models.trust`).
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from models.contract import BrokenModel
from models.runtimes.archives import Refused, look_at_archive
from models.runtimes.proposals import proposal
from models.runtimes.tensors.model import Forward, TensorModel
from models.runtimes.tensors.named import by_name


class TorchExport(TensorModel):
    """Implements `models.contract.Model`."""

    endings: ClassVar[tuple[str, ...]] = (".pt2",)
    # Exported graphs carry version counters that inference mode does not keep.
    _inference_mode: ClassVar[bool] = False

    def _opened(self, device: torch.device) -> Forward:
        path = self._file()
        with self.package.open(path) as file:
            try:
                look_at_archive(file, next(one.size for one in self.manifest.files if one.path == path))
                program = _loaded(file)
            except Refused as refused:
                raise BrokenModel(f"model {self.manifest.identity}: {path} {refused}") from refused
        if device.type != "cpu":
            program = move_to_device_pass(program, str(device))
        network: Any = program.module()
        self._module = network

        def forward(images: Tensor) -> Mapping[str, Tensor]:
            return by_name(network(images), self.manifest)

        return forward


def _loaded(file: Any) -> Any:
    logging.getLogger("torch.export").setLevel(logging.ERROR)  # It says which file of ours has no extras.
    try:
        return torch.export.load(file)
    except MemoryError:
        raise
    except Exception as error:  # Whatever a file can do to its reader, the file is to blame.
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise Refused(f"cannot be read as a program of torch.export: {text}") from error


def propose(folder: Path) -> dict[str, Any]:
    """What can be said of the `.pt2` in `folder` without running it."""
    return proposal(
        "torch_export",
        folder,
        TorchExport.endings,
        missing=(
            "Say in [options.prepare] what the network expects: orientation, spacing, intensity; a "
            ".pt2 does not.",
        ),
    )
