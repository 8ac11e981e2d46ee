"""Left stays left (point 30): from pixels in an archive through the loader and the encoder, and back."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.typing import NDArray
from pydicom import Dataset

from ledger.job import Outcome
from results import codes
from results.check import CheckFailed
from results.findings import Findings, Segment, refused
from results.source import Source
from tests.peers.dcmtk import dcmsend
from tests.peers.orthanc import Orthanc
from tests.results.checklist.exhibits import fetch_all, in_a_study_of_its_own, send_results, write_image
from tests.results.checklist.programs import run
from tests.results.made import make
from tests.results.series import KINDS, a_run, findings, label_map, source
from worker.defects import Defect, NotAVolume
from worker.load import Loaded, load_series, load_source

pytestmark = pytest.mark.peer

MARKER_MM = np.array([-3.1, 0.9, 1.4])  # LPS: to the right, backwards, and up
BRIGHT = 2000


@pytest.fixture(scope="module")
def loaded(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Loaded]:
    """By kind: a marker on the patient's right in every geometry, as the loader reads it from the archive."""
    folder = tmp_path_factory.mktemp("markers")
    sources = {
        name: in_a_study_of_its_own(source(kind), 200 + number)
        for number, (name, kind) in enumerate(KINDS.items())
    }
    for name, of in sources.items():
        store(of, label_map(KINDS[name]) == 1, folder / "sent")
    assert dcmsend(archive.dicom_port, folder / "sent", called=archive.ae_title).returncode == 0
    back = fetch_all(archive, folder / "back")
    # In the order of their names, which is any order but that of the slices.
    return {
        name: load_series(sorted(back[str(image.SOPInstanceUID)] for image in of.datasets))
        for name, of in sources.items()
    }


def store(of: Source, marker: NDArray[np.bool_], folder: Path) -> None:
    """The images of `of`, bright where `marker` (slice, row, column) is."""
    for number, image in enumerate(of.datasets):
        path = write_image(image, folder / f"{image.SOPInstanceUID}.dcm")
        planes = marker[[number]]
        if of.frames is not None:
            planes = np.zeros_like(marker)
            for k, frame in enumerate(of.frames):
                planes[frame - 1] = marker[k]
        whole = pydicom.dcmread(path)
        if of.frames is not None and whole.Modality == "CT":
            values = Dataset()
            values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "1", "-1024", "HU"
            whole.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [values]
        whole.PixelData = np.where(planes, np.uint16(BRIGHT + 1024), np.uint16(0)).tobytes()
        whole.save_as(path, enforce_file_format=True)


def found_in(loaded: Loaded) -> Findings:
    """What a threshold finds, in whatever order the loader put the slices."""
    labels = (np.asarray(loaded.volume.array) > 500).astype(np.uint8)
    assert labels.any()
    marker = Segment(
        number=1,
        label="Marker",
        category=codes.ANATOMICAL_STRUCTURE,
        kind=codes.LUNG,
        laterality=codes.RIGHT,
        colour_rgb=(255, 0, 0),
    )
    return Findings(outcome=Outcome.FOUND, label_map=labels, segments=(marker,))


@pytest.mark.parametrize("name", KINDS)
def test_point_30_a_marker_on_the_patients_right_stays_there(
    name: str, loaded: dict[str, Loaded], archive: Orthanc, tmp_path: Path
) -> None:
    of = loaded[name].source
    made = make(tmp_path / "made", of=of, said=found_in(loaded[name]), run=a_run(of))
    made.check()
    send_results(made.files, archive)
    back = fetch(archive, made.seg, tmp_path)

    read = hd.seg.segread(back).get_volume(combine_segments=True)
    index = np.argwhere(np.asarray(read.array) == 1)
    centre = (index @ read.affine[:3, :3].T + read.affine[:3, 3]).mean(axis=0)
    assert centre == pytest.approx(MARKER_MM, abs=1.3)  # half of the largest side of a voxel
    assert centre[0] < 0, "to the left"

    run("segimage2itkimage", "--inputDICOM", back, "--outputDirectory", tmp_path, "--outputType", "nrrd")
    image = SimpleITK.ReadImage(str(tmp_path / "1.nrrd"))
    kji = np.argwhere(SimpleITK.GetArrayFromImage(image) > 0)
    points = [image.TransformIndexToPhysicalPoint([int(v) for v in one[::-1]]) for one in kji]
    assert np.mean(points, axis=0) == pytest.approx(centre, abs=1e-3)


def fetch(archive: Orthanc, dataset: Dataset, folder: Path) -> Path:
    """The instance as the archive gives it back."""
    (identifier,) = archive.post(
        "/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": str(dataset.SOPInstanceUID)}}
    )
    path = folder / "back.dcm"
    path.write_bytes(archive.file(identifier))
    return path


def test_point_30_a_tilted_gantry_is_refused_and_the_report_says_so(tmp_path: Path) -> None:
    of = in_a_study_of_its_own(source(), 300)
    for k, image in enumerate(of.datasets):
        x, y, z = (float(v) for v in image.ImagePositionPatient)
        image.ImagePositionPatient = [x, round(y + 0.66 * k, 6), z]  # 15 degrees at 2.5 mm
        write_image(image, tmp_path / "images" / f"{k}.dcm")
    paths = sorted((tmp_path / "images").iterdir())
    with pytest.raises(NotAVolume, match=r"The gantry is tilted by 14\.8") as stopped:
        load_series(paths)
    assert stopped.value.defect is Defect.TILT

    of = load_source(paths)
    made = make(tmp_path / "made", of=of, said=refused(str(stopped.value)), run=a_run(of))
    made.check()
    assert [role.value for role, _ in made.written] == ["report"]
    run("dsr2html", made.report, tmp_path / "report.html")
    assert "The gantry is tilted" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("name", ["axial CT", "feet-first CT"])
def test_point_30_a_model_that_confuses_the_sides_is_stopped(name: str, tmp_path: Path) -> None:
    """One segment on the patient's right is said to be on the left, and the other way round."""
    kind = KINDS[name]
    said = findings(kind)
    right, left = said.segments
    confused = (replace(right, laterality=codes.LEFT), replace(left, laterality=codes.RIGHT))
    with pytest.raises(CheckFailed, match="lies to the patient's left"):
        make(tmp_path, kind, said=replace(said, segments=confused)).check()
