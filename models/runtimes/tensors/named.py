"""The outputs of a network by name, whatever it returns them in."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models.contract import BrokenModel
from models.manifest import Manifest


def by_name(given: Any, manifest: Manifest) -> dict[str, Tensor]:
    """One tensor, several in a tuple or list, or tensors by name; lists of one (as detectors give) opened.

    Places become names: "0", "1", … Raises `BrokenModel`.
    """
    if isinstance(given, list | tuple) and len(given) == 1 and not isinstance(given[0], Tensor):
        given = given[0]
    if isinstance(given, Tensor):
        return {"0": given}
    if isinstance(given, Mapping):
        named = {str(name): one for name, one in given.items()}
    elif isinstance(given, list | tuple):
        named = {str(place): one for place, one in enumerate(given)}
    else:
        named = {}
    named = {name: one for name, one in named.items() if isinstance(one, Tensor)}
    if not named:
        raise BrokenModel(f"model {manifest.identity}: the network gave no tensor but {type(given).__name__}")
    return named
