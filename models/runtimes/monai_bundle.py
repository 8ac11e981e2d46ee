"""
MONAI bundles, run in this process from memory: no files between, no engine, the network stays loaded.

A bundle is configuration, weights and sometimes code. `models.runtimes.bundles` reads the configuration as
data, mends what only works on a command line, and builds what is left with MONAI's own classes:

    configuration → mending → is it code? → building → weights → running → outputs

A bundle that only describes networks, transforms and inferers of MONAI is data: none of its text is ever
evaluated by Python. Any other is a program, and runs only where the site trusts it (`models.trust`).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ledger.errors import SiteError
from ledger.identifiers import Digest
from models.contract import BrokenModel, Context, Given, Memory, NotForThisModel, SettingsNotUnderstood
from models.outputs import findings_of, quantities_of, verdicts_of
from models.package import Package
from models.runtimes.bundles.judgement import Options, of_package
from models.runtimes.bundles.proposal import propose
from results.findings import Findings, refused

if TYPE_CHECKING:
    from models.runtimes.bundles.running import Loaded

__all__ = ["MonaiBundle", "Options", "propose"]


class MonaiBundle:
    """A MONAI bundle: implements `models.contract.Model`."""

    def __init__(self, package: Package) -> None:
        self.manifest = package.manifest
        self.folder = package.folder
        self._package = package
        self._loaded: Loaded | None = None
        self._options = Options.of(package)

    @cached_property
    def weights_digest(self) -> Digest | None:
        """Over every file of the bundle: configuration and scripts decide as much as weights."""
        return self._package.weights_digest

    def load(self, device: str) -> None:
        """Build network and transforms and put the weights in. Raises `BrokenModel` or `SiteError`."""
        _need_monai()
        import torch  # noqa: PLC0415  torch and MONAI only when one is used

        from models.runtimes.bundles.loading import load  # noqa: PLC0415

        bundle = of_package(self._package)
        self._loaded = load(bundle, self.manifest, str(self.folder), torch.device(device))

    def unload(self) -> None:
        """Forget the network."""
        self._loaded = None

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """The volume and what is resampled of it in floats, the probabilities of all classes, one window."""
        from models.runtimes.bundles.running import window_of  # noqa: PLC0415

        loaded = self._ready()
        voxels = shape[0] * shape[1] * shape[2]
        channels = len(self.manifest.segments) + 1
        window = window_of(loaded.inferer, shape)
        inside = 4 * 64
        for side in window:
            inside *= min(side, 192)
        # Twice each: what goes into a transform and what comes out of it are there at the same time.
        floats = 4 * voxels * 2 * (len(self.manifest.inputs) + channels) + 4 * voxels
        if loaded.device.type == "cpu":
            return Memory(host=floats + inside, device=0)
        return Memory(host=4 * voxels + 2 * voxels, device=floats + inside)

    def run(self, given: Given, context: Context) -> Findings:
        """What the bundle finds, on the grid of `given`."""
        if context.settings:
            raise SettingsNotUnderstood(
                f"model {self.manifest.identity} has no settings, and the rule gives it "
                f"{', '.join(context.settings)}"
            )
        try:
            return self._findings(given, context.memory)
        except NotForThisModel as refusal:
            return refused(str(refusal))

    def _findings(self, given: Given, limit: Memory | None) -> Findings:
        from models.runtimes.bundles import outputs  # noqa: PLC0415
        from models.runtimes.bundles.inputs import read  # noqa: PLC0415
        from models.runtimes.bundles.running import answer  # noqa: PLC0415

        loaded, manifest, clock = self._ready(), self.manifest, _Laps()
        names = tuple(one.name for one in manifest.inputs)
        with clock("read"):
            images = read(given, loaded.keys, names, loaded.channels, loaded.device)
        said = answer(loaded, images, clock, limit)
        found: dict[str, Any] = {}
        with clock("findings"):
            if manifest.segments:
                found["drawn"] = outputs.draw(manifest, said, images)
            if "detection" in manifest.tasks:
                found["boxes"] = outputs.boxes(
                    manifest, said, images, loaded.postprocessing, self._options.boxes
                )
            elif manifest.classes:
                found["verdicts"] = verdicts_of(manifest, outputs.vector(said), self._options.activation)
            if manifest.points:
                found["points"] = outputs.points(manifest, said, images)
            if manifest.quantities:
                found["measurements"] = quantities_of(manifest, outputs.vector(said))
            if manifest.maps:
                found["maps"] = outputs.maps(manifest, said, images)
        return findings_of(manifest, cautions=said.cautions, timings=clock.seconds, **found)

    def _ready(self) -> "Loaded":
        if self._loaded is None:
            raise BrokenModel(f"model {self.manifest.identity} is run before it is loaded")
        return self._loaded


def _need_monai() -> None:
    """Raise `SiteError` where the extra is not installed."""
    lacking = [name for name in ("monai", "nibabel") if find_spec(name) is None]
    if lacking:
        raise SiteError(
            f"a MONAI bundle needs the Python packages {' and '.join(lacking)}, not installed here: "
            f"pip install wetread[monai]"
        )


class _Laps:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - began, 4)
