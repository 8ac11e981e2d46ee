"""The check stops every result that is not what the model said of these images: each mutant here must die."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from ledger.errors import ModelError
from results import codes
from results.check import CheckFailed
from results.content import walk
from results.expect import code_of
from results.segmentation import build_segmentation
from tests.results.made import Made, make
from tests.results.series import KINDS, ROOT, a_run, findings, not_analysed, nothing_found, source

Mutant = Callable[[Dataset], None]


def _bits(seg: Dataset) -> np.ndarray:
    count = int(seg.NumberOfFrames) * seg.Rows * seg.Columns
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")[:count]
    return bits.reshape(-1, seg.Rows, seg.Columns)


def _put(seg: Dataset, bits: np.ndarray) -> None:
    data = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    seg.PixelData = data + b"\0" * (len(data) % 2)


def _mirror_columns(seg: Dataset) -> None:
    _put(seg, _bits(seg)[:, :, ::-1])


def _mirror_slices(seg: Dataset) -> None:
    _put(seg, _bits(seg)[::-1])


def _shift_pixels(seg: Dataset) -> None:
    _put(seg, np.roll(_bits(seg), 1, axis=2))


def _lose_a_voxel(seg: Dataset) -> None:
    bits = _bits(seg).copy()
    bits.reshape(-1)[np.flatnonzero(bits)[0]] = 0
    _put(seg, bits)


def _lose_a_frame(seg: Dataset) -> None:
    _put(seg, _bits(seg)[:-1])
    del seg.PerFrameFunctionalGroupsSequence[-1]
    seg.NumberOfFrames -= 1


def _swap_segments(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        item = group.SegmentIdentificationSequence[0]
        item.ReferencedSegmentNumber = 3 - item.ReferencedSegmentNumber


def _swap_sides(seg: Dataset) -> None:
    right, left = (s.SegmentedPropertyTypeCodeSequence[0] for s in seg.SegmentSequence)
    keyword = "SegmentedPropertyTypeModifierCodeSequence"
    right[keyword], left[keyword] = left[keyword], right[keyword]


def _swap_labels(seg: Dataset) -> None:
    right, left = seg.SegmentSequence
    right.SegmentLabel, left.SegmentLabel = left.SegmentLabel, right.SegmentLabel


def _move(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0]
        x, y, z = position.ImagePositionPatient
        position.ImagePositionPatient = [x, y, z + 0.02]


def _other_orientation(seg: Dataset) -> None:
    seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [
        -1,
        0,
        0,
        0,
        1,
        0,
    ]


def _other_spacing(seg: Dataset) -> None:
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [measures.PixelSpacing[0], float(measures.PixelSpacing[1]) * 1.001]


def _swapped_spacing(seg: Dataset) -> None:
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = list(measures.PixelSpacing)[::-1]


def _other_slice_spacing(seg: Dataset) -> None:
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "2.6"


def _other_frame_of_reference(seg: Dataset) -> None:
    seg.FrameOfReferenceUID = f"{ROOT}.10"


def _other_image_of_a_frame(seg: Dataset) -> None:
    first, second = seg.PerFrameFunctionalGroupsSequence[:2]
    a, b = (g.DerivationImageSequence[0].SourceImageSequence[0] for g in (first, second))
    a.ReferencedSOPInstanceUID = b.ReferencedSOPInstanceUID


def _no_derivation(seg: Dataset) -> None:
    seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = []


def _not_preserved(seg: Dataset) -> None:
    group = seg.PerFrameFunctionalGroupsSequence[0]
    group.DerivationImageSequence[0].SourceImageSequence[0].SpatialLocationsPreserved = "NO"


def _an_image_too_many(seg: Dataset) -> None:
    extra = Dataset()
    extra.ReferencedSOPClassUID, extra.ReferencedSOPInstanceUID = seg.SOPClassUID, f"{ROOT}.3.999"
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence.append(extra)


def _other_patient(dataset: Dataset) -> None:
    dataset.PatientID = "MRN-0816"


def _other_name(dataset: Dataset) -> None:
    dataset.PatientName = "Doe^John"


def _other_issuer(dataset: Dataset) -> None:
    del dataset.IssuerOfPatientID


def _other_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = f"{ROOT}.8"


def _uid_of_an_image(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.3.1"


def _series_of_the_images(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = f"{ROOT}.2"


def _other_device(dataset: Dataset) -> None:
    dataset.ContributingEquipmentSequence[-1].DeviceUID = "2.25.7"


def _no_equipment(dataset: Dataset) -> None:
    del dataset.ContributingEquipmentSequence


def _other_algorithm_version(seg: Dataset) -> None:
    seg.SegmentSequence[1].SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion = "0.9"


def _other_tracking(seg: Dataset) -> None:
    seg.SegmentSequence[0].TrackingUID = "2.25.8"


def _items(sr: Dataset, concept: codes.Concept) -> Iterator[Dataset]:
    wanted = (concept.value, concept.scheme)
    return (item for item in walk(sr) if code_of(item, "ConceptNameCodeSequence") == wanted)


def _other_value(sr: Dataset) -> None:
    measured = next(_items(sr, codes.PERC15)).MeasuredValueSequence[0]
    measured.NumericValue = float(measured.NumericValue) + 0.1


def _other_unit(sr: Dataset) -> None:
    unit = next(_items(sr, codes.VOLUME)).MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    unit.CodeValue = "L"


def _swap_values(sr: Dataset) -> None:
    first, second = _items(sr, codes.VOLUME)
    first.MeasuredValueSequence, second.MeasuredValueSequence = (
        second.MeasuredValueSequence,
        first.MeasuredValueSequence,
    )


def _no_value(sr: Dataset) -> None:
    for group in _items(sr, codes.MEASUREMENT_GROUP):
        group.ContentSequence = [i for i in group.ContentSequence if i.ValueType != "NUM"]


def _no_group(sr: Dataset) -> None:
    container = next(_items(sr, codes.IMAGING_MEASUREMENTS))
    container.ContentSequence = container.ContentSequence[1:]


def _wrong_side(sr: Dataset) -> None:
    for item in _items(sr, codes.LATERALITY):
        item.ConceptCodeSequence[0].CodeValue = codes.LEFT.value


def _other_segment(sr: Dataset) -> None:
    next(_items(sr, codes.REFERENCED_SEGMENT)).ReferencedSOPSequence[0].ReferencedSegmentNumber = 2


def _other_segmentation(sr: Dataset) -> None:
    for item in _items(sr, codes.REFERENCED_SEGMENT):
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.9"


def _other_tracking_in_report(sr: Dataset) -> None:
    next(_items(sr, codes.TRACKING_UID)).UID = "2.25.8"


def _verified(sr: Dataset) -> None:
    sr.VerificationFlag = "VERIFIED"


def _too_much_evidence(sr: Dataset) -> None:
    extra = Dataset()
    extra.ReferencedSOPClassUID, extra.ReferencedSOPInstanceUID = sr.SOPClassUID, f"{ROOT}.3.2"
    sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence.append(
        extra
    )


def _no_caution(sr: Dataset) -> None:
    container = next(_items(sr, codes.QUALITATIVE_EVALUATIONS))
    container.ContentSequence = container.ContentSequence[:-1]


def _other_observer(sr: Dataset) -> None:
    next(_items(sr, codes.OBSERVER_UID)).UID = "2.25.7"


def _replaces_something(sr: Dataset) -> None:
    study = sr.CurrentRequestedProcedureEvidenceSequence[0]
    sr.PredecessorDocumentsSequence = [study]


def _other_version_in_report(sr: Dataset) -> None:
    next(_items(sr, codes.ALGORITHM_VERSION)).TextValue = "0.9"


BOTH = (_other_patient, _other_name, _other_issuer, _other_study, _uid_of_an_image, _series_of_the_images)
BOTH += (_other_device, _no_equipment)
IN_SEGMENTATION = (
    _mirror_columns,
    _mirror_slices,
    _shift_pixels,
    _lose_a_voxel,
    _lose_a_frame,
    _swap_segments,
    _swap_sides,
    _swap_labels,
    _move,
    _other_orientation,
    _other_spacing,
    _swapped_spacing,
    _other_slice_spacing,
    _other_frame_of_reference,
    _other_image_of_a_frame,
    _no_derivation,
    _not_preserved,
    _an_image_too_many,
    _other_algorithm_version,
    _other_tracking,
    *BOTH,
)
IN_REPORT = (
    _other_value,
    _other_unit,
    _swap_values,
    _no_value,
    _no_group,
    _wrong_side,
    _other_segment,
    _other_segmentation,
    _other_tracking_in_report,
    _verified,
    _too_much_evidence,
    _no_caution,
    _other_observer,
    _replaces_something,
    _other_version_in_report,
    *BOTH,
)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path, said=findings(cautions=("The lung bases are cut off.",)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_from_the_findings_passes(kind: str, tmp_path: Path) -> None:
    make(tmp_path, kind).check()


@pytest.mark.parametrize("said", [nothing_found(), not_analysed()], ids=["nothing", "refused"])
def test_a_report_without_segments_passes(said, tmp_path: Path) -> None:
    made = make(tmp_path, said=said)
    assert made.segmentation is None
    made.check()


@pytest.mark.parametrize("mutate", IN_SEGMENTATION, ids=lambda f: f.__name__.strip("_").replace("_", " "))
def test_a_changed_segmentation_stays_here(mutate: Mutant, made: Made) -> None:
    seg = made.seg
    mutate(seg)
    seg.save_as(made.segmentation, enforce_file_format=True)
    with pytest.raises(CheckFailed):
        made.check()


@pytest.mark.parametrize("mutate", IN_REPORT, ids=lambda f: f.__name__.strip("_").replace("_", " "))
def test_a_changed_report_stays_here(mutate: Mutant, made: Made) -> None:
    sr = made.sr
    mutate(sr)
    sr.save_as(made.report, enforce_file_format=True)
    with pytest.raises(CheckFailed):
        made.check()


def test_a_model_that_confuses_left_and_right_is_stopped(tmp_path: Path) -> None:
    said = findings()
    right, left = said.segments
    confused = (replace(right, laterality=codes.LEFT), replace(left, laterality=codes.RIGHT))
    with pytest.raises(CheckFailed, match="lies to the patient's left"):
        make(tmp_path, said=replace(said, segments=confused)).check()


def test_a_model_whose_volume_is_not_that_of_its_voxels_is_stopped(tmp_path: Path) -> None:
    said = findings()
    first = said.segments[0]
    wrong = replace(first.measurements[0], value=first.measurements[0].value * 1.01)
    segments = (replace(first, measurements=(wrong, *first.measurements[1:])), said.segments[1])
    with pytest.raises(CheckFailed, match="volume of 'Right lung'"):
        make(tmp_path, said=replace(said, segments=segments)).check()


def test_results_of_another_patient_are_stopped_without_naming_anybody(made: Made) -> None:
    other = source(name="Other^Patient", PatientID="MRN-9999")
    with pytest.raises(CheckFailed) as stopped:
        replace(made, source=other).check()
    assert "Doe" not in str(stopped.value)
    assert "Other" not in str(stopped.value)
    assert "MRN" not in str(stopped.value)


def test_results_of_another_version_are_stopped(made: Made) -> None:
    with pytest.raises(CheckFailed, match="does not derive from this run"):
        replace(made, run=a_run(made.source, version="1.0.1")).check()


def test_a_missing_segmentation_is_noticed(made: Made) -> None:
    with pytest.raises(CheckFailed, match="there is no segmentation"):
        replace(made, segmentation=None).check()


def test_a_file_cut_short_is_noticed(made: Made) -> None:
    assert made.segmentation is not None
    made.segmentation.write_bytes(made.segmentation.read_bytes()[:-40])
    with pytest.raises(CheckFailed):
        made.check()


def test_a_file_that_is_no_dicom_is_noticed(made: Made) -> None:
    made.report.write_bytes(b"not a report")
    with pytest.raises(CheckFailed, match="cannot be read back"):
        made.check()


def test_a_report_that_calls_a_refusal_a_finding_is_stopped(tmp_path: Path) -> None:
    made = make(tmp_path, said=not_analysed())
    with pytest.raises(CheckFailed, match="outcome"):
        replace(made, findings=replace(nothing_found(), because=made.findings.because)).check()


def test_a_failed_check_is_the_models_fault(tmp_path: Path) -> None:
    assert issubclass(CheckFailed, ModelError)


def test_the_label_map_may_hold_no_voxel_without_a_segment(tmp_path: Path) -> None:
    labels = findings().label_map.copy()
    labels[0, 0, 0] = 7
    said = findings(label_map=labels)
    of = source()
    with pytest.raises(ModelError, match="has a voxel of 7"):
        build_segmentation(said, of, a_run(of))


def test_an_image_that_moved_after_loading_is_not_encoded(tmp_path: Path) -> None:
    of = source()
    of.datasets[3].ImagePositionPatient = [0, 0, 99]
    with pytest.raises(ModelError, match="beside its own images"):
        build_segmentation(findings(), of, a_run(of))
