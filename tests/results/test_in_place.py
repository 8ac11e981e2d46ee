"""What goes in place of a refused label map, and of what refers to it: each check finds each fault."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from ledger.profile import DEFAULT
from ledger.result import Role
from results.expect import CheckFailed
from results.in_place import NotALabelMap, as_binary, check_as_binary, numbers_of
from results.repointed import check_repointed, repointed
from results.write import write
from tests.results.everything import everything
from tests.results.made import make
from tests.results.series import ROOT

Change = Callable[[Dataset], None]


@dataclass(frozen=True)
class Refused:
    """What an archive refused, and what was made in its place, read back."""

    label_map: Dataset
    binary: Dataset
    maps: tuple[Dataset, ...]
    report: Dataset
    other_report: Dataset
    key_images: Dataset
    other_key_images: Dataset

    @property
    def pairs(self) -> list[tuple[Dataset, Dataset]]:
        return [(self.label_map, self.binary)]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Refused:
    folder = tmp_path_factory.mktemp("made")

    def written(dataset: Dataset) -> Dataset:
        write(dataset, folder / "again.dcm")
        return pydicom.dcmread(folder / "again.dcm")

    shows = replace(DEFAULT, segmentation="labelmap", kinds=DEFAULT.kinds | {Role.KEY_IMAGES})
    made = make(folder / "run", said=everything(), profile=shows)
    binary = written(as_binary(made.seg))
    maps = made.of(Role.PARAMETRIC_MAP)
    (key_images,) = made.of(Role.KEY_IMAGES)
    return Refused(
        made.seg,
        binary,
        tuple(maps),
        made.sr,
        written(repointed(made.sr, [(made.seg, binary)])),
        key_images,
        written(repointed(key_images, [(made.seg, binary)], maps)),
    )


def test_what_was_made_passes_and_is_made_alike_each_time(refused: Refused) -> None:
    check_as_binary(refused.binary, refused.label_map)
    check_repointed(refused.other_report, refused.report, refused.pairs)
    check_repointed(refused.other_key_images, refused.key_images, refused.pairs, refused.maps)
    assert as_binary(refused.label_map).SOPInstanceUID == refused.binary.SOPInstanceUID
    assert numbers_of(refused.label_map, refused.binary) == {1: 1, 2: 2}


def test_the_binary_one_draws_the_same_voxels_as_pydicom_reads_them(refused: Refused) -> None:
    drawn = np.zeros_like(refused.label_map.pixel_array)
    there = {_place(group): k for k, group in enumerate(refused.label_map.PerFrameFunctionalGroupsSequence)}
    for mask, group in zip(
        refused.binary.pixel_array, refused.binary.PerFrameFunctionalGroupsSequence, strict=True
    ):
        drawn[there[_place(group)], mask == 1] = group.SegmentIdentificationSequence[
            0
        ].ReferencedSegmentNumber
    assert np.array_equal(drawn, refused.label_map.pixel_array)


def _place(group: Dataset) -> tuple[float, ...]:
    return tuple(float(one) for one in group.PlanePositionSequence[0].ImagePositionPatient)


def test_only_a_label_map_in_grey_can_be_written_so(refused: Refused) -> None:
    with pytest.raises(NotALabelMap, match="no label map"):
        as_binary(refused.binary)
    coloured = copy.deepcopy(refused.label_map)
    coloured.PhotometricInterpretation = "PALETTE COLOR"
    with pytest.raises(NotALabelMap, match="colours"):
        as_binary(coloured)


# Of the binary segmentation


def still_a_label_map(dataset: Dataset) -> None:
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"


def one_voxel_more(dataset: Dataset) -> None:
    dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]


def no_voxels(dataset: Dataset) -> None:
    dataset.PixelData = bytes(len(dataset.PixelData))


def a_frame_less(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[1:]


def segments_exchanged(dataset: Dataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        segment = group.SegmentIdentificationSequence[0]
        segment.ReferencedSegmentNumber = 3 - segment.ReferencedSegmentNumber


def names_exchanged(dataset: Dataset) -> None:
    first, second = dataset.SegmentSequence
    first.TrackingUID, second.TrackingUID = second.TrackingUID, first.TrackingUID


def a_segment_less(dataset: Dataset) -> None:
    dataset.SegmentSequence = dataset.SegmentSequence[:1]


def a_segment_of_nothing(dataset: Dataset) -> None:
    dataset.SegmentSequence[1].TrackingUID = "2.25.5"


def another_kind_of_segment(dataset: Dataset) -> None:
    dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"


def another_label(dataset: Dataset) -> None:
    dataset.SegmentSequence[0].SegmentLabel = "Spleen"


def eight_bits(dataset: Dataset) -> None:
    dataset.BitsAllocated = 8


def probabilities(dataset: Dataset) -> None:
    dataset.SegmentationType = "FRACTIONAL"


def a_frame_too_many(dataset: Dataset) -> None:
    dataset.NumberOfFrames += 1


def pixels_cut_off(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-2]


def one_frame_elsewhere(dataset: Dataset) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    x, y, z = position.ImagePositionPatient
    position.ImagePositionPatient = [x, y, z + 1]


def one_frame_of_another_image(dataset: Dataset) -> None:
    first, second = dataset.PerFrameFunctionalGroupsSequence[:2]
    first.DerivationImageSequence, second.DerivationImageSequence = (
        second.DerivationImageSequence,
        first.DerivationImageSequence,
    )


def one_frame_of_no_image(dataset: Dataset) -> None:
    image = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedSOPInstanceUID = "2.25.6"


def other_patient(dataset: Dataset) -> None:
    dataset.PatientID = "MRN-0816"


def other_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = f"{ROOT}.8"


def other_frame_of_reference(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = "2.25.7"


def other_spacing(dataset: Dataset) -> None:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [1, 1]


def other_rows(dataset: Dataset) -> None:
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows


def nobody_made_it(dataset: Dataset) -> None:
    del dataset.ContributingEquipmentSequence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (still_a_label_map, "SOP Class UID"),
        (one_voxel_more, "voxels are not those"),
        (no_voxels, "voxels are not those"),
        (a_frame_less, "frames in .* bytes"),
        (a_frame_too_many, "frames in .* bytes"),
        (pixels_cut_off, "frames in .* bytes"),
        (eight_bits, "its form is"),
        (probabilities, "its form is"),
        (another_kind_of_segment, "something else of a segment"),
        (another_label, "something else of a segment"),
        (segments_exchanged, "voxels are not those"),
        (names_exchanged, "something else of a segment"),
        (a_segment_less, "segments are not those"),
        (a_segment_of_nothing, "segments are not those"),
        (one_frame_elsewhere, "lies elsewhere"),
        (one_frame_of_another_image, "lies elsewhere|voxels are not those"),
        (one_frame_of_no_image, "of no image of the label map"),
        (other_patient, "differs from the label map"),
        (other_study, "differs from the label map"),
        (other_frame_of_reference, "differs from the label map"),
        (other_spacing, "differs from the label map"),
        (other_rows, "differs from the label map"),
        (nobody_made_it, "differs from the label map"),
    ],
)
def test_a_binary_segmentation_that_is_not_the_label_map_does_not_leave(
    refused: Refused, change: Change, says: str
) -> None:
    spoilt = copy.deepcopy(refused.binary)
    change(spoilt)
    with pytest.raises(CheckFailed, match=says):
        check_as_binary(spoilt, refused.label_map)


def test_a_binary_segmentation_under_the_uids_of_the_label_map_does_not_leave(refused: Refused) -> None:
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        spoilt = copy.deepcopy(refused.binary)
        spoilt[keyword].value = refused.label_map[keyword].value
        with pytest.raises(CheckFailed, match=keyword):
            check_as_binary(spoilt, refused.label_map)


# Of the report, and of key images


def references(item: Dataset) -> list[Dataset]:
    found = list(item.get("ReferencedSOPSequence", []))
    for child in item.get("ContentSequence", []):
        found += references(child)
    return found


def _of_a_segment(dataset: Dataset) -> Dataset:
    return next(one for one in references(dataset) if "ReferencedSegmentNumber" in one)


def another_segment(dataset: Dataset) -> None:
    reference = _of_a_segment(dataset)
    reference.ReferencedSegmentNumber = 3 - reference.ReferencedSegmentNumber


def the_class_of_a_label_map(dataset: Dataset) -> None:
    _of_a_segment(dataset).ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"


def another_object(dataset: Dataset) -> None:
    references(dataset)[-1].ReferencedSOPInstanceUID = "2.25.8"


def evidence_of_another_object(dataset: Dataset) -> None:
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[-1]
    series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.8"


def evidence_in_another_series(dataset: Dataset) -> None:
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[-1]
    series.SeriesInstanceUID = "2.25.9"


def no_evidence(dataset: Dataset) -> None:
    del dataset.CurrentRequestedProcedureEvidenceSequence


def an_item_less(dataset: Dataset) -> None:
    dataset.ContentSequence = dataset.ContentSequence[1:]


def another_title(dataset: Dataset) -> None:
    dataset.ConceptNameCodeSequence[0].CodeValue = "113001"


@pytest.mark.parametrize("kind", ["report", "key images"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (another_object, "refers to something else"),
        (evidence_of_another_object, "evidence is not what it names"),
        (evidence_in_another_series, "evidence is not what it names"),
        (no_evidence, "evidence is not what it names"),
        (an_item_less, "says something else"),
        (another_title, "says something else"),
        (other_patient, "says something else"),
        (other_study, "says something else"),
        (nobody_made_it, "says something else"),
    ],
)
def test_a_document_that_says_something_else_than_the_first_does_not_leave(
    refused: Refused, kind: str, change: Change, says: str
) -> None:
    other, first, without = _documents(refused, kind)
    spoilt = copy.deepcopy(other)
    change(spoilt)
    with pytest.raises(CheckFailed, match=says):
        check_repointed(spoilt, first, refused.pairs, without)


@pytest.mark.parametrize("change", [another_segment, the_class_of_a_label_map])
def test_a_report_of_another_segment_does_not_leave(refused: Refused, change: Change) -> None:
    spoilt = copy.deepcopy(refused.other_report)
    change(spoilt)
    with pytest.raises(CheckFailed, match="refers to something else"):
        check_repointed(spoilt, refused.report, refused.pairs)


@pytest.mark.parametrize("kind", ["report", "key images"])
def test_the_first_document_itself_does_not_leave(refused: Refused, kind: str) -> None:
    other, first, without = _documents(refused, kind)
    with pytest.raises(CheckFailed, match="has the SOPInstanceUID of the first"):
        check_repointed(first, first, refused.pairs, without)
    renamed = copy.deepcopy(first)
    renamed.SOPInstanceUID, renamed.SeriesInstanceUID = other.SOPInstanceUID, other.SeriesInstanceUID
    with pytest.raises(CheckFailed, match="refers to what was refused"):
        check_repointed(renamed, first, refused.pairs, without)


def _documents(refused: Refused, kind: str) -> tuple[Dataset, Dataset, tuple[Dataset, ...]]:
    if kind == "report":
        return refused.other_report, refused.report, ()
    return refused.other_key_images, refused.key_images, refused.maps
