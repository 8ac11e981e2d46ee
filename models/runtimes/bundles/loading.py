"""From a bundle that was judged to one that is ready: its objects built, its weights in the network."""

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from monai.transforms import Compose
from torch import nn

from ledger.errors import SiteError
from models.contract import BrokenModel
from models.manifest import Manifest
from models.runtimes.bundles import retina
from models.runtimes.bundles.building import Builder
from models.runtimes.bundles.expressions import NotPlain
from models.runtimes.bundles.judgement import Bundle, plain_path
from models.runtimes.bundles.mending import HALF_PRECISION, REQUIRED, WEIGHTS
from models.runtimes.bundles.running import Loaded, quiet
from models.runtimes.bundles.scripts import Code, unmet_needs
from models.runtimes.bundles.weights import fit, missing, read_checkpoint


def load(bundle: Bundle, manifest: Manifest, folder: str, device: torch.device) -> Loaded:
    """Everything that running the bundle needs, on `device`, with its weights.

    A bundle that is code is run as code here: who calls has asked `models.trust` before.

    Raises `BrokenModel`, and `SiteError` where something has to be installed first.
    """
    builder, inside = prepared(bundle, folder, device)
    with inside(), quiet():
        try:
            network = weights(bundle, builder, network_of(bundle, builder)).to(device).eval()
            builder.get(REQUIRED)
            preprocessing = _chain(builder, "preprocessing")
            postprocessing = _chain(builder, "postprocessing")
            inferer = builder.get("inferer") if builder.has("inferer") else None
            half = builder.get(HALF_PRECISION)
            image_key = bundle.options.image_key or _image_key(bundle, builder)
        except NotPlain as error:
            raise BrokenModel(f"the bundle is code where it looked like data: {error}") from error
    return Loaded(
        network=network,
        preprocessing=preprocessing,
        inferer=inferer,
        postprocessing=postprocessing,
        image_key=image_key,
        keys=_keys(bundle, manifest, image_key),
        channels=_channels(bundle),
        half_precision=bool(half),
        device=device,
        extras=dict(bundle.options.extras),
        prompts=_prompts(bundle, manifest, inferer),
        inside=inside,
        notes=(*bundle.mended.notes, *builder.notes),
    )


def prepared(
    bundle: Bundle, folder: str, device: torch.device
) -> tuple[Builder, Callable[[], AbstractContextManager[None]]]:
    """What builds the bundle's parts, and the context in which its code can be imported meanwhile."""
    _refuse_unmet(bundle)
    code = _code_of(bundle) if bundle.reasons else None
    builder = Builder(
        tree=bundle.mended.tree,
        given={"bundle_root": folder, "device": device},
        open_checkpoint=functools.partial(_checkpoint, bundle, folder),
        trust=code,
    )
    if any("etinanet" in one.lower() for one in bundle.targets):
        retina.ready()
    return builder, code.importable if code else nullcontext


def network_of(bundle: Bundle, builder: Builder) -> nn.Module:
    """The bundle's network, without its weights. Raises `BrokenModel`."""
    network = builder.get(bundle.roots[0])
    if not isinstance(network, nn.Module):
        raise BrokenModel(f"the bundle's network is a {type(network).__name__}")
    return network


def weights(bundle: Bundle, builder: Builder, network: nn.Module) -> nn.Module:
    """`network` with the bundle's weights, or its TorchScript instead of it. Raises `BrokenModel`."""
    path = weights_path(bundle, builder)
    have = bundle.files.paths()
    if path not in have:
        archive = next(
            (one for one in ("models/model.ts", bundle.configuration.archive) if one in have), None
        )
        if archive is None or bundle.options.weights:
            raise missing(bundle.configuration, path)
        path = archive
    with bundle.files.open(path) as file:
        if path.endswith(".ts"):
            if not bundle.reasons:
                # TorchScript is a program; what was judged to be data may not turn into one here.
                raise BrokenModel(f"the bundle has only TorchScript ({path}) where its weights should be")
            return torch.jit.load(file, map_location="cpu")  # type: ignore[no-any-return,no-untyped-call]
        fit(network, read_checkpoint(file, path), path)
    return network


def weights_path(bundle: Bundle, builder: Builder) -> str:
    """Where in the bundle its weights are, as its own loader says or the manifest's options."""
    if bundle.options.weights:
        return bundle.options.weights
    if builder.has(WEIGHTS):
        return plain_path(str(builder.given["bundle_root"]), str(builder.get(WEIGHTS)))
    return "models/model.pt"


def _checkpoint(bundle: Bundle, folder: str, path: str) -> Any:
    inside = plain_path(folder, path)
    if inside not in bundle.files.paths():
        raise missing(bundle.configuration, inside)
    with bundle.files.open(inside) as file:
        return read_checkpoint(file, inside)


def _refuse_unmet(bundle: Bundle) -> None:
    """Raise `SiteError` or `BrokenModel` for what the bundle needs and cannot have."""
    needs = list(unmet_needs(bundle.files, bundle.targets))
    of_torchvision = any(one.rpartition(".")[2].startswith("TorchVision") for one in bundle.targets)
    if of_torchvision and find_spec("torchvision") is None:
        needs.append(f"needs the Python package torchvision, of the build for torch {torch.__version__}")
    for need in needs:
        if "numpy<2" in need:
            raise BrokenModel(f"the bundle {need}, and this is NumPy 2: ask its author for a newer one")
    if needs:
        raise SiteError(f"the bundle {'; '.join(needs)}: install what is missing beside Wetread")


def _code_of(bundle: Bundle) -> Code:
    listed = [bundle.mended.tree.get(name, []) for name in ("imports", "import")]
    statements = [one for some in listed for one in (some if isinstance(some, list) else [some])]
    return Code(
        bundle.files, [one[1:].strip() for one in statements if isinstance(one, str) and one.startswith("$")]
    )


def _chain(builder: Builder, id: str) -> Compose:
    if not builder.has(id):
        return Compose([])
    chain = builder.get(id)
    if chain is None:
        return Compose([])
    return chain if isinstance(chain, Compose) else Compose(chain)


def _image_key(bundle: Bundle, builder: Builder) -> str:
    """The bundle's `image_key`, else the only input of its metadata, else "image"."""
    if builder.has("image_key"):
        return str(builder.get("image_key"))
    inputs = list(bundle.configuration.inputs())
    return str(inputs[0]) if len(inputs) == 1 else "image"


def _keys(bundle: Bundle, manifest: Manifest, image_key: str) -> tuple[str, ...]:
    """What the bundle would have read: each series by its own name, or all of them as one image."""
    loaded = bundle.mended.loaded_keys
    names = tuple(one.name for one in manifest.inputs)
    if len(names) > 1 and set(names) <= set(loaded):
        return names
    known = [key for key in loaded if key not in ("label", "mask")]
    return (known[0] if known else image_key,)


def _channels(bundle: Bundle) -> int:
    """How many channels the network takes; 0 where neither it nor the metadata says."""
    network = bundle.mended.tree.get("network_def")
    for name in ("in_channels", "n_input_channels"):
        if isinstance(network, Mapping) and isinstance(network.get(name), int):
            return int(network[name])
    found = [
        one.get("num_channels") for one in bundle.configuration.inputs().values() if isinstance(one, Mapping)
    ]
    return found[0] if found and isinstance(found[0], int) else 0


def _prompts(bundle: Bundle, manifest: Manifest, inferer: object) -> tuple[int, ...]:
    """The classes to ask for, where the inferer takes a `class_vector`."""
    if bundle.options.prompts:
        return bundle.options.prompts
    if not callable(inferer) or "class_vector" not in inspect.signature(inferer).parameters:
        return ()
    return tuple(one.number if one.value is None else one.value for one in manifest.segments)
