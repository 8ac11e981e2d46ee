"""
What `[options]` of a manifest says to an image: which one, what it is given, and what its files mean.

`convention` names where an image looks for its folders: MONAI Deploy's application packages (MAP), mercure's
modules, or plainly /in and /out.
"""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from models.contract import BrokenModel
from models.manifest import Strict
from models.package import Package
from models.runtimes.tensors.options import Classification, Detection, Landmarks, Regression

_PLAIN = re.compile(r"(?:/[A-Za-z0-9._-]+)+")  # An engine reads a comma as the end of a path.
_PINNED = re.compile(r"(?:[a-z0-9][a-z0-9._:/-]*@)?sha256:[0-9a-f]{64}")


class ContainerOptions(Strict):
    """Of an image; the tasks' `output` names a key of its JSON file, "a.b" within another."""

    image: str  #: name@sha256:…, or sha256:… as the engine calls an image that is here
    engine: Literal["auto", "podman", "docker"] = "auto"
    convention: Literal["plain", "map", "mercure"] = "plain"
    input: Literal["dicom", "nifti"] = "dicom"
    command: tuple[str, ...] = ()
    environment: Mapping[Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")], str] = {}
    settings: Mapping[str, Any] = {}  #: mercure: into its task.json
    gpu: bool = False
    memory_mib: int = Field(8192, ge=16, le=1 << 21)
    scratch_mib: int = Field(1024, ge=1, le=1 << 20)
    processes: int = Field(512, ge=1, le=1 << 16)
    result: str = "*.json"  #: the JSON file among its outputs; a glob
    segmentation: str = "*.nii*"  #: the label map among its outputs; a glob; SEG where it ends in .dcm
    detection: Detection = Detection(boxes="boxes", scores="scores")
    classification: Classification = Classification(output="classification")
    landmarks: Landmarks = Landmarks(output="points", form="coordinates")
    regression: Regression = Regression(output="values")

    @field_validator("image")
    @classmethod
    def _is_pinned(cls, image: str) -> str:
        if not _PINNED.fullmatch(image):
            raise ValueError(
                f"{image!r} does not say which image exactly: name@sha256:… (`docker images "
                "--digests` lists them)"
            )
        return image


class Folders(Strict):
    """Where an image finds what it is given, and how it is told."""

    input: PurePosixPath
    output: PurePosixPath
    workdir: PurePosixPath | None = None
    environment: Mapping[str, str] = {}
    command: tuple[str, ...] = ()


def folders(package: Package, options: ContainerOptions) -> Folders:
    """By the image's convention; a MAP's `app.json` among the files of the package is read. Raises
    `BrokenModel`.
    """
    match options.convention:
        case "mercure":
            paths = {"MERCURE_IN_DIR": "/tmp/data", "MERCURE_OUT_DIR": "/tmp/output"}  # noqa: S108 # theirs
            return Folders(
                input=PurePosixPath(paths["MERCURE_IN_DIR"]),
                output=PurePosixPath(paths["MERCURE_OUT_DIR"]),
                environment=paths,
            )
        case "map":
            return _of_map(package)
    return Folders(input=PurePosixPath("/in"), output=PurePosixPath("/out"))


def _of_map(package: Package) -> Folders:
    """MONAI Application Package (https://github.com/Project-MONAI/monai-deploy, guidelines/monai-
    application-package.md).
    """
    said: Any = {}
    if "app.json" in package.paths():
        try:
            said = json.loads(package.read("app.json", at_most=1 << 20))
        except (ValueError, RecursionError) as error:
            raise BrokenModel(f"model {package.manifest.identity}: app.json is not JSON: {error}") from error
    if not isinstance(said, dict):
        raise BrokenModel(f"model {package.manifest.identity}: app.json is no application manifest")
    work = PurePosixPath(str(said.get("workingDirectory") or "/var/holoscan"))
    places = {
        key: work
        / str(
            (said.get(key) or {}).get("path") or default if isinstance(said.get(key) or {}, dict) else default
        )
        for key, default in (("input", "input"), ("output", "output"))
    }
    for place in (work, *places.values()):
        if not _PLAIN.fullmatch(str(place)) or ".." in place.parts:
            raise BrokenModel(
                f"model {package.manifest.identity}: app.json names the folder {str(place)!r}, and an "
                "absolute path of letters, digits, dots, dashes and underscores is needed"
            )
    command = said.get("command") or ()
    told = said.get("environment") or {}
    if not isinstance(told, dict):
        raise BrokenModel(f"model {package.manifest.identity}: the environment of app.json is no table")
    return Folders(
        input=places["input"],
        output=places["output"],
        workdir=work,
        environment={
            "HOLOSCAN_INPUT_PATH": str(places["input"]),
            "HOLOSCAN_OUTPUT_PATH": str(places["output"]),
            "HOLOSCAN_WORKDIR": str(work),
            **{str(key): str(value) for key, value in told.items()},
        },
        command=tuple(shlex.split(command))
        if isinstance(command, str)
        else tuple(str(one) for one in command),
    )
