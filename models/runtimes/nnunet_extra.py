"""
Folders that ask for more than nnU-Net's defaults, run by nnU-Net's own classes in this process.

For cascades, Primus, trainers and preprocessors of somebody's own. Four things are not left to nnU-Net:
the checkpoint is read by our loader (its own executes what the pickle says), names of the plans are looked at
before it looks them up (`nnunet_names`), there are no process pools (a worker's child may have none), and
what it prints goes nowhere (a child's standard output is a protocol).
"""

import contextlib
import inspect
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ledger.errors import SiteError
from models.contract import BrokenModel, Memory, OutOfMemory
from models.prepare.ladder import is_out_of_memory
from models.runtimes.nnunet_checkpoint import Checkpoint
from models.runtimes.nnunet_given import Images
from models.runtimes.nnunet_names import looked_at
from models.runtimes.nnunet_parts import Options, Running
from models.runtimes.nnunet_plans import NotPlans

_FLOAT, _HALF = 4, 2


class MissingLibrary(SiteError):
    """A model needs a Python package that is not installed here."""


@dataclass(frozen=True, slots=True)
class ExtraPart:
    """A folder that nnU-Net's predictor runs."""

    identity: str
    predictor: Any
    configuration_name: str
    previous: str | None  #: the configuration that a cascade starts from
    reorient: bool

    def labels(self, images: Images, options: Options, running: Running) -> NDArray[np.uint16]:
        """See `Part`; the memory limit is not known to nnU-Net."""
        before = None
        orientation = options.orientation or ("RAS" if self.reorient else None)
        channels, spacing_mm = images.turned(orientation)
        if self.previous is not None:
            if self.previous not in running.earlier:
                raise BrokenModel(
                    f"model {self.identity}: {self.configuration_name} starts from what {self.previous} "
                    f"drew; put that folder before it into [[options.parts]], with keep = 0"
                )
            before = images.view(running.earlier[self.previous], orientation)[None].astype(np.int16)
        self.predictor.tile_step_size = options.step_size
        self.predictor.use_mirroring = options.mirror
        try:
            with _quiet():
                labels = self.predictor.predict_single_npy_array(
                    channels, {"spacing": list(spacing_mm)}, before, None, False
                )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"model {self.identity} runs with nnU-Net's own code, which has no way to do with less "
                f"memory: {str(error).splitlines()[0]}"
            ) from error
        return images.back(np.asarray(labels, np.uint16), orientation)

    def estimate(self, shape: tuple[int, int, int], options: Options) -> Memory:
        """See `Part`: logits of all classes on both grids, twice, as nnU-Net keeps them."""
        voxels = shape[0] * shape[1] * shape[2]
        heads = int(self.predictor.label_manager.num_segmentation_heads)
        logits = voxels * heads * _HALF
        on_gpu = str(self.predictor.device) != "cpu"
        return Memory(host=2 * logits + 4 * _FLOAT * 2 * voxels, device=logits if on_gpu else 0)


def extra_part(
    identity: str,
    plans: bytes,
    dataset: bytes,
    checkpoints: Sequence[Checkpoint],
    *,
    device: torch.device,
    because: str,
) -> ExtraPart:
    """The part, its networks built. Raises `MissingLibrary`, or `BrokenModel` where nnU-Net cannot, or may
    not look up what the folder names.
    """
    first = checkpoints[0]
    try:
        plan = looked_at(json.loads(plans), first.configuration, first.trainer)
    except NotPlans as error:
        raise BrokenModel(f"model {identity}: {because}, and {error}") from error
    with _quiet():
        try:
            from nnunetv2.inference.predict_from_raw_data import (  # noqa: PLC0415
                nnUNetPredictor,
                recursive_find_trainer_class_by_name,
            )
            from nnunetv2.utilities.label_handling.label_handling import (  # noqa: PLC0415
                determine_num_input_channels,
            )
            from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415
        except ImportError as error:
            raise MissingLibrary(
                f"model {identity} needs nnU-Net's own package, because {because}: "
                f"pip install wetread[nnunet] (missing: {error.name})"
            ) from error
        described = json.loads(dataset)
        try:
            manager = PlansManager(plan)
            configuration = manager.get_configuration(first.configuration)
            labels = manager.get_label_manager(described)
            trainer = recursive_find_trainer_class_by_name(first.trainer)
            channels = determine_num_input_channels(manager, configuration, described)
            network = _network(
                trainer, manager, configuration, channels=channels, heads=labels.num_segmentation_heads
            )
            weights = [dict(one.as_written) for one in checkpoints]
            network.load_state_dict(weights[0])
        except Exception as error:  # Somebody's own classes raise whatever they like.
            raise BrokenModel(
                f"model {identity}: {because}, and nnU-Net's own package cannot run it either: {error}"
            ) from error
        predictor = nnUNetPredictor(
            perform_everything_on_device=device.type == "cuda", device=device, allow_tqdm=False
        )
        predictor.manual_initialization(
            network, manager, configuration, weights, described, first.trainer, first.mirror or None
        )
    return ExtraPart(
        identity,
        predictor,
        first.configuration,
        configuration.previous_stage_name,
        manager.plans.get("image_reader_writer") == "NibabelIOWithReorient",
    )


def _network(trainer: Any, manager: Any, configuration: Any, *, channels: int, heads: int) -> Any:
    build = trainer.build_network_architecture
    if "plans_manager" in inspect.signature(build).parameters:
        return build(manager, configuration, channels, heads, enable_deep_supervision=False)
    # Trainers that were written before nnU-Net 2.7.
    return build(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        channels,
        heads,
        enable_deep_supervision=False,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what nnU-Net prints, and without its warnings to its developers."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
