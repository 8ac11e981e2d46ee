"""`plans.json` and `dataset.json` as nnU-Net writes them, and folders with weights of chance."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.runtimes.nnunet_network import UNet
from models.runtimes.nnunet_plans import read_configuration
from tests.models.nnunet.cases import Case

_RESAMPLE = "resample_data_or_seg_to_shape"


def plans_of(case: Case) -> dict[str, Any]:
    axes, stages = len(case.patch), len(case.strides)
    plain = case.kind == "PlainConvUNet"
    network = {
        "n_stages": stages,
        "features_per_stage": [4 * 2**stage for stage in range(stages)],
        "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
        "kernel_sizes": [[3] * axes] * stages,
        "strides": [list(stride) for stride in case.strides],
        ("n_conv_per_stage" if plain else "n_blocks_per_stage"): [2] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    resampling = {
        what: {"is_seg": False, "order": order, "order_z": across, "force_separate_z": case.apart}
        for what, (order, across) in {"data": case.data, "probabilities": case.logits}.items()
    }
    configuration = {
        "data_identifier": "nnUNetPlans_x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(case.patch),
        "median_image_size_in_voxels": [64.0] * axes,
        "spacing": list(case.target_mm),
        "normalization_schemes": list(case.normalisers),
        "use_mask_for_norm": list(case.masked),
        "resampling_fn_data": _RESAMPLE,
        "resampling_fn_data_kwargs": resampling["data"],
        "resampling_fn_probabilities": _RESAMPLE,
        "resampling_fn_probabilities_kwargs": resampling["probabilities"],
        "resampling_fn_seg": _RESAMPLE,
        "resampling_fn_seg_kwargs": resampling["data"] | {"is_seg": True, "order": 1},
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{case.kind}",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    of_foreground = {"max": 900.0, "min": -900.0, "median": 30.0, "percentile_00_5": -500.0}
    return {
        "dataset_name": "Dataset999_Test",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(case.forward),
        "transpose_backward": [case.forward.index(axis) for axis in range(3)],
        "configurations": {("2d" if axes == 2 else "3d_fullres"): configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(n): of_foreground | {"mean": 40.0 + n, "percentile_99_5": 700.0, "std": 210.0}
            for n in range(case.channels)
        },
    }


def dataset_of(case: Case) -> dict[str, Any]:
    dataset: dict[str, Any] = {
        "channel_names": {str(n): f"channel {n}" for n in range(case.channels)},
        "labels": {name: list(value) if isinstance(value, list) else value for name, value in case.labels},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    if case.regions is not None:
        dataset["regions_class_order"] = list(case.regions)
    return dataset


def write_folder(folder: Path, case: Case, *, seed: int = 0, **changes: Any) -> Path:
    """A folder whose network has random weights, without nnU-Net. `changes` are of the checkpoint."""
    plans, dataset = plans_of(case), dataset_of(case)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    name = next(iter(plans["configurations"]))
    configuration = read_configuration(
        (folder / "plans.json").read_bytes(), (folder / "dataset.json").read_bytes(), name
    )
    for fold in range(case.folds):
        torch.manual_seed(seed + fold)
        network = UNet(configuration.network, configuration.plan, case.channels, configuration.labels.heads)
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        checkpoint = {
            "network_weights": network.state_dict(),
            "logging": {"ema_fg_dice": [np.float64(0.5)]},
            "init_args": {"configuration": name},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": tuple(range(len(case.patch))) if case.mirror else None,
        }
        torch.save(checkpoint | changes, folder / f"fold_{fold}/checkpoint_final.pth")
    return folder
