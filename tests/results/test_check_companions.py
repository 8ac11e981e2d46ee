"""The check stops every contour, mark, blending and selection that is not what the model said: each mutant
here must die.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from ledger.result import Role
from results import codes
from results.check import CheckFailed, check_results
from tests.results.companions import companions, image_companions
from tests.results.made import Made
from tests.results.series import ROOT

Mutant = Callable[[Dataset], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    made = companions(tmp_path_factory.mktemp("companions"), WindowCenter="40", WindowWidth="400")
    made.check()
    return made


@pytest.fixture(scope="module")
def on_an_image(tmp_path_factory) -> Made:
    made = image_companions(
        tmp_path_factory.mktemp("image"), "DX", PhotometricInterpretation="MONOCHROME1",
        WindowCenter="500", WindowWidth="900",
    )  # fmt: skip
    made.check()
    return made


def _stays(made: Made, role: Role, mutate: Mutant, folder: Path) -> None:
    ((first), *rest) = [(one, path) for one, path in made.written if one is role]
    ((dataset), *_) = made.of(role)
    mutate(dataset)
    dataset.save_as(folder / "mutant.dcm", enforce_file_format=True)
    files = [one for one in made.written if one[0] is not role]
    position = [one for one, _ in made.written].index(role)
    files[position:position] = [(first[0], folder / "mutant.dcm"), *rest]
    with pytest.raises(CheckFailed, match=str(role)) as stopped:
        check_results(made.asked, files)
    assert "Doe" not in str(stopped.value)
    assert "MRN" not in str(stopped.value)


def _contours(rt: Dataset):
    return [contour for one in rt.ROIContourSequence for contour in one.ContourSequence]


def _moved(rt: Dataset, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for contour in _contours(rt):
        points = change(np.array(contour.ContourData, dtype=float).reshape(-1, 3))
        contour.ContourData = [f"{one:.3f}" for one in points.reshape(-1)]


def _mirrored_contours(rt: Dataset) -> None:
    _moved(rt, lambda points: points * [-1, 1, 1])


def _contours_a_pixel_aside(rt: Dataset) -> None:
    _moved(rt, lambda points: points + np.array([0.625, 0, 0]))


def _contours_half_a_pixel_down(rt: Dataset) -> None:
    _moved(rt, lambda points: points + np.array([0, 0.75 / 2 + 0.01, 0]))


def _contours_between_slices(rt: Dataset) -> None:
    _moved(rt, lambda points: points + np.array([0, 0, 1.25]))


def _contours_in_centimetres(rt: Dataset) -> None:
    _moved(rt, lambda points: points / 10)


def _contours_in_ras(rt: Dataset) -> None:
    _moved(rt, lambda points: points * [-1, -1, 1])


def _contours_on_the_next_image(rt: Dataset) -> None:
    uids = sorted({str(one.ContourImageSequence[0].ReferencedSOPInstanceUID) for one in _contours(rt)})
    for one in _contours(rt):
        image = one.ContourImageSequence[0]
        image.ReferencedSOPInstanceUID = uids[uids.index(str(image.ReferencedSOPInstanceUID)) - 1]


def _a_contour_less(rt: Dataset) -> None:
    del rt.ROIContourSequence[0].ContourSequence[-1]


def _a_contour_twice(rt: Dataset) -> None:
    rt.ROIContourSequence[0].ContourSequence.append(rt.ROIContourSequence[0].ContourSequence[0])


def _a_point_less(rt: Dataset) -> None:
    contour = _contours(rt)[0]
    contour.ContourData = list(contour.ContourData)[3:]


def _open_contours(rt: Dataset) -> None:
    _contours(rt)[0].ContourGeometricType = "OPEN_PLANAR"


def _filled_holes(rt: Dataset) -> None:
    """As if the channels to the holes had been lost: the longest contour becomes its own bounding box."""
    contour = max(_contours(rt), key=lambda one: int(one.NumberOfContourPoints))
    points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
    (x, y, z), (right, down, _) = points.min(axis=0), points.max(axis=0)
    box = [x, y, z, right, y, z, right, down, z, x, down, z]
    contour.ContourData, contour.NumberOfContourPoints = [f"{one:.3f}" for one in box], 4


def _swapped_regions(rt: Dataset) -> None:
    for one in rt.ROIContourSequence:
        one.ReferencedROINumber = 3 - one.ReferencedROINumber


def _swapped_names(rt: Dataset) -> None:
    first, second = rt.StructureSetROISequence
    first.ROIName, second.ROIName = second.ROIName, first.ROIName


def _swapped_observations(rt: Dataset) -> None:
    for one in rt.RTROIObservationsSequence:
        one.ReferencedROINumber = 3 - one.ReferencedROINumber


def _swapped_colours(rt: Dataset) -> None:
    first, second = rt.ROIContourSequence
    first.ROIDisplayColor, second.ROIDisplayColor = list(second.ROIDisplayColor), list(first.ROIDisplayColor)


def _another_kind(rt: Dataset) -> None:
    rt.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0].CodeValue = "39607008"


def _a_target(rt: Dataset) -> None:
    rt.RTROIObservationsSequence[0].RTROIInterpretedType = "GTV"


def _approved(rt: Dataset) -> None:
    rt.ApprovalStatus = "APPROVED"


def _drawn_by_hand(rt: Dataset) -> None:
    rt.StructureSetROISequence[0].ROIGenerationAlgorithm = "MANUAL"


def _another_version(rt: Dataset) -> None:
    rt.StructureSetROISequence[0].ROIGenerationDescription = "AI, not verified: lung_ct 0.9"


def _another_frame_of_reference(rt: Dataset) -> None:
    rt.FrameOfReferenceUID = f"{ROOT}.10"


def _another_frame_of_reference_of_a_region(rt: Dataset) -> None:
    rt.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = f"{ROOT}.10"


def _no_position_reference(rt: Dataset) -> None:
    del rt.PositionReferenceIndicator


def _an_image_less(rt: Dataset) -> None:
    frame = rt.ReferencedFrameOfReferenceSequence[0]
    del frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence[0]


IN_STRUCTURE_SET = [
    _mirrored_contours, _contours_a_pixel_aside, _contours_half_a_pixel_down, _contours_between_slices,
    _contours_in_centimetres, _contours_in_ras, _contours_on_the_next_image, _a_contour_less,
    _a_contour_twice, _a_point_less, _open_contours, _filled_holes, _swapped_regions, _swapped_names,
    _swapped_observations, _swapped_colours, _another_kind, _a_target, _approved, _drawn_by_hand,
    _another_version, _another_frame_of_reference, _another_frame_of_reference_of_a_region,
    _no_position_reference, _an_image_less,
]  # fmt: skip


def _lines(state: Dataset, layer: str = ""):
    return [
        line
        for one in state.GraphicAnnotationSequence
        if one.GraphicLayer == layer or not layer
        for line in one.get("GraphicObjectSequence", [])
    ]


def _marks_mirrored(state: Dataset) -> None:
    for line in _lines(state):
        points = np.array(line.GraphicData).reshape(-1, 2)
        line.GraphicData = (np.abs([30, 0] - points)).reshape(-1).tolist()


def _marks_half_a_pixel_aside(state: Dataset) -> None:
    """As if they counted from the centre of the first pixel."""
    for line in _lines(state):
        line.GraphicData = [one - 0.5 for one in line.GraphicData]


def _rows_for_columns(state: Dataset) -> None:
    for line in _lines(state):
        line.GraphicData = np.array(line.GraphicData).reshape(-1, 2)[:, ::-1].reshape(-1).tolist()


def _a_box_too_large(state: Dataset) -> None:
    line = _lines(state, "AI BOXES")[0]
    line.GraphicData = [one + 0.01 if one == max(line.GraphicData) else one for one in line.GraphicData]


def _marks_on_other_images(state: Dataset) -> None:
    first, second = state.GraphicAnnotationSequence[0], state.GraphicAnnotationSequence[-1]
    first.ReferencedImageSequence, second.ReferencedImageSequence = (
        second.ReferencedImageSequence,
        first.ReferencedImageSequence,
    )


def _a_mark_less(state: Dataset) -> None:
    del state.GraphicAnnotationSequence[0]


def _a_mark_too_many(state: Dataset) -> None:
    extra = Dataset()
    extra.update(state.GraphicAnnotationSequence[0])
    extra.ReferencedImageSequence = state.GraphicAnnotationSequence[-1].ReferencedImageSequence
    state.GraphicAnnotationSequence.append(extra)


def _a_hole_less(state: Dataset) -> None:
    for one in state.GraphicAnnotationSequence:
        lines = one.get("GraphicObjectSequence", [])
        if len({str(line.TrackingUID) for line in lines}) < len(lines):
            del lines[-1]
            return
    raise AssertionError("the phantom has no hole")


def _an_opaque_shape(state: Dataset) -> None:
    _lines(state, "AI LESIONS")[0].GraphicFilled = "Y"


def _in_display_units(state: Dataset) -> None:
    _lines(state)[0].GraphicAnnotationUnits = "DISPLAY"


def _swapped_tracking(state: Dataset) -> None:
    uids = sorted({str(line.TrackingUID) for line in _lines(state, "AI LESIONS")})
    for one in state.GraphicAnnotationSequence:
        for line in [*one.get("GraphicObjectSequence", []), *one.TextObjectSequence]:
            if str(line.TrackingUID) in uids:
                line.TrackingUID = uids[1 - uids.index(str(line.TrackingUID))]


def _other_words(state: Dataset) -> None:
    text = state.GraphicAnnotationSequence[0].TextObjectSequence[0]
    text.UnformattedTextValue = str(text.UnformattedTextValue).replace("AI, not verified", "verified")


def _another_score(state: Dataset) -> None:
    for one in state.GraphicAnnotationSequence:
        for text in one.TextObjectSequence:
            text.UnformattedTextValue = str(text.UnformattedTextValue).replace("93 %", "39 %")


def _another_value(state: Dataset) -> None:
    for one in state.GraphicAnnotationSequence:
        for text in one.TextObjectSequence:
            text.UnformattedTextValue = str(text.UnformattedTextValue).replace("6.25 mm", "62.5 mm")


def _a_text_beside_the_image(state: Dataset) -> None:
    state.GraphicAnnotationSequence[0].TextObjectSequence[0].BoundingBoxBottomRightHandCorner = [300.0, 20.0]


def _an_unknown_layer(state: Dataset) -> None:
    state.GraphicAnnotationSequence[0].GraphicLayer = "OTHER"


def _half_the_image(state: Dataset) -> None:
    state.DisplayedAreaSelectionSequence[0].DisplayedAreaBottomRightHandCorner = [15, 24]


def _square_pixels(state: Dataset) -> None:
    state.DisplayedAreaSelectionSequence[0].PresentationPixelSpacing = ["0.625", "0.625"]


def _another_window(state: Dataset) -> None:
    state.SoftcopyVOILUTSequence[0].WindowWidth = "4000"


def _another_intercept(state: Dataset) -> None:
    state.RescaleIntercept = "0"


def _negative(state: Dataset) -> None:
    state.PresentationLUTShape = "INVERSE"


def _no_instance_number(state: Dataset) -> None:
    del state.InstanceNumber


def _another_series(state: Dataset) -> None:
    state.ReferencedSeriesSequence[0].SeriesInstanceUID = f"{ROOT}.22"


def _an_image_without_marks(state: Dataset) -> None:
    extra = Dataset()
    extra.ReferencedSOPClassUID, extra.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"{ROOT}.3.10"
    state.ReferencedSeriesSequence[0].ReferencedImageSequence.append(extra)


IN_PRESENTATION = [
    _marks_mirrored, _marks_half_a_pixel_aside, _rows_for_columns, _a_box_too_large, _marks_on_other_images,
    _a_mark_less, _a_mark_too_many, _a_hole_less, _an_opaque_shape, _in_display_units, _swapped_tracking,
    _other_words, _another_score, _another_value, _a_text_beside_the_image, _an_unknown_layer,
    _half_the_image, _square_pixels, _another_window, _another_intercept, _negative, _no_instance_number,
    _another_series, _an_image_without_marks,
]  # fmt: skip


def _another_map(blending: Dataset) -> None:
    blending.AdvancedBlendingSequence[1].ReferencedImageSequence[0].ReferencedSOPInstanceUID = "2.25.9"


def _the_map_below(blending: Dataset) -> None:
    below, above = blending.AdvancedBlendingSequence
    below.BlendingInputNumber, above.BlendingInputNumber = 2, 1


def _over_another_series(blending: Dataset) -> None:
    blending.AdvancedBlendingSequence[0].SeriesInstanceUID = f"{ROOT}.22"


def _over_fewer_images(blending: Dataset) -> None:
    del blending.AdvancedBlendingSequence[0].ReferencedImageSequence[0]


def _half_the_range(blending: Dataset) -> None:
    window = blending.AdvancedBlendingSequence[1].SoftcopyVOILUTSequence[0]
    window.WindowWidth = float(window.WindowWidth) / 2


def _colours_upside_down(blending: Dataset) -> None:
    palette = blending.AdvancedBlendingSequence[1].PaletteColorLookupTableSequence[0]
    for colour in ("Red", "Green", "Blue"):
        element = palette[f"{colour}PaletteColorLookupTableData"]
        element.value = np.frombuffer(element.value, "<u2")[::-1].tobytes()


def _the_map_alone(blending: Dataset) -> None:
    blending.BlendingDisplaySequence[0].RelativeOpacity = 1.0


def _another_window_of_the_images(blending: Dataset) -> None:
    blending.AdvancedBlendingSequence[0].SoftcopyVOILUTSequence[0].WindowCenter = "400"


def _a_reference_less(blending: Dataset) -> None:
    del blending.ReferencedSeriesSequence[1]


def _called_verified(blending: Dataset) -> None:
    blending.SeriesDescription = "map on images"


IN_BLENDING = [
    _another_map, _the_map_below, _over_another_series, _over_fewer_images, _half_the_range,
    _colours_upside_down, _the_map_alone, _another_window_of_the_images, _a_reference_less, _called_verified,
]  # fmt: skip


def _images_of(selection: Dataset):
    return [one for one in selection.ContentSequence if one.ValueType == "IMAGE"]


def _a_rejection(selection: Dataset) -> None:
    selection.ConceptNameCodeSequence[0].CodeValue = codes.REJECTED_FOR_QUALITY.value


def _another_image(selection: Dataset) -> None:
    _images_of(selection)[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = f"{ROOT}.3.1"


def _a_key_image_less(selection: Dataset) -> None:
    selection.ContentSequence.remove(_images_of(selection)[0])


def _a_key_image_twice(selection: Dataset) -> None:
    selection.ContentSequence.append(_images_of(selection)[0])


def _without_the_segmentation(selection: Dataset) -> None:
    selection.ContentSequence = [
        one
        for one in selection.ContentSequence
        if one.ValueType != "IMAGE" or not one.ReferencedSOPSequence[0].ReferencedSOPClassUID.endswith("66.4")
    ]


def _other_marks_on_it(selection: Dataset) -> None:
    for one in _images_of(selection):
        for state in one.ReferencedSOPSequence[0].get("ReferencedSOPSequence", []):
            state.ReferencedSOPInstanceUID = "2.25.9"


def _evidence_less(selection: Dataset) -> None:
    del selection.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]


def _evidence_of_another_study(selection: Dataset) -> None:
    selection.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID = f"{ROOT}.8"


def _another_device(selection: Dataset) -> None:
    next(one for one in selection.ContentSequence if one.ValueType == "UIDREF").UID = "2.25.7"


def _no_warning(selection: Dataset) -> None:
    for one in selection.ContentSequence:
        if one.ValueType == "TEXT" and "not verified" in one.TextValue:
            one.TextValue = str(one.TextValue).partition(". AI")[0]


IN_KEY_IMAGES = [
    _a_rejection, _another_image, _a_key_image_less, _a_key_image_twice, _without_the_segmentation,
    _other_marks_on_it, _evidence_less, _evidence_of_another_study, _another_device, _no_warning,
]  # fmt: skip


def _other_patient(dataset: Dataset) -> None:
    dataset.PatientID = "MRN-0816"


def _other_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = f"{ROOT}.8"


def _other_body_part(dataset: Dataset) -> None:
    dataset.BodyPartExamined = "HEAD"


def _uid_of_an_image(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.3.1"


def _series_of_the_images(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = f"{ROOT}.2"


def _other_model(dataset: Dataset) -> None:
    dataset.ContributingEquipmentSequence[-1].SoftwareVersions = "0.9"


def _no_equipment(dataset: Dataset) -> None:
    del dataset.ContributingEquipmentSequence


def _other_modality(dataset: Dataset) -> None:
    dataset.Modality = "CT"


IN_ALL = [
    _other_patient, _other_study, _other_body_part, _uid_of_an_image, _series_of_the_images, _other_model,
    _no_equipment, _other_modality,
]  # fmt: skip

MUTANTS = [
    (role, mutant)
    for role, own in (
        (Role.STRUCTURE_SET, IN_STRUCTURE_SET),
        (Role.PRESENTATION, IN_PRESENTATION),
        (Role.BLENDING, IN_BLENDING),
        (Role.KEY_IMAGES, IN_KEY_IMAGES),
    )
    for mutant in (*own, *IN_ALL)
]


@pytest.mark.parametrize(
    ("role", "mutant"),
    MUTANTS,
    ids=lambda one: str(one) if isinstance(one, Role) else one.__name__.strip("_"),
)
def test_a_changed_companion_stays_here(role: Role, mutant: Mutant, made: Made, tmp_path: Path) -> None:
    _stays(made, role, mutant, tmp_path)


def _positive(state: Dataset) -> None:
    state.PresentationLUTShape = "IDENTITY"


def _verdict_turned_round(state: Dataset) -> None:
    for one in state.GraphicAnnotationSequence:
        for text in one.TextObjectSequence:
            text.UnformattedTextValue = str(text.UnformattedTextValue).replace("Pneumothorax", "Effusion")


def _as_if_in_colour(state: Dataset) -> None:
    state.SOPClassUID = state.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.11.2"


@pytest.mark.parametrize(
    "mutant",
    [_positive, _verdict_turned_round, _as_if_in_colour, _a_mark_less, _another_window],
    ids=lambda one: one.__name__.strip("_"),
)
def test_changed_marks_on_an_image_stay_here(mutant: Mutant, on_an_image: Made, tmp_path: Path) -> None:
    _stays(on_an_image, Role.PRESENTATION, mutant, tmp_path)


@pytest.mark.parametrize("role", [Role.STRUCTURE_SET, Role.PRESENTATION, Role.BLENDING, Role.KEY_IMAGES])
def test_a_companion_that_is_missing_is_noticed(role: Role, made: Made) -> None:
    with pytest.raises(CheckFailed):
        check_results(made.asked, [one for one in made.written if one[0] is not role])
