"""
A network that was written by `torch.jit.save`: loaded, never made.

PyTorch calls TorchScript deprecated, and says so whenever it is touched; people have such files, and they
work. A TorchScript file is a program, and opened only where the site trusts it (see `models.trust`).
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.contract import BrokenModel
from models.runtimes.archives import Refused, look_at_archive
from models.runtimes.proposals import proposal
from models.runtimes.tensors.model import Forward, TensorModel
from models.runtimes.tensors.named import by_name


class TorchScript(TensorModel):
    """Implements `models.contract.Model`."""

    endings: ClassVar[tuple[str, ...]] = (".ts", ".torchscript", ".pt")

    def _opened(self, device: torch.device) -> Forward:
        path = self._file()
        with self.package.open(path) as file:
            try:
                size = next(one.size for one in self.manifest.files if one.path == path)
                names = look_at_archive(file, size, programs=True)
                network = _loaded(file, names, device)
            except Refused as refused:
                raise BrokenModel(f"model {self.manifest.identity}: {path} {refused}") from refused

        def forward(images: Tensor) -> Mapping[str, Tensor]:
            return by_name(network(images), self.manifest)

        return forward


def _loaded(file: Any, names: tuple[str, ...], device: torch.device) -> Any:
    if "constants.pkl" not in names:
        raise Refused("is not a TorchScript program: weights alone have the runtime state_dict")
    try:
        with _deprecation_is_known():
            return torch.jit.load(file, map_location=device).eval()  # type: ignore[no-untyped-call]
    except MemoryError:
        raise
    except Exception as error:  # Whatever a file can do to its reader, the file is to blame.
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise Refused(f"cannot be read as a TorchScript program: {text}") from error


@contextmanager
def _deprecation_is_known() -> Iterator[None]:
    """Whoever has only this file cannot do anything about the warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=FutureWarning)
        yield


def propose(folder: Path) -> dict[str, Any]:
    """What can be said of the TorchScript file in `folder` without running it."""
    return proposal(
        "torchscript",
        folder,
        TorchScript.endings,
        missing=(
            "Say in [options.prepare] what the network expects: orientation, spacing, intensity; the "
            "file does not.",
            "TorchScript is deprecated: where you have the network's code, save it with torch.export "
            "instead.",
        ),
    )
