"""
What an nnU-Net v2 folder says of itself: `plans.json` and `dataset.json`, read once into frozen values.

nnU-Net names everything by the classes of its own package. We follow its names for what it does by default,
and say `Exotic` of anything else: that runs with nnU-Net's own code, or not at all, but never in a way that
is only nearly the same.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

Architecture = Literal["PlainConvUNet", "ResidualEncoderUNet"]
Normaliser = Literal[
    "CTNormalization", "ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization",
    "RGBTo01Normalization",
]  # fmt: skip

_DEFAULT_RESAMPLING = "resample_data_or_seg_to_shape"
_NETWORKS: tuple[Architecture, ...] = ("PlainConvUNet", "ResidualEncoderUNet")
_NORMALISERS = Normaliser.__args__  # type: ignore[attr-defined]


class Exotic(Exception):  # Not an error: the reason why nnU-Net's own code is needed.
    """The folder asks for something that only nnU-Net's own package does; the text says what."""


#: nnU-Net's trainers and TotalSegmentator's that differ in how they train and in nothing else. Others may
#: build another network than the plans say, with weights of the same names.
_TRAINERS = re.compile(
    r"nnUNetTrainer(_?(Vanilla|Ada[mn]|[13]en[134]|CosAnneal|Benchmark|noDataLoading|(Dice)?CELoss|DiceLoss"
    r"|(Dice)?Top[kK]10Loss|LS01|noSmooth|DA5|DASegOrd0|[Ss]egord0|ord0|NoDA|NoDeepSupervision|NoMirroring"
    r"|onlyMirror01|noDummy2DDA|probabilisticOversampling|010|033|warmup|MOSAIC|1k|QuarterLR|SkeletonRecall"
    r"|\d+(epochs?|ep)))*"
)


class NotPlans(ValueError):
    """The files are not what nnU-Net writes."""


_Size = Annotated[int, Field(ge=1, le=4096)]
_Kernel = Annotated[int, Field(ge=1, le=31)]
_PerAxis = _Kernel | Annotated[list[_Kernel], Field(min_length=2, max_length=3)]


class _Strict(BaseModel, frozen=True, extra="forbid"):
    pass


class UNetPlan(_Strict):
    """The `arch_kwargs` of nnU-Net's two U-Nets; a key that is not here is `Exotic`."""

    n_stages: int = Field(ge=2, le=12)
    features_per_stage: list[_Size]
    conv_op: str
    kernel_sizes: list[_PerAxis]
    strides: list[_PerAxis]
    n_conv_per_stage: list[_Kernel] = []
    n_blocks_per_stage: list[_Kernel] = []
    n_conv_per_stage_decoder: list[_Kernel]
    conv_bias: bool = False
    norm_op: str | None = None
    norm_op_kwargs: Mapping[str, bool | int | float] | None = None
    dropout_op: None = None
    dropout_op_kwargs: Mapping[str, Any] | None = None
    nonlin: str | None = None
    nonlin_kwargs: Mapping[str, bool | int | float] | None = None
    nonlin_first: Literal[False] = False


@dataclass(frozen=True, slots=True)
class Intensities:
    """Of the foreground of the training images, in one channel."""

    mean: float
    std: float
    low: float  #: percentile 0.5
    high: float  #: percentile 99.5


@dataclass(frozen=True, slots=True)
class Channel:
    """One input channel: its name, and how its intensities are normalised."""

    name: str
    normaliser: Normaliser
    within_mask: bool  #: mean and deviation over the voxels that are not zero
    intensities: Intensities


@dataclass(frozen=True, slots=True)
class Resampling:
    """Orders of the splines within and across the plane of slices; `apart`: whether those are kept apart."""

    order: int
    order_across: int
    apart: bool | None  #: None: where the spacing is anisotropic


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Names and values of `dataset.json`, and what the output channels of the network mean."""

    values: Mapping[str, int | tuple[int, ...]]  #: name → value, or the values of a region; no background
    regions: tuple[int, ...] | None  #: the value that each channel writes, later ones over earlier ones
    heads: int  #: output channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One configuration of the plans: "2d", "3d_fullres", …; axes are (z, y, x) after `forward`."""

    name: str
    patch: tuple[int, ...]  #: two sides where slices are computed one by one
    spacing_mm: tuple[float, ...]
    forward: tuple[int, int, int]  #: transposition of the given axes
    channels: tuple[Channel, ...]
    data: Resampling
    logits: Resampling
    network: Architecture
    plan: UNetPlan
    labels: Labels
    reorient: bool  #: its training images were turned to RAS when they were read

    @property
    def backward(self) -> tuple[int, int, int]:
        """The transposition that undoes `forward`."""
        a, b, c = (self.forward.index(axis) for axis in range(3))
        return a, b, c


def read_configuration(plans: bytes, dataset: bytes, name: str) -> Configuration:
    """The configuration `name`. Raises `NotPlans` or `Exotic`."""
    plan, described = _json(plans, "plans.json"), _json(dataset, "dataset.json")
    try:
        chosen = inherited(plan["configurations"], name)
        _default_classes(plan, chosen)
        architecture = chosen.get("architecture") or _old_architecture(chosen)
        network = str(architecture["network_class_name"]).rsplit(".", 1)[-1]
        if network not in _NETWORKS:
            raise Exotic(f"its network is {network}")
        forward = tuple(int(axis) for axis in plan["transpose_forward"])
        if sorted(forward) != [0, 1, 2]:
            raise NotPlans(f"transpose_forward is {forward}")
        configuration = Configuration(
            name=name,
            patch=tuple(int(side) for side in chosen["patch_size"]),
            spacing_mm=tuple(float(mm) for mm in chosen["spacing"]),
            forward=(forward[0], forward[1], forward[2]),
            channels=_channels(plan, chosen, described),
            data=_resampling(chosen, "data"),
            logits=_resampling(chosen, "probabilities"),
            network=network,
            plan=_unet(architecture["arch_kwargs"]),
            labels=_labels(described),
            reorient=plan.get("image_reader_writer") == "NibabelIOWithReorient",
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise NotPlans(f"plans.json or dataset.json lacks or garbles {error}") from error
    _consistent(configuration)
    return configuration


def builds_what_the_plans_say(trainer: str) -> None:
    """Raise `Exotic` for a trainer of which that is not known."""
    if _TRAINERS.fullmatch(trainer) is None:
        raise Exotic(f"its trainer is {trainer}")


def label_names(dataset: bytes) -> Mapping[str, int | tuple[int, ...]]:
    """The labels of `dataset.json` without background and ignore. Raises `NotPlans`."""
    return _labels(_json(dataset, "dataset.json")).values


def channel_names(dataset: bytes) -> tuple[str, ...]:
    """The names of the input channels of `dataset.json`. Raises `NotPlans`."""
    described = _json(dataset, "dataset.json")
    named = described.get("channel_names") or described.get("modality")
    if not isinstance(named, dict) or not named:
        raise NotPlans("dataset.json names no channels")
    return tuple(str(named[key]) for key in sorted(named, key=int))


def _json(content: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NotPlans(f"{name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise NotPlans(f"{name} is not an object")
    return found


def inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration with what it inherits; nnU-Net lets one refine another."""
    chain: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    at: str | None = name
    while at is not None:
        if at in seen or at not in configurations:
            raise NotPlans(f"plans.json has no configuration {at!r}, or it inherits from itself")
        seen.add(at)
        chain.append(configurations[at])
        at = configurations[at].get("inherits_from")
    found: dict[str, Any] = {}
    for one in reversed(chain):
        found.update(one)
    return found


def _default_classes(plan: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    """Raise `Exotic` where a class other than nnU-Net's default has to do something."""
    if chosen.get("previous_stage"):
        raise Exotic(f"it is a cascade that starts from {chosen['previous_stage']}")
    if (manager := plan.get("label_manager", "LabelManager")) != "LabelManager":
        raise Exotic(f"its label manager is {manager}")
    if (preprocessor := chosen.get("preprocessor_name", "DefaultPreprocessor")) != "DefaultPreprocessor":
        raise Exotic(f"its preprocessor is {preprocessor}")
    for what in ("data", "probabilities"):
        if (function := chosen.get(f"resampling_fn_{what}", _DEFAULT_RESAMPLING)) != _DEFAULT_RESAMPLING:
            raise Exotic(f"it resamples {what} by {function}")


def _unet(kwargs: Mapping[str, Any]) -> UNetPlan:
    unknown = {key for key, value in kwargs.items() if key not in UNetPlan.model_fields and value is not None}
    if unknown or kwargs.get("nonlin_first") or kwargs.get("dropout_op"):
        raise Exotic(f"its network has {', '.join(sorted(unknown)) or 'another order of layers, or dropout'}")
    known = {key: value for key, value in kwargs.items() if key in UNetPlan.model_fields}
    stages = known.get("n_stages")
    if isinstance(stages, int) and 2 <= stages <= 12:
        for key, many in (
            ("features_per_stage", stages),
            ("kernel_sizes", stages),
            ("n_conv_per_stage", stages),
            ("n_blocks_per_stage", stages),
            ("n_conv_per_stage_decoder", stages - 1),
        ):
            if isinstance(known.get(key), int):
                known[key] = [known[key]] * many
    try:
        plan = UNetPlan.model_validate(known)
    except ValidationError as error:
        raise NotPlans(f"the network of plans.json: {error}") from error
    for key, many in (("features_per_stage", 0), ("kernel_sizes", 0), ("strides", 0)):
        if len(getattr(plan, key)) != plan.n_stages + many:
            raise NotPlans(f"plans.json has {len(getattr(plan, key))} {key} for {plan.n_stages} stages")
    encoder = plan.n_blocks_per_stage or plan.n_conv_per_stage
    if len(encoder) != plan.n_stages or len(plan.n_conv_per_stage_decoder) != plan.n_stages - 1:
        raise NotPlans(f"plans.json says how often to convolve for other than {plan.n_stages} stages")
    return plan


def _old_architecture(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture as it was written before nnU-Net 2.4, in the words of today."""
    kind = chosen["UNet_class_name"]
    stages = len(chosen["n_conv_per_stage_encoder"])
    widest, first = chosen["unet_max_num_features"], chosen["UNet_base_num_features"]
    axes = len(chosen["patch_size"])
    return {
        "network_class_name": kind,
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(first * 2**stage, widest) for stage in range(stages)],
            "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
            "kernel_sizes": chosen["conv_kernel_sizes"],
            "strides": chosen["pool_op_kernel_sizes"],
            ("n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"): chosen[
                "n_conv_per_stage_encoder"
            ],
            "n_conv_per_stage_decoder": chosen["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }


def _channels(
    plan: Mapping[str, Any], chosen: Mapping[str, Any], described: Mapping[str, Any]
) -> tuple[Channel, ...]:
    names = channel_names(json.dumps(described).encode())
    properties = (
        plan.get("foreground_intensity_properties_per_channel")
        or plan["foreground_intensity_properties_by_modality"]
    )
    schemes, masked = chosen["normalization_schemes"], chosen["use_mask_for_norm"]
    if not len(names) == len(schemes) == len(masked):
        raise NotPlans(f"{len(names)} channels are named and {len(schemes)} normalised")
    channels = []
    for n, (name, scheme) in enumerate(zip(names, schemes, strict=True)):
        if scheme not in _NORMALISERS:
            raise Exotic(f"channel {name} is normalised by {scheme}")
        of = properties[str(n)]
        intensities = Intensities(
            *(float(of[key]) for key in ("mean", "std", "percentile_00_5", "percentile_99_5"))
        )
        channels.append(Channel(name, scheme, bool(masked[n]), intensities))
    return tuple(channels)


def _resampling(chosen: Mapping[str, Any], what: str) -> Resampling:
    kwargs = chosen[f"resampling_fn_{what}_kwargs"]
    if kwargs.get("is_seg"):
        raise Exotic(f"it resamples {what} as labels")
    if unknown := set(kwargs) - {"is_seg", "order", "order_z", "force_separate_z"}:
        raise Exotic(f"it resamples {what} with {', '.join(sorted(unknown))}")
    orders = [int(kwargs.get("order", 3)), int(kwargs.get("order_z", 0))]
    if not all(0 <= order <= 5 for order in orders):
        raise NotPlans(f"there are no splines of order {orders}")
    apart = kwargs.get("force_separate_z")
    return Resampling(orders[0], orders[1], None if apart is None else bool(apart))


def _labels(described: Mapping[str, Any]) -> Labels:
    if not isinstance(labels := described.get("labels"), dict) or labels.get("background") != 0:
        raise NotPlans("dataset.json has no labels with a background of 0")
    values: dict[str, int | tuple[int, ...]] = {}
    for name, value in labels.items():
        if name in ("background", "ignore"):
            continue
        region = tuple(int(one) for one in value) if isinstance(value, list) else int(value)
        if region != 0 and set(region if isinstance(region, tuple) else ()) != {0}:
            values[str(name)] = region
    everything = {
        one for value in values.values() for one in (value if isinstance(value, tuple) else (value,))
    }
    if not values or min(everything) < 0 or max(everything) > 65535:
        raise NotPlans("dataset.json has no labels from 1 to 65535")
    if not any(isinstance(value, tuple) and len(value) > 1 for value in values.values()):
        plain = {name: value[0] if isinstance(value, tuple) else value for name, value in values.items()}
        # The channels are the values in ascending order, and a channel's number is what is written.
        return Labels(values=plain, regions=None, heads=len(everything | {0}))
    order = described.get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(values):
        raise NotPlans("dataset.json has regions and no regions_class_order for each of them")
    return Labels(values=values, regions=tuple(int(value) for value in order), heads=len(values))


def _consistent(configuration: Configuration) -> None:
    axes = len(configuration.patch)
    plan = configuration.plan
    if axes not in (2, 3) or len(configuration.spacing_mm) != axes:
        raise NotPlans(f"a patch of {axes} sides and a spacing of {len(configuration.spacing_mm)}")
    if not plan.conv_op.endswith(f"Conv{axes}d"):
        raise NotPlans(f"a network of {plan.conv_op} for a patch of {axes} sides")
    if not all(1 <= side <= 4096 for side in configuration.patch) or min(configuration.spacing_mm) <= 0:
        raise NotPlans(f"a patch of {configuration.patch} at {configuration.spacing_mm} mm")
    for sizes in (plan.kernel_sizes, plan.strides):
        if any(isinstance(size, list) and len(size) != axes for size in sizes):
            raise NotPlans(f"kernels or strides of other than {axes} axes")
    for axis, side in enumerate(configuration.patch):
        together = 1
        for stride in plan.strides:
            together *= stride[axis] if isinstance(stride, list) else stride
        if side % together:
            raise NotPlans(f"a patch of {configuration.patch} cannot be halved as the strides say")
