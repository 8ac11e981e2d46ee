"""
A network in a file as a model of the contract; each file format says only how to open it.

    given  →  Prepared (its grid, its intensities)  →  network, window by window or at once
    findings on the source grid  ←  what each task's output means

Memory that runs out is met by the ladder (`models.prepare.ladder`), at last with `OutOfMemory`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ledger.identifiers import Digest
from models import outputs
from models.contract import BrokenModel, Context, Given, Memory, NotForThisModel, SettingsNotUnderstood
from models.explain.explained import explained
from models.explain.settings import parted
from models.explain.subject import Explainable
from models.manifest import Manifest
from models.package import Package
from models.prepare.demand import demand
from models.prepare.ladder import Plan, climb, is_out_of_memory
from models.prepare.reducers import Reducer
from models.prepare.tiling import Padding, Tiling, monai_starts, part_of
from models.prepare.windows import predict
from models.runtimes.tensors import answers
from models.runtimes.tensors.explainable import subject_of
from models.runtimes.tensors.given import Prepared, prepared
from models.runtimes.tensors.options import TensorOptions, Which, understood
from results.findings import Findings, refused

Forward = Callable[[Tensor], Mapping[str, Tensor]]  #: (n, C, axes) → outputs by name, in order

_DENSE = {"segmentation", "heat map"}


class TensorModel:
    """Implements `models.contract.Model`; a runtime adds `_opened`."""

    endings: ClassVar[tuple[str, ...]] = ()  #: of the file that holds the network

    def __init__(self, package: Package) -> None:
        self.package = package
        self.manifest: Manifest = package.manifest
        self.folder: Path = package.folder
        self.weights_digest: Digest | None = package.weights_digest
        self.options = self._understood()
        self._device = torch.device("cpu")
        self._forward: Forward | None = None
        self._module: nn.Module | None = None  #: whose layers can be looked into
        self._look_at_tasks()

    def load(self, device: str) -> None:
        """Read the file and put the network on `device`. Raises `BrokenModel`."""
        self._device = torch.device(device)
        self._forward = self._opened(self._device)

    def unload(self) -> None:
        """Forget the network."""
        self._forward = self._module = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """By arithmetic: the volume, the windows with what the network makes of them, and the answer."""
        window = self.options.window
        size = self.options.prepare.size or shape
        size = size[-3:] if len(size) == 3 else (1, *size)
        sides = window.size if window is not None else (0,) * len(size)
        sides = sides if len(sides) == len(size) else (1, *sides)
        plan = self._plan(None)
        seen = [side or whole for side, whole in zip(sides, size, strict=True)]
        need = demand(
            size,
            window=sides,
            channels=max(len(self.manifest.inputs), 3 if self.options.prepare.colours == "rgb" else 1),
            classes=max(
                len(self.manifest.segments) + 1, len(self.manifest.maps), len(self.manifest.points), 2
            ),
            plan=plan,
            on_gpu=self._device.type == "cuda",
            inside_bytes=32 * 2 * 4 * prod(seen),  # Two feature maps of 32 channels at full size.
        )
        return Memory(host=need.host + 9 * prod(shape), device=need.device)

    def run(self, given: Given, context: Context) -> Findings:
        """Every task of the manifest, on the grid of `given`; refused findings for unsuitable images."""
        wish, own = parted(context.settings)
        if own:
            raise SettingsNotUnderstood(
                f"model {self.manifest.identity} has no settings of its own, and its rule gives "
                f"{', '.join(own)}"
            )
        if self._forward is None:
            raise BrokenModel(f"model {self.manifest.identity} was run before it was loaded")
        began = time.perf_counter()
        try:
            at = self._prepared(given)
            prepared_s = time.perf_counter() - began
            with torch.inference_mode(self._inference_mode):
                findings = climb(lambda plan: self._run(at, plan), self._plan(context.memory))
        except NotForThisModel as unsuitable:
            return refused(str(unsuitable))
        seconds = {
            "prepare": round(prepared_s, 4),
            "network": round(time.perf_counter() - began - prepared_s, 4),
        }
        findings = replace(findings, timings=seconds)
        if not wish.wanted:
            return findings
        began = time.perf_counter()
        findings = explained(self, given, context, findings, wish)
        return replace(findings, timings={**seconds, "explain": round(time.perf_counter() - began, 4)})

    def explainable(self, given: Given, context: Context) -> Explainable:
        """What findings on `given` come from; see `models.explain`."""
        at = self._prepared(given)
        dense = "segmentation" in self.manifest.tasks
        windowed = dense and (self.options.window is not None or self.options.slice_by_slice)
        which = self.options.segmentation.output if dense else self.options.classification.output
        plan = replace(self._plan(context.memory), limit=None)

        def network(images: Tensor) -> Tensor:
            given = answers.pick(self.manifest, self._look(self._flat(images), plan), which)
            return self._dense(given) if dense else given.flatten(1)

        return subject_of(
            self.manifest,
            self.options,
            network,
            at,
            module=self._module,
            window=self._sides() if windowed else (),
            plan=replace(plan, autocast=None),  # That is done where the network is called.
        )

    def _prepared(self, given: Given) -> Prepared:
        return prepared(given, self.manifest, self.options.prepare, self._device, axes=self._axes)

    _inference_mode: ClassVar[bool] = True

    def _understood(self) -> TensorOptions:
        return understood(self.manifest, TensorOptions)

    def _opened(self, device: torch.device) -> Forward:
        raise NotImplementedError

    def _file(self) -> str:
        """The file of the manifest that holds the network. Raises `BrokenModel`."""
        if self.options.file:
            return self.options.file
        fitting = [path for path in self.package.paths() if path.endswith(self.endings)]
        if len(fitting) != 1:
            raise BrokenModel(
                f"model {self.manifest.identity}: {len(fitting)} of its files end in "
                f"{' or '.join(self.endings)}; "
                f"[options] file says which one holds the network"
            )
        return fitting[0]

    def _look_at_tasks(self) -> None:
        options, tasks = self.options, set(self.manifest.tasks)
        dense = tasks - _DENSE == (
            {"landmarks"} if "landmarks" in tasks and options.landmarks.form == "heat maps" else set()
        )
        if options.slice_by_slice and not dense:
            raise BrokenModel(
                f"model {self.manifest.identity}: slice_by_slice is for networks that answer for every voxel"
            )
        if options.window is not None and not dense and tasks != {"detection"}:
            raise BrokenModel(
                f"model {self.manifest.identity}: a network that sees a window at a time cannot "
                "answer for the "
                f"whole: leave out [options.window], or the tasks {', '.join(sorted(tasks - _DENSE))}"
            )

    def _plan(self, limit: Memory | None) -> Plan:
        window = self.options.window
        return Plan(
            batch=window.batch if window is not None else (4 if self.options.slice_by_slice else 1),
            overlap=window.overlap if window is not None else 0.0,
            autocast=self._autocast,
            blending=not (self._gives_labels and set(self.manifest.tasks) == {"segmentation"}),
            limit=limit,
        )

    @property
    def _autocast(self) -> torch.dtype | None:
        return torch.float16 if self.options.autocast else None

    @property
    def _gives_labels(self) -> bool:
        """Its segmentation is labels already: numbers of which there is no mean and no half precision."""
        return "segmentation" in self.manifest.tasks and self.options.segmentation.activation == "labels"

    def _run(self, at: Prepared, plan: Plan) -> Findings:
        tasks, options, manifest = self.manifest.tasks, self.options, self.manifest
        if self._gives_labels:
            plan = replace(plan, autocast=self._autocast)
        whole: Mapping[str, Tensor] | None = None
        if options.window is None and not options.slice_by_slice and self._needs_whole():
            whole = self._look(self._flat(at.image[None]), plan)

        def dense(which: Which, reduce: Reducer) -> Tensor:
            if whole is not None:
                return reduce(self._one(whole, which, at.grid.shape))
            return self._windows(at, which, reduce, plan)

        tiles = self._tiles(at, plan, whole) if "detection" in tasks else []
        return outputs.findings_of(
            manifest,
            drawn=answers.segmentation(manifest, options.segmentation, dense, at)
            if "segmentation" in tasks
            else None,
            boxes=answers.boxes(manifest, options.detection, tiles, at, self._axes)
            if "detection" in tasks
            else (),
            points=answers.landmarks(manifest, options.landmarks, whole, dense, at, axes=self._axes)
            if "landmarks" in tasks
            else (),
            verdicts=answers.verdicts(manifest, options, whole)
            if "classification" in tasks and whole is not None
            else (),
            maps=answers.heat_maps(manifest, options.heat_map, dense, at) if "heat map" in tasks else (),
            measurements=answers.quantities(manifest, options, whole)
            if "regression" in tasks and whole is not None
            else (),
            cautions=plan.cautions,
        )

    def _needs_whole(self) -> bool:
        # A single dense task takes the way of windows, of which there is one: that has a ladder.
        return len(self.manifest.tasks) > 1 or not self._only_dense()

    def _only_dense(self) -> bool:
        heat = self.options.landmarks.form == "heat maps"
        return all(task in _DENSE or (task == "landmarks" and heat) for task in self.manifest.tasks)

    def _look(self, images: Tensor, plan: Plan) -> Mapping[str, Tensor]:
        """The outputs for (n, C, axes). Raises `BrokenModel` where the network fails, unless for memory."""
        assert self._forward is not None
        half = plan.autocast if self._device.type == "cuda" else None
        try:
            with torch.autocast(self._device.type, dtype=half, enabled=half is not None):
                return self._forward(images)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            if is_out_of_memory(error):
                raise
            raise BrokenModel(
                f"model {self.manifest.identity}: the network does not take an input of "
                f"{tuple(images.shape)}: "
                f"{_first_line(error)}"
            ) from error

    @property
    def _axes(self) -> int:
        """Of the network's input: two for an image, and for a volume that is seen slice by slice."""
        return 2 if self.manifest.given == "image" or self.options.slice_by_slice else 3

    def _flat(self, images: Tensor) -> Tensor:
        """(n, C, z, y, x) as a network of two axes takes it: (n, C, y, x)."""
        return images.squeeze(2) if self._axes == 2 else images

    def _one(self, named: Mapping[str, Tensor], which: Which, shape: Sequence[int]) -> Tensor:
        """An output for one image as (channels, z, y, x)."""
        given = self._dense(answers.pick(self.manifest, named, which))[0]
        if tuple(given.shape[1:]) != tuple(shape):
            raise BrokenModel(
                f"model {self.manifest.identity} gave {tuple(given.shape[1:])} for an input of "
                f"{tuple(shape)}: "
                f"an answer for every voxel has the size of its input"
            )
        return given

    def _dense(self, given: Tensor) -> Tensor:
        """(n, …) or (n, channels, …) as (n, channels, z, y, x)."""
        given = given.unsqueeze(1) if given.ndim == self._axes + 1 else given
        if given.ndim != self._axes + 2:
            raise BrokenModel(
                f"model {self.manifest.identity} gave an output of {tuple(given.shape)}, and an "
                "answer for every "
                f"voxel has {self._axes + 2} axes"
            )
        given = given.unsqueeze(2) if self._axes == 2 else given
        return given if given.is_floating_point() else given.float()

    def _windows(self, at: Prepared, which: Which, reduce: Reducer, plan: Plan) -> Tensor:
        """One dense output over the whole image; labels are each voxel's most central window's, unblended."""
        window = self.options.window
        blending = plan.blending and reduce is not answers.as_labels
        return predict(
            lambda images: self._dense(
                answers.pick(self.manifest, self._look(self._flat(images), plan), which)
            ),
            at.image,
            window=self._sides(),
            reduce=reduce,
            # Half precision is seen to where the network is called.
            plan=replace(plan, autocast=None, blending=blending),
            importance=window.blend if window is not None else "constant",
        )

    def _sides(self) -> tuple[int, ...]:
        """Of the window, by axis (z, y, x); 0: the whole axis."""
        window = self.options.window
        sides = window.size if window is not None else (0,) * self._axes
        if len(sides) != self._axes:
            raise BrokenModel(
                f"model {self.manifest.identity}: its window has {len(sides)} sides, its network "
                f"{self._axes} axes"
            )
        return sides if self._axes == 3 else (1, *sides)

    def _tiles(
        self, at: Prepared, plan: Plan, whole: Mapping[str, Tensor] | None
    ) -> list[tuple[tuple[int, ...], Mapping[str, Tensor]]]:
        """What the network sees at each place, with the place's first voxel."""
        if self.options.window is None:
            assert whole is not None
            return [((0, 0, 0), whole)]
        tiling = Tiling.of(at.grid.shape, self._sides(), plan.overlap, monai_starts)
        image = tiling.pad(at.image, Padding())
        return [
            (
                tuple(first - before for first, before in zip(place, tiling.before, strict=True)),
                self._look(self._flat(part_of(image, _cube(place, tiling.window))[None]), plan),
            )
            for place in tiling.places()
        ]


def _cube(place: Sequence[int], sides: Sequence[int]) -> list[slice]:
    return [slice(first, first + side) for first, side in zip(place, sides, strict=True)]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
