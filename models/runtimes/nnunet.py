"""
nnU-Net v2 folders as they are, in this process: the plans, the checkpoints, nothing of nnU-Net's code.

A package holds one or more folders `<trainer>__<plans>__<configuration>` with `dataset.json`, `plans.json`
and `fold_X/checkpoint_final.pth`. Several of them draw one label map between them, as the five of
TotalSegmentator do. What the plans ask for beyond nnU-Net's defaults runs with nnU-Net's own classes where
the extra `nnunet` is installed (`nnunet_extra`), and is refused where it is not.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from ledger.identifiers import Digest
from models.contract import BrokenModel, Context, Given, Memory, SettingsNotUnderstood
from models.outputs import draw_labels, findings_of, with_volumes
from models.package import Package
from models.prepare.demand import demand
from models.prepare.ladder import Plan, climb
from models.runtimes.nnunet_checkpoint import Checkpoint, NotACheckpoint, read_checkpoint
from models.runtimes.nnunet_extra import extra_part
from models.runtimes.nnunet_given import Images, images_of
from models.runtimes.nnunet_network import Mirrored, UNet
from models.runtimes.nnunet_parts import Options, Part, PartOption, Running, Settings
from models.runtimes.nnunet_plans import (
    Configuration,
    Exotic,
    NotPlans,
    builds_what_the_plans_say,
    channel_names,
    read_configuration,
)
from models.runtimes.nnunet_predict import Network
from models.runtimes.nnunet_prepare import prepare
from models.runtimes.nnunet_propose import propose
from results.findings import Findings

__all__ = ["NnUNet", "propose"]

_SLICES_AT_ONCE = 8  #: of a network that sees slices one by one
_LABEL_BYTES = 2 * 3  #: of a voxel: the label map, the one being made, and what of it is drawn
_SPLINE_BYTES = 512 << 20  #: what resampling takes beside the logits
_JSON_BYTES = 64 << 20  #: plans of ensembles with many cases are long


@dataclass(frozen=True, slots=True)
class LeanPart:
    """A folder that our own code runs."""

    network: Network
    mirror: tuple[int, ...]

    @property
    def configuration_name(self) -> str:
        """What the plans call it: "2d", "3d_fullres"."""
        return self.network.configuration.name

    def labels(self, images: Images, options: Options, running: Running) -> NDArray[np.uint16]:
        """See `Part`. Raises `NotForThisModel` and `OutOfMemory`."""
        configuration, network = self.network.configuration, self.network
        orientation = options.orientation or ("RAS" if configuration.reorient else None)
        channels, spacing_mm = images.turned(orientation)
        prepared = prepare(
            channels,
            spacing_mm,
            configuration,
            linear=options.resampling == "linear",
            device=network.device,
        )
        del channels
        if options.mirror and self.mirror:
            network = replace(network, folds=[Mirrored(fold, self.mirror) for fold in network.folds])

        def run(plan: Plan) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
            return network.labels(prepared, options.resampling, plan), plan.cautions

        labels, cautions = climb(run, self._plan(options, running.limit))
        running.cautions += [caution for caution in cautions if caution not in running.cautions]
        return images.back(labels, orientation)

    def estimate(self, shape: tuple[int, int, int], options: Options) -> Memory:
        """See `Part`. The spacing is not known here: the network's grid is taken to be the image's."""
        configuration = self.network.configuration
        flat = len(configuration.patch) == 2
        return demand(
            shape,
            window=(1, *configuration.patch) if flat else configuration.patch,
            channels=len(configuration.channels),
            classes=configuration.labels.heads,
            plan=self._plan(options, None),
            reduce="argmax" if options.resampling == "nearest labels" else "logits",
            on_gpu=self.network.device.type != "cpu",
        )

    def _plan(self, options: Options, limit: Memory | None) -> Plan:
        first = Plan.on(str(self.network.device), overlap=1 - options.step_size, limit=limit)
        flat = len(self.network.configuration.patch) == 2
        return replace(
            first,
            batch=_SLICES_AT_ONCE if flat else first.batch,
            # nnU-Net's own: what a model was validated with, in half the memory.
            sums=torch.float16,
            streaming=options.streaming,
        )


class NnUNet:
    """A model that is one or more nnU-Net v2 folders."""

    def __init__(self, package: Package) -> None:
        self.manifest = package.manifest
        self.folder: Path = package.folder
        self.weights_digest: Digest | None = package.weights_digest
        self._package = package
        try:
            self._options = Options.model_validate(dict(package.manifest.options))
        except ValidationError as error:
            raise self._broken(f"its options are not those of nnU-Net: {error}") from error
        self._parts: list[tuple[Part, PartOption]] = []
        self._channels: tuple[str, ...] = ()

    def load(self, device: str) -> None:
        """Read plans and weights and build the networks. Raises `BrokenModel`, and `MissingLibrary` where
        a folder needs nnU-Net's own package.
        """
        parts: list[tuple[Part, PartOption]] = []
        names: set[tuple[str, ...]] = set()
        for option in self._options.parts or (self._only_part(),):
            parts.append((self._part(option.folder, torch.device(device)), option))
            names.add(channel_names(self._read(option.folder, "dataset.json")))
        if len(names) > 1:
            raise self._broken("its folders look at different channels")
        self._parts, (self._channels,) = parts, names

    def run(self, given: Given, context: Context) -> Findings:
        """Label map and volumes. Raises `SettingsNotUnderstood`, `NotForThisModel` and `OutOfMemory`."""
        if not self._parts:
            raise self._broken("it was run before it was loaded")
        options = self._with(context.settings)
        began = time.perf_counter()
        images = images_of(given, self._channels)
        running = Running(context.memory)
        labels = np.zeros(images.arrays[0].shape, np.uint16)
        for part, option in self._parts:
            mine = part.labels(images, options, running)
            running.earlier[part.configuration_name] = mine
            drawn = mine > 0 if option.keep is None else (mine > 0) & (mine <= option.keep)
            # Where two folders draw the same voxel the later one has it, as TotalSegmentator decides it.
            labels[drawn] = mine[drawn] + option.first
        segments = draw_labels(self.manifest, labels)
        if images.voxel_mm3 is not None:
            segments = with_volumes(segments, images.voxel_mm3)
        return findings_of(
            self.manifest,
            drawn=segments,
            cautions=running.cautions,
            timings={"nnunet": round(time.perf_counter() - began, 3)},
        )

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """What the most demanding folder takes: they run one after the other."""
        needs = [part.estimate(shape, self._options) for part, _ in self._parts]
        slices, rows, columns = shape
        rest = _LABEL_BYTES * slices * rows * columns + _SPLINE_BYTES
        return Memory(
            host=max((need.host for need in needs), default=0) + rest,
            device=max((need.device for need in needs), default=0),
        )

    def unload(self) -> None:
        """Let go of the networks."""
        self._parts = []
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _part(self, folder: str, device: torch.device) -> Part:
        checkpoints = [self._checkpoint(path) for path in self._folds(folder)]
        first = checkpoints[0]
        if any(one.configuration != first.configuration for one in checkpoints):
            raise self._broken(f"the folds in {folder or 'its folder'} are of different configurations")
        plans, dataset = (self._read(folder, name) for name in ("plans.json", "dataset.json"))
        try:
            configuration = read_configuration(plans, dataset, first.configuration)
            builds_what_the_plans_say(first.trainer)
            networks = [_network(configuration, one).to(device) for one in checkpoints]
        except Exotic as because:
            return extra_part(
                self.manifest.identity, plans, dataset, checkpoints, device=device, because=str(because)
            )
        except (NotPlans, RuntimeError) as error:
            raise self._broken(f"{folder or 'its folder'} does not fit together: {error}") from error
        return LeanPart(Network(folds=networks, configuration=configuration, device=device), first.mirror)

    def _only_part(self) -> PartOption:
        """The one folder that the package has."""
        found = sorted(
            str(PurePosixPath(path).parent)
            for path in self._package.paths()
            if PurePosixPath(path).name == "plans.json"
        )
        if len(found) != 1:
            raise self._broken(
                f"it has {len(found)} folders of nnU-Net ({', '.join(found)}); [[options.parts]] says which "
                f"ones to use, in what order"
            )
        return PartOption(folder="" if found[0] == "." else found[0])

    def _folds(self, folder: str) -> list[str]:
        """The checkpoints of the folds that shall be used, in order."""
        wanted = {f"fold_{fold}" for fold in self._options.folds}
        found = {
            PurePosixPath(path).parent.name: path
            for path in self._package.paths()
            if str(PurePosixPath(path).parent.parent) == (folder or ".")
            and PurePosixPath(path).name == self._options.checkpoint
        }
        # A fold of all cases is for whoever wants no ensemble.
        used = wanted or set(found) - {"fold_all"} or set(found)
        if not used or (lacking := used - set(found)):
            missing = ", ".join(sorted(lacking)) if used else "fold_*"
            raise self._broken(f"{folder or 'its folder'} lacks {missing}/{self._options.checkpoint}")
        return [found[fold] for fold in sorted(used)]

    def _checkpoint(self, path: str) -> Checkpoint:
        with self._package.open(path) as file:
            try:
                return read_checkpoint(file)
            except NotACheckpoint as error:
                raise self._broken(f"{path} was not opened: {error}") from error

    def _read(self, folder: str, name: str) -> bytes:
        return self._package.read(f"{folder}/{name}" if folder else name, at_most=_JSON_BYTES)

    def _with(self, settings: Mapping[str, object]) -> Options:
        try:
            chosen = Settings.model_validate(dict(settings))
        except ValidationError as error:
            raise SettingsNotUnderstood(
                f"the settings of a rule for {self.manifest.identity} are not understood: {error}"
            ) from error
        return self._options.model_copy(update=chosen.model_dump(exclude_none=True))

    def _broken(self, because: str) -> BrokenModel:
        return BrokenModel(f"model {self.manifest.identity}: {because}")


def _network(configuration: Configuration, checkpoint: Checkpoint) -> UNet:
    """The network with its weights. Raises `NotPlans` and `RuntimeError` where they do not fit."""
    if any(not 0 <= axis < len(configuration.patch) for axis in checkpoint.mirror):
        raise NotPlans(f"the training mirrored along axes {checkpoint.mirror}")
    network = UNet(
        configuration.network, configuration.plan, len(configuration.channels), configuration.labels.heads
    )
    network.load_state_dict(dict(checkpoint.weights))
    return network.eval()
