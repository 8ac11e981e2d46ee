"""A parametric map holds the model's numbers on the model's voxels, and says what they are and are not."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from ledger.job import Outcome
from results import codes
from results.check import CheckFailed
from results.findings import Findings, HeatMap
from results.grid import NotEncodable
from results.parametric_map import build
from results.references import referenced_instances
from tests.patience import patient
from tests.peers.orthanc import orthanc
from tests.peers.programs import find
from tests.results.dciodvfy import complaints
from tests.results.everything import ONE, SALIENCY, everything, maps, only
from tests.results.images import image_source
from tests.results.made import Made, asked, make
from tests.results.series import KINDS, SHAPE, geometry, source, with_pixels

Mutant = Callable[[Dataset], None]


def pms(made: Made) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in made.maps]


@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error_in_a_map_and_the_check_passes_it(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind, said=Findings(outcome=Outcome.FOUND, maps=maps(KINDS[kind].shape)))
    made.check()
    assert len(made.maps) == 2
    for path in made.maps:
        assert complaints(path, "ParametricMap") == []


@pytest.mark.parametrize("kind", KINDS)
def test_highdicom_reads_every_number_back_on_its_voxel(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind, said=Findings(outcome=Outcome.FOUND, maps=maps(KINDS[kind].shape)))
    for path, one in zip(made.maps, made.findings.maps, strict=True):
        volume = hd.imread(path).get_volume(apply_real_world_transform=True, dtype=np.float64)
        whole = volume.match_geometry(geometry(KINDS[kind]))
        assert np.array_equal(whole.array.astype(np.float32), one.values)


@pytest.mark.parametrize("kind", KINDS)
def test_its_frames_run_upwards_along_rows_by_columns_as_ohif_takes_for_granted(
    kind: str, tmp_path: Path
) -> None:
    said = Findings(outcome=Outcome.FOUND, maps=maps(KINDS[kind].shape))
    for pm in pms(make(tmp_path, kind, said=said)):
        cosines = pm.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
        normal = np.cross([float(v) for v in cosines[:3]], [float(v) for v in cosines[3:]])
        heights = [
            float(np.dot(normal, [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]))
            for group in pm.PerFrameFunctionalGroupsSequence
        ]
        assert heights == sorted(heights)


def test_it_says_what_the_numbers_are_and_how_to_show_them(tmp_path: Path) -> None:
    for pm, one in zip(pms(make(tmp_path, said=everything())), maps(SHAPE), strict=True):
        shared = pm.SharedFunctionalGroupsSequence[0]
        (mapping,) = shared.RealWorldValueMappingSequence
        assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
        assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == one.unit.value
        (quantity,) = mapping.QuantityDefinitionSequence
        assert quantity.ConceptCodeSequence[0].CodeValue == one.quantity.value
        (window,) = shared.FrameVOILUTSequence
        low, high = float(one.values.min()), float(one.values.max())
        assert float(window.WindowCenter) == pytest.approx((low + high) / 2, abs=1e-6)
        assert float(window.WindowWidth) == pytest.approx(high - low, abs=1e-6)
        assert pm.BitsAllocated == 32
        assert "PixelData" not in pm


def test_an_explanation_says_that_it_is_not_diagnostic(tmp_path: Path) -> None:
    finding, explanation = pms(make(tmp_path, said=everything()))
    assert finding.SeriesDescription == "AI not verified: map Nodule probability, lung_ct 1.0.0"
    assert explanation.SeriesDescription == "AI not verified, not diagnostic: Grad-CAM, lung_ct 1.0.0"
    assert explanation.ContentDescription == "AI, not verified: Grad-CAM, which explains Pneumothorax"


def test_each_map_is_alone_in_its_series_and_the_report_refers_to_all(tmp_path: Path) -> None:
    made = make(tmp_path, said=everything())
    everything_made = [*pms(made), made.seg, made.sr]
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SeriesNumber"):
        assert len({str(one[keyword].value) for one in everything_made}) == 4
    referenced = {instance for _, instance in referenced_instances(made.sr)}
    assert {str(pm.SOPInstanceUID) for pm in pms(made)} <= referenced


def test_a_map_that_is_the_same_everywhere_can_be_shown(tmp_path: Path) -> None:
    flat = HeatMap(label="Nothing", quantity=SALIENCY, unit=ONE, values=np.zeros(SHAPE, np.float32))
    made = make(tmp_path, said=Findings(outcome=Outcome.FOUND, maps=(flat,)))
    made.check()
    (pm,) = pms(made)
    assert float(pm.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].WindowWidth) > 0
    assert complaints(made.maps[0], "ParametricMap") == []


def test_dcentvfy_finds_maps_consistent_with_images_and_report(tmp_path: Path) -> None:
    made = make(tmp_path, said=everything())
    images = []
    for index, image in enumerate(made.source.datasets):
        images.append(tmp_path / f"image{index}.dcm")
        with_pixels(image).save_as(images[-1], enforce_file_format=True)
    done = subprocess.run(
        [find("dcentvfy"), *images, *made.files], capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    artefact = "Element=<AccessionNumber> IE <Series>"
    assert not [one for one in lines if one.startswith(("Error", "Warning")) and artefact not in one]


@pytest.mark.peer
def test_orthanc_takes_every_kind_of_result_and_gives_it_back_as_it_was(tmp_path: Path) -> None:
    made = make(tmp_path / "made", said=everything())
    with orthanc(tmp_path / "archive") as archive:
        store = [find("storescu"), "-R", "127.0.0.1", str(archive.dicom_port), *map(str, made.files)]
        subprocess.run(store, check=True, capture_output=True, timeout=patient(60))
        back = {one.SOPInstanceUID: one for one in archive.datasets()}
        stored = {pydicom.dcmread(path).SOPInstanceUID: path for path in made.files}
        assert back.keys() == stored.keys()
        again = {}
        for uid, dataset in back.items():
            again[stored[uid]] = tmp_path / f"{stored[uid].stem}-back.dcm"
            # Orthanc writes its own file meta information: the check wants ours.
            dataset.file_meta = pydicom.dcmread(stored[uid]).file_meta
            dataset.save_as(again[stored[uid]], enforce_file_format=True)
        replace(
            made,
            report=again[made.report],
            segmentation=again[made.segmentation],
            maps=tuple(again[path] for path in made.maps),
            marks=again[made.marks],
        ).check()


def test_a_map_of_another_shape_is_refused() -> None:
    small = HeatMap(label="x", quantity=SALIENCY, unit=ONE, values=np.zeros((2, 2, 2), np.float32))
    with pytest.raises(NotEncodable, match="the map 'x' is"):
        build(asked(Findings(outcome=Outcome.FOUND, maps=(small,)), source()))


@pytest.mark.parametrize(
    "values", [np.full(SHAPE, np.nan, np.float32), np.zeros(SHAPE, np.float64), np.zeros((4, 4), np.float32)]
)
def test_what_is_no_number_for_every_voxel_is_no_map(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a map is"):
        HeatMap(label="x", quantity=SALIENCY, unit=ONE, values=values)


def test_a_map_of_an_image_without_a_place_is_not_kept() -> None:
    of = image_source("DX")
    one = HeatMap(label="x", quantity=SALIENCY, unit=ONE, values=np.zeros((1, 21, 17), np.float32))
    assert build(asked(Findings(outcome=Outcome.FOUND, maps=(one,)), of)) == []


def _values(pm: Dataset) -> np.ndarray:
    return np.frombuffer(pm.FloatPixelData, "<f4").reshape(-1, pm.Rows, pm.Columns).copy()


def mirror(pm: Dataset) -> None:
    pm.FloatPixelData = _values(pm)[:, :, ::-1].tobytes()


def shift_by_a_slice(pm: Dataset) -> None:
    pm.FloatPixelData = np.roll(_values(pm), 1, axis=0).tobytes()


def one_value(pm: Dataset) -> None:
    values = _values(pm)
    values[3, 4, 5] += np.float32(1e-3)
    pm.FloatPixelData = values.tobytes()


def cut_short(pm: Dataset) -> None:
    pm.FloatPixelData = pm.FloatPixelData[:-8]


def _mapping(pm: Dataset) -> Dataset:
    return pm.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]


def other_slope(pm: Dataset) -> None:
    _mapping(pm).RealWorldValueSlope = 100.0


def turn_frames_round(pm: Dataset) -> None:
    """Everything as it should be, but in the order that OHIF draws upside down."""
    pm.FloatPixelData = _values(pm)[::-1].tobytes()
    pm.PerFrameFunctionalGroupsSequence = list(reversed(pm.PerFrameFunctionalGroupsSequence))


def other_unit(pm: Dataset) -> None:
    _mapping(pm).MeasurementUnitsCodeSequence[0].CodeValue = "%"


def other_quantity(pm: Dataset) -> None:
    _mapping(pm).QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue = "130402"


def move(pm: Dataset) -> None:
    for group in pm.PerFrameFunctionalGroupsSequence:
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x, y, float(z) + 0.02]


def swap_images(pm: Dataset) -> None:
    first, second = (
        group.DerivationImageSequence[0].SourceImageSequence[0]
        for group in pm.PerFrameFunctionalGroupsSequence[:2]
    )
    first.ReferencedSOPInstanceUID, second.ReferencedSOPInstanceUID = (
        second.ReferencedSOPInstanceUID,
        first.ReferencedSOPInstanceUID,
    )


def other_series(pm: Dataset) -> None:
    pm.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"


def other_frame_of_reference(pm: Dataset) -> None:
    pm.FrameOfReferenceUID = "1.2.3"


def other_spacing(pm: Dataset) -> None:
    pm.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = ["0.75", "0.75"]


def other_patient(pm: Dataset) -> None:
    pm.PatientID = "MRN-0816"


def no_warning(pm: Dataset) -> None:
    pm.SeriesDescription = "Grad-CAM"


MUTANTS: tuple[Mutant, ...] = (
    mirror, shift_by_a_slice, turn_frames_round, one_value, cut_short, other_slope, other_unit,
    other_quantity, move,
    swap_images, other_series, other_frame_of_reference, other_spacing, other_patient, no_warning,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"), said=only("maps"))


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda f: f.__name__.replace("_", " "))
def test_a_map_that_is_not_the_models_stays_here(mutate: Mutant, made: Made, tmp_path: Path) -> None:
    pm = pms(made)[1]
    mutate(pm)
    pm.save_as(tmp_path / "map.dcm", enforce_file_format=True)
    with pytest.raises(CheckFailed):
        replace(made, maps=(made.maps[0], tmp_path / "map.dcm")).check()


def test_maps_that_changed_places_and_maps_that_are_missing_stay_here(made: Made) -> None:
    with pytest.raises(CheckFailed, match="does not derive from this run"):
        replace(made, maps=made.maps[::-1]).check()
    with pytest.raises(CheckFailed, match="1 parametric maps, the model gave 2"):
        replace(made, maps=made.maps[:1]).check()


def test_private_codes_of_a_map_say_whose_they_are(made: Made) -> None:
    for pm in pms(made):
        (scheme,) = pm.CodingSchemeIdentificationSequence
        assert scheme.CodingSchemeDesignator == codes.PRIVATE_SCHEME
