"""The models that stay loaded from one run to the next, and the device that they are on."""

from dataclasses import dataclass, field

import torch

from ledger.errors import SiteError
from models.contract import Model
from models.registry import find, open_found, open_model
from models.settings import BUILT_IN_ONLY, ModelsSettings


@dataclass(slots=True)
class Residents:
    """The models that stay loaded from one run to the next, all on one device, the latest used last."""

    device: str = "auto"
    at_most: int = 3  # A site has one or two; loading weights costs seconds, and keeping them costs the GPU.
    _models: dict[tuple[str, bool], Model] = field(default_factory=dict)

    def open(self, reference: str, *, allow_python: bool, models: ModelsSettings = BUILT_IN_ONLY) -> Model:
        """The model, loaded. Raises `UnknownModel`, `NotTrusted` and whatever its `load` raises."""
        # What a name means is looked up anew for every run: a newer version may be there by now.
        found = None if ":" in reference else find(reference, models)
        key = (found.key if found else reference, allow_python)
        model = self._models.pop(key, None)
        if model is None:
            if found is not None:
                model = open_found(found, models)
            else:
                model = open_model(reference, settings=models, allow_python=allow_python)
            while len(self._models) >= self.at_most:
                self._models.pop(next(iter(self._models))).unload()
            model.load(device_named(self.device))
        self._models[key] = model
        return model


class NoSuchDevice(SiteError):
    """Jobs shall run on a device that this machine does not have, or cannot use."""


def device_named(name: str) -> str:
    """The device that `name` stands for: "auto" is the first GPU, or the CPU where there is none.

    Raises `NoSuchDevice`.
    """
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    device = {"auto": (gpus or ["cpu"])[0], "cuda": "cuda:0"}.get(name, name)
    if device not in ("cpu", *gpus):
        raise NoSuchDevice(
            f"there is no device {name!r} that could be used here, only {' and '.join(['cpu', *gpus])}"
        )
    return device
