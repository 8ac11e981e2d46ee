"""
What a site says about models of its own: where they lie, and whom it trusts.

Free of torch, and handed from the settings file to every process that opens a model. The licence keys
themselves are not: who computes has to know that there is one, and nothing more.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel


class ModelsSettings(BaseModel, frozen=True, extra="forbid"):
    """The models of a site, as the processes that open them are told of them."""

    folder: Path | None = None  #: absolute: <name>/<version>/manifest.toml below it; None: built-in ones only
    allow_unsigned: bool = False  #: whether code is opened that no trusted key vouches for
    trusted_keys: Mapping[str, str] = {}  #: name → public ed25519 key, base64
    licensed: tuple[str, ...] = ()  #: names of the models for which the site has a licence key


BUILT_IN_ONLY = ModelsSettings()
