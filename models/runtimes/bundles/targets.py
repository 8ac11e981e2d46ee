"""
What a configuration may build without being code: networks, transforms, inferers of MONAI; layers of torch.

`_target_` may name anything that Python can import, `os.system` among it. The names below compute on the
tensors they are given and do nothing else: they open no file, ask no network and start no program. A name
that is missing here is not wrong, it is code, and code needs trust.
"""

import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

_NETWORKS = """
    AttentionUnet BasicUNet BasicUnet Basicunet basicunet BasicUNetPlusPlus BasicUnetPlusPlus Classifier
    DenseNet Densenet DenseNet121 Densenet121 densenet121 DenseNet169 densenet169 DenseNet201 densenet201
    DenseNet264 densenet264 DiNTS TopologyInstance DynUNet DynUnet EfficientNetBN EfficientNet
    FlexibleUNet FlexUNet HighResNet HoVerNet HoverNet LocalNet MedNeXt MedNeXtSmall MedNeXtBase MedNeXtMedium
    MedNeXtLarge Regressor RegUNet ResNet resnet10 resnet18 resnet34 resnet50 resnet101 resnet152 resnet200
    ResNetFeatures SegResNet SegResNetDS SegResNetDS2 SegResNetVAE SENet SENet154 SEResNet50 SEResNet101
    SEResNet152 SEResNext50 SEResNext101 SEresnet50 SEResnet50 SwinUNETR UNETR UNet Unet VNet ViT vista3d132
    FullyConnectedNet VarFullyConnectedNet VISTA3D
"""
_TRANSFORMS = """
    Activations AsDiscrete BorderPad CastToType CenterScaleCrop CenterSpatialCrop ClipIntensityPercentiles
    Compose ConcatItems ConvertToMultiChannelBasedOnBratsClasses CopyItems CropForeground DeleteItems
    DivisiblePad EnsureChannelFirst EnsureType FillHoles Flip ForegroundMask GaussianSharpen GaussianSmooth
    HistogramNormalize Identity Invert KeepLargestConnectedComponent LabelFilter LabelToContour Lambda
    MapLabelValue MaskIntensity MeanEnsemble MedianSmooth NormalizeIntensity Orientation
    RemoveRepeatedChannel RemoveSmallObjects RepeatChannel ResampleToMatch Resize ResizeWithPadOrCrop Rotate90
    ScaleIntensity ScaleIntensityFixedMean ScaleIntensityRange ScaleIntensityRangePercentiles SelectItems
    ShiftIntensity Spacing SpatialCrop SpatialPad SpatialResample SplitDim SqueezeDim ThresholdIntensity
    ToDevice ToTensor Transpose VoteEnsemble Zoom
"""
_INFERERS = "SimpleInferer SlidingWindowInferer SlidingWindowInfererAdapt SliceInferer"
_BOXES = "ClipBoxToImaged AffineBoxToWorldCoordinated AffineBoxToImageCoordinated ConvertBoxModed"
_BOXES_STANDARD = "ConvertBoxToStandardModed"


def _dictionary_forms(names: list[str]) -> list[str]:
    return [f"{name}{suffix}" for name in names for suffix in ("", "d", "D", "Dict")]


#: module → the names in it
_ALLOWED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "monai.networks.nets": frozenset(_NETWORKS.split()),
        "monai.transforms": frozenset(_dictionary_forms(_TRANSFORMS.split())),
        "monai.inferers": frozenset(_INFERERS.split()),
        "monai.apps.detection.networks.retinanet_network": frozenset(
            {"RetinaNet", "resnet_fpn_feature_extractor"}
        ),
        "monai.apps.detection.networks.retinanet_detector": frozenset({"RetinaNetDetector"}),
        "monai.apps.detection.utils.anchor_utils": frozenset(
            {"AnchorGenerator", "AnchorGeneratorWithAnchorShape"}
        ),
        "monai.apps.detection.transforms.dictionary": frozenset([*_BOXES.split(), *_BOXES_STANDARD.split()]),
        "monai.apps.vista3d.transforms": frozenset(
            f"{name}d" for name in ("VistaPreTransform", "VistaPostTransform")
        ),
        "torch": frozenset({"device"}),
    }
)
_LAYER = re.compile(r"torch\.nn\.([A-Z]\w*)")
_FETCHING = re.compile(r"pretrained|adapted_param")  # such arguments make a network ask the Internet


@dataclass(frozen=True, slots=True)
class Target:
    """Something that may be built."""

    module: str
    name: str

    def load(self) -> Any:
        """The class or function. Raises `ImportError` or `AttributeError` where MONAI does not have it."""
        found = getattr(importlib.import_module(self.module), self.name)
        if self.module == "torch.nn":
            nn = importlib.import_module("torch.nn")
            if not (isinstance(found, type) and issubclass(found, nn.Module)):
                raise AttributeError(f"torch.nn.{self.name} is no layer")
        return found

    def build(self, args: list[Any], keywords: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
        """It, built of arguments, and the names of arguments that this MONAI no longer has.

        No network fetches weights from somewhere else: the bundle brings its own.
        """
        found = self.load()
        parameters = inspect.signature(found).parameters
        takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        if args and not any(one.kind is one.VAR_POSITIONAL for one in parameters.values()):
            keywords = dict(zip(parameters, args, strict=False)) | keywords
            args = []
        unknown = () if takes_any or not self.is_network else tuple(sorted(set(keywords) - set(parameters)))
        keywords = {
            name: value
            for name, value in keywords.items()
            if name not in unknown and not _FETCHING.search(name)
        }
        if "pretrained" in parameters:
            keywords["pretrained"] = False  # The default of some is True.
        return found(*args, **keywords), unknown

    @property
    def is_network(self) -> bool:
        """Whether it is one of MONAI's networks."""
        return self.module == "monai.networks.nets"


def locate(target: str) -> Target | None:
    """What `_target_` names, if it is in the table; None where it is code.

    A bare name is looked for in every module of the table. A dotted one has to begin with a module of it and
    to end with a name of that module; what stands between (`monai.networks.nets.unet.UNet`) is not walked.
    """
    layer = _LAYER.fullmatch(target)
    if layer is not None:
        return Target("torch.nn", layer[1])
    path, _, name = target.rpartition(".")
    for module, names in _ALLOWED.items():
        if name not in names:
            continue
        above = module.removesuffix(".dictionary").rsplit(".", 1)[0] if ".apps." in module else module
        if path == "" and module != "torch":
            return Target(module, name)
        if path in (module, above) or (path.startswith(f"{module}.") and module != "torch"):
            return Target(module, name)
    return None
