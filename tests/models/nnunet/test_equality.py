"""Our runtime beside nnU-Net's own package: the same folders, the same images, the same voxels."""

from pathlib import Path

import numpy as np
import pytest

from models.contract import Context, SeriesSet
from models.package import Package
from models.runtimes.nnunet import NnUNet
from results.findings import Findings
from tests.models.making import ORGAN, manifest_of, volume_of
from tests.models.nnunet.cases import CASES, Case
from tests.models.nnunet.reference import reference_folders, run_beside_nnunet

IDENTICAL = 0.9999


@pytest.fixture(scope="module")
def made() -> Path:
    return reference_folders()


def segments(values: tuple[int, ...]) -> tuple[dict, ...]:
    return tuple(
        {"number": n, "value": value, "label": f"Label {value}", "category": ORGAN, "kind": ORGAN}
        for n, value in enumerate(values, start=1)
    )


def model_of(folder: Path, channels: int = 1, **options: object) -> NnUNet:
    facts: dict = {"runtime": "nnunet", "segments": segments((1, 2, 3)), "options": options}
    if channels > 1:
        facts |= {
            "given": "series",
            "inputs": tuple({"name": f"channel {n}", "modality": ("MR",)} for n in range(channels)),
        }
    model = NnUNet(Package(folder, manifest_of(folder, **facts)))
    model.load("cpu")
    return model


def findings_of(model: NnUNet, image: np.ndarray, spacing_mm: tuple[float, float, float]) -> Findings:
    volumes = {f"channel {n}": volume_of(channel, spacing_mm) for n, channel in enumerate(image)}
    if len(volumes) == 1:
        return model.run(volumes["channel 0"], Context())
    given = SeriesSet(volumes=volumes, headers={name: {} for name in volumes}, reference="channel 0")
    return model.run(given, Context())


def agreement(findings: Findings, reference: np.ndarray) -> float:
    drawn = np.zeros_like(reference) if findings.label_map is None else findings.label_map
    return float((drawn == reference).mean())


def asked_as(case: Case) -> dict[str, object]:
    return {"step_size": case.step_size, "mirror": True}


@pytest.mark.parametrize("name", CASES)
def test_the_label_map_is_that_of_nnunet(made: Path, name: str) -> None:
    case, at = CASES[name], made / name.replace(" ", "_")
    reference = np.load(at / "reference.npy")
    assert np.sort(np.bincount(reference.ravel()))[-2] > 0.02 * reference.size, "there are borders to compare"
    model = model_of(at / "model", case.channels, **asked_as(case))
    findings = findings_of(model, np.load(at / "image.npy"), case.spacing_mm)
    assert agreement(findings, reference) >= IDENTICAL


@pytest.mark.parametrize(
    "name", ["two folds, transposed", "3d on its own grid", "regions of two channels, cropped"]
)
def test_streaming_or_not_makes_no_difference(made: Path, name: str) -> None:
    case, at = CASES[name], made / name.replace(" ", "_")
    model = model_of(at / "model", case.channels, streaming=False)
    findings = findings_of(model, np.load(at / "image.npy"), case.spacing_mm)
    assert agreement(findings, np.load(at / "reference.npy")) >= IDENTICAL


def test_what_the_plans_want_beyond_the_defaults_runs_with_the_package_and_draws_the_same(made: Path) -> None:
    said = run_beside_nnunet("run_exotic", str(made / "exotic"))
    lines = dict(line.rsplit(" ", 1) for line in said.splitlines())
    assert lines.pop("stdout of nnU-Net") == "0"
    assert set(lines) == {"other_order", "cascade"}
    assert all(float(value) == 1.0 for value in lines.values()), lines
