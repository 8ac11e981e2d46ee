"""A report gives every value with its unit, says what it is about, and never keeps silent."""

import math
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes as standard

from ledger.job import Outcome
from results import codes
from results.content import numbers, walk
from results.document import comments
from results.expect import as_code, code_of
from results.findings import Findings, Measurement
from results.references import referenced_instances
from results.source import Source
from results.words import DISCLAIMER
from tests.results.made import make
from tests.results.series import (
    KINDS,
    PREDECESSOR,
    ROOT,
    SHAPE,
    a_run,
    findings,
    label_map,
    not_analysed,
    nothing_found,
    source,
)


def _named(sr: Dataset, concept: codes.Concept) -> list[Dataset]:
    return [item for item in walk(sr) if code_of(item, "ConceptNameCodeSequence") == as_code(concept)]


def _values(sr: Dataset) -> list[Dataset]:
    return _named(sr, codes.MEASUREMENT_GROUP)


@pytest.mark.parametrize("kind", KINDS)
def test_27_the_volume_is_the_number_of_voxels_times_their_size(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind)
    for number, group in enumerate(_values(made.sr), start=1):
        value = numbers(group)[as_code(codes.VOLUME), as_code(codes.MILLILITRE)]
        voxels = int((label_map(KINDS[kind]) == number).sum())
        assert value == pytest.approx(voxels * 2.5 * 0.75 * 0.625 / 1000, rel=1e-3)


def test_26_where_all_is_empty_the_report_says_so(tmp_path: Path) -> None:
    said = findings(label_map=np.zeros(SHAPE, np.uint8), segments=())
    made = make(
        tmp_path,
        said=Findings(outcome=Outcome.NOTHING, because="No lung was found.", label_map=said.label_map),
    )
    assert made.segmentation is None
    assert "No lung was found." in [item.TextValue for item in _named(made.sr, codes.COMMENT)]
    made.check()


@pytest.mark.parametrize(
    ("said", "outcome"), [(nothing_found(), codes.NOTHING_FOUND), (not_analysed(), codes.NOT_ANALYSED)]
)
def test_26_a_negative_report_says_so_in_code_and_in_words(said: Findings, outcome, tmp_path: Path) -> None:
    sr = make(tmp_path, said=said).sr
    assert {code_of(i, "ConceptCodeSequence") for i in _named(sr, codes.ANALYSIS_OUTCOME)} == {
        as_code(outcome)
    }
    texts = [item.TextValue for item in _named(sr, codes.COMMENT)]
    assert texts == [DISCLAIMER, said.because, *(f"Caution: {caution}" for caution in said.cautions)]
    assert not numbers(sr)


def test_34_title_procedure_language_and_observer_are_there(tmp_path: Path) -> None:
    for kind, procedure in (("axial CT", "25045-6"), ("coronal MR", "25056-3")):
        sr = make(tmp_path / kind, kind).sr
        title = sr.ConceptNameCodeSequence[0]
        assert title.CodeValue in {getattr(standard.cid7021, name).value for name in standard.cid7021.dir()}
        assert title.CodeValue != "126000"  # OHIF would show a black viewport
        by_name = {i.ConceptNameCodeSequence[0].CodeMeaning: i for i in sr.ContentSequence}
        assert by_name["Procedure reported"].ConceptCodeSequence[0].CodeValue == procedure
        assert by_name["Language of Content Item and Descendants"].ConceptCodeSequence[0].CodeValue == "en-US"
        assert by_name["Observer Type"].ConceptCodeSequence[0].CodeMeaning == "Device"


@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "NM", "CR", "DX", "MG", "US", ""])
def test_34_every_modality_has_a_procedure_of_cid_100(modality: str) -> None:
    known = {getattr(standard.cid100, name).value for name in standard.cid100.dir()}
    assert codes.procedure_reported(modality).value in known


def test_35_nobody_has_verified_it(tmp_path: Path) -> None:
    sr = make(tmp_path).sr
    assert (sr.VerificationFlag, sr.CompletionFlag, sr.PreliminaryFlag) == (
        "UNVERIFIED",
        "COMPLETE",
        "PRELIMINARY",
    )
    assert "VerifyingObserverSequence" not in sr


@pytest.mark.parametrize("kind", KINDS)
def test_36_evidence_is_what_the_content_refers_to(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind)
    sr = made.sr
    (study,) = sr.CurrentRequestedProcedureEvidenceSequence
    listed = {
        i.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for i in s.ReferencedSOPSequence
    }
    assert listed == {instance for _, instance in referenced_instances(sr)}
    assert study.StudyInstanceUID == made.source.first.StudyInstanceUID
    assert "PertinentOtherEvidenceSequence" not in sr


def test_a_report_names_the_report_that_it_replaces(tmp_path: Path) -> None:
    of = source()
    made = make(tmp_path, of=of, run=replace(a_run(of), predecessor=PREDECESSOR))
    (study,) = made.sr.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (item,) = series.ReferencedSOPSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (f"{ROOT}.1", "2.25.77")
    assert (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) == (made.sr.SOPClassUID, "2.25.78")
    made.check()
    # It is no evidence: nothing of it went into the new one.
    assert "2.25.78" not in {instance for _, instance in referenced_instances(made.sr)}


def test_a_first_report_replaces_nothing(tmp_path: Path) -> None:
    assert "PredecessorDocumentsSequence" not in make(tmp_path).sr


def test_37_the_root_refers_to_every_leaf_and_not_to_every_image(tmp_path: Path) -> None:
    made = make(tmp_path)
    referenced = {instance for _, instance in referenced_instances(made.sr)}
    assert referenced == {made.seg.SOPInstanceUID}


def test_38_a_finding_has_one_tracking_uid_everywhere(tmp_path: Path) -> None:
    made = make(tmp_path)
    in_seg = [str(s.TrackingUID) for s in made.seg.SegmentSequence]
    in_sr = [str(i.UID) for i in _named(made.sr, codes.TRACKING_UID)]
    assert len(set(in_seg)) == 2
    assert in_sr == in_seg


def test_39_nothing_is_drawn_on_the_images_that_a_viewer_would_measure_in_our_name(tmp_path: Path) -> None:
    assert not [item for item in walk(make(tmp_path).sr) if item.ValueType in {"SCOORD", "SCOORD3D"}]


def test_41_an_empty_segment_has_no_group_but_a_sentence(tmp_path: Path) -> None:
    labels = label_map(KINDS["axial CT"]).copy()
    labels[labels == 1] = 0
    sr = make(tmp_path, said=findings(label_map=labels)).sr
    assert len(_values(sr)) == 1
    assert "Not found: Right lung." in [item.TextValue for item in _named(sr, codes.COMMENT)]


def test_41_no_value_is_not_a_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave a measurement out"):
        Measurement(name=codes.VOLUME, value=math.nan, unit=codes.MILLILITRE)
    assert all(math.isfinite(value) for value in numbers(make(tmp_path).sr).values())


def test_42_private_codes_say_whose_they_are(tmp_path: Path) -> None:
    made = make(tmp_path)
    used = set(codes.schemes_used(made.sr))
    assert used <= {"DCM", "SCT", "LN", "UCUM", "UMLS", "RFC5646", "99WETREAD"}
    (scheme,) = made.sr.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99WETREAD"
    assert scheme.CodingSchemeResponsibleOrganization == "Wetread"
    assert "CodingSchemeIdentificationSequence" not in made.seg
    assert "99WETREAD" not in set(codes.schemes_used(made.seg))


def test_43_units_are_ucum_and_values_are_the_models(tmp_path: Path) -> None:
    made = make(tmp_path)
    for segment, group in zip(made.findings.segments, _values(made.sr), strict=True):
        said = numbers(group)
        assert {unit[1] for _, unit in said} == {"UCUM"}
        assert said == {
            (as_code(m.name), as_code(m.unit)): pytest.approx(m.value) for m in segment.measurements
        }


def test_11_the_model_is_contributing_equipment(tmp_path: Path) -> None:
    made = make(tmp_path)
    for dataset in (made.seg, made.sr):
        acquisition, model = dataset.ContributingEquipmentSequence
        assert acquisition.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
        assert acquisition.ManufacturerModelName == "Scan 9"
        purpose = model.PurposeOfReferenceCodeSequence[0]
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109102", "DCM")
        for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID"):
            assert model.get(keyword), keyword


def test_12_provenance_is_the_same_wherever_it_is_said(tmp_path: Path) -> None:
    made = make(tmp_path)
    texts = {name: {_text(i) for i in _named(made.sr, name)} for name in _SAID_IN_REPORT}
    for dataset in (made.seg, made.sr):
        model = dataset.ContributingEquipmentSequence[-1]
        assert texts[codes.OBSERVER_UID] == {model.DeviceUID}
        assert texts[codes.OBSERVER_MANUFACTURER] == {model.Manufacturer}
        assert texts[codes.OBSERVER_MODEL] == texts[codes.ALGORITHM_NAME] == {model.ManufacturerModelName}
        assert texts[codes.ALGORITHM_VERSION] == {model.SoftwareVersions}
        for segment in made.seg.SegmentSequence:
            algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
            said = (algorithm.AlgorithmSource, algorithm.AlgorithmName, algorithm.AlgorithmVersion)
            assert said == (model.Manufacturer, model.ManufacturerModelName, model.SoftwareVersions)


_SAID_IN_REPORT = (
    codes.OBSERVER_UID,
    codes.OBSERVER_MANUFACTURER,
    codes.OBSERVER_MODEL,
    codes.ALGORITHM_NAME,
    codes.ALGORITHM_VERSION,
)


def _text(item: Dataset) -> str:
    return str(item.get("TextValue") or item.get("UID"))


def test_values_of_the_series_as_a_whole_have_their_own_group(tmp_path: Path) -> None:
    whole = Measurement(name=codes.VOLUME, value=5.25, unit=codes.MILLILITRE)
    made = make(tmp_path, said=findings(measurements=(whole,)))
    *_, group = _values(made.sr)
    assert numbers(group) == {(as_code(codes.VOLUME), as_code(codes.MILLILITRE)): 5.25}
    made.check()


def test_highdicom_reads_the_report_as_a_measurement_report(tmp_path: Path) -> None:
    made = make(tmp_path)
    content = hd.sr.srread(made.report).content
    groups = content.get_volumetric_roi_measurement_groups()
    assert [g.tracking_identifier for g in groups] == ["lung_ct Right lung", "lung_ct Left lung"]


def test_the_warning_comes_first_and_every_caution_follows() -> None:
    said = findings(cautions=("Thick slices.",))
    assert comments(said, ["Spleen"]) == [DISCLAIMER, "Not found: Spleen.", "Caution: Thick slices."]


@pytest.mark.parametrize("kind", ["axial CT", "enhanced MR"])
def test_images_that_are_no_volume_still_get_a_report(kind: str, tmp_path: Path) -> None:
    """A localizer, a chest film, a photograph: what cannot be drawn on can be refused, even with bare
    headers.
    """
    whole = source(KINDS[kind])
    bare = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(bare, keyword, whole.first.get(keyword))
    made = make(tmp_path, said=not_analysed(), of=Source(datasets=(bare,), geometry=None))
    assert made.segmentation is None
    assert made.sr.SeriesDescription.startswith("AI NOT ANALYSED: ")
    made.check()


def test_values_are_written_as_people_read_them(tmp_path: Path) -> None:
    whole = Measurement(name=codes.LAA_950, value=3.02190369109963, unit=codes.PERCENT)
    made = make(tmp_path, said=findings(measurements=(whole,)))
    (item,) = [i for i in _named(made.sr, codes.LAA_950) if i.MeasuredValueSequence[0].NumericValue < 10]
    assert str(item.MeasuredValueSequence[0].NumericValue) == "3.021904"
    made.check()
