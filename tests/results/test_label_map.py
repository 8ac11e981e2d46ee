"""A label map holds the model's numbers, described down to the background, and is what others read."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import Dataset

from dicom_node.send import AnswerKind, send
from ledger.identifiers import AETitle
from ledger.job import Outcome
from ledger.result import Role
from results.check import CheckFailed
from results.check_segmentation import check
from results.findings import Findings
from results.grid import NotEncodable
from results.segmentation import build
from results.write import write
from tests.dicom_node.raw_peer import peer
from tests.patience import patient
from tests.peers.orthanc import orthanc
from tests.peers.programs import find
from tests.results.dciodvfy import complaints
from tests.results.forms import LABEL_MAP, LABEL_MAP_RLE
from tests.results.images import IMAGES, blob, image_findings, image_source
from tests.results.made import Made, asked, make
from tests.results.series import KINDS, SHAPE, findings, geometry, label_map, source
from tests.results.test_layers import overlapping, segment

BOTH = pytest.mark.parametrize("profile", [LABEL_MAP, LABEL_MAP_RLE], ids=["explicit", "rle"])


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_22_highdicom_reads_the_numbers_back_voxel_for_voxel(kind: str, profile, tmp_path: Path) -> None:
    made = make(tmp_path, kind, profile=profile)
    made.check()
    read = hd.seg.segread(made.segmentation).get_volume(combine_segments=True)
    whole = read.match_geometry(geometry(KINDS[kind]))
    assert np.array_equal(whole.array, label_map(KINDS[kind]))


@BOTH
def test_9_dciodvfy_has_no_complaint(profile, tmp_path: Path) -> None:
    assert complaints(make(tmp_path, profile=profile).segmentation, "Segmentation") == []


@BOTH
@pytest.mark.parametrize("kind", ["axial CT", "oblique CT", "feet-first CT", "coronal MR"])
def test_21_dcmqi_reads_each_segment_where_the_patient_has_it(kind: str, profile, tmp_path: Path) -> None:
    made = make(tmp_path / "made", kind, profile=profile)
    program = [find("segimage2itkimage"), "--inputDICOM", made.segmentation, "--outputDirectory", tmp_path]
    subprocess.run([*program, "--outputType", "nrrd"], capture_output=True, check=True, timeout=patient(60))
    space = geometry(KINDS[kind])
    image = SimpleITK.ReadImage(str(tmp_path / "1.nrrd"))
    values = SimpleITK.GetArrayFromImage(image)
    for number in (1, 2):
        where = np.argwhere(values == number)[:, ::-1].tolist()
        theirs = sorted(tuple(np.round(image.TransformIndexToPhysicalPoint(p), 2)) for p in where)
        index = np.argwhere(label_map(KINDS[kind]) == number)
        ours = sorted(tuple(np.round(p, 2)) for p in space.map_indices_to_reference(index))
        assert np.allclose(theirs, ours, atol=0.02)


def test_23_every_number_is_described_and_0_is_background(tmp_path: Path) -> None:
    seg = make(tmp_path, profile=LABEL_MAP).seg
    assert [int(item.SegmentNumber) for item in seg.SegmentSequence] == [0, 1, 2]
    background = seg.SegmentSequence[0]
    code = background.SegmentedPropertyCategoryCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("125040", "DCM")
    assert seg.PixelPaddingValue == 0
    assert (seg.SegmentationType, seg.BitsAllocated) == ("LABELMAP", 8)
    assert "TrackingUID" not in background


def test_it_is_the_label_map_that_highdicom_would_have_written(tmp_path: Path) -> None:
    made = make(tmp_path, profile=LABEL_MAP)
    theirs = hd.seg.Segmentation(
        source_images=list(made.source.datasets),
        pixel_array=geometry(KINDS["axial CT"]).with_array(label_map(KINDS["axial CT"])),
        segmentation_type="LABELMAP",
        segment_descriptions=[
            hd.seg.SegmentDescription.from_dataset(item) for item in made.seg.SegmentSequence[1:]
        ],
        series_instance_uid="2.25.1",
        series_number=1,
        sop_instance_uid="2.25.2",
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="x",
        device_serial_number="x",
    )
    assert made.seg.SOPClassUID == theirs.SOPClassUID
    assert made.seg.PixelData == theirs.PixelData
    # highdicom also lists every source image at the top and calls the stack "3D"; nobody needs them.
    free = {"SourceImageSequence", "PresentationLUTShape", "DimensionOrganizationType"}
    assert not {e.keyword for e in theirs} - {e.keyword for e in made.seg} - free


def test_segments_that_overlap_go_into_label_maps_of_their_own(tmp_path: Path) -> None:
    made = make(tmp_path, said=overlapping(), profile=LABEL_MAP)
    made.check()
    first, second = made.of(Role.SEGMENTATION)
    assert [item.SegmentLabel for item in first.SegmentSequence] == ["Background", "Right lung", "Left lung"]
    assert [item.SegmentLabel for item in second.SegmentSequence] == ["Background", "Region 3"]
    assert [one.SegmentsOverlap for one in (first, second)] == ["NO", "NO"]
    assert [one.ContentLabel for one in (first, second)] == ["PART 1 OF 2", "PART 2 OF 2"]
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.SeriesNumber != second.SeriesNumber
    for one in (first, second):
        read = hd.seg.Segmentation.from_dataset(one).get_volume(combine_segments=False)
        whole = read.match_geometry(geometry(KINDS["axial CT"])).array
        numbers = {"Right lung": 1, "Left lung": 2, "Region 3": 3}
        for index, item in enumerate(one.SegmentSequence[1:]):
            assert np.array_equal(whole[..., index] != 0, made.findings.mask(numbers[item.SegmentLabel]))


def test_layers_that_do_not_overlap_share_one_label_map(tmp_path: Path) -> None:
    both = label_map(KINDS["axial CT"])
    layers = np.stack([np.where(both == 1, 1, 0), np.where(both == 2, 2, 0)]).astype(np.uint8)
    said = findings(label_map=layers)
    said = replace(said, segments=(said.segments[0], replace(said.segments[1], layer=1)))
    layered = make(tmp_path / "layered", said=said, profile=LABEL_MAP)
    layered.check()
    flat = make(tmp_path / "flat", profile=LABEL_MAP)
    assert layered.segmentation.read_bytes() == flat.segmentation.read_bytes()


def test_300_segments_are_sixteen_bits(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint16)
    flat = labels.reshape(-1)
    for number in range(1, 301):
        flat[number * 20 : number * 20 + 1 + number % 7] = number
    said = Findings(
        outcome=Outcome.FOUND, label_map=labels, segments=tuple(segment(n) for n in range(1, 301))
    )
    for name, profile in (("explicit", LABEL_MAP), ("rle", LABEL_MAP_RLE)):
        wanted = asked(said, source(), profile=profile)
        (seg,) = build(wanted)
        assert seg.BitsAllocated == 16
        write(seg, tmp_path / name)
        check([pydicom.dcmread(tmp_path / name)], wanted)
        read = hd.seg.segread(tmp_path / name).get_volume(combine_segments=True)
        assert np.array_equal(read.match_geometry(geometry(KINDS["axial CT"])).array, labels)
        assert complaints(tmp_path / name, "Segmentation") == []


def test_an_empty_segment_is_no_number_of_the_map(tmp_path: Path) -> None:
    labels = label_map(KINDS["axial CT"]).copy()
    labels[labels == 1] = 0
    said = findings(label_map=labels)
    said = replace(said, segments=(replace(said.segments[0], measurements=()), said.segments[1]))
    made = make(tmp_path, said=said, profile=LABEL_MAP)
    made.check()
    assert [item.SegmentLabel for item in made.seg.SegmentSequence] == ["Background", "Left lung"]
    read = hd.seg.segread(made.segmentation).get_volume(combine_segments=True)
    assert np.array_equal(read.match_geometry(geometry(KINDS["axial CT"])).array == 1, labels == 2)


@BOTH
@pytest.mark.parametrize("kind", IMAGES)
def test_a_label_map_of_an_image_is_that_image_pixel_for_pixel(kind: str, profile, tmp_path: Path) -> None:
    made = make(tmp_path, of=image_source(kind), said=image_findings(), profile=profile)
    made.check()
    assert complaints(made.segmentation, "Segmentation") == []
    frames = hd.seg.segread(made.segmentation).get_frames()
    assert np.array_equal(frames, blob())


def test_5_doing_it_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for profile in (LABEL_MAP, LABEL_MAP_RLE):
        once, again = (make(tmp_path / f"{profile.name}{n}", profile=profile) for n in (1, 2))
        assert once.segmentation.read_bytes() == again.segmentation.read_bytes()


def test_6_another_form_is_another_instance(tmp_path: Path) -> None:
    uids = {
        make(tmp_path / str(n), profile=p).seg.SOPInstanceUID
        for n, p in enumerate([LABEL_MAP, LABEL_MAP_RLE])
    }
    uids.add(make(tmp_path / "binary").seg.SOPInstanceUID)
    assert len(uids) == 3


def test_a_segment_called_background_is_refused() -> None:
    first, second = findings().segments
    said = findings(segments=(first, replace(second, label="Background")))
    with pytest.raises(NotEncodable, match="same label"):
        build(asked(said, source(), profile=LABEL_MAP))


def _pixels(seg: Dataset) -> np.ndarray:
    return np.frombuffer(seg.PixelData, np.uint8)[: int(seg.NumberOfFrames) * seg.Rows * seg.Columns].reshape(
        -1, seg.Rows, seg.Columns
    )


def _put(seg: Dataset, pixels: np.ndarray) -> None:
    seg.PixelData = np.ascontiguousarray(pixels).tobytes() + b"\0" * (pixels.size % 2)


def swap_numbers(seg: Dataset) -> None:
    _put(seg, np.array([0, 2, 1], np.uint8)[_pixels(seg)])


def shift_numbers(seg: Dataset) -> None:
    pixels = _pixels(seg)
    _put(seg, np.where(pixels > 0, pixels - 1, 0).astype(np.uint8))


def a_number_too_many(seg: Dataset) -> None:
    pixels = _pixels(seg).copy()
    pixels[0, 0, 0] = 3
    _put(seg, pixels)


def mirror(seg: Dataset) -> None:
    _put(seg, _pixels(seg)[:, :, ::-1])


def upside_down(seg: Dataset) -> None:
    _put(seg, _pixels(seg)[::-1])


def lose_a_voxel(seg: Dataset) -> None:
    pixels = _pixels(seg).copy()
    pixels.reshape(-1)[np.flatnonzero(pixels)[-1]] = 0
    _put(seg, pixels)


def lose_a_frame(seg: Dataset) -> None:
    _put(seg, _pixels(seg)[:-1])
    del seg.PerFrameFunctionalGroupsSequence[-1]
    seg.NumberOfFrames -= 1


def another_padding(seg: Dataset) -> None:
    seg.PixelPaddingValue = 1


def no_padding(seg: Dataset) -> None:
    del seg.PixelPaddingValue


def no_background(seg: Dataset) -> None:
    del seg.SegmentSequence[0]


def background_is_lung(seg: Dataset) -> None:
    seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence = seg.SegmentSequence[
        1
    ].SegmentedPropertyTypeCodeSequence


def swap_labels(seg: Dataset) -> None:
    _, first, second = seg.SegmentSequence
    first.SegmentLabel, second.SegmentLabel = second.SegmentLabel, first.SegmentLabel


def swap_colours(seg: Dataset) -> None:
    _, first, second = seg.SegmentSequence
    name = "RecommendedDisplayCIELabValue"
    first[name], second[name] = second[name], first[name]


def count_from_one(seg: Dataset) -> None:
    for number, item in enumerate(seg.SegmentSequence, start=1):
        item.SegmentNumber = number


def say_binary(seg: Dataset) -> None:
    seg.SegmentationType = "BINARY"


def of_the_old_class(seg: Dataset) -> None:
    seg.SOPClassUID = seg.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"


def of_one_segment(seg: Dataset) -> None:
    item = Dataset()
    item.ReferencedSegmentNumber = 1
    seg.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence = [item]


def another_index(seg: Dataset) -> None:
    contents = [group.FrameContentSequence[0] for group in seg.PerFrameFunctionalGroupsSequence[:2]]
    first, second = (one.DimensionIndexValues for one in contents)
    contents[0].DimensionIndexValues, contents[1].DimensionIndexValues = second, first


def another_image(seg: Dataset) -> None:
    a, b = (
        group.DerivationImageSequence[0].SourceImageSequence[0]
        for group in seg.PerFrameFunctionalGroupsSequence[:2]
    )
    a.ReferencedSOPInstanceUID, b.ReferencedSOPInstanceUID = (
        b.ReferencedSOPInstanceUID,
        a.ReferencedSOPInstanceUID,
    )


MUTANTS = (
    swap_numbers, shift_numbers, a_number_too_many, mirror, upside_down, lose_a_voxel, lose_a_frame,
    another_padding, no_padding, no_background, background_is_lung, swap_labels, swap_colours, count_from_one,
    say_binary, of_the_old_class, of_one_segment, another_index, another_image,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("label map"), profile=LABEL_MAP)


@pytest.mark.parametrize("mutate", MUTANTS)
def test_a_changed_label_map_stays_here(
    mutate: Callable[[Dataset], None], made: Made, tmp_path: Path
) -> None:
    seg = made.seg
    mutate(seg)
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    with pytest.raises(CheckFailed):
        replace(made, segmentation=tmp_path / "seg.dcm").check()


def test_a_label_map_is_not_what_a_profile_of_binary_asked_for(made: Made) -> None:
    with pytest.raises(CheckFailed):
        replace(made, profile=replace(LABEL_MAP, segmentation="binary")).check()


def test_16_an_archive_gives_label_maps_back_as_they_were(tmp_path: Path) -> None:
    made = make(tmp_path / "made", said=overlapping(), profile=LABEL_MAP_RLE)
    paths = [path for role, path in made.written if role is Role.SEGMENTATION]
    with orthanc(tmp_path / "archive") as archive:
        # DCMTK 3.6 has not heard of the SOP class; our own sender has.
        for path in paths:
            answer = send(path, peer(archive.dicom_port), calling=AETitle("WETREAD"), deadline_s=patient(20))
            assert answer.kind is AnswerKind.ACCEPTED
        back = {str(one.SOPInstanceUID): one for one in archive.datasets()}
    read = [back[str(one.SOPInstanceUID)] for one in made.of(Role.SEGMENTATION)]
    for one, ours in zip(read, made.of(Role.SEGMENTATION), strict=True):
        assert one.PixelData == ours.PixelData
        one.file_meta = ours.file_meta  # Orthanc writes its own: the check wants ours.
    check(read, made.asked)
