"""Other objects (points 44 to 47): maps, presentation states, pictures and contours."""

import re
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pypdf import PdfReader

from ledger.result import Role
from results.expect import as_code, code_of
from tests.results.checklist.exhibits import Exhibit
from tests.results.checklist.programs import run
from tests.results.series import KINDS

pytestmark = pytest.mark.peer

WITH_MAPS = tuple(name for name in KINDS if name != "odd-sized CT")


@pytest.mark.parametrize("name", WITH_MAPS)
def test_point_44_a_map_is_of_floats_whose_real_world_values_are_the_models(
    name: str, exhibits: dict[str, Exhibit]
) -> None:
    exhibit = exhibits[name]
    maps = exhibit.all(Role.PARAMETRIC_MAP)
    assert len(maps) == len(exhibit.findings.maps) == 2
    slices = {
        (str(image.SOPInstanceUID), frame): k
        for k in range(KINDS[name].shape[0])
        for image, frame in [
            (exhibit.source.first, exhibit.source.frames[k])
            if exhibit.source.frames
            else (exhibit.source.datasets[k], None)
        ]
    }
    for pm, meant in zip(maps, exhibit.findings.maps, strict=True):
        assert "PixelData" not in pm
        assert pm.BitsAllocated == 32
        values = np.frombuffer(pm.FloatPixelData, "<f4").reshape(-1, pm.Rows, pm.Columns)
        (mapping,) = pm.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
        real = values * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
        assert code_of(mapping, "MeasurementUnitsCodeSequence") == as_code(meant.unit)
        (quantity,) = mapping.QuantityDefinitionSequence
        assert code_of(quantity, "ConceptCodeSequence") == as_code(meant.quantity)
        if meant.explains:
            assert meant.quantity.value in {"130402", "130403", "130404"}
        seen = set()
        for plane, frame in zip(real, pm.PerFrameFunctionalGroupsSequence, strict=True):
            item = frame.DerivationImageSequence[0].SourceImageSequence[0]
            number = item.get("ReferencedFrameNumber")
            k = slices[str(item.ReferencedSOPInstanceUID), None if number is None else int(number)]
            np.testing.assert_allclose(plane, meant.values[k], rtol=1e-6)
            seen.add(k)
        assert seen == set(range(KINDS[name].shape[0]))


#: dcmpschk 3.6.7 finds fault with every time east of Greenwich: it does not read the plus sign of its offset.
_EAST = re.compile(r"ContributionDateTime .*\n.*\[\d{14}\.\d+\+\d{4}\]")


def test_point_45_a_presentation_state_is_sound_and_has_a_number(exhibit: Exhibit) -> None:
    marked = [
        path for role, path in exhibit.paths
        if role is Role.PRESENTATION and exhibit.source.first.SamplesPerPixel == 1
    ]  # fmt: skip
    for path in marked:
        said = run("dcmpschk", path)
        errors = said.count("E: Error:")
        assert errors == len(_EAST.findall(said)) <= 2, said
        assert "Test passed" in said or errors
    for state in exhibit.all(Role.PRESENTATION, Role.BLENDING):
        assert int(state.InstanceNumber) == 1
    said = exhibit.findings
    drawable = said.boxes or said.points or any(one.is_lesion for one in said.segments)
    assert len(exhibit.all(Role.PRESENTATION)) == bool(drawable)


def test_point_47_contours_lie_closed_on_the_slices_in_the_frame_of_reference(exhibit: Exhibit) -> None:
    labels = exhibit.findings.label_map
    drawn = exhibit.source.geometry is not None and labels is not None and labels.any()
    found = [path for role, path in exhibit.paths if role is Role.STRUCTURE_SET]
    assert len(found) == bool(drawn)
    images = {str(one.SOPInstanceUID) for one in exhibit.source.datasets}
    for path, structures in zip(found, exhibit.all(Role.STRUCTURE_SET), strict=True):
        assert "Error" not in run("dciodvfy", "-new", path)
        assert structures.FrameOfReferenceUID == exhibit.source.first.FrameOfReferenceUID
        assert "PositionReferenceIndicator" in structures
        affine = exhibit.source.geometry.affine
        for contours in structures.ROIContourSequence:
            for one in contours.ContourSequence:
                assert one.ContourGeometricType == "CLOSED_PLANAR"
                assert str(one.ContourImageSequence[0].ReferencedSOPInstanceUID) in images
                points = np.array(one.ContourData, dtype=float).reshape(-1, 3)
                k = (np.linalg.inv(affine) @ np.c_[points, np.ones(len(points))].T)[0]
                assert np.abs(k - round(float(k[0]))).max() < 0.01


def test_point_46_pictures_and_pages_say_that_they_are_derived_and_what_is_burned_in(
    exhibit: Exhibit,
) -> None:
    found = exhibit.all(Role.OVERLAY, Role.SUMMARY, Role.DOCUMENT)
    assert {Role.SUMMARY, Role.DOCUMENT} <= exhibit.by_role.keys()
    for dataset in found:
        assert dataset.BurnedInAnnotation == "YES"
        assert dataset.ConversionType == "WSD"
        # Of the patient, only what the header says.
        assert dataset.RecognizableVisualFeatures == "NO"
    for picture in exhibit.all(Role.OVERLAY, Role.SUMMARY):
        assert list(picture.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert picture.PhotometricInterpretation == "RGB"
        assert len(np.unique(pydicom.pixels.pixel_array(picture))) > 2, "an empty picture"


def test_point_46_the_document_is_a_pdf_of_the_length_that_it_says(exhibit: Exhibit) -> None:
    (document,) = exhibit.all(Role.DOCUMENT)
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"
    length, held = int(document.EncapsulatedDocumentLength), document.EncapsulatedDocument
    assert len(held) == length + length % 2
    page = "\n".join(one.extract_text() for one in PdfReader(BytesIO(held[:length])).pages)
    assert "AI result - not verified, not for diagnosis" in page
