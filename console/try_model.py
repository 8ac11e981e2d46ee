"""`wetread models test`: a model on a phantom, and on a folder of DICOM, before it sees a patient."""

import tempfile
from pathlib import Path

from rich.console import Console

from console.run import run_folder
from console.trial import print_trial, try_on_phantom
from ledger.errors import SiteError
from models.registry import Found, find
from models.seal import sealed
from models.settings import ModelsSettings
from models.trust import trust_of


def try_model(
    reference: str,
    settings: ModelsSettings,
    device: str,
    console: Console,
    *,
    folder: Path | None = None,
    out: Path | None = None,
) -> None:
    """Try the model on a phantom, and on the DICOM files in `folder`; raises whatever goes wrong.

    `reference` is a name, or the folder of a model in the making: who names a folder trusts what is in it.
    """
    path = Path(reference)
    if "/" in reference and path.is_dir():
        if folder is not None:
            raise SiteError("--folder needs an installed model: `wetread models add` it first")
        package = sealed(path.resolve())
        found = Found(package.manifest, package, trust_of(package, settings))
        allowed = settings.model_copy(
            update={"allow_unsigned": True, "licensed": (*settings.licensed, package.manifest.name)}
        )
        print_trial(found, try_on_phantom(found, allowed, device), console)
        return
    found = find(reference, settings)
    print_trial(found, try_on_phantom(found, settings, device), console)
    if folder is not None:
        with tempfile.TemporaryDirectory(prefix="wetread-") as scratch:
            run_folder(reference, folder, out or Path(scratch), device, console, models=settings)
