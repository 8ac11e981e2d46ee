"""What the archive holds, compared with what is true of the phantom: read by programs that are not ours."""

import json
import subprocess
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom import Dataset

from models.training.phantoms import LEFT_LUNG, RIGHT_LUNG, Phantom
from tests.patience import patient
from tests.peers.programs import find


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Twice the common part over the sum (Dice 1945)."""
    return 2 * float(np.logical_and(a, b).sum()) / float(a.sum() + b.sum())


def by_modality(datasets: list[Dataset]) -> dict[str, list[Dataset]]:
    """The archive's data sets by Modality (0008,0060)."""
    found: dict[str, list[Dataset]] = {}
    for dataset in datasets:
        found.setdefault(dataset.Modality, []).append(dataset)
    return found


def masks_of(segmentation: Dataset, phantom: Phantom) -> np.ndarray:
    """The segments on the phantom's own grid: (slice, row, column) of segment numbers, read by highdicom."""
    read = hd.seg.Segmentation.from_dataset(segmentation)
    volume = read.get_volume(combine_segments=True, rescale_fractional=False)
    return np.asarray(volume.match_geometry(phantom.geometry).array)


def lungs_are_where_they_are(segmentation: Dataset, phantom: Phantom) -> None:
    """The segment that is called right is the patient's right lung, and the left one the left."""
    labels = masks_of(segmentation, phantom)
    numbers = {
        ("right" if "right" in item.SegmentLabel.lower() else "left"): item.SegmentNumber
        for item in segmentation.SegmentSequence
        if "lung" in item.SegmentLabel.lower()
    }
    assert set(numbers) == {"right", "left"}
    assert dice(labels == numbers["right"], phantom.truth == RIGHT_LUNG) >= 0.98
    assert dice(labels == numbers["left"], phantom.truth == LEFT_LUNG) >= 0.98


def measurements(report: Path, folder: Path) -> dict[str, dict[str, tuple[float, str]]]:
    """Tracking identifier → measurement name → (value, unit), as dcmqi's `tid1500reader` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "measurements.json"
    subprocess.run(
        [find("tid1500reader"), "--inputDICOM", report, "--outputMetadata", out],
        check=True, capture_output=True, timeout=patient(60),
    )  # fmt: skip
    return {
        group["TrackingIdentifier"]: {
            _name(item): (float(item["value"]), item["units"]["CodeValue"])
            for item in group.get("measurementItems", ())
        }
        for group in json.loads(out.read_text())["Measurements"]
    }


def _name(item: dict) -> str:
    """The quantity, and how it was derived where the report says so: "Mean Attenuation Coefficient"."""
    derivation = item.get("derivationModifier", {}).get("CodeMeaning", "")
    return f"{derivation} {item['quantity']['CodeMeaning']}".strip()


def the_report_tells_the_truth(report: Dataset, phantom: Phantom, folder: Path) -> None:
    """Volume, mean, Perc15 and LAA-950 of each lung are the phantom's own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.dcm"
    pydicom.dcmwrite(path, report)
    lungs = {name: values for name, values in measurements(path, folder).items() if "lung, " in name.lower()}
    assert len(lungs) == 2
    for name, values in lungs.items():
        truth = phantom.right if "right" in name.lower() else phantom.left
        assert truth is not None

        def value(word: str, values: dict[str, tuple[float, str]] = values) -> float:
            (found,) = [v for key, (v, _) in values.items() if word in key and "third" not in key]
            return found

        assert abs(value("Volume") - truth.volume_ml) <= 0.03 * truth.volume_ml
        assert abs(value("below -950") - truth.laa950_percent) <= 1.0
        assert abs(value("15th") - truth.perc15_hu) <= 10.0
        assert abs(value("Mean") - truth.mean_hu) <= 15.0
