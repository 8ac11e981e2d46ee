"""A segmentation holds the model's voxels, exactly where the images are, and says what each segment is."""

import logging
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import ModelError
from ledger.job import Outcome
from results import codes
from results.findings import Findings
from results.parts import parts_of
from results.pixels import bits, frames_of
from results.profile import DEFAULT
from results.segmentation import build
from results.write import write
from tests.results.forms import FORMS
from tests.results.made import asked, make
from tests.results.series import KINDS, SHAPE, findings, geometry, label_map, source, with_pixels


@pytest.mark.parametrize("kind", KINDS)
def test_17_the_frame_of_reference_is_the_sources(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind)
    assert made.seg.FrameOfReferenceUID == made.source.first.FrameOfReferenceUID


@pytest.mark.parametrize("kind", KINDS)
def test_18_the_grid_is_the_sources_to_the_last_digit(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind)
    seg, of = made.seg, made.source
    if of.frames is None:
        position = {d.SOPInstanceUID: [str(v) for v in d.ImagePositionPatient] for d in of.datasets}
        orientation, spacing = of.first.ImageOrientationPatient, of.first.PixelSpacing
    else:
        groups = of.first.PerFrameFunctionalGroupsSequence
        position = {
            i: [str(v) for v in g.PlanePositionSequence[0].ImagePositionPatient]
            for i, g in enumerate(groups, 1)
        }
        shared = of.first.SharedFunctionalGroupsSequence[0]
        holder = groups[0] if "PlaneOrientationSequence" in groups[0] else shared
        orientation = holder.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    assert (seg.Rows, seg.Columns) == (of.first.Rows, of.first.Columns)
    ours = seg.SharedFunctionalGroupsSequence[0]
    assert ours.PixelMeasuresSequence[0].PixelSpacing == spacing
    assert ours.PlaneOrientationSequence[0].ImageOrientationPatient == orientation
    for group in seg.PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        key = image.ReferencedSOPInstanceUID if of.frames is None else image.ReferencedFrameNumber
        assert [str(v) for v in group.PlanePositionSequence[0].ImagePositionPatient] == position[key]


@pytest.mark.parametrize("kind", KINDS)
def test_19_the_one_source_series_is_listed_with_exactly_its_instances(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind)
    (series,) = made.seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == made.source.first.SeriesInstanceUID
    listed = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert listed == [image.SOPInstanceUID for image in made.source.datasets]


@pytest.mark.parametrize("kind", KINDS)
def test_20_every_frame_comes_from_exactly_one_image(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind)
    seen = set()
    for group in made.seg.PerFrameFunctionalGroupsSequence:
        (derivation,) = group.DerivationImageSequence
        (image,) = derivation.SourceImageSequence
        assert image.SpatialLocationsPreserved == "YES"
        assert image.ReferencedSOPClassUID == made.source.first.SOPClassUID
        assert ("ReferencedFrameNumber" in image) == KINDS[kind].enhanced
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        seen.add((number, image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")))
    assert len(seen) == made.seg.NumberOfFrames


@pytest.mark.parametrize("kind", KINDS)
def test_22_highdicom_reads_the_mask_back_voxel_for_voxel(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind)
    read = hd.seg.segread(made.segmentation).get_volume(combine_segments=True)
    whole = read.match_geometry(geometry(KINDS[kind]))
    assert np.array_equal(whole.array, label_map(KINDS[kind]))


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if not kind.per_frame_orientation])
def test_it_is_what_highdicom_would_have_written(kind: str, tmp_path: Path, caplog) -> None:
    made = make(tmp_path, kind)
    space = geometry(KINDS[kind])
    descriptions = [hd.seg.SegmentDescription.from_dataset(item) for item in made.seg.SegmentSequence]
    caplog.set_level(logging.ERROR)
    theirs = hd.seg.Segmentation(
        source_images=[with_pixels(image) for image in made.source.datasets],
        pixel_array=space.with_array(label_map(KINDS[kind])),
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid="2.25.1",
        series_number=1,
        sop_instance_uid="2.25.2",
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="x",
        device_serial_number="x",
    )
    write(theirs, tmp_path / "theirs.dcm")
    ours, theirs = made.seg, hd.seg.segread(tmp_path / "theirs.dcm")

    def frames(seg):
        bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
        size = seg.Rows * seg.Columns
        for index, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
            image = group.DerivationImageSequence[0].SourceImageSequence[0]
            where = (image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber"))
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            position = tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)
            yield (number, *where, position), bits[index * size : (index + 1) * size].tobytes()

    assert dict(frames(ours)) == dict(frames(theirs))
    # highdicom also lists every source image at the top and calls a single segment's stack "3D"; nobody needs
    # them.
    lacking = (
        {e.keyword for e in theirs}
        - {e.keyword for e in ours}
        - {"SourceImageSequence", "PresentationLUTShape"}
    )
    assert not lacking


def test_23_segments_are_numbered_from_one_without_a_gap(tmp_path: Path) -> None:
    assert [s.SegmentNumber for s in make(tmp_path).seg.SegmentSequence] == [1, 2]


def test_24_every_segment_says_what_it_is(tmp_path: Path) -> None:
    right, left = make(tmp_path).seg.SegmentSequence
    assert (right.SegmentLabel, left.SegmentLabel) == ("Right lung", "Left lung")
    for item, side in ((right, codes.RIGHT), (left, codes.LEFT)):
        assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.ANATOMICAL_STRUCTURE.value
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("39607008", "SCT")
        assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == side.value
        assert item.TrackingUID
        assert item.TrackingID
    assert list(right.RecommendedDisplayCIELabValue) != list(left.RecommendedDisplayCIELabValue)


def test_14_every_segment_names_the_algorithm(tmp_path: Path) -> None:
    for item in make(tmp_path).seg.SegmentSequence:
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        assert item.SegmentAlgorithmName == "lung_ct"
        (algorithm,) = item.SegmentationAlgorithmIdentificationSequence
        family = algorithm.AlgorithmFamilyCodeSequence[0]
        assert (family.CodeValue, family.CodingSchemeDesignator) == ("123110", "DCM")
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("lung_ct", "1.0.0")
        assert 'settings {"erode": 2}' in algorithm.AlgorithmParameters


def test_15_general_equipment_is_complete(tmp_path: Path) -> None:
    made = make(tmp_path)
    for dataset in (made.seg, made.sr):
        for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
            assert dataset.get(keyword), keyword


def test_25_segments_of_a_label_map_never_overlap(tmp_path: Path) -> None:
    seg = make(tmp_path).seg
    assert seg.SegmentsOverlap == "NO"
    both = hd.seg.Segmentation.from_dataset(seg).get_volume()
    assert both.array.sum(axis=-1).max() == 1


@pytest.mark.parametrize("form", FORMS)
def test_26_where_nothing_is_drawn_there_is_no_segmentation(form: str) -> None:
    of = source()
    empty = findings(label_map=np.zeros(SHAPE, np.uint8))
    assert build(asked(empty, of, profile=FORMS[form])) == []


def test_an_empty_segment_is_left_out_and_the_others_close_ranks(tmp_path: Path) -> None:
    labels = label_map(KINDS["axial CT"]).copy()
    labels[labels == 1] = 0
    said = findings(label_map=labels)
    said = replace(said, segments=(replace(said.segments[0], measurements=()), said.segments[1]))
    made = make(tmp_path, said=said)
    (only,) = made.seg.SegmentSequence
    assert (only.SegmentNumber, only.SegmentLabel) == (1, "Left lung")
    read = hd.seg.segread(made.segmentation).get_volume(combine_segments=True)
    whole = read.match_geometry(geometry(KINDS["axial CT"]))
    assert np.array_equal(whole.array == 1, labels == 2)
    made.check()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_mask_comes_back_from_its_bits(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 7)) for _ in range(3))
    seed = data.draw(st.integers(0, 2**32 - 1))
    density = data.draw(st.sampled_from([0.02, 0.5, 1.0]))
    random = np.random.default_rng(seed)
    labels = (random.integers(1, 3, shape) * (random.random(shape) < density)).astype(np.uint8)
    said = Findings(outcome=Outcome.FOUND, label_map=labels, segments=findings().segments)
    parts = parts_of(said, DEFAULT)
    assert len(parts) == bool(labels.any())
    pixels, frames = (bits(said, parts[0]), frames_of(parts[0])) if parts else (b"", [])
    assert len(pixels) % 2 == 0
    loose = np.unpackbits(np.frombuffer(pixels, np.uint8), bitorder="little")
    size = shape[1] * shape[2]
    back = np.zeros(shape, np.uint8)
    numbers = {item.number: item.segment.number for part in parts for item in part.drawn}
    for index, frame in enumerate(frames):
        mask = loose[index * size : (index + 1) * size].reshape(shape[1:]).astype(bool)
        assert mask.any()
        back[frame.plane][mask] = numbers[frame.number]
    assert np.array_equal(back, labels)


@pytest.mark.parametrize("kind", KINDS)
def test_30_what_is_on_the_patients_right_stays_there(kind: str, tmp_path: Path) -> None:
    seg = hd.seg.segread(make(tmp_path, kind).segmentation)
    volume = seg.get_volume(combine_segments=True)
    x_mm = {n: volume.map_indices_to_reference(np.argwhere(volume.array == n))[:, 0].mean() for n in (1, 2)}
    labels = {s.SegmentNumber: s.SegmentLabel for s in seg.SegmentSequence}
    assert labels == {1: "Right lung", 2: "Left lung"}
    assert x_mm[1] < 0 < x_mm[2]  # LPS: x grows towards the patient's left


def test_a_lossy_source_makes_a_lossy_result(tmp_path: Path) -> None:
    of = source(
        LossyImageCompression="01", LossyImageCompressionRatio="8", LossyImageCompressionMethod="ISO_10918_1"
    )
    seg = make(tmp_path, of=of).seg
    assert (seg.LossyImageCompression, seg.LossyImageCompressionRatio) == ("01", 8)


def test_two_segments_of_one_label_are_refused() -> None:
    of = source()
    first, second = findings().segments
    said = findings(segments=(first, replace(second, label=first.label)))
    with pytest.raises(ModelError, match="same label"):
        build(asked(said, of))


def test_a_source_without_frame_of_reference_is_refused() -> None:
    of = source(FrameOfReferenceUID=None)
    with pytest.raises(ModelError, match="Frame of Reference"):
        build(asked(findings(), of))


def test_a_label_map_of_another_size_is_refused() -> None:
    of = source()
    with pytest.raises(ModelError, match="the label map is"):
        build(asked(findings(label_map=label_map(KINDS["odd-sized CT"])), of))
