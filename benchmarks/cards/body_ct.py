"""What is measured of `body_ct`: phantoms whose formulas are known, and the real scans case by case."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import highdicom as hd
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from benchmarks.measured import DATA, Agreement, Measured, Row, agreement
from ledger.job import Outcome
from models.builtin.body_ct.model import BodyCT
from models.contract import Context, Drawn
from models.structures import STRUCTURES, key_of
from models.totalsegmentator import tasks
from models.training import chest_anatomy as anatomy
from models.training.phantoms import Phantom, chest
from results import codes
from results.findings import Concept, Findings, Segment
from worker.load import load_series

_HEADERS = {"Modality": "CT", "KVP": "120", "SliceThickness": "4"}
_CT = {"Modality": "CT"}
_CASES = 4
_TRUE_HU = {
    "Vertebral": ("vertebral bodies", anatomy.VERTEBRA_HU),
    "Liver": ("liver", anatomy.LIVER_HU),
    "Muscle": ("muscle of chest wall", anatomy.MUSCLE_HU),
}


def _ring_ml(phantom: Phantom, mask: NDArray[np.bool_]) -> float:
    """The fat of the phantom under its skin, on the slices of `mask`."""
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    points = phantom.geometry.map_indices_to_reference(np.argwhere(np.ones(phantom.hu.shape, np.bool_)))
    x, y, z = points.astype(np.float32).T
    skin = anatomy.body(x, y, z).reshape(phantom.hu.shape)[planes[0] : planes[-1] + 1]
    return float(((skin < 0) & (skin > -14)).sum()) * phantom.geometry.voxel_volume / 1000


def agreements() -> Iterator[Row]:
    """Each quantity against the formulas of the phantom."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for seed in range(_CASES):
        phantom = chest((70, 128, 128), (4.0, 3.0, 3.0), seed=seed, noise_hu=6.0 + 6 * seed)
        found = BodyCT().run(phantom.volume, Context(headers=_HEADERS))
        for one in found.segments:
            begins = one.label.split()[0]
            if begins == "Subcutaneous":
                truth = _ring_ml(phantom, found.mask(one.number))
                pairs["subcutaneous fat", "ml"].append((_value(one, codes.VOLUME), truth))
            elif begins in _TRUE_HU:
                said, true_hu = _TRUE_HU[begins]
                pairs[said, "HU"].append((_value(one, codes.ATTENUATION), true_hu))
    for (said, unit), known in pairs.items():
        measured, truths = zip(*known, strict=True)
        yield f"{said}, mean of truth {np.mean(truths):.0f} {unit}", *agreement(measured, truths).cells(unit)


def _value(segment: Segment, name: Concept) -> float:
    return next(one.value for one in segment.measurements if one.name == name)


def real_scans() -> Iterator[Row]:
    """What it says of each real scan."""
    for folder in ("ct_thorax_cip64", "ct_thorax_lungdx_A0002_b40f"):
        loaded = load_series(sorted((DATA / folder).rglob("*.dcm")))
        yield from _rows(folder, loaded.volume, dict(loaded.headers))
    yield from _rows("ct_totalseg, example_ct", _nifti("example_ct"), _CT)
    said = "example_ct_sm, organs by TotalSegmentator"
    yield from _rows(said, _nifti("example_ct_sm"), _CT, _drawn("example_seg"))


def _file(name: str) -> Path:
    return DATA / "ct_totalseg" / f"{name}.nii.gz"


def _nifti(name: str) -> hd.Volume:
    """A NIfTI of ct_totalseg as a volume, slices first."""
    image = SimpleITK.ReadImage(str(_file(name)))
    affine = np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing())[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return hd.Volume(SimpleITK.GetArrayFromImage(image).astype(np.float32), affine, "PATIENT")


def _drawn(name: str) -> Drawn:
    """What the `total` task of TotalSegmentator drew, as a model that is loaded here would give it."""
    labels = _nifti(name).array.astype(np.uint8)
    segments: list[Segment] = []
    here = np.zeros_like(labels)
    for value, label in enumerate(tasks()["total"].labels, 1):
        key = key_of(label, "totalsegmentator")
        if key is None or not (labels == value).any():
            continue
        segments.append(STRUCTURES[key].segment(len(segments) + 1))
        here[labels == value] = len(segments)
    found = Findings(outcome=Outcome.FOUND, label_map=here, segments=tuple(segments))
    digest = hashlib.sha256(_file(name).read_bytes()).hexdigest()
    return Drawn(findings=found, identity="TotalSegmentator's file", digest=digest)


def _rows(name: str, volume: hd.Volume, headers: dict[str, str], drawn: Drawn | None = None) -> Iterator[Row]:
    settings = {"organs": "totalsegmentator"} if drawn else {}
    found = BodyCT().run(volume, Context(headers=headers, settings=settings, drawn=drawn))
    for one in found.segments:
        yield name, one.label, _value(one, codes.VOLUME), _value(one, codes.ATTENUATION)
    for said in (*found.cautions, *([found.because] if found.because else [])):
        yield name, said, "", ""


TABLES = (
    Measured(
        name="phantoms",
        title=f"{_CASES} phantoms with noise of 6 to 24 HU, against the formulas that they are made of",
        columns=("quantity", *Agreement.COLUMNS),
        rows=agreements,
        note="A phantom has a ring of fat of one thickness, and no breast, no arms and no disease.",
    ),
    Measured(
        name="real",
        title="Real scans; there is no reference for any of these numbers",
        columns=("scan", "what is said", "volume, ml", "mean, HU"),
        rows=real_scans,
        needs=("ct_thorax_cip64", "ct_thorax_lungdx_A0002_b40f", "ct_totalseg"),
    ),
)
