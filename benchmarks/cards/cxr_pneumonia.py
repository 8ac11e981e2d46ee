"""What is measured of `cxr_pneumonia`: real films case by case, and what tells them apart without lungs.

The figures of the cross-validation are printed by the training itself, which takes minutes:
`python -m models.training.cxr_pneumonia`.
"""

import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import cxr_shortcuts
from benchmarks.cxr_films import KERMANY, NIH, as_dicom
from benchmarks.measured import DATA, Measured, Row
from models.builtin.cxr_pneumonia.model import CxrPneumonia
from models.contract import Context
from worker.load_image import load_image


def cases() -> Iterator[Row]:
    """Every film of adults that was not trained on, with what its source calls it."""
    model = CxrPneumonia()
    model.load("cpu")
    with (DATA / "cxr_nih11" / "Data_Entry_2017.csv").open() as lines:
        known = {row["ImageIndex"]: row for row in csv.DictReader(lines)}
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.dcm"
        for path in sorted((DATA / "cxr_nih11" / "images").glob("*.png")):
            with Image.open(path) as picture:
                as_dicom(np.asarray(picture.convert("L")), film)
            about = known[path.name]
            labels = f"{about['FindingLabels'].replace('|', ', ').replace('_', ' ')}; {about['ViewPosition']}"
            age = {"PatientAge": f"{int(about['PatientAge']):03d}Y"}
            yield path.stem, labels, *_said(model, film, age)
    for path in sorted((DATA / "cxr_dicom_rsna1").glob("*.dcm")):
        twin = "the same pixels called MONOCHROME1" if "MONO" in path.name else "no label; PA"
        yield path.stem[-14:], twin, *_said(model, path, {})


def _said(model: CxrPneumonia, path: Path, headers: dict[str, str]) -> tuple[str, str]:
    image = load_image(path).image
    findings = model.run(image, Context(headers={**image.headers, **headers}))
    if not findings.verdicts:
        return "", f"refused: {findings.because}"
    return f"{findings.verdicts[0].probability:.2f}", findings.grades[0].value.meaning


TABLES = (
    Measured(
        name="cases",
        title="Films of adults that it was not trained on",
        columns=("film", "its source says", "probability", "reading"),
        rows=cases,
        needs=("cxr_nih11", "cxr_dicom_rsna1"),
        note="Cases, no rates. None is labelled pneumonia; sick adults are called so all the same.",
    ),
    Measured(
        name="shortcuts",
        title="What tells source and label without lungs: AUC, 0.5 is chance, 250 films of each kind",
        columns=("features", "tells", "before standardisation", "after"),
        rows=lambda: cxr_shortcuts.rows(DATA),
        needs=(KERMANY, NIH),
    ),
)
