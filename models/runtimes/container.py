"""
A model in a container: any image that takes a folder and leaves a folder.

    given  →  a folder of DICOM or a NIfTI file, without the patient
    docker run / podman run, without network, within memory and time
    findings  ←  the label map, SEG or numbers that it left

A container is code, and opened only where the site trusts its manifest; the image in it is pinned by digest
and never fetched from here (ADR 20).
"""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from ledger.errors import SiteError
from ledger.identifiers import Digest
from models.contract import BrokenModel, Context, Given, Memory, SettingsNotUnderstood
from models.manifest import Manifest
from models.package import Package
from models.prepare.grid import Grid
from models.runtimes.containers import given as giving
from models.runtimes.containers import left
from models.runtimes.containers.command import Container as Run
from models.runtimes.containers.command import Engine, command_line, kill_line, overdue_line
from models.runtimes.containers.options import ContainerOptions, Folders, folders
from models.runtimes.proposals import proposal
from models.runtimes.tensors.options import understood
from results.findings import Findings

_NOBODY = 65534
_ENGINE_S = 30.0  # The engine answers a question about itself within a second, or is in trouble.
_EARLIER = 0.95  # Of the model's time: who is killed for being late cannot take its container along.


class NoContainerEngine(SiteError):
    """There is no Docker and no Podman here, or it does not answer."""


class ImageMissing(SiteError):
    """The image of a model is not on this machine."""


class Container:
    """Implements `models.contract.Model`."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.manifest: Manifest = package.manifest
        self.folder: Path = package.folder
        self.options = understood(self.manifest, ContainerOptions)
        self._folders: Folders = folders(package, self.options)
        self._engine: Engine | None = None
        self._gpu: int | None = None
        if self.manifest.given != "volume":
            raise BrokenModel(f"model {self.manifest.identity}: a container is given a volume")

    @property
    def weights_digest(self) -> Digest | None:
        """That of the image: its files are what the model is."""
        return Digest(self.options.image.rpartition("sha256:")[2])

    def load(self, device: str) -> None:
        """Find the engine and the image. Raises `NoContainerEngine` and `ImageMissing`."""
        self._engine = _engine(self.options.engine, self.manifest)
        self._gpu = (
            int(device.partition(":")[2] or 0) if device.startswith("cuda") and self.options.gpu else None
        )
        asked = _ask([self._engine, "image", "inspect", "--format", "{{.Id}}", self.options.image])
        if asked.returncode != 0:
            raise ImageMissing(
                f"model {self.manifest.identity}: the image {self.options.image} is not here: "
                f"{self._engine} pull {self.options.image} as the user that runs the worker"
            )

    def unload(self) -> None:
        """Nothing stays between two runs."""
        self._engine = None

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """What the container may take, and the image as it is handed over."""
        voxels = shape[0] * shape[1] * shape[2]
        return Memory(host=(self.options.memory_mib << 20) + 8 * voxels, device=0)

    def run(self, given: Given, context: Context) -> Findings:
        """What the image leaves. Raises `BrokenModel` where it fails or is late."""
        if self._engine is None:
            raise BrokenModel(f"model {self.manifest.identity} was run before it was loaded")
        if context.settings and self.options.convention != "mercure":
            raise SettingsNotUnderstood(
                f"model {self.manifest.identity} has no settings, and its rule gives "
                f"{', '.join(context.settings)}"
            )
        _end_overdue(self._engine)
        with tempfile.TemporaryDirectory(prefix="wetread-container-") as scratch:
            put, taken = Path(scratch) / "in", Path(scratch) / "out"
            put.mkdir()
            taken.mkdir()
            self._give(given, context, put)
            began = time.perf_counter()
            self._run(self._engine, put, taken)
            ran_s = time.perf_counter() - began
            findings = left.findings_of(taken, self.manifest, self.options, Grid.of(given))
        findings.timings["container"] = round(ran_s, 4)
        return findings

    def _give(self, given: Given, context: Context, folder: Path) -> None:
        if self.options.input == "nifti":
            giving.write_nifti(given, self.manifest, folder / "image.nii.gz")
        else:
            giving.write_dicom(given, context, self.manifest, folder)
        if self.options.convention == "mercure":
            settings = {**self.options.settings, **context.settings}
            giving.write_task(settings, self.manifest.identity, folder)

    def _run(self, engine: Engine, put: Path, taken: Path) -> None:
        limit_s = self.manifest.time_limit_s * _EARLIER
        root = os.geteuid() == 0
        one = Run(
            name=f"wetread-{uuid.uuid4().hex[:16]}",
            image=self.options.image,
            command=self.options.command or self._folders.command,
            environment={**self._folders.environment, **self.options.environment},
            input_folder=put,
            output_folder=taken,
            input_path=self._folders.input,
            output_path=self._folders.output,
            workdir=self._folders.workdir,
            memory_mib=self.options.memory_mib,
            processes=self.options.processes,
            scratch_mib=self.options.scratch_mib,
            user=_NOBODY if root else os.geteuid(),
            group=_NOBODY if root else os.getegid(),
            ends=int(time.time() + limit_s) + 1,
            gpu=self._gpu,
        )
        if root:  # Nobody is to be root in there, and nobody has to be able to write.
            for path in (taken, put, *put.iterdir()):
                os.chown(path, _NOBODY, _NOBODY)
            put.parent.chmod(0o711)
        with tempfile.TemporaryFile() as said:
            started = subprocess.Popen(
                command_line(engine, one, rootless=not root),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
            try:
                code = started.wait(limit_s)
            except subprocess.TimeoutExpired:
                raise BrokenModel(
                    f"model {self.manifest.identity}: its container did not end within {limit_s:.0f} "
                    "s and was ended"
                ) from None
            finally:
                if started.poll() is None:
                    _ask(kill_line(engine, one.name))
                    started.kill()
                    started.wait()
            if code != 0:
                raise BrokenModel(f"model {self.manifest.identity}: {_why(code, said)}")


def _why(code: int, said: Any) -> str:
    """What a container that failed said last, in one line."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - 2000))
    lines = said.read().decode("utf-8", "replace").strip().splitlines()
    last = "".join(letter for letter in (lines[-1] if lines else "nothing") if letter.isprintable())[:300]
    because = {137: ", killed for memory perhaps", 125: ", by the engine", 126: ", its command cannot be run"}
    return f"its container ended with {code}{because.get(code, '')}; its last words: {last}"


def _engine(wanted: str, manifest: Manifest) -> Engine:
    """Podman before Docker: it needs no service that is root."""
    engines: tuple[Engine, ...] = ("podman", "docker")
    tried = []
    for engine in engines:
        if wanted in ("auto", engine) and shutil.which(engine):
            asked = _ask([engine, "version"])
            if asked.returncode == 0:
                return engine
            tried.append(
                f"{engine} does not answer ({(asked.stderr.strip().splitlines() or ['?'])[-1][:200]})"
            )
    raise NoContainerEngine(
        f"model {manifest.identity} is a container, and there is no engine to run it: "
        f"{'; '.join(tried) or 'neither podman nor docker is installed'}"
    )


def _ask(line: list[str]) -> subprocess.CompletedProcess[str]:
    """An answer of the engine about itself, within half a minute."""
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=_ENGINE_S, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(line, 124, "", f"no answer within {_ENGINE_S:.0f} s")


def _end_overdue(engine: Engine) -> None:
    """End what an earlier run could not: its process was killed before it could see to it."""
    for line in _ask(overdue_line(engine)).stdout.splitlines():
        name, _, ends = line.partition(" ")
        if name.startswith("wetread-") and ends.isdecimal() and int(ends) < time.time():
            _ask(kill_line(engine, name))


def propose(folder: Path) -> dict[str, Any]:
    """What an application package (`app.json`) in `folder` says; a plain image says nothing."""
    is_map = (folder / "app.json").is_file()
    return proposal(
        "container",
        folder,
        ("app.json",) if is_map else ("",),
        options={"convention": "map"} if is_map else {},
        missing=(
            "Say in [options] image which image it is, with its digest: name@sha256:….",
            "Say in [options] which of its files hold the answer: segmentation, result.",
        ),
    )
