"""Contours lie in the patient where the voxels do, on every kind of source."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import Dataset

from ledger.job import Outcome
from ledger.result import Role
from results import codes, structure_set
from results.check_structure_set import check, points_of
from results.findings import Findings
from results.grid import NotEncodable
from results.write import write
from tests.results.companions import EVERYTHING, a_lesion, companions, lesions, with_lesions
from tests.results.dciodvfy import complaints
from tests.results.images import image_findings, image_source
from tests.results.made import asked
from tests.results.series import KINDS, ROOT, Kind, a_run, findings, geometry, label_map, source


def _made(folder: Path, said: Findings, of) -> Dataset:
    (dataset,) = structure_set.build(asked(said, of))
    folder.mkdir(parents=True, exist_ok=True)
    write(dataset, folder / "contours.dcm")
    read = pydicom.dcmread(folder / "contours.dcm")
    check([read], asked(said, of))
    return read


def _points(contours: Dataset) -> np.ndarray:
    return np.concatenate([points_of(one) for one in contours.ContourSequence])


@pytest.mark.peer
@pytest.mark.parametrize("kind", KINDS)
def test_47_dciodvfy_finds_nothing_and_the_check_neither(kind: str, tmp_path: Path) -> None:
    made = companions(tmp_path, kind)
    made.check()
    for role, path in made.written:
        if role is Role.STRUCTURE_SET:
            assert complaints(path, "RTStructureSet") == []


@pytest.mark.parametrize("name", KINDS)
def test_30_a_contour_lies_on_the_side_of_the_patient_that_it_is_called_by(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    read = _made(tmp_path, findings(kind), source(kind))
    for number, contours in enumerate(read.ROIContourSequence, start=1):
        points = _points(contours)
        voxels = np.argwhere(label_map(kind) == number)
        centres = (geometry(kind).affine @ np.c_[voxels, np.ones(len(voxels))].T).T[:, :3]
        assert np.abs(points.mean(axis=0) - centres.mean(axis=0)).max() < 1.0  # of millimetres
        assert (points[:, 0].mean() < 0) == (number == 1)  # x grows to the patient's left
        # No contour reaches further than half a voxel beyond the centres of its voxels.
        reach = max(np.abs(geometry(kind).affine[:3, 1:3]).sum(axis=1)) / 2
        assert (points.min(axis=0) >= centres.min(axis=0) - reach - 1e-3).all()
        assert (points.max(axis=0) <= centres.max(axis=0) + reach + 1e-3).all()


def test_47_a_region_says_what_it_is_and_who_made_it(tmp_path: Path) -> None:
    of = source()
    read = _made(tmp_path, with_lesions(), of)
    run = a_run(of)
    assert [str(one.ROIName) for one in read.StructureSetROISequence] == ["Lesion 1", "Lesion 2"]
    assert read.ApprovalStatus == "UNAPPROVED"
    assert "AI" in read.StructureSetLabel
    assert "not verified" in read.StructureSetLabel
    assert read.FrameOfReferenceUID == of.first.FrameOfReferenceUID
    assert "PositionReferenceIndicator" in read
    for region, observation in zip(read.StructureSetROISequence, read.RTROIObservationsSequence, strict=True):
        assert region.ROIGenerationAlgorithm == "AUTOMATIC"
        assert run.provenance.name in region.ROIGenerationDescription
        kind = observation.RTROIIdentificationCodeSequence[0]
        assert kind.CodeValue == with_lesions().segments[0].kind.value
        assert not observation.RTROIInterpretedType  # Whether it is a target is not for a model to say.
    organs = _made(tmp_path / "organs", findings(), of)
    assert {one.RTROIInterpretedType for one in organs.RTROIObservationsSequence} == {"ORGAN"}
    side = organs.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0]
    assert side.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == codes.RIGHT.value


def test_47_every_contour_is_closed_planar_on_a_slice_of_the_source(tmp_path: Path) -> None:
    read = _made(tmp_path, with_lesions(), source())
    series = (
        read.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence
    )
    listed = {str(one.ReferencedSOPInstanceUID) for one in series[0].ContourImageSequence}
    for contours in read.ROIContourSequence:
        for one in contours.ContourSequence:
            assert one.ContourGeometricType == "CLOSED_PLANAR"
            assert str(one.ContourImageSequence[0].ReferencedSOPInstanceUID) in listed
            assert len(set(points_of(one)[:, 2].tolist())) == 1  # an axial slice


def test_a_contour_on_an_enhanced_image_names_its_frame(tmp_path: Path) -> None:
    kind = KINDS["enhanced CT"]
    read = _made(tmp_path, with_lesions(kind), source(kind))
    frames = {
        int(one.ContourImageSequence[0].ReferencedFrameNumber)
        for contours in read.ROIContourSequence
        for one in contours.ContourSequence
    }
    drawn = np.flatnonzero(lesions(kind).any(axis=(1, 2)))
    assert frames == {kind.shape[0] - int(k) for k in drawn}  # Frames run against the slices.


@pytest.mark.parametrize("name", ["axial CT", "oblique CT", "feet-first CT", "coronal MR"])
def test_simpleitk_fills_the_contours_with_the_voxels_again(name: str, tmp_path: Path) -> None:
    """As a consumer does that knows the image's geometry from SimpleITK and nothing of ours."""
    kind = KINDS[name]
    said = with_lesions(kind)
    read = _made(tmp_path, said, source(kind))
    affine = geometry(kind).affine
    image = SimpleITK.Image([*kind.shape[::-1]], SimpleITK.sitkUInt8)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((affine[:3, :3] / spacing)[:, ::-1].reshape(-1).tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    for number, contours in enumerate(read.ROIContourSequence, start=1):
        again = np.zeros(kind.shape, np.uint8)
        for one in contours.ContourSequence:
            ring = np.array(
                [image.TransformPhysicalPointToContinuousIndex(p) for p in points_of(one).tolist()]
            )
            (k,) = set(np.round(ring[:, 2]).astype(int).tolist())
            for row in range(kind.shape[1]):
                for column in range(kind.shape[2]):
                    again[k, row, column] += _inside(column, row, ring)
        assert np.array_equal(again, said.label_map == number)


def _inside(x: float, y: float, ring: np.ndarray) -> bool:
    """Ray casting, edge by edge, as in every textbook."""
    inside = False
    for (x1, y1, _), (x2, y2, _) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
    return inside


def test_no_contour_is_longer_than_its_length_can_be_written(tmp_path: Path) -> None:
    kind = Kind("sponge", shape=(1, 128, 160))
    labels = np.ones(kind.shape, np.uint8)
    labels[0, 1:-1:2, 1:-1:2] = 0  # 4977 holes: as one polygon, 25,000 points
    said = Findings(outcome=Outcome.FOUND, label_map=labels, segments=(a_lesion(1),))
    read = _made(tmp_path, said, source(kind))
    contours = read.ROIContourSequence[0].ContourSequence
    assert len(contours) > 1
    raw = [one.get_item("ContourData") for one in contours]
    assert all(one.VR == "DS" for one in raw)
    assert max(one.length for one in raw) <= 0xFFFE


def test_segments_that_overlap_keep_all_their_voxels(tmp_path: Path) -> None:
    kind = KINDS["axial CT"]
    both = np.stack([(lesions(kind) == 1) * 1, (lesions(kind) > 0) * 2]).astype(np.uint8)
    said = with_lesions(label_map=both, segments=(a_lesion(1), a_lesion(2, layer=1)))
    read = _made(tmp_path, said, source(kind))
    assert len(read.ROIContourSequence) == 2


def test_a_segment_without_a_voxel_has_no_contour(tmp_path: Path) -> None:
    labels = np.where(lesions(KINDS["axial CT"]) == 1, 0, lesions(KINDS["axial CT"]))
    read = _made(tmp_path, with_lesions(label_map=labels.astype(np.uint8)), source())
    assert [str(one.ROIName) for one in read.StructureSetROISequence] == ["Lesion 2"]


@pytest.mark.parametrize("labels", [None, np.zeros((10, 24, 30), np.uint8)])
def test_where_nothing_is_drawn_there_is_no_structure_set(labels) -> None:
    said = replace(findings(), label_map=labels, segments=() if labels is None else findings().segments)
    assert structure_set.build(asked(said, source())) == []


def test_what_a_label_map_holds_of_no_segment_has_no_contours() -> None:
    said = findings(segments=())
    assert said.label_map is not None
    assert said.label_map.any()
    made = structure_set.build(asked(said, source()))
    assert made == []
    check(made, asked(said, source()))


def test_an_image_without_a_place_has_no_contours() -> None:
    assert structure_set.build(asked(image_findings(), image_source("CR"))) == []


def test_a_source_without_a_frame_of_reference_is_refused() -> None:
    with pytest.raises(NotEncodable, match="Frame of Reference"):
        structure_set.build(asked(findings(), source(FrameOfReferenceUID=None)))


def test_a_label_map_of_another_size_is_refused() -> None:
    with pytest.raises(NotEncodable, match="the label map is"):
        structure_set.build(asked(findings(label_map=label_map(KINDS["axial CT"])[:-1]), source()))


def test_the_same_run_writes_the_same_bytes_and_points_are_written_as_they_are(tmp_path: Path) -> None:
    of = source(charset=["", "ISO 2022 IR 87"], name="Yamada^Tarou=山田^太郎")
    first, second = ((structure_set.build(asked(with_lesions(), of))[0]) for _ in range(2))
    write(first, tmp_path / "first.dcm")
    assert first.ROIContourSequence[0].ContourSequence[0].ContourData  # parsed, and still the same
    write(second, tmp_path / "second.dcm")
    assert (tmp_path / "first.dcm").read_bytes() == (tmp_path / "second.dcm").read_bytes()
    read = pydicom.dcmread(tmp_path / "first.dcm")
    assert str(read.PatientName) == "Yamada^Tarou=山田^太郎"
    assert read.Modality == "RTSTRUCT"
    assert read.SeriesNumber == EVERYTHING.series_number + 4


def test_every_coordinate_fits_into_a_decimal_string(tmp_path: Path) -> None:
    far = source(KINDS["oblique CT"])
    read = _made(tmp_path, findings(KINDS["oblique CT"]), far)
    lengths = Counter(
        len(text.strip())
        for contours in read.ROIContourSequence
        for one in contours.ContourSequence
        for text in one.get_item("ContourData").value.split(b"\\")
    )
    assert max(lengths) <= 16
    assert not str(read.SOPInstanceUID).startswith(ROOT)
