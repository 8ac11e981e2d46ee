"""
Real images of every kind, asked of every built-in model: each refuses what is not of its own kind.

They are files as hospitals and test suites have them: pieces of series, broken headers, segmentations,
slides. Whatever cannot even be referred to in a report is the study's fault, in a sentence.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pydicom
import pytest
from pydicom.errors import InvalidDicomError

from benchmarks.measured import built_ins
from ledger.errors import StudyError
from models.registry import find
from tests.models.corpus import OWN
from tests.models.real import DATA, folder
from tests.models.refusals import plain
from worker.exchange import RunRequest
from worker.residents import Residents
from worker.run import compute, read

#: What a folder of real images holds, where it is for somebody.
_KIND: Mapping[str, str] = {
    "ct_thorax_cip64": "chest CT",
    "ct_thorax_lungdx_A0002_b40f": "chest CT",
    "cxr_dicom_rsna1": "frontal chest radiograph",
    "mg_fodicom": "mammogram",
}
_STRANGE = (
    "fuzz_sample", "geometry_failing_dicom2nifti", "mr_enhanced_dcmqa", "mr_multifragment", "segsr_dcmqi",
    "segsr_highdicom", "ts_pydicom_data",
)  # fmt: skip
_OF_PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"

Series = tuple[Path, ...]


def _series(under: Path) -> Iterator[Series]:
    """One series for each modality and SOP class: the rest would only say the same again."""
    groups: dict[tuple[str, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(under.rglob("*")):
        if path.is_file() and path.suffix.lower() in ("", ".dcm"):
            try:
                header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_ASKED)
                kind = str(header.get("Modality", "")), str(header.get("SOPClassUID", ""))
                groups[kind][str(header.get("SeriesInstanceUID", ""))].append(path)
            except (InvalidDicomError, OSError, ValueError, AttributeError, NotImplementedError):
                continue
    for series in groups.values():
        yield tuple(max(series.values(), key=len))


_ASKED = ["Modality", "SOPClassUID", "SeriesInstanceUID"]


@cache
def _residents() -> Residents:
    return Residents("cpu")


def _ask(model: str, series: Series, out: Path) -> None:
    """The model refuses the series with a sentence, or the study is at fault with one."""
    paths = series[:1] if find(model).manifest.given == "image" else series
    request = RunRequest(model=model, inputs=tuple(map(str, paths)), out=str(out), at=1.7e9, device="cpu")
    try:
        findings = compute(read(request, _residents()), _residents()).findings
    except StudyError as fault:
        said = str(fault)
    else:
        return plain(findings)
    assert said.endswith("."), said


@pytest.mark.parametrize("name", _STRANGE)
@pytest.mark.filterwarnings("ignore")
def test_real_images_that_are_for_nobody_are_refused_by_every_model(name, tmp_path):
    for series in _series(folder(name)):
        for model in built_ins():
            _ask(model, series, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_pydicoms_own_files_are_refused_by_every_model(tmp_path):
    asked = list(_series(_OF_PYDICOM))
    assert len(asked) > 10
    for series in asked:
        for model in built_ins():
            _ask(model, series, tmp_path)


@pytest.mark.parametrize("name", sorted(_KIND))
def test_real_images_are_refused_by_all_models_that_are_not_made_for_them(name, tmp_path):
    for series in _series(folder(name)):
        for model in built_ins():
            if _KIND[name] not in OWN[model]:
                _ask(model, series, tmp_path)


def test_every_folder_of_real_dicom_is_asked_of_the_models():
    """A folder that is added is not forgotten here."""
    if not DATA.is_dir():
        pytest.skip("the real images are not here")
    with_dicom = {path.name for path in DATA.iterdir() if path.is_dir() and next(_series(path), None)}
    assert with_dicom <= {*_KIND, *_STRANGE}
