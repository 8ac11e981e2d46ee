"""Segmentation (points 17 to 27): the voxels of the model, on the images that they came from."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import Dataset

from ledger.result import Role
from results import codes
from results.content import name_of, numbers, uid_named, walk
from results.expect import as_code, code_of
from results.findings import Segment
from tests.results.checklist.conftest import NAMES
from tests.results.checklist.exhibits import Exhibit
from tests.results.checklist.programs import run
from tests.results.images import IMAGES
from tests.results.made import make
from tests.results.series import SPACING, findings, source

pytestmark = pytest.mark.peer

WITHOUT = ("nothing found", "not analysed", "an empty mask")
DRAWN = tuple(name for name in NAMES if name not in WITHOUT)
VOLUMES = tuple(name for name in DRAWN if name not in IMAGES)


@pytest.fixture(params=DRAWN)
def drawn(request: pytest.FixtureRequest, exhibits: dict[str, Exhibit]) -> Exhibit:
    return exhibits[request.param]


@pytest.fixture(params=VOLUMES)
def volume(request: pytest.FixtureRequest, exhibits: dict[str, Exhibit]) -> Exhibit:
    return exhibits[request.param]


def segmentations(exhibit: Exhibit) -> list[Dataset]:
    found = exhibit.all(Role.SEGMENTATION)
    assert found
    return found


def source_plane(images: dict[str, Dataset], item: Dataset) -> tuple[list[float], list[float], list[float]]:
    """Image Position, Orientation and Pixel Spacing of the image, or frame of it, that `item` refers to."""
    image = images[str(item.ReferencedSOPInstanceUID)]
    if "PerFrameFunctionalGroupsSequence" not in image:
        place = (image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing)
    else:
        frame = image.PerFrameFunctionalGroupsSequence[int(item.ReferencedFrameNumber) - 1]
        shared = image.SharedFunctionalGroupsSequence[0]
        place = (
            frame.PlanePositionSequence[0].ImagePositionPatient,
            (frame.get("PlaneOrientationSequence") or shared.PlaneOrientationSequence)[
                0
            ].ImageOrientationPatient,
            shared.PixelMeasuresSequence[0].PixelSpacing,
        )
    return tuple([float(v) for v in values] for values in place)  # type: ignore[return-value]


def images_of(exhibit: Exhibit) -> dict[str, Dataset]:
    read = (pydicom.dcmread(path, stop_before_pixels=True) for path in exhibit.images)
    return {str(image.SOPInstanceUID): image for image in read}


def test_point_17_the_frame_of_reference_is_that_of_the_images(drawn: Exhibit) -> None:
    for dataset in drawn.all(Role.SEGMENTATION, Role.PARAMETRIC_MAP):
        assert dataset.get("FrameOfReferenceUID") == drawn.image.get("FrameOfReferenceUID")


def test_point_18_the_grid_is_that_of_the_images_and_every_frame_lies_on_one_of_them(drawn: Exhibit) -> None:
    images = images_of(drawn)
    for dataset in drawn.all(Role.SEGMENTATION, Role.PARAMETRIC_MAP):
        assert (dataset.Rows, dataset.Columns) == (drawn.image.Rows, drawn.image.Columns)
        shared = dataset.SharedFunctionalGroupsSequence[0]
        if drawn.name in IMAGES:
            # Along its own rows and columns, and nowhere in the patient.
            own = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
            assert own == [1, 0, 0, 0, 1, 0]
            frames = dataset.PerFrameFunctionalGroupsSequence
            assert not any("PlanePositionSequence" in frame for frame in frames)
            continue
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            item = frame.DerivationImageSequence[0].SourceImageSequence[0]
            position, orientation, spacing = source_plane(images, item)
            ours = [float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient]
            assert np.abs(np.subtract(ours, position)).max() < 0.01  # mm
            assert [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient] == (
                pytest.approx(orientation, abs=1e-9)
            )
            assert [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing] == spacing


def test_point_19_the_source_series_is_listed_with_exactly_the_instances_used(drawn: Exhibit) -> None:
    for dataset in drawn.all(Role.SEGMENTATION, Role.PARAMETRIC_MAP):
        (series,) = dataset.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == drawn.image.SeriesInstanceUID
        listed = [str(one.ReferencedSOPInstanceUID) for one in series.ReferencedInstanceSequence]
        used = {
            str(item.ReferencedSOPInstanceUID)
            for frame in dataset.PerFrameFunctionalGroupsSequence
            for item in frame.DerivationImageSequence[0].SourceImageSequence
        }
        assert len(set(listed)) == len(listed)
        assert used <= set(listed) == set(images_of(drawn))


def test_point_20_every_frame_comes_from_exactly_one_image_in_place(drawn: Exhibit) -> None:
    for dataset in drawn.all(Role.SEGMENTATION, Role.PARAMETRIC_MAP):
        frames = dataset.PerFrameFunctionalGroupsSequence
        assert len(frames) == dataset.NumberOfFrames
        for frame in frames:
            (derivation,) = frame.DerivationImageSequence
            (item,) = derivation.SourceImageSequence
            assert item.SpatialLocationsPreserved == "YES"


def test_point_21_dcmqi_reads_every_segment_voxel_for_voxel_in_space(volume: Exhibit, tmp_path: Path) -> None:
    space = volume.source.geometry
    assert space is not None
    to_index = np.linalg.inv(space.affine)
    read: dict[str, set[tuple]] = {}
    for number, (path, dataset) in enumerate(segmentations_on_disk(volume)):
        folder = tmp_path / str(number)
        folder.mkdir()
        run("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "--outputType", "nrrd")
        for segment in (one for one in dataset.SegmentSequence if one.SegmentNumber):
            # A label map is one image of all segments; of the others each segment has an image.
            together = dataset.SegmentationType == "LABELMAP"
            image = SimpleITK.ReadImage(str(folder / f"{1 if together else segment.SegmentNumber}.nrrd"))
            values = SimpleITK.GetArrayFromImage(image)
            kji = np.argwhere(values == segment.SegmentNumber if together else values > 0)
            direction = np.array(image.GetDirection()).reshape(3, 3)
            points = kji[:, ::-1] * image.GetSpacing() @ direction.T + image.GetOrigin()  # LPS mm
            index = points @ to_index[:3, :3].T + to_index[:3, 3]
            assert np.abs(index - index.round()).max() < 1e-3
            read[str(segment.SegmentLabel)] = {tuple(row) for row in index.round().astype(int)}
    assert read == masks(volume)


def test_point_22_highdicom_reads_the_mask_voxel_for_voxel(volume: Exhibit) -> None:
    space = volume.source.geometry
    assert space is not None
    read: dict[str, set[tuple]] = {}
    for _, dataset in segmentations_on_disk(volume):
        seg = hd.seg.Segmentation.from_dataset(dataset)
        got = seg.get_volume(combine_segments=False)
        to_index = np.linalg.inv(space.affine) @ got.affine
        for channel, number in enumerate(seg.segment_numbers):
            theirs = np.argwhere(np.asarray(got.array)[..., channel] > 0)
            index = theirs @ to_index[:3, :3].T + to_index[:3, 3]
            assert np.abs(index - index.round()).max() < 1e-3
            label = seg.get_segment_description(number).segment_label
            read[str(label)] = {tuple(row) for row in index.round().astype(int)}
    assert read == masks(volume)


def masks(exhibit: Exhibit) -> dict[str, set[tuple]]:
    """What the model drew, by label: (slice, row, column)."""
    return {
        segment.label: {tuple(row) for row in np.argwhere(exhibit.findings.mask(segment.number))}
        for segment in exhibit.findings.segments
    }


def segmentations_on_disk(exhibit: Exhibit) -> list[tuple[Path, Dataset]]:
    found = [path for role, path in exhibit.paths if role is Role.SEGMENTATION]
    return [(path, pydicom.dcmread(path)) for path in found]


TYPES = {"label map": "LABELMAP", "label map of frames": "LABELMAP", "fractions": "FRACTIONAL"}


def test_point_23_segments_are_numbered_from_one_without_a_gap(drawn: Exhibit) -> None:
    for dataset in segmentations(drawn):
        assert dataset.SegmentationType == TYPES.get(drawn.name, "BINARY")
        listed = [segment.SegmentNumber for segment in dataset.SegmentSequence if segment.SegmentNumber]
        assert listed == list(range(1, len(listed) + 1))
        if dataset.SegmentationType == "LABELMAP":
            continue
        used = {
            frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            for frame in dataset.PerFrameFunctionalGroupsSequence
        }
        assert used == set(listed)


@pytest.mark.parametrize("name", ["label map", "label map of frames"])
def test_point_23_every_value_of_a_label_map_is_described_and_so_is_background(
    name: str, exhibits: dict[str, Exhibit]
) -> None:
    (dataset,) = segmentations(exhibits[name])
    described = {int(segment.SegmentNumber): segment for segment in dataset.SegmentSequence}
    assert set(np.unique(pydicom.pixels.pixel_array(dataset)).tolist()) | {0} == set(described)
    assert code_of(described[0], "SegmentedPropertyTypeCodeSequence") == ("125040", "DCM")
    assert dataset.PixelPaddingValue == 0


def test_point_23_parts_of_a_segmentation_keep_to_the_limit(exhibits: dict[str, Exhibit]) -> None:
    parts = segmentations(exhibits["in parts"])
    assert len(parts) == 2
    labels = [str(segment.SegmentLabel) for part in parts for segment in part.SegmentSequence]
    assert sorted(labels) == ["Left lung", "Right lung"]
    assert all(part.NumberOfFrames <= 6 or len(part.SegmentSequence) == 1 for part in parts)


def test_point_24_every_segment_has_a_label_codes_and_a_colour_of_its_own(drawn: Exhibit) -> None:
    for dataset in segmentations(drawn):
        segments = [segment for segment in dataset.SegmentSequence if segment.SegmentNumber]
        for what in (
            {str(segment.SegmentLabel) for segment in segments},
            {tuple(segment.RecommendedDisplayCIELabValue) for segment in segments},
        ):
            assert len(what) == len(segments)
        for segment in segments:
            for sequence in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"):
                value, scheme = code_of(segment, sequence)
                assert value
                assert scheme in {"SCT", "DCM", "99WETREAD"}


def test_point_25_segments_overlap_is_no_only_where_no_voxel_has_two(drawn: Exhibit, tmp_path: Path) -> None:
    for dataset in segmentations(drawn):
        assert dataset.SegmentsOverlap == "NO"
        if dataset.SegmentationType == "LABELMAP":
            continue  # which cannot say otherwise
        bits = np.asarray(pydicom.pixels.pixel_array(dataset)).reshape(-1, dataset.Rows, dataset.Columns)
        places: dict[tuple, np.ndarray] = {}
        for frame, plane in zip(dataset.PerFrameFunctionalGroupsSequence, bits, strict=True):
            item = frame.DerivationImageSequence[0].SourceImageSequence[0]
            place = (item.ReferencedSOPInstanceUID, item.get("ReferencedFrameNumber"))
            assert not (places.get(place, np.zeros_like(plane)) & plane).any()
            places[place] = places.get(place, np.zeros_like(plane)) | plane


def test_point_25_segments_that_overlap_say_so(tmp_path: Path) -> None:
    layers = np.stack([np.asarray(findings().label_map)] * 2)
    layers[0][layers[0] == 2] = 0
    layers[1] = np.where(layers[1] == 2, 2, 0)
    layers[1][np.argwhere(layers[0] == 1)[0][0]] = 2
    said = findings()
    segments = (said.segments[0], _in_layer(said.segments[1], 1, int((layers[1] == 2).sum())))
    made = make(tmp_path, of=source(), said=findings(label_map=layers, segments=segments))
    assert made.seg.SegmentsOverlap == "YES"


def _in_layer(segment: Segment, layer: int, voxels: int) -> Segment:
    ml = voxels * float(np.prod(SPACING)) / 1000
    volume, *rest = segment.measurements
    return replace(segment, layer=layer, measurements=(replace(volume, value=ml), *rest), laterality=None)


@pytest.mark.parametrize("name", WITHOUT)
def test_point_26_where_nothing_is_drawn_a_report_says_so_and_there_is_no_segmentation(
    name: str, exhibits: dict[str, Exhibit]
) -> None:
    exhibit = exhibits[name]
    # A page says it in words as well; nothing is drawn.
    assert set(exhibit.by_role) <= {Role.REPORT, Role.SUMMARY, Role.DOCUMENT}
    assert Role.REPORT in exhibit.by_role
    outcomes = [
        code_of(item, "ConceptCodeSequence")
        for item in walk(exhibit.report)
        if name_of(item) == as_code(codes.ANALYSIS_OUTCOME)
    ]
    assert set(outcomes) == {
        as_code({"nothing found": codes.NOTHING_FOUND, "not analysed": codes.NOT_ANALYSED}.get(
            name, codes.ANALYSED))
    }  # fmt: skip
    if name == "an empty mask":
        absent = [code_of(i, "ConceptCodeSequence") for i in walk(exhibit.report)
                  if name_of(i) == as_code(codes.LUNG)]  # fmt: skip
        assert absent == [as_code(codes.ABSENT)]


def test_point_27_the_volume_is_the_number_of_voxels_times_their_size(volume: Exhibit) -> None:
    """Counted in the pixels that came back, multiplied with the spacing of their headers."""
    counted: dict[str, float] = {}
    for dataset in segmentations(volume):
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        between_rows, between_columns = (float(v) for v in measures.PixelSpacing)
        voxel_mm3 = between_rows * between_columns * float(measures.SpacingBetweenSlices)
        pixels = np.asarray(pydicom.pixels.pixel_array(dataset)).reshape(-1, dataset.Rows, dataset.Columns)
        for segment in (one for one in dataset.SegmentSequence if one.SegmentNumber):
            number = int(segment.SegmentNumber)
            if dataset.SegmentationType == "LABELMAP":
                voxels = np.count_nonzero(pixels == number)
            else:
                frames = dataset.PerFrameFunctionalGroupsSequence
                of = [
                    one.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number for one in frames
                ]
                voxels = np.count_nonzero(pixels[of])
            counted[str(segment.TrackingUID)] = voxels * voxel_mm3
    said = {}
    for group in walk(volume.report):
        if name_of(group) == as_code(codes.MEASUREMENT_GROUP):
            for (name, (unit, _)), value in numbers(group).items():
                if name == as_code(codes.VOLUME):
                    said[uid_named(group, codes.TRACKING_UID)] = value * codes.VOLUME_UNITS_MM3[unit]
    assert said
    assert said == {uid: pytest.approx(counted[uid], rel=1e-3) for uid in said}
    measured = [one for one in volume.findings.segments if one.is_lesion or one.measurements]
    assert len(said) >= len([one for one in measured if _has_volume(one)])


def _has_volume(segment: Segment) -> bool:
    return segment.is_lesion or any(one.name == codes.VOLUME for one in segment.measurements)
