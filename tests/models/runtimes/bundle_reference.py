"""What MONAI itself makes of a bundle: from a NIfTI file, with its own parser, inferer and transforms."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate
from numpy.typing import NDArray


def write_nifti(volume: hd.Volume, path: Path) -> Path:
    """The volume as a converter of DICOM writes it: axes (column, row, slice), affine to RAS mm."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(volume.affine)[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(np.asarray(volume.array, np.float32).transpose(2, 1, 0), affine)
    # Quaternions are floats of four bytes; the matrix is kept in full.
    image.set_sform(affine, code=1)
    nibabel.save(image, path)
    return path


def by_monai(*arguments: Any) -> Any:
    """As `_by_monai`; MONAI's warnings of its own deprecations are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _by_monai(*arguments)


def _by_monai(
    configuration: Mapping[str, Any],
    images: Mapping[str, Path | list[Path]],
    weights: Mapping[str, Any],
    folder: Path,
) -> Any:
    """What the bundle's "pred" is before it would be written to a file: (channel, column, row, slice).

    As `SupervisedEvaluator` does it: collate, infer, decollate, postprocess.
    """
    parser = ConfigParser(
        {key: value for key, value in configuration.items() if key not in ("handlers", "run")}
    )
    parser["bundle_root"] = str(folder)
    for chain in ("preprocessing", "postprocessing"):
        # A file is read with whatever reader is here, and none is written.
        for index, one in enumerate(parser.get(f"{chain}::transforms")):
            if isinstance(one, dict) and one["_target_"].startswith("Save"):
                parser[f"{chain}::transforms::{index}"] = {"_target_": one["_target_"], "_disabled_": True}
            elif isinstance(one, dict) and one["_target_"].startswith("Load"):
                one.pop("reader", None)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(weights)
    preprocessing = parser.get_parsed_content("preprocessing")
    inferer = parser.get_parsed_content("inferer")
    postprocessing = parser.get_parsed_content("postprocessing")
    with torch.no_grad():
        data = preprocessing(
            {key: path if isinstance(path, list) else str(path) for key, path in images.items()}
        )
        batch = list_data_collate([data])
        batch["pred"] = inferer(batch["image"], network)
        (one,) = decollate_batch(batch)
        return postprocessing(one)


def labels_of(answer: Any) -> NDArray[Any]:
    """(slice, row, column) of one channel of labels."""
    return np.asarray(answer["pred"][0].cpu()).transpose(2, 1, 0)
