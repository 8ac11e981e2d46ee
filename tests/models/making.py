"""Packages of models, made on the spot: a folder with files and a manifest that vouches for them."""

import hashlib
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np

from models.manifest import FileFact, Manifest
from models.package import Package

ORGAN = {"value": "113343008", "scheme": "SCT", "meaning": "Organ"}
LIVER = {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}
SPLEEN = {"value": "78961009", "scheme": "SCT", "meaning": "Spleen"}
NODULE = {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"}
MASS = {"value": "4147007", "scheme": "SCT", "meaning": "Mass"}
LENGTH = {"value": "410668003", "scheme": "SCT", "meaning": "Length"}
MILLIMETRE = {"value": "mm", "scheme": "UCUM", "meaning": "mm"}
PROBABILITY = {"value": "2339001", "scheme": "SCT", "meaning": "Propensity"}
NO_UNIT = {"value": "1", "scheme": "UCUM", "meaning": "no units"}

SEGMENTS = (
    {"number": 1, "label": "Liver", "category": ORGAN, "kind": LIVER},
    {"number": 2, "label": "Spleen", "category": ORGAN, "kind": SPLEEN},
)
CLASSES = (
    {"index": 0, "label": "Nodule", "finding": NODULE, "threshold": 0.0},
    {"index": 1, "label": "Mass", "finding": MASS, "threshold": 0.0, "calibration": (1.3, -0.2)},
)
POINTS = (
    {"index": 0, "label": "Liver", "site": LIVER},
    {"index": 1, "label": "Spleen", "site": SPLEEN},
)
QUANTITIES = ({"index": 0, "name": LENGTH, "unit": MILLIMETRE, "scale": 10.0, "offset": 3.0},)
MAPS = ({"index": 0, "label": "Nodule", "quantity": PROBABILITY, "unit": NO_UNIT},)

ANSWERS: dict[str, dict[str, Any]] = {
    "segmentation": {"segments": SEGMENTS},
    "detection": {"classes": CLASSES},
    "classification": {"classes": CLASSES},
    "landmarks": {"points": POINTS},
    "regression": {"quantities": QUANTITIES},
    "heat map": {"maps": MAPS},
}


def manifest_of(folder: Path, **facts: Any) -> Manifest:
    """A manifest that vouches for every file in `folder`."""
    files = tuple(
        FileFact(
            path=path.relative_to(folder).as_posix(),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            size=path.stat().st_size,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    )
    said: dict[str, Any] = {
        "name": "something",
        "version": "1",
        "title": "Something",
        "licence": "Apache-2.0",
        "intended_use": "tests",
        "limits": (),
        "inputs": ({"modality": ("CT",)},),
        "time_limit_s": 60,
        "memory_mib": 100,
        "files": files,
    }
    return Manifest.model_validate(said | facts)


def package_of(folder: Path, runtime: str, *tasks: str, **facts: Any) -> Package:
    """The package in `folder`, with segments, classes and so on as the tasks ask for."""
    asked: dict[str, Any] = {"runtime": runtime, "tasks": tasks}
    for task in tasks:
        asked |= ANSWERS[task]
    return Package(folder, manifest_of(folder, **(asked | facts)))


def volume_of(array: np.ndarray, spacing_mm: tuple[float, float, float] = (2.5, 1.1, 1.2)) -> hd.Volume:
    """Axial slices from the feet up, rows to the back, columns to the left."""
    between, rows, columns = spacing_mm
    return hd.Volume.from_components(
        array=array,
        spacing=[between, rows, columns],
        coordinate_system="PATIENT",
        position=[-30.0, -40.0, 12.0],
        direction=[[0, 0, 1], [0, 1, 0], [1, 0, 0]],
    )


def blobs(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Smooth noise in Hounsfield units."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return (smooth / smooth.std() * 150 + 40).astype(np.int16)
