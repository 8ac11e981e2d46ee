"""
Run where nnU-Net's own package is: makes the folders of `cases` with its classes and asks its predictor.

    python make_reference.py OUT

OUT/<case>/model is the folder with weights of chance, OUT/<case>/reference.npy its label map of image.npy.
"""

import json
import os
import shutil
import sys
from pathlib import Path

os.environ |= dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), "/nowhere")

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import (
    nnUNetPredictor,
    recursive_find_trainer_class_by_name,
)
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from tests.models.nnunet.cases import CASES, Case
from tests.models.nnunet.folders import dataset_of, plans_of


def checkpoint(plans: dict, dataset: dict, configuration: str, *, mirror: list, seed: int) -> dict:
    """What nnU-Net's trainer saves, with random weights."""
    torch.manual_seed(seed)
    manager = PlansManager(plans)
    chosen, labels = manager.get_configuration(configuration), manager.get_label_manager(dataset)
    network = recursive_find_trainer_class_by_name("nnUNetTrainer").build_network_architecture(
        manager, chosen, determine_num_input_channels(manager, chosen, dataset),
        labels.num_segmentation_heads, enable_deep_supervision=True,
    )  # fmt: skip
    for parameter in network.parameters():
        if parameter.ndim == 1:  # Norms and biases, which are 1 and 0 otherwise.
            torch.nn.init.normal_(parameter, float(parameter.detach().abs().sum() > 0), 0.3)
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": {"state": {}},
        "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.25)], "epochs": [np.int64(3)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 3,
        "init_args": {"plans": plans, "configuration": configuration, "fold": 0, "dataset_json": dataset},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": tuple(mirror) if mirror else None,
    }


def write(folder: Path, plans: dict, dataset: dict, checkpoints: list[dict]) -> None:
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for fold, one in enumerate(checkpoints):
        (folder / f"fold_{fold}").mkdir()
        torch.save(one, folder / f"fold_{fold}/checkpoint_final.pth")


def ask(folder: Path, image: np.ndarray, case: Case, before: np.ndarray | None = None) -> np.ndarray:
    predictor = nnUNetPredictor(
        tile_step_size=case.step_size, perform_everything_on_device=False, device=torch.device("cpu"),
        allow_tqdm=False,
    )  # fmt: skip
    predictor.initialize_from_trained_model_folder(str(folder), None)
    return predictor.predict_single_npy_array(image, {"spacing": list(case.spacing_mm)}, before, None, False)


def make(out: Path, name: str, case: Case) -> None:
    plans, dataset = plans_of(case), dataset_of(case)
    configuration = next(iter(plans["configurations"]))
    axes = list(range(len(case.patch))) if case.mirror else []
    at = out / name.replace(" ", "_")
    image = case.image()
    np.save(at_made(at) / "image.npy", image)
    for seed in range(0, 200, 10):
        shutil.rmtree(at / "model", ignore_errors=True)
        folds = range(seed, seed + case.folds)
        write(
            at / "model", plans, dataset,
            [checkpoint(plans, dataset, configuration, mirror=axes, seed=fold) for fold in folds],
        )  # fmt: skip
        reference = ask(at / "model", image.copy(), case)
        # Weights of chance often see one thing everywhere, which would prove little.
        if np.sort(np.bincount(reference.ravel(), minlength=2))[-2] > 0.02 * reference.size:
            break
    np.save(at / "reference.npy", reference)


def at_made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def make_exotic(out: Path) -> None:
    """A network whose layers have another order, and a cascade."""
    case = Case()
    plans, dataset = plans_of(case), dataset_of(case)
    image = case.image()
    out.mkdir(parents=True)
    np.save(out / "image.npy", image)
    other = plans_of(case)
    other["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["nonlin_first"] = True
    write(
        out / "other_order/model", other, dataset,
        [checkpoint(other, dataset, "3d_fullres", mirror=[0, 1, 2], seed=5)],
    )  # fmt: skip
    np.save(out / "other_order/reference.npy", ask(out / "other_order/model", image.copy(), case))
    low = plans_of(Case(target_mm=(1.6, 1.6, 1.6)))["configurations"]["3d_fullres"]
    full = plans["configurations"]["3d_fullres"]
    plans["configurations"] = {
        "3d_lowres": low | {"next_stage": "3d_cascade_fullres"},
        "3d_cascade_fullres": full | {"previous_stage": "3d_lowres"},
    }
    for configuration in plans["configurations"]:
        write(
            out / "cascade/model" / configuration, plans, dataset,
            [checkpoint(plans, dataset, configuration, mirror=[], seed=6)],
        )  # fmt: skip
    first = ask(out / "cascade/model/3d_lowres", image.copy(), case)
    second = ask(out / "cascade/model/3d_cascade_fullres", image.copy(), case, first[None].astype(np.int16))
    np.save(out / "cascade/reference.npy", second)


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    for name, case in CASES.items():
        make(target, name, case)
    make_exotic(target / "exotic")
