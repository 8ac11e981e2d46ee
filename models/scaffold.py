"""A new model to begin with: a valid folder for each runtime, and for Python one that runs as it is."""

import re
from pathlib import Path

from ledger.errors import SiteError
from models.registry import RUNTIMES


class CannotBegin(SiteError):
    """A new model cannot be written there."""


_HEAD = """\
# What this model is, to rules, reports and people. Every key: docs/models/manifest.md
name = "{name}"
version = "0.1.0"
title = "{title}"             # as a radiologist reads it
licence = "{licence}"
intended_use = "Research. {use} Not a medical device."
limits = ["Not validated on any data."]
runtime = "{runtime}"
{entry}tasks = ["segmentation"]
time_limit_s = 120.0          # it is killed after it
memory_mib = 1000             # on top of the volume; `wetread models test` measures it

[[inputs]]
modality = ["CT"]
# body_part = ["CHEST"]
# spacing_max_mm = 5.0        # thicker slices are refused
minimum_slices = 1

[[segments]]
number = 1
label = "{label}"
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
kind = {{ value = "38266002", scheme = "SCT", meaning = "Entire body" }}
# structure = "liver"         # instead of label, category and kind: a row of models/structures.toml
{more}"""

_CARD = """\
# {name}

What it does, in one sentence.

## For what, and for what not

Research. Not a medical device. Say here on which images it works, and on which it does not.

## How well

Nothing was measured yet. Say on what, against whom, and with which result.

## Where it comes from

Who made it, from which data, under which licence.
"""

_PYTHON = '''\
"""The whole body on CT: what is denser than air. Replace `run`; the rest may stay."""

import numpy as np

from models.contract import Context, Memory
from models.outputs import draw_labels, findings_of, with_volumes
from models.package import Package
from results.findings import Findings

THRESHOLD_HU = -300


class {entry}:
    """Made with its package: `package.open("weights.pt")` gives a file whose digest was looked at."""

    def __init__(self, package: Package) -> None:
        self.manifest = package.manifest

    def load(self, device: str) -> None:
        """Read weights, and put them on `device`: "cpu" or "cuda:0"."""

    def run(self, given, context: Context) -> Findings:
        """`given` is a highdicom.Volume: (slice, row, column), in Hounsfield units."""
        labels = (np.asarray(given.array) > THRESHOLD_HU).astype(np.uint8)
        drawn = with_volumes(draw_labels(self.manifest, labels), float(np.prod(given.spacing)))
        return findings_of(self.manifest, drawn=drawn)

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """The memory that a grid of `shape` takes, in bytes."""
        return Memory(host=8 * int(np.prod(shape)), device=0)

    def unload(self) -> None:
        """Give the memory back."""
'''

#: What else a runtime needs to be told, and which files belong beside the manifest.
_MORE = {
    "state_dict": (
        "weights.safetensors or weights.pt",
        '\n[options]\narchitecture = "UNet"\n[options.arguments]\nspatial_dims = 3\n'
        "in_channels = 1\nout_channels = 2\nchannels = [16, 32, 64]\nstrides = [2, 2]\n",
    ),
    "onnx": ("model.onnx", ""),
    "torch_export": ("model.pt2", ""),
    "torchscript": ("model.ts", ""),
    "monai_bundle": ("the folders configs and models of the bundle", ""),
    "nnunet": ("dataset.json, plans.json and the folders fold_0 … of a trained model", ""),
    "container": ("nothing: the image is named in [options]", ""),
    "python": ("", ""),
}


def begin(name: str, runtime: str, folder: Path) -> str:
    """Write a new model called `name` into `folder`; what to do next, in words. Raises `CannotBegin`."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,47}", name):
        raise CannotBegin(f"{name!r} cannot be the name of a model: small letters, digits and _, at most 48")
    if runtime not in RUNTIMES:
        raise CannotBegin(f"there is no runtime {runtime!r}; there are {', '.join(RUNTIMES)}")
    entry = "".join(word.capitalize() for word in name.split("_"))
    entry = entry if entry.isidentifier() else f"Model{entry}"
    files, more = _MORE[runtime]
    python = runtime == "python"
    text = _HEAD.format(
        name=name,
        title=f"{name.replace('_', ' ').capitalize()}",
        licence="Apache-2.0",
        use="Outlines the whole body on CT." if python else "Say what it does.",
        runtime=runtime,
        entry=f'entry = "{entry}"{" " * max(1, 20 - len(entry))}# the class in model.py\n' if python else "",
        label="Body",
        more=more,
    )
    try:
        folder.mkdir(parents=True)
        (folder / "manifest.toml").write_text(text, encoding="utf-8")
        (folder / "CARD.md").write_text(_CARD.format(name=name), encoding="utf-8")
        if python:
            (folder / "model.py").write_text(_PYTHON.replace("{entry}", entry), encoding="utf-8")
    except FileExistsError:
        raise CannotBegin(f"{folder} is there already and stays as it is") from None
    except OSError as error:
        raise CannotBegin(f"{folder} cannot be written: {error.strerror}") from error
    return "change model.py" if python else f"complete manifest.toml, and put beside it {files}"
