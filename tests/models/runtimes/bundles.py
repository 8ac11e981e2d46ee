"""
Bundles in the style of MONAI's model zoo, built in code: small networks, random weights, real configurations.

Everything that breaks when a bundle of the zoo is run from memory is in one of them.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import torch
from monai.networks.nets import SegResNet, UNet

from models.manifest import Manifest
from models.package import Package
from models.runtimes.monai_bundle import MonaiBundle

TISSUE = {"value": "85756007", "scheme": "SCT", "meaning": "Tissue"}
NODULE = {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"}
DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"

UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}

#: A segmentation as NVIDIA's bundles write it.
SEGMENTATION: dict[str, Any] = {
    "imports": ["$import glob", "$import numpy", "$import os"],
    "bundle_root": ".",
    "image_key": "image",
    "output_dir": "$@bundle_root + '/eval'",
    "output_dtype": "$numpy.float32",
    "dataset_dir": "/workspace/data",
    "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
    "device": DEVICE,
    "network_def": UNET,
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "@image_key", "reader": "ITKReader"},
            {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
            {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [3.0, 3.0, 3.0], "mode": "bilinear"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "@image_key",
                "a_min": -200,
                "a_max": 200,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "@image_key"},
        ],
    },
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': i} for i in @datalist]",
        "transform": "@preprocessing",
    },
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 4},
    "inferer": {
        "_target_": "SlidingWindowInferer",
        "roi_size": [16, 16, 16],
        "sw_batch_size": 2,
        "overlap": 0.5,
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "@image_key",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "output_dir": "@output_dir",
                "output_dtype": "@output_dtype",
            },
        ],
    },
    "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "val_handlers": "@handlers",
        "amp": True,
    },
    "checkpointloader": {
        "_target_": "CheckpointLoader",
        "load_path": "$@bundle_root + '/models/model.pt'",
        "load_dict": {"model": "@network"},
    },
    "initialize": ["$monai.utils.set_determinism(seed=123)", "$@checkpointloader(@evaluator)"],
    "run": ["$@evaluator.run()"],
}

METADATA: dict[str, Any] = {
    "version": "0.1.0",
    "name": "Two organs",
    "task": "Decathlon spleen segmentation",
    "intended_use": "tests",
    "data_source": "nowhere",
    "eval_metrics": {"mean_dice": 0.5},
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "image",
                "format": "hounsfield",
                "modality": "CT",
                "num_channels": 1,
                "spatial_shape": [16, 16, 16],
                "channel_def": {"0": "image"},
            }
        },
        "outputs": {
            "pred": {
                "type": "image",
                "format": "segmentation",
                "num_channels": 3,
                "channel_def": {"0": "background", "1": "spleen", "2": "Left Kideny"},
            }
        },
    },
}


def changed(tree: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy; `a__b__0=…` changes what stands at `a::b::0`, and None takes it away."""
    copy = deepcopy(dict(tree))
    for path, value in changes.items():
        *above, last = path.split("__")
        node: Any = copy
        for key in above:
            node = node[int(key)] if isinstance(node, list) else node[key]
        if value is None:
            del node[int(last) if isinstance(node, list) else last]
        else:
            node[int(last) if isinstance(node, list) else last] = value
    return copy


def write_bundle(
    folder: Path,
    configuration: Mapping[str, Any] = SEGMENTATION,
    metadata: Mapping[str, Any] = METADATA,
    *,
    weights: Any = None,
    files: Mapping[str, bytes | str] | None = None,
) -> Path:
    """A bundle in `folder`. `weights` is what `models/model.pt` holds."""
    (folder / "configs").mkdir(parents=True)
    (folder / "configs/inference.json").write_text(json.dumps(configuration))
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    if weights is not None:
        (folder / "models").mkdir()
        torch.save(weights, folder / "models/model.pt")
    for path, content in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def package_of(folder: Path, **fields: Any) -> Package:
    """The bundle as it is installed: a manifest that vouches for every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [
        {
            "path": path.relative_to(folder).as_posix(),
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in paths
    ]
    return Package(folder, manifest(files=files, **fields))


def manifest(**fields: Any) -> Manifest:
    """A manifest of a bundle with two segments, unless told otherwise."""
    return Manifest.model_validate(
        {
            "name": "two_organs",
            "version": "1",
            "title": "Two organs",
            "licence": "Apache-2.0",
            "intended_use": "tests",
            "limits": [],
            "runtime": "monai_bundle",
            "inputs": [{"modality": ["CT"]}],
            "segments": [{"number": 1, "structure": "spleen"}, {"number": 2, "structure": "kidney_left"}],
            "time_limit_s": 60,
            "memory_mib": 64,
            **fields,
        }
    )


def unet(seed: int = 0, **changes: Any) -> UNet:
    """The network of `SEGMENTATION`, with weights that draw every class somewhere."""
    torch.manual_seed(seed)
    arguments = {key: value for key, value in {**UNET, **changes}.items() if key != "_target_"}
    return livened(UNet(**arguments))


def segresnet(seed: int = 0) -> SegResNet:
    """Four channels in, three that overlap out."""
    torch.manual_seed(seed)
    return livened(
        SegResNet(
            spatial_dims=3, in_channels=4, out_channels=3, init_filters=8, blocks_down=[1, 1], blocks_up=[1]
        )
    )


def livened(network: Any) -> Any:
    """Random running statistics too: with those of a fresh network every voxel would be of one class."""
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.2, 1.0)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.3)
    return network.eval()


def scan(
    shape: tuple[int, int, int] = (14, 30, 34),
    spacing_mm: tuple[float, float, float] = (4.0, 1.9, 2.1),
    *,
    turned: bool = True,
    seed: int = 3,
) -> hd.Volume:
    """A smooth CT of nothing in particular, slightly oblique where it is `turned`."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(0, 250, (1, 1, 5, 6, 7)))
    smooth = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[0, 0].numpy()
    angle = 0.15 if turned else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    # columns run to the left, rows to the back, slices to the head
    axes = turn @ np.array([[0, 0, spacing_mm[2]], [0, spacing_mm[1], 0], [spacing_mm[0], 0, 0]])
    # As NIfTI keeps it: where MONAI's Spacing lays its grid on an oblique volume hangs on the last digit.
    affine[:3, :3] = axes.astype(np.float32)
    affine[:3, 3] = (-31.0, -25.0, 12.0)
    return hd.Volume(smooth.astype(np.float32), affine, coordinate_system="PATIENT")


def loaded(package: Package) -> MonaiBundle:
    """The bundle, ready on the CPU."""
    model = MonaiBundle(package)
    model.load("cpu")
    return model
