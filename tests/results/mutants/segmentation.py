"""What can be wrong with a segmentation of the lungs: where it lies, its names, its voxels."""

import numpy as np
from pydicom import Dataset

from ledger.result import Role
from tests.results.mutants.mutant import table
from tests.results.series import ROOT


def _bits(seg: Dataset) -> np.ndarray:
    count = int(seg.NumberOfFrames) * seg.Rows * seg.Columns
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")[:count]
    return bits.reshape(-1, seg.Rows, seg.Columns)


def _put(seg: Dataset, bits: np.ndarray) -> None:
    data = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    seg.PixelData = data + b"\0" * (len(data) % 2)


def mirror_columns(seg: Dataset) -> None:
    _put(seg, _bits(seg)[:, :, ::-1])


def mirror_slices(seg: Dataset) -> None:
    _put(seg, _bits(seg)[::-1])


def shift_pixels(seg: Dataset) -> None:
    _put(seg, np.roll(_bits(seg), 1, axis=2))


def lose_a_voxel(seg: Dataset) -> None:
    bits = _bits(seg).copy()
    bits.reshape(-1)[np.flatnonzero(bits)[0]] = 0
    _put(seg, bits)


def lose_a_frame(seg: Dataset) -> None:
    _put(seg, _bits(seg)[:-1])
    del seg.PerFrameFunctionalGroupsSequence[-1]
    seg.NumberOfFrames -= 1


def swap_segments(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        item = group.SegmentIdentificationSequence[0]
        item.ReferencedSegmentNumber = 3 - item.ReferencedSegmentNumber


def swap_sides(seg: Dataset) -> None:
    right, left = (s.SegmentedPropertyTypeCodeSequence[0] for s in seg.SegmentSequence)
    keyword = "SegmentedPropertyTypeModifierCodeSequence"
    right[keyword], left[keyword] = left[keyword], right[keyword]


def swap_labels(seg: Dataset) -> None:
    right, left = seg.SegmentSequence
    right.SegmentLabel, left.SegmentLabel = left.SegmentLabel, right.SegmentLabel


def move(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0]
        x, y, z = position.ImagePositionPatient
        position.ImagePositionPatient = [x, y, z + 0.02]


def other_orientation(seg: Dataset) -> None:
    seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [
        -1,
        0,
        0,
        0,
        1,
        0,
    ]


def other_spacing(seg: Dataset) -> None:
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [measures.PixelSpacing[0], float(measures.PixelSpacing[1]) * 1.001]


def swapped_spacing(seg: Dataset) -> None:
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = list(measures.PixelSpacing)[::-1]


def other_slice_spacing(seg: Dataset) -> None:
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "2.6"


def other_frame_of_reference(seg: Dataset) -> None:
    seg.FrameOfReferenceUID = f"{ROOT}.10"


def other_image_of_a_frame(seg: Dataset) -> None:
    first, second = seg.PerFrameFunctionalGroupsSequence[:2]
    a, b = (g.DerivationImageSequence[0].SourceImageSequence[0] for g in (first, second))
    a.ReferencedSOPInstanceUID = b.ReferencedSOPInstanceUID


def no_derivation(seg: Dataset) -> None:
    seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = []


def not_preserved(seg: Dataset) -> None:
    group = seg.PerFrameFunctionalGroupsSequence[0]
    group.DerivationImageSequence[0].SourceImageSequence[0].SpatialLocationsPreserved = "NO"


def an_image_too_many(seg: Dataset) -> None:
    extra = Dataset()
    extra.ReferencedSOPClassUID, extra.ReferencedSOPInstanceUID = seg.SOPClassUID, f"{ROOT}.3.999"
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence.append(extra)


def other_algorithm_version(seg: Dataset) -> None:
    seg.SegmentSequence[1].SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion = "0.9"


def other_tracking(seg: Dataset) -> None:
    seg.SegmentSequence[0].TrackingUID = "2.25.8"


def flip_rows(seg: Dataset) -> None:
    _put(seg, _bits(seg)[:, ::-1])


def turn_upside_down(seg: Dataset) -> None:
    _put(seg, _bits(seg)[:, ::-1, ::-1])


def shift_by_a_slice(seg: Dataset) -> None:
    _put(seg, np.roll(_bits(seg), 1, axis=0))


def a_voxel_too_many(seg: Dataset) -> None:
    bits = _bits(seg).copy()
    bits[0, 0, 0] = 1
    _put(seg, bits)


def cut_short(seg: Dataset) -> None:
    seg.PixelData = seg.PixelData[:-8]


def move_frames_by_a_slice(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0]
        x, y, z = (float(v) for v in position.ImagePositionPatient)
        position.ImagePositionPatient = [x, y, z + 2.5]


def swap_positions(seg: Dataset) -> None:
    first, second = (g.PlanePositionSequence[0] for g in seg.PerFrameFunctionalGroupsSequence[:2])
    first.ImagePositionPatient, second.ImagePositionPatient = (
        second.ImagePositionPatient,
        first.ImagePositionPatient,
    )


def swap_tracking(seg: Dataset) -> None:
    right, left = seg.SegmentSequence
    right.TrackingUID, left.TrackingUID = left.TrackingUID, right.TrackingUID


def swap_colours(seg: Dataset) -> None:
    right, left = seg.SegmentSequence
    right.RecommendedDisplayCIELabValue, left.RecommendedDisplayCIELabValue = (
        left.RecommendedDisplayCIELabValue,
        right.RecommendedDisplayCIELabValue,
    )


def other_type(seg: Dataset) -> None:
    seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"


def other_category(seg: Dataset) -> None:
    seg.SegmentSequence[0].SegmentedPropertyCategoryCodeSequence[0].CodeValue = "49755003"


def drawn_by_hand(seg: Dataset) -> None:
    seg.SegmentSequence[0].SegmentAlgorithmType = "MANUAL"


def other_algorithm_name(seg: Dataset) -> None:
    seg.SegmentSequence[0].SegmentAlgorithmName = "liver_ct"


def said_to_overlap(seg: Dataset) -> None:
    seg.SegmentsOverlap = "YES"


def other_series(seg: Dataset) -> None:
    seg.ReferencedSeriesSequence[0].SeriesInstanceUID = f"{ROOT}.22"


def image_of_another_study(seg: Dataset) -> None:
    group = seg.PerFrameFunctionalGroupsSequence[0]
    group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = f"{ROOT}.8.1"


def other_size(seg: Dataset) -> None:
    seg.Rows, seg.Columns = seg.Columns, seg.Rows


_VOXELS = r"does not hold the voxels of '(Right|Left) lung' on slice"
_PLACE = r"frame 1 lies at .*, its source image at"

MUTANTS = table(
    Role.SEGMENTATION,
    "lungs",
    (mirror_columns, _VOXELS),
    (flip_rows, _VOXELS),
    (turn_upside_down, _VOXELS),
    (mirror_slices, _VOXELS),
    (shift_pixels, _VOXELS),
    (shift_by_a_slice, _VOXELS),
    (lose_a_voxel, _VOXELS),
    (a_voxel_too_many, _VOXELS),
    (cut_short, "pixel data has .* bytes, .* are needed"),
    (lose_a_frame, "has .* voxels, the model found"),
    (swap_segments, _VOXELS),
    (swap_sides, "side of 'Right lung' is .*, the model said"),
    (swap_labels, "side of 'Left lung' is .*, the model said"),
    (swap_tracking, "Tracking UID of 'Right lung' is not this run's"),
    (swap_colours, "colour of 'Right lung'"),
    (other_type, "type of 'Right lung' is .*, the model said"),
    (other_category, "category of 'Right lung' is .*, the model said"),
    (drawn_by_hand, "'Right lung' is said to be made by"),
    (other_algorithm_name, "'Right lung' is said to be made by"),
    (other_algorithm_version, "'Left lung' is said to be made by"),
    (other_tracking, "Tracking UID of 'Right lung' is not this run's"),
    (said_to_overlap, "Segments Overlap is YES"),
    (move, _PLACE),
    (move_frames_by_a_slice, _PLACE),
    (swap_positions, _PLACE),
    (other_orientation, "image orientation is"),
    (other_spacing, "pixel spacing is"),
    (swapped_spacing, "pixel spacing is"),
    (other_slice_spacing, "slices are 2.6 mm apart, of the source 2.5 mm"),
    (other_size, "30 x 24 pixels, the source has 24 x 30"),
    (other_frame_of_reference, "Frame of Reference UID is"),
    (other_image_of_a_frame, _PLACE),
    (image_of_another_study, "which is no source image"),
    (no_derivation, "frame 1 was derived from 0 images"),
    (not_preserved, "frame 1 does not preserve spatial locations"),
    (an_image_too_many, "the instances that it lists are not those of the volume"),
    (other_series, "refers to the series"),
)
