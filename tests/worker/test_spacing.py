"""A pixel's size is told with the place where it holds (PS3.3 §10.7.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from worker.spacing import pixel_size


def image(**headers) -> Dataset:
    dataset = Dataset()
    for keyword, value in headers.items():
        setattr(dataset, keyword, value)
    return dataset


def test_pixel_spacing_alone_is_believed():
    size = pixel_size(image(PixelSpacing=[0.2, 0.3]))
    assert size.spacing_mm == (0.2, 0.3)
    assert size.caution == ""


def test_the_detectors_spacing_is_told_as_the_detectors():
    size = pixel_size(image(ImagerPixelSpacing=[0.14, 0.14]))
    assert size.spacing_mm == (0.14, 0.14)
    assert "on the detector" in size.caution
    assert "not known" in size.caution


def test_a_magnification_brings_the_detectors_spacing_into_the_patient():
    size = pixel_size(image(ImagerPixelSpacing=[0.2, 0.2], EstimatedRadiographicMagnificationFactor="1.25"))
    assert size.spacing_mm == pytest.approx((0.16, 0.16))
    assert "1.25" in size.caution


def test_distances_give_the_magnification_where_nobody_says_it():
    size = pixel_size(
        image(ImagerPixelSpacing=[0.2, 0.2], DistanceSourceToDetector=1800, DistanceSourceToPatient=1500)
    )
    assert size.spacing_mm == pytest.approx((0.2 / 1.2, 0.2 / 1.2))


@pytest.mark.parametrize("wrong", ["0", "0.5", "40", "nonsense"])
def test_an_impossible_magnification_is_as_if_not_there(wrong):
    dataset = image(ImagerPixelSpacing=[0.2, 0.2])
    dataset.add_new("EstimatedRadiographicMagnificationFactor", "LO", wrong)
    assert pixel_size(dataset).spacing_mm == (0.2, 0.2)


def test_pixel_spacing_that_repeats_the_detectors_is_no_calibration():
    size = pixel_size(image(PixelSpacing=[0.14, 0.14], ImagerPixelSpacing=[0.14, 0.14]))
    assert "on the detector" in size.caution


def test_pixel_spacing_that_differs_is_calibrated_and_wins():
    size = pixel_size(
        image(
            PixelSpacing=[0.12, 0.12],
            ImagerPixelSpacing=[0.14, 0.14],
            EstimatedRadiographicMagnificationFactor=2,
        )
    )
    assert size.spacing_mm == (0.12, 0.12)
    assert "calibrated" in size.caution


def test_a_calibration_type_makes_equal_spacings_a_calibration():
    size = pixel_size(
        image(
            PixelSpacing=[0.14, 0.14], ImagerPixelSpacing=[0.14, 0.14], PixelSpacingCalibrationType="FIDUCIAL"
        )
    )
    assert size.spacing_mm == (0.14, 0.14)
    assert "(fiducial)" in size.caution


def test_a_scanned_film_is_a_detector():
    assert "on the detector" in pixel_size(image(NominalScannedPixelSpacing=[0.1, 0.1])).caution


def test_pixels_of_unknown_size_that_are_not_square_are_told():
    assert "4 : 3" in pixel_size(image(PixelAspectRatio=["4", "3"])).caution
    assert pixel_size(image(PixelAspectRatio=["1", "1"])).caution == ""


def regions(*deltas, units=3):
    made = []
    for delta in deltas:
        made.append(
            image(
                RegionSpatialFormat=1,
                PhysicalUnitsXDirection=units,
                PhysicalUnitsYDirection=units,
                PhysicalDeltaX=delta,
                PhysicalDeltaY=delta,
            )
        )
    trace = image(
        RegionSpatialFormat=3,
        PhysicalUnitsXDirection=4,
        PhysicalUnitsYDirection=7,
        PhysicalDeltaX=9.0,
        PhysicalDeltaY=9.0,
    )
    return image(SequenceOfUltrasoundRegions=[*made, trace])


def test_regions_of_ultrasound_give_the_size_where_they_agree():
    assert pixel_size(regions(0.02)).spacing_mm == pytest.approx((0.2, 0.2))
    assert pixel_size(regions(0.02, 0.02)).spacing_mm == pytest.approx((0.2, 0.2))
    assert pixel_size(regions(0.02, 0.03)).spacing_mm is None
    assert pixel_size(regions(0.02, units=4)).spacing_mm is None
    assert pixel_size(regions()).spacing_mm is None


decimal = st.floats(-10, 2000) | st.none()


@given(pixel=decimal, imager=decimal, magnification=decimal, detector=decimal, patient=decimal)
def test_whatever_is_written_a_size_is_positive_and_never_larger_than_the_detectors(
    pixel, imager, magnification, detector, patient
):
    said = {
        "EstimatedRadiographicMagnificationFactor": magnification,
        "DistanceSourceToDetector": detector,
        "DistanceSourceToPatient": patient,
    }
    headers = {keyword: f"{value:.6g}" for keyword, value in said.items() if value is not None}
    if imager is not None:
        headers["ImagerPixelSpacing"] = [f"{imager:.6g}"] * 2

    size = pixel_size(image(**headers))

    if size.spacing_mm is None:
        assert imager is None or not 0 < float(f"{imager:.6g}") < 1000
    else:
        assert 0 < size.spacing_mm[0] <= float(f"{imager:.6g}") * 1.0002
        assert size.caution
