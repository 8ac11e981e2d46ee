"""
A manifest for a bundle that has none yet, from what its metadata says, with what only a person can say.

Metadata is written by hand: labels are misspelt, tasks are copied from another bundle, channels are named
"image". So what is proposed is a beginning, and every guess is told in a sentence. Nothing of the bundle is
run for it.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.contract import BrokenModel
from models.runtimes.bundles import building
from models.runtimes.bundles.configuration import Configuration, Files, Folder
from models.runtimes.bundles.evaluation import evaluate
from models.runtimes.bundles.expressions import Expression, NotPlain
from models.runtimes.bundles.judgement import GIVEN, Bundle, Options, opened
from models.runtimes.bundles.scripts import unmet_needs
from models.structures import key_of

_MODALITIES = {
    "CT": "CT",
    "MR": "MR",
    "MRI": "MR",
    "MAMMOGRAM": "MG",
    "MG": "MG",
    "DX": "DX",
    "CR": "CR",
    "US": "US",
}
_NOT_IMAGES = {"noise", "tuples", "timesteps", "feature"}
_BY_HAND = re.compile(r"signal|mask|click|guidance", re.IGNORECASE)
_LICENCES = {"Apache License": "Apache-2.0", "MIT License": "MIT", "BSD 3-Clause": "BSD-3-Clause"}


def propose(folder: Path) -> dict[str, Any]:
    """`manifest`: fields for the bundle in `folder`; `missing`: sentences on what is to be filled in.

    Files and their digests are left to who installs it. Raises `BrokenModel` where it is no bundle, or none
    that finds anything in an image.
    """
    files = Folder(folder)
    bundle = opened(files, Options(), classifies=False)
    refuse_unsuitable(bundle)
    said = bundle.configuration
    task = _task(said)
    inputs, given, missing = _inputs(bundle)
    options: dict[str, Any] = {}
    extras = _no_clicks(bundle)
    if extras:
        options["extras"] = extras
    manifest: dict[str, Any] = {
        "name": _name(folder.name),
        "version": str(said.metadata.get("version", "0")),
        "title": str(said.metadata.get("name") or said.metadata.get("task") or folder.name),
        "licence": _licence(files, missing),
        "intended_use": str(said.metadata.get("intended_use") or said.metadata.get("description") or ""),
        "limits": ["Quality on the images of this site is not known."],
        "runtime": "monai_bundle",
        "tasks": [task],
        "given": given,
        "inputs": inputs,
        "time_limit_s": 600,
        "memory_mib": 8192,
        "accuracy": list(_accuracy(said)),
    }
    missing.append("time_limit_s and memory_mib are guesses: `wetread models test` measures both")
    if task == "segmentation":
        segments, overrides = _segments(bundle, folder.name, missing)
        manifest["segments"] = segments
        if overrides:
            options["overrides"] = overrides
    elif task in ("classification", "detection"):
        manifest["classes"] = list(_classes(bundle, task, missing))
        if task == "classification":
            options["activation"] = _activation(bundle)
    elif task == "landmarks":
        missing.append("say under points what each landmark is, with its site")
    if options:
        manifest["options"] = options
    if bundle.reasons:
        missing.append(f"the bundle is code, so it needs a signature or allow_unsigned: {bundle.reasons[0]}")
    missing += [
        f"the bundle lacks {one}" for one in said.lacking(files.paths()) if one.path.startswith("models/")
    ]
    return {"manifest": manifest, "missing": missing}


def refuse_unsuitable(bundle: Bundle) -> None:
    """Raise `BrokenModel` for a bundle that finds nothing in an image, or needs a hand to show it where."""
    inputs = bundle.configuration.inputs()
    kinds = [str(one.get("type")) for one in inputs.values() if isinstance(one, Mapping)]
    old = [need for need in unmet_needs(bundle.files, bundle.targets) if "numpy<2" in need]
    if old:
        raise BrokenModel(f"the bundle {old[0]}, and this is NumPy 2: ask its author for a newer one")
    if any(kind in _NOT_IMAGES for kind in kinds):
        raise BrokenModel("the bundle makes images from noise; it finds nothing in an image")
    if not bundle.mended.loaded_keys and not bundle.mended.array_style:
        raise BrokenModel(
            "the bundle reads no image that could be given to it in memory: it needs files of its own kind"
        )
    for one in inputs.values():
        names = list(one.get("channel_def", {}).values()) if isinstance(one, Mapping) else []
        by_hand = [str(name) for name in names if _BY_HAND.search(str(name))]
        if by_hand:
            raise BrokenModel(f"the bundle needs what a person draws beside the image: {', '.join(by_hand)}")
    if bundle.mended.array_style:
        raise BrokenModel(
            "the bundle's preprocessing takes one image without a name; it needs one by dictionary"
        )
    for output in bundle.configuration.outputs().values():
        if isinstance(output, Mapping) and output.get("format") in ("image", "magnitude"):
            raise BrokenModel("the bundle makes an image of an image; it finds nothing in it")


def _task(said: Configuration) -> str:
    output = next((one for one in said.outputs().values() if isinstance(one, Mapping)), {})
    shape = output.get("spatial_shape")
    kind, form = str(output.get("type")), str(output.get("format"))
    if kind == "object" or "detection" in str(said.metadata.get("task", "")).lower().split():
        return "detection"
    if form == "points":
        return "landmarks"
    if form in ("classes", "classification") or (
        isinstance(shape, list) and len(shape) == 2 and shape[0] == 1
    ):
        return "classification"
    return "segmentation"


def _inputs(bundle: Bundle) -> tuple[list[dict[str, Any]], str, list[str]]:
    """The inputs, what the model is given, and what to check."""
    missing: list[str] = []
    said = next((one for one in bundle.configuration.inputs().values() if isinstance(one, Mapping)), {})
    modality = _MODALITIES.get(str(said.get("modality", "")).upper())
    if modality is None:
        modality = "XC" if said.get("format") == "RGB" else "OT"
        missing.append(
            f"say under inputs which modality it takes: {said.get('modality')!r} is none of DICOM's"
        )
    keys = [key for key in bundle.mended.loaded_keys if key != "label"]
    channels = said.get("channel_def")
    names = [str(one) for one in channels.values()] if isinstance(channels, Mapping) else []
    flat = len(said.get("spatial_shape") or ()) == 2 and "SliceInferer" not in bundle.targets
    if len(keys) > 1:
        names = keys
    elif len(names) < 2 or said.get("format") == "RGB" or flat:
        return [{"modality": [modality]}], "image" if flat else "volume", missing
    missing.append(
        f"say under inputs, by description or attributes, which is which ({', '.join(names)}); all have to "
        f"be registered with the first"
    )
    return [{"name": _name(name), "modality": [modality]} for name in names], "series", missing


def _segments(bundle: Bundle, source: str, missing: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The segments, and what to override so that channels that overlap stay apart."""
    labels = _labels(bundle.configuration)
    if askable := _askable(bundle):
        labels = {value: name for value, name in labels.items() if value in askable}
    apart = bool(labels) and not any(name.lower() == "background" for name in labels.values())
    segments = []
    for number, (value, name) in enumerate(
        ((value, name) for value, name in labels.items() if name.lower() != "background"), start=1
    ):
        structure = key_of(name, source)
        segment: dict[str, Any] = (
            {"number": number, "structure": structure} if structure else {"number": number, "label": name}
        )
        if value != number:
            segment["value"] = value
        if structure is None:
            missing.append(f"say under segments what {name!r} is: it needs a category and a kind")
        segments.append(segment)
    if not segments:
        missing.append("say under segments what the labels are: the metadata has no channel_def")
    return segments, dict(_kept_apart(bundle)) if apart else {}


def _kept_apart(bundle: Bundle) -> Iterator[tuple[str, bool]]:
    """Overrides that switch off what joins channels, after they were decided each for itself."""
    tree = bundle.configuration.tree
    chain = tree.get("postprocessing")
    transforms = chain.get("transforms") if isinstance(chain, Mapping) else None
    decided = False
    for index, one in enumerate(transforms if isinstance(transforms, list) else []):
        target = str(one.get("_target_", "")) if isinstance(one, Mapping) else ""
        if decided and target.rpartition(".")[2].startswith("Lambda"):
            yield f"postprocessing::transforms::{index}::_disabled_", True
        decided |= target.rpartition(".")[2].startswith("AsDiscrete") and "threshold" in one


def _askable(bundle: Bundle) -> set[int]:
    """The classes that a network with prompts draws of itself; empty where it names none."""
    listed = bundle.mended.tree.get("everything_labels")
    if not isinstance(listed, str) or not listed.startswith("$"):
        return set()
    try:
        return {int(one) for one in evaluate(Expression.parse(listed[1:]), lambda id: None)}
    except (NotPlain, TypeError, ValueError):
        return set()


def _classes(bundle: Bundle, task: str, missing: list[str]) -> Iterator[dict[str, Any]]:
    labels = _labels(bundle.configuration) if task == "classification" else {}
    if not labels:
        labels = {0: "finding"}
        missing.append("say under classes what is detected or told apart: the metadata does not")
    for index, name in labels.items():
        missing.append(f"say under classes what {name!r} is: it needs the code of a finding")
        yield {"index": index, "label": name}


def _labels(said: Configuration) -> dict[int, str]:
    """Output value → name, of `channel_def` or, as some have it, `label_def`."""
    for output in said.outputs().values():
        names = output.get("channel_def", output.get("label_def")) if isinstance(output, Mapping) else None
        if isinstance(names, Mapping):
            return {int(key): str(name) for key, name in names.items() if str(key).isdecimal()}
    return {}


def _activation(bundle: Bundle) -> str:
    """What the network's output still needs to be probabilities, after the bundle's postprocessing."""
    for id, node in building.reachable(bundle.mended.tree, ["postprocessing"], GIVEN):
        target = node.get("_target_", "") if isinstance(node, Mapping) else ""
        if (
            id
            and str(target).rpartition(".")[2].startswith("Activations")
            and (node.get("softmax") or node.get("sigmoid"))
        ):
            return "none"
    return "softmax"


def _no_clicks(bundle: Bundle) -> dict[str, Any]:
    """DeepEdit without clicks draws by itself, but wants to be told that there are none."""
    labels = bundle.mended.tree.get("label_names")
    if isinstance(labels, Mapping) and any("AddGuidanceFromPoints" in one for one in bundle.targets):
        return {"guidance": {str(name): [] for name in labels}}
    return {}


def _accuracy(said: Configuration) -> Iterator[dict[str, Any]]:
    metrics = said.metadata.get("eval_metrics")
    for name, value in metrics.items() if isinstance(metrics, Mapping) else ():
        if isinstance(value, int | float):
            yield {
                "metric": str(name),
                "value": float(value),
                "data": str(said.metadata.get("data_source") or "not said"),
                "source": "the bundle's metadata.json",
            }


def _licence(files: Files, missing: list[str]) -> str:
    for path in files.paths():
        if path.upper() in ("LICENSE", "LICENCE", "LICENSE.TXT", "DOCS/LICENSE"):
            text = files.read(path).decode("utf-8", "replace")[:2000]
            for phrase, name in _LICENCES.items():
                if phrase.lower() in text.lower():
                    return name
    missing.append("say the licence: the bundle's weights may have another one than its text")
    return "not said"


def _name(text: str) -> str:
    """A name as manifests have it."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return name[:48] or "bundle"
