"""
A bundle that is loaded, run on images in memory: its own preprocessing, inferer and postprocessing.

    images → preprocessing → network, window by window → postprocessing, back on the grid → "pred"

All of it on the device of the run: orientation, resampling and intensity included. Inverting is the bundle's
own `Invertd` where it has one; where it relies on a file writer to do it, the nearest voxel is taken.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer
from monai.transforms import Compose, SpatialResample
from torch import Tensor, nn

from ledger.errors import SiteError, WetreadError
from models.contract import BrokenModel, Memory, OutOfMemory
from models.prepare.ladder import Plan, climb, is_out_of_memory
from models.runtimes.bundles import sliding
from models.runtimes.bundles.inputs import Read

PREDICTION = "pred"
_OF_PROMPTS = "monai.apps.vista3d.transforms"  # transforms that prompts or their logits go through
_PROMPTS_AT_ONCE = 8  # classes that a network with prompts is asked for in one pass over the volume


@dataclass(slots=True)
class Loaded:
    """A bundle, ready to run."""

    network: nn.Module
    preprocessing: Compose
    inferer: Callable[..., Any] | None
    postprocessing: Compose
    image_key: str  #: what the network is shown
    keys: tuple[str, ...]  #: what the bundle would have read from files
    channels: int  #: of the image, as the metadata says; 0 where it does not
    half_precision: bool  #: the bundle runs its network under autocast
    device: torch.device
    extras: Mapping[str, Any]  #: what goes beside the images: clicks, prompts
    prompts: tuple[int, ...] = ()  #: the classes to ask a network with prompts for
    inside: Callable[[], AbstractContextManager[None]] = nullcontext  #: in which its code can be imported
    notes: tuple[str, ...] = ()  #: what was changed to make it run


@dataclass(frozen=True, slots=True)
class Answer:
    """What a bundle said, after its postprocessing."""

    data: Mapping[str, Any]
    image: MetaTensor  #: what the network was shown: (channel, …), with its affine
    cautions: tuple[str, ...] = ()  #: what a reader has to know of how it was run


Lap = Callable[[str], AbstractContextManager[None]]


def answer(loaded: Loaded, images: Read, lap: Lap, limit: Memory | None = None) -> Answer:
    """Run the bundle within `limit`.

    Raises `BrokenModel` where its own parts do not fit one another, `OutOfMemory` where even the least
    demanding way of running it does not fit.
    """
    stage = "preprocessing"
    with loaded.inside(), torch.no_grad(), quiet():
        try:
            with lap(stage):
                data = _prepared(loaded, images)
                image = _image(data, loaded)
            stage = "inference"
            with lap(stage):
                data, rest, cautions = _inferred(loaded, image, data, limit)
            stage = "postprocessing"
            with lap(stage):
                data = rest(data)
        except WetreadError:
            raise
        except ImportError as error:
            because = str(error).strip().split("\n", maxsplit=1)[0]
            raise SiteError(f"the bundle needs a Python package that is not here: {because}") from error
        except Exception as error:  # of code that is not ours: it may be anything
            if is_out_of_memory(error):
                raise OutOfMemory(
                    f"the bundle's own {stage} needs more memory than there is; give it a device with "
                    f"more, or send thicker slices"
                ) from error
            because = str(error).strip().split("\n", maxsplit=1)[0]
            raise BrokenModel(f"the bundle failed in its own {stage}: {because}") from error
    return Answer(data, image, cautions)


@contextmanager
def quiet() -> Iterator[None]:
    """MONAI warns of its own deprecations whenever an old bundle uses them; nobody here can help it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def on_source_grid(answer_: Tensor, images: Read, *, labels: bool) -> Tensor:
    """(channel, …) on the grid that findings have: as it is, or resampled by the affine that it carries.

    Raises `BrokenModel` where it says of no voxel where it is.
    """
    spatial = len(images.shape)
    if answer_.ndim != spatial + 1:
        raise BrokenModel(
            f"the bundle's answer has {answer_.ndim} axes instead of a channel and {spatial} of the image"
        )
    affine = answer_.affine.cpu().numpy() if isinstance(answer_, MetaTensor) else None
    plain = answer_.as_tensor() if isinstance(answer_, MetaTensor) else answer_
    if tuple(answer_.shape[1:]) == images.shape and (
        affine is None or spatial == 2 or np.allclose(affine, images.affine, atol=1e-3)
    ):
        return plain
    if affine is None or spatial == 2:
        raise BrokenModel(
            f"the bundle's answer is on a grid of {tuple(answer_.shape[1:])}, the image of {images.shape}; "
            f"its postprocessing has to invert its preprocessing"
        )
    resample = SpatialResample(
        mode="nearest" if labels else "bilinear",
        padding_mode="zeros",
        align_corners=True,
        dtype=torch.float64,
    )
    there = MetaTensor(plain.float(), affine=torch.as_tensor(affine, dtype=torch.float64))
    moved = resample(there, dst_affine=torch.as_tensor(images.affine), spatial_size=images.shape)
    there_now: Tensor = moved.as_tensor()
    return there_now


def _copied(extras: Mapping[str, Any]) -> dict[str, Any]:
    # Transforms write into what they are given.
    return {key: list(value) if isinstance(value, list | tuple) else value for key, value in extras.items()}


def _image(data: Any, loaded: Loaded) -> MetaTensor:
    image = data.get(loaded.image_key) if isinstance(data, Mapping) else None
    if not isinstance(image, Tensor):
        raise BrokenModel(
            f"the bundle's preprocessing gives no image {loaded.image_key!r}: name the right one image_key "
            f"in the options of its manifest"
        )
    image = image if isinstance(image, MetaTensor) else MetaTensor(image)
    return image.float()


def _prepared(loaded: Loaded, images: Read) -> dict[str, Any]:
    """Preprocessed on the device of the run; on the host where it does not fit or knows only host memory."""
    try:
        return dict(loaded.preprocessing(_given(loaded, images.images)))
    except (RuntimeError, TypeError) as error:
        # MONAI wraps what a transform raises, so a transform of NumPy and short memory look alike.
        if loaded.device.type == "cpu":
            raise
        because = str(error)
    torch.cuda.empty_cache()
    try:
        return dict(
            loaded.preprocessing(_given(loaded, {key: one.cpu() for key, one in images.images.items()}))
        )
    except (RuntimeError, TypeError) as error:
        raise type(error)(f"{error} (and on the device: {because})") from error


def _given(loaded: Loaded, images: Mapping[str, MetaTensor]) -> dict[str, Any]:
    """As `LoadImaged` gives them, with the dictionaries beside them that scripts of old bundles look for."""
    beside = {f"{key}_meta_dict": dict(one.meta) for key, one in images.items()}
    return {**images, **beside, **_copied(loaded.extras)}


Inferred = tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]], tuple[str, ...]]


def _inferred(loaded: Loaded, image: MetaTensor, data: dict[str, Any], limit: Memory | None) -> Inferred:
    """With what the network says, what of the postprocessing is left to do with it, and cautions."""
    inferer = loaded.inferer
    if not isinstance(inferer, SlidingWindowInferer) or not sliding.is_plain(inferer) or loaded.prompts:
        said = _infer(loaded, image.to(loaded.device))
        rest = _after_prompts(loaded.postprocessing) if loaded.prompts else loaded.postprocessing
        return _joined(data, said, image, loaded.image_key), rest, ()
    steps = sliding.steps_of(loaded.postprocessing, PREDICTION)

    def run(plan: Plan) -> tuple[Tensor, tuple[str, ...]]:
        said = sliding.infer(loaded.network, inferer, image, device=loaded.device, plan=plan, steps=steps)
        return said, plan.cautions

    said, cautions = climb(run, sliding.plan_of(inferer, loaded.device, loaded.half_precision, limit))
    if steps is not None and not steps.decide_first:
        # These are brought back already, so they say themselves where they are.
        back = sliding.decided(said, steps, data, image, PREDICTION)
        return {**data, PREDICTION: back}, steps.rest, cautions
    rest = loaded.postprocessing if steps is None else steps.rest
    return _joined(data, said[None], image, loaded.image_key), rest, cautions


def _infer(loaded: Loaded, image: MetaTensor) -> Any:
    half = loaded.half_precision and loaded.device.type == "cuda"
    with torch.autocast(loaded.device.type, dtype=torch.float16, enabled=half):
        if loaded.inferer is None:
            return loaded.network(image.as_tensor()[None])
        if loaded.prompts:
            return _by_prompts(loaded, image)
        known = isinstance(loaded.inferer, Inferer) and type(loaded.inferer).__module__.startswith("monai.")
        # A network of plain tensors: MetaTensor would look at every single operation.
        return loaded.inferer((image.as_tensor() if known else image)[None], loaded.network)


def _by_prompts(loaded: Loaded, image: MetaTensor) -> Tensor:
    """(1, 1, …): of the classes that are asked for the likeliest, 0 where none is likelier than not.

    The same as all classes at once followed by MONAI's own step after it, with the logits of a few of them.
    """
    assert loaded.inferer is not None
    best = torch.zeros(image.shape[1:], device=image.device)
    labels = torch.zeros(image.shape[1:], device=image.device)
    for some in _in_parts(loaded.prompts, _PROMPTS_AT_ONCE):
        classes = torch.tensor(some, device=image.device)[:, None]  # (prompt, 1)
        logits = loaded.inferer(
            image[None], loaded.network, point_coords=None, point_labels=None, class_vector=classes
        )
        for prompt, logit in zip(some, torch.as_tensor(logits)[0].float(), strict=True):
            better = logit > best
            labels[better] = float(prompt)
            best = torch.where(better, logit, best)
    return labels[None, None]


def _after_prompts(postprocessing: Compose) -> Compose:
    """Without the step that would take labels for the logits of one class."""
    steps = [one for one in postprocessing.transforms if type(one).__module__ != _OF_PROMPTS]
    return Compose(steps)


def _in_parts(prompts: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(prompts), size):
        yield tuple(prompts[start : start + size])


def _joined(data: dict[str, Any], said: Any, image: MetaTensor, image_key: str) -> dict[str, Any]:
    """What the postprocessing is given: the answer of the one image that there is, with where it is."""
    if isinstance(said, tuple | list) and said and isinstance(said[0], Mapping):  # a detector: boxes
        return {**said[0], image_key: image}
    if isinstance(said, Mapping):
        return {**data, **{key: _placed(one, image) for key, one in said.items()}}
    if isinstance(said, tuple | list) and said:  # deep supervision: the finest first
        said = said[0]
    if not isinstance(said, Tensor):
        raise BrokenModel(f"the bundle's network gives a {type(said).__name__}, which nobody can read")
    return {**data, PREDICTION: _placed(said, image)}


def _placed(batch: Any, image: MetaTensor) -> Any:
    if not isinstance(batch, Tensor):
        return batch
    one = batch[0]
    one = one.as_tensor() if isinstance(one, MetaTensor) else one
    if one.ndim != image.ndim:
        return one
    return MetaTensor(one, meta=image.meta, applied_operations=image.applied_operations)


def window_of(inferer: object, shape: Sequence[int]) -> tuple[int, ...]:
    """The voxels that the network sees at once; the whole of the image where there is no window."""
    if isinstance(inferer, SlidingWindowInferer | SliceInferer):
        roi = inferer.roi_size if isinstance(inferer.roi_size, Sequence) else [inferer.roi_size] * len(shape)
        return tuple(
            int(side) if int(side) > 0 else int(size) for side, size in zip(roi, shape, strict=False)
        )
    return tuple(shape)
