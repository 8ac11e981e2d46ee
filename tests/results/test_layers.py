"""Segments that overlap, segments by the hundred, and segments on images that are no volume."""

import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from pydicom import Dataset

from ledger.job import Outcome
from results import codes
from results.check import CheckFailed
from results.content import numbers
from results.expect import as_code
from results.findings import Findings, Segment
from results.grid import NotEncodable
from results.segmentation import build
from tests.patience import patient
from tests.peers.programs import find
from tests.results.dciodvfy import complaints
from tests.results.images import IMAGES, blob, image_findings, image_source
from tests.results.made import Made, asked, make
from tests.results.series import KINDS, SHAPE, findings, geometry, label_map, source


def segment(number: int, layer: int = 0, **changes: object) -> Segment:
    values: dict[str, object] = {
        "number": number,
        "label": f"Region {number}",
        "category": codes.ANATOMICAL_STRUCTURE,
        "kind": codes.LUNG,
        "colour_rgb": (number % 256, 90, 200),
        "layer": layer,
    }
    return Segment(**(values | changes))


def overlapping(kind: str = "axial CT", dtype: type = np.uint8) -> Findings:
    """Two lungs, and in a layer of its own a third segment that lies on both."""
    both = label_map(KINDS[kind])
    third = np.zeros_like(both)
    third[tuple(slice(n // 4, -n // 4) for n in both.shape)] = 3
    assert ((third == 3) & (both == 1)).any()
    layers = np.stack([both, third]).astype(dtype)
    said = findings(KINDS[kind])
    return replace(said, label_map=layers, segments=(*said.segments, segment(3, 1, score=0.75)))


@pytest.mark.parametrize("kind", ["axial CT", "oblique CT", "odd-sized CT", "enhanced MR", "feet-first CT"])
def test_segments_that_overlap_come_back_each_with_all_its_voxels(kind: str, tmp_path: Path) -> None:
    said = overlapping(kind)
    made = make(tmp_path, kind, said=said)
    assert made.seg.SegmentsOverlap == "YES"
    made.check()
    read = hd.seg.segread(made.segmentation).get_volume(combine_segments=False)
    whole = read.match_geometry(geometry(KINDS[kind]))
    for number in (1, 2, 3):
        assert np.array_equal(whole.array[..., number - 1] != 0, said.mask(number))
    assert complaints(made.segmentation, "Segmentation") == []


def test_layers_that_do_not_overlap_say_so(tmp_path: Path) -> None:
    both = label_map(KINDS["axial CT"])
    said = findings(
        label_map=np.stack([np.where(both == 1, 1, 0), np.where(both == 2, 2, 0)]).astype(np.uint8)
    )
    said = replace(said, segments=(said.segments[0], replace(said.segments[1], layer=1)))
    layered = make(tmp_path / "layered", said=said)
    assert layered.seg.SegmentsOverlap == "NO"
    layered.check()
    # In layers or in one: the same voxels, so the same file.
    assert layered.segmentation.read_bytes() == make(tmp_path / "flat").segmentation.read_bytes()


def test_dcmqi_reads_overlapping_segments_each_into_its_own_image(tmp_path: Path) -> None:
    said = overlapping()
    made = make(tmp_path / "made", said=said)
    program = [find("segimage2itkimage"), "--inputDICOM", made.segmentation, "--outputDirectory", tmp_path]
    subprocess.run([*program, "--outputType", "nrrd"], capture_output=True, check=True, timeout=patient(60))
    for number in (1, 2, 3):
        image = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"{number}.nrrd")))
        assert int((image > 0).sum()) == int(said.mask(number).sum())


def test_more_than_255_segments_of_a_sixteen_bit_label_map_come_back(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint16)
    flat = labels.reshape(-1)
    for number in range(1, 301):
        flat[number * 20 : number * 20 + 1 + number % 7] = number
    said = Findings(
        outcome=Outcome.FOUND,
        label_map=labels,
        segments=tuple(segment(number) for number in range(1, 301)),
    )
    made = make(tmp_path, said=said)
    assert len(made.seg.SegmentSequence) == 300
    made.check()
    read = hd.seg.segread(made.segmentation).get_volume(combine_segments=True)
    whole = read.match_geometry(geometry(KINDS["axial CT"]))
    assert np.array_equal(whole.array, labels)
    assert complaints(made.segmentation, "Segmentation") == []


def test_the_score_of_a_segment_is_in_the_report(tmp_path: Path) -> None:
    made = make(tmp_path, said=overlapping())
    key = (as_code(codes.CERTAINTY), as_code(codes.PERCENT))
    assert numbers(made.sr)[key] == pytest.approx(75.0)


def test_a_wrong_score_is_stopped(tmp_path: Path) -> None:
    made = make(tmp_path, said=overlapping())
    *others, third = made.findings.segments
    other = replace(made.findings, segments=(*others, replace(third, score=0.76)))
    with pytest.raises(CheckFailed, match="111012"):
        replace(made, findings=other).check()


def test_a_layer_with_voxels_of_another_layers_segment_is_refused() -> None:
    said = overlapping()
    assert said.label_map is not None
    layers = said.label_map.copy()
    layers[1, 0, 0, 0] = 2
    with pytest.raises(NotEncodable, match="layer 1 of the label map has voxels of segment 2"):
        build(asked(replace(said, label_map=layers), source()))


def test_a_segment_of_a_layer_that_is_not_there_is_no_finding() -> None:
    with pytest.raises(ValueError, match="names a layer"):
        findings(segments=(segment(1, layer=1), segment(2)))


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan")])
def test_a_score_outside_0_to_1_is_no_score(share: float) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        segment(1, score=share)


def swap_two_overlapping(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        item = group.SegmentIdentificationSequence[0]
        item.ReferencedSegmentNumber = {1: 3, 3: 1}.get(item.ReferencedSegmentNumber, 2)


def deny_overlap(seg: Dataset) -> None:
    seg.SegmentsOverlap = "NO"


def mirror_columns(seg: Dataset) -> None:
    size = int(seg.NumberOfFrames) * seg.Rows * seg.Columns
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")[:size]
    data = np.packbits(bits.reshape(-1, seg.Rows, seg.Columns)[..., ::-1].reshape(-1), bitorder="little")
    seg.PixelData = data.tobytes() + b"\0" * (data.size % 2)


def _changed(made: Made, mutate: object) -> None:
    seg = made.seg
    mutate(seg)
    seg.save_as(made.segmentation, enforce_file_format=True)
    with pytest.raises(CheckFailed):
        made.check()


@pytest.mark.parametrize("mutate", [swap_two_overlapping, deny_overlap, mirror_columns])
def test_changed_overlapping_segments_stay_here(mutate: object, tmp_path: Path) -> None:
    _changed(make(tmp_path, said=overlapping()), mutate)


@pytest.mark.parametrize("kind", IMAGES)
def test_what_is_drawn_on_an_image_lies_on_that_image_and_nowhere_else(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, of=image_source(kind), said=image_findings())
    made.check()
    seg = made.seg
    assert "FrameOfReferenceUID" not in seg
    for group in seg.PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == made.source.first.SOPInstanceUID
        assert image.get("ReferencedFrameNumber") == (3 if kind == "US cine" else None)
        assert image.SpatialLocationsPreserved == "YES"
    assert complaints(made.segmentation, "Segmentation") == []


@pytest.mark.parametrize("kind", ["DX", "US cine"])
def test_highdicom_reads_what_is_drawn_on_an_image_pixel_for_pixel(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, of=image_source(kind), said=image_findings())
    image = str(made.source.first.SOPInstanceUID)
    seg = hd.seg.segread(made.segmentation)
    if kind == "US cine":
        read = seg.get_pixels_by_source_frame(image, [3], combine_segments=True)
    else:
        read = seg.get_pixels_by_source_instance([image], combine_segments=True)
    assert np.array_equal(read, blob())


def test_overlapping_segments_of_an_image_come_back(tmp_path: Path) -> None:
    first = blob()
    second = np.zeros_like(first)
    second[0, 4:12, 5:13] = 3
    said = image_findings(
        label_map=np.stack([first, second]), segments=(*image_findings().segments, segment(3, 1))
    )
    made = make(tmp_path, of=image_source("MG"), said=said)
    made.check()
    assert made.seg.SegmentsOverlap == "YES"


def lie_somewhere(seg: Dataset) -> None:
    seg.FrameOfReferenceUID = "1.2.3"


def turned(seg: Dataset) -> None:
    shared = seg.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def measured(seg: Dataset) -> None:
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.2, 0.2]


def placed(seg: Dataset) -> None:
    place = Dataset()
    place.ImagePositionPatient = [0, 0, 0]
    seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence = [place]


def other_frame(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = 2


def other_image(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


@pytest.mark.parametrize(
    "mutate", [lie_somewhere, turned, measured, placed, other_frame, other_image, mirror_columns]
)
def test_changed_segments_of_an_image_stay_here(mutate: object, tmp_path: Path) -> None:
    _changed(make(tmp_path, of=image_source("US cine"), said=image_findings()), mutate)


def test_several_images_are_no_grid_to_draw_upon() -> None:
    of = image_source("CR")
    two = replace(of, datasets=(of.first, of.first))
    with pytest.raises(NotEncodable, match="neither a volume nor one image"):
        build(asked(image_findings(), two))


def test_a_cine_needs_the_frame_that_was_looked_at() -> None:
    of = replace(image_source("US cine"), frames=None)
    with pytest.raises(NotEncodable, match="not said which one"):
        build(asked(image_findings(), of))
