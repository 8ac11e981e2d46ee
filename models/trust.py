"""
Whom a model has its trust from, and whether that is enough here.

A model is a program: TorchScript, an exported graph, a bundle's configuration and a container run what they
like. So what is code is opened only if it came with Wetread, if a key that the site trusts vouches for its
manifest (and so, by the digests in it, for every file), or if the site says that it needs no signature. A
network whose weights are plain numbers and whose layers are Wetread's or a library's own is data: it can be
wrong, but it cannot do anything else than compute.
"""

import importlib
from dataclasses import dataclass
from enum import StrEnum

from ledger.errors import SiteError
from models.manifest import Manifest
from models.package import Package
from models.settings import ModelsSettings
from models.signature import signed_by

#: Runtimes that read numbers only.
DATA_RUNTIMES = frozenset({"onnx", "state_dict", "nnunet"})


class NotTrusted(SiteError):
    """A model is code that nobody vouches for whom this site trusts."""


class LicenceKeyMissing(SiteError):
    """A model may be used only by who has a key for it, and this site declares none."""


class Level(StrEnum):
    """Where trust in a model comes from."""

    BUILT_IN = "built-in"
    SIGNED = "signed"
    DATA_ONLY = "data only"
    UNSIGNED_CODE = "unsigned code"


@dataclass(frozen=True, slots=True)
class Trust:
    """Where trust in a model comes from, and whose key it is that vouches for it."""

    level: Level
    key: str = ""  #: the name that the site gives to the key

    def __str__(self) -> str:
        return f"signed by {self.key}" if self.level is Level.SIGNED else self.level.value


BUILT_IN = Trust(Level.BUILT_IN)


def trust_of(package: Package, settings: ModelsSettings) -> Trust:
    """Computed anew from the files; nothing that a manifest says of itself counts."""
    if key := signed_by(package.folder, package.written, settings.trusted_keys):
        return Trust(Level.SIGNED, key)
    if package.manifest.runtime in DATA_RUNTIMES or _is_plain_bundle(package):
        return Trust(Level.DATA_ONLY)
    return Trust(Level.UNSIGNED_CODE)


def _is_plain_bundle(package: Package) -> bool:
    """Whether a MONAI bundle describes layers and transforms of MONAI, and brings no code of its own."""
    if package.manifest.runtime != "monai_bundle":
        return False
    try:
        # It reads the bundle's configuration, which nobody else of those who ask for trust needs.
        judgement = importlib.import_module("models.runtimes.bundles.judgement")
    except ImportError:
        return False
    return bool(judgement.is_data(package))


def check(manifest: Manifest, trust: Trust, settings: ModelsSettings) -> None:
    """Raise `NotTrusted` or `LicenceKeyMissing` where this site may not open the model."""
    if trust.level is Level.UNSIGNED_CODE and not settings.allow_unsigned:
        raise NotTrusted(
            f"model {manifest.identity} is code ({manifest.runtime}) without a signature of a key that this "
            "site trusts: have it signed (`wetread models sign`, [models] trusted_keys), or set "
            "allow_unsigned = true in [models] if you trust it as much as Wetread itself"
        )
    if manifest.licence_key and manifest.name not in settings.licensed:
        raise LicenceKeyMissing(
            f"model {manifest.identity} needs a licence key ({manifest.licence}): enter it as "
            f"{manifest.name} in [models.licence_keys]"
        )
