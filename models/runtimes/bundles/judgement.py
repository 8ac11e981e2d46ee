"""
Whether a bundle is data or code, decided before anything of it is built, and without torch or MONAI.

It is data where everything that running it needs is in the tables of `targets` and `expressions`, and its
weights are a checkpoint of tensors. What running it does not need (the lists of files and the engine of the
command line, scripts for training) is never looked at by Python, so it does not count.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from models.contract import BrokenModel
from models.package import Package
from models.runtimes.bundles import building
from models.runtimes.bundles.configuration import Configuration, Files, Installed, read_configuration
from models.runtimes.bundles.mending import REQUIRED, WEIGHTS, Mended, mend

#: What is used instead of the bundle's own word.
GIVEN = ("bundle_root", "device")


class Options(BaseModel, frozen=True, extra="forbid"):
    """`[options]` of a manifest whose runtime is `monai_bundle`."""

    config: str = ""  #: the configuration; none: `configs/inference` in JSON or YAML
    weights: str = ""  #: the checkpoint; none: the one that the bundle's own loader takes
    overrides: Mapping[
        str, Any
    ] = {}  #: id in the configuration → value: {"displayable_configs::highres": false}
    image_key: str = ""  #: what the network is shown, by the bundle's name for it; none: "image"
    extras: Mapping[str, Any] = {}  #: what is given to the preprocessing beside the images
    prompts: tuple[
        int, ...
    ] = ()  #: classes that a network with prompts is asked for; none: all of the segments
    activation: Literal["none", "softmax", "sigmoid"] = (
        "none"  #: of classes, after the bundle's postprocessing
    )
    boxes: tuple[str, str, str] = (
        "box",
        "label",
        "label_scores",
    )  #: where a detector puts boxes, classes, scores

    @classmethod
    def of(cls, package: Package) -> "Options":
        """Those of the manifest. Raises `BrokenModel`."""
        try:
            return cls.model_validate(dict(package.manifest.options))
        except ValidationError as error:
            raise BrokenModel(
                f"model {package.manifest.identity}: its options are none of a MONAI bundle: {error}"
            ) from error


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle, mended and judged, of which nothing is built yet."""

    files: Files
    configuration: Configuration
    mended: Mended
    options: Options
    roots: tuple[str, ...]  #: the ids that running it needs
    reasons: tuple[str, ...] = field(default=())  #: why it is code, as sentences; none: it is data

    @property
    def targets(self) -> tuple[str, ...]:
        """What running it builds and calls."""
        return building.targets(self.mended.tree, self.roots, GIVEN)


def opened(files: Files, options: Options, *, classifies: bool) -> Bundle:
    """The bundle, judged. Raises `BrokenModel`; runs nothing of it."""
    configuration = read_configuration(files, options.config)
    tree = dict(configuration.tree)
    for id, value in options.overrides.items():
        tree = _with(tree, id.replace("#", "::").split("::"), value)
    mended = mend(tree, classifies=classifies)
    network = "network" if "network" in mended.tree else "network_def"
    if network not in mended.tree:
        raise BrokenModel(
            f"the bundle's configuration {configuration.path} has no network_def: is it for inference?"
        )
    wanted = (network, REQUIRED, "preprocessing", "inferer", "postprocessing")
    roots = tuple(id for id in wanted if id in mended.tree)
    reasons = building.judge(mended.tree, (*roots, *((WEIGHTS,) if WEIGHTS in mended.tree else ())), GIVEN)
    archive = options.weights or configuration.archive or ""
    if archive.endswith(".ts") or _only_torchscript(files, mended, options):
        reasons = (*reasons, "its weights are TorchScript, which is code")
    return Bundle(files, configuration, mended, options, roots, reasons)


def of_package(package: Package) -> Bundle:
    """The bundle of an installed model. Raises `BrokenModel`; runs nothing of it."""
    classifies = bool(package.manifest.classes) and "detection" not in package.manifest.tasks
    return opened(Installed(package), Options.of(package), classifies=classifies)


def is_data(package: Package) -> bool:
    """Whether running the bundle runs no code but Wetread's and MONAI's own."""
    try:
        return not of_package(package).reasons
    except Exception:  # What cannot be read or judged, for whatever reason, is not vouched for either.
        return False


def plain_path(root: str, path: str) -> str:
    """A path of the bundle, relative to it: without `./` and without the folder that it lies in."""
    path = path.removeprefix(f"{root}/") if root else path
    return posixpath.normpath(path)


def _only_torchscript(files: Files, mended: Mended, options: Options) -> bool:
    """Whether the only weights that there are would be a `model.ts`."""
    have = files.paths()
    return (
        not options.weights
        and "models/model.ts" in have
        and not any(path.endswith((".pt", ".pth")) for path in have)
    )


def _with(tree: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of `tree` with `value` at `path`."""
    key, *rest = path
    if not rest:
        return {**tree, key: value}
    below = tree.get(key)
    if isinstance(below, list) and rest[0] in map(str, range(len(below))):
        items = {str(index): one for index, one in enumerate(below)}
        return {**tree, key: list(_with(items, rest, value).values())}
    if not isinstance(below, dict):
        raise BrokenModel(
            f"the overrides name {'::'.join(path)!r}, which the bundle's configuration does not have"
        )
    return {**tree, key: _with(below, rest, value)}
