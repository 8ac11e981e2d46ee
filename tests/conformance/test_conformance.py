"""Programs that others wrote read our results and find what the model said. Numbers: the checklist's."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from results import codes
from results.findings import Concept
from tests.conformance.conftest import Exhibit
from tests.conformance.pixelmed import validate
from tests.conformance.provenance import assert_provenance
from tests.peers.programs import find
from tests.results.notes import make_note
from tests.results.series import KINDS, geometry, label_map, with_pixels

pytestmark = pytest.mark.peer

#: Warnings of dciodvfy that we know and mean. Everything else is news.
ACCEPTED_WARNINGS = (
    # AIR asks for Device UID in Contributing Equipment; dciodvfy's tables do not have it there.
    r"Attribute is not present in standard DICOM IOD - \(0x0018,0x1002\) UI Device UID",
    # Copied from the images on purpose: archives and viewers sort by it.
    r"Attribute is not present in standard DICOM IOD - \(0x0018,0x0015\) CS Body Part Examined",
    r"Dicom dataset contains attributes not present in standard DICOM IOD - .* Standard Extended SOP Class",
    # Our own scheme, which the object itself explains.
    r"Unrecognized defined term <(99WETREAD|2\.25\.\d+)> for value 1 of attribute <Coding Scheme",
)


def _run(program: str, *arguments: object, rc: int = 0) -> str:
    command = [str(find(program)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == rc, f"{program} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_09_dciodvfy_finds_no_error(exhibit: Exhibit) -> None:
    for path in exhibit.made.files:
        said = _run("dciodvfy", path)
        assert "Error" not in said, said
        warnings = [line for line in said.splitlines() if line.startswith("Warning")]
        news = [line for line in warnings if not any(re.search(known, line) for known in ACCEPTED_WARNINGS)]
        assert not news, news


@pytest.mark.parametrize("title", [codes.REJECTED_FOR_QUALITY, codes.RETENTION_EXPIRED])
def test_09_dciodvfy_and_dcmtk_read_a_rejection_note(tmp_path: Path, title: Concept) -> None:
    note = make_note(tmp_path, title=title)
    said = _run("dciodvfy", note.path)
    assert said.startswith("KeyObjectSelectionDocument")
    assert "Error" not in said, said
    warnings = [line for line in said.splitlines() if line.startswith("Warning")]
    assert not [line for line in warnings if not any(re.search(one, line) for one in ACCEPTED_WARNINGS)]

    printed = _run("dsrdump", "+Pl", "+Pu", "+Pc", note.path)
    assert f'({title.value},DCM,"{title.meaning}")' in printed
    for one in note.superseded:
        assert str(one.sop_instance) in printed
    _run("dsr2html", note.path, tmp_path / "note.html")
    assert "more images had arrived" in (tmp_path / "note.html").read_text(encoding="latin-1")


def test_02_dcentvfy_finds_a_rejection_note_consistent_with_the_results(tmp_path: Path) -> None:
    note = make_note(tmp_path)
    images = [tmp_path / f"image{index}.dcm" for index in range(len(note.newer.source.datasets))]
    for path, image in zip(images, note.newer.source.datasets, strict=True):
        with_pixels(image).save_as(path, enforce_file_format=True)
    said = _run("dcentvfy", *images, *note.older.files, *note.newer.files, note.path)
    assert not [line for line in said.splitlines() if line.startswith(("Error", "Warning"))
                and "Element=<AccessionNumber> IE <Series>" not in line], said  # fmt: skip


def test_02_dcentvfy_finds_results_and_images_consistent(exhibit: Exhibit) -> None:
    said = _run("dcentvfy", *exhibit.images, *exhibit.made.files)
    # In an SR, Accession Number is also an attribute of the series' request: dcentvfy compares the two
    # entities.
    artefact = "Element=<AccessionNumber> IE <Series> versus <Study>"
    news = [
        line for line in said.splitlines() if line.startswith(("Error", "Warning")) and artefact not in line
    ]
    assert not news, news


def test_16_provenance_is_whole_in_the_files_alone(exhibit: Exhibit) -> None:
    assert_provenance(exhibit.made.segmentation, exhibit.made.report)


def test_21_dcmqi_reads_every_segment_voxel_for_voxel_in_space(drawn: Exhibit, tmp_path: Path) -> None:
    _run(
        "segimage2itkimage",
        "--inputDICOM",
        drawn.made.segmentation,
        "--outputDirectory",
        tmp_path,
        "--outputType",
        "nrrd",
    )
    kind = KINDS[drawn.name]
    to_index = np.linalg.inv(geometry(kind).affine)
    for number in (1, 2):
        image = SimpleITK.ReadImage(str(tmp_path / f"{number}.nrrd"))
        kji = np.argwhere(SimpleITK.GetArrayFromImage(image) > 0)
        direction = np.array(image.GetDirection()).reshape(3, 3)
        points = kji[:, ::-1] * image.GetSpacing() @ direction.T + image.GetOrigin()  # LPS mm
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        assert np.abs(index - index.round()).max() < 1e-3
        theirs = {tuple(row) for row in index.round().astype(int)}
        assert theirs == {tuple(row) for row in np.argwhere(label_map(kind) == number)}


def test_33_dcmqi_reads_every_measurement_with_its_unit(drawn: Exhibit, tmp_path: Path) -> None:
    _run("tid1500reader", "--inputDICOM", drawn.made.report, "--outputMetadata", tmp_path / "read.json")
    read = json.loads((tmp_path / "read.json").read_text())
    groups = [group for group in read["Measurements"] if group["measurementItems"]]
    assert len(groups) == len(drawn.made.findings.segments)
    segments = drawn.made.seg.SegmentSequence
    for group, segment, item in zip(groups, drawn.made.findings.segments, segments, strict=True):
        assert group["ReferencedSegment"] == segment.number
        assert group["segmentationSOPInstanceUID"] == drawn.made.seg.SOPInstanceUID
        assert group["TrackingUniqueIdentifier"] == item.TrackingUID
        assert group["Laterality"]["CodeValue"] == segment.laterality.value
        said = {
            (m["quantity"]["CodeValue"], m["units"]["CodeValue"]): float(m["value"])
            for m in group["measurementItems"]
        }
        assert said == {(m.name.value, m.unit.value): pytest.approx(m.value) for m in segment.measurements}


@pytest.mark.parametrize("exhibit", ["not analysed", "nothing found"], indirect=True)
def test_33_dcmqi_reads_a_negative_report(exhibit: Exhibit, tmp_path: Path) -> None:
    _run("tid1500reader", "--inputDICOM", exhibit.made.report, "--outputMetadata", tmp_path / "read.json")
    (group,) = json.loads((tmp_path / "read.json").read_text())["Measurements"]
    (evaluation,) = group["qualitativeEvaluations"]
    assert evaluation["conceptValue"]["CodingSchemeDesignator"] == "99WETREAD"


def test_32_dcmtk_prints_every_value_and_sentence(exhibit: Exhibit, tmp_path: Path) -> None:
    _run("dsrdump", exhibit.made.report)
    _run("dsr2html", exhibit.made.report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="latin-1")
    for segment in exhibit.made.findings.segments:
        for measurement in segment.measurements:
            assert measurement.name.meaning in page
    for sentence in (exhibit.made.findings.because, *exhibit.made.findings.cautions):
        assert sentence in page


@pytest.mark.parametrize("exhibit", ["oblique CT", "enhanced MR", "not analysed"], indirect=True)
def test_31_pixelmed_recognises_tid_1500_and_finds_no_error(exhibit: Exhibit) -> None:
    said = validate(exhibit.made.report)
    assert "Found Root Template TID_1500 (MeasurementReport)" in said
    assert "Root Template Validation Complete" in said
    assert "IOD validation complete" in said
    assert not [line for line in said if line.startswith("Error")]
