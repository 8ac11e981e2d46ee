"""One run on a folder of files: what goes in, what comes out, and that twice is once."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from ledger.completeness import Shortfall
from ledger.errors import StudyError
from ledger.job import Outcome
from ledger.profile import PROFILES
from ledger.result import Role
from models.contract import OutOfMemory
from models.training.phantom_series import write_series
from models.training.phantoms import chest
from models.trust import NotTrusted
from worker.exchange import Crowded, Plan, RunRequest
from worker.memory import Budget
from worker.residents import Residents
from worker.run import analyse, compute, read

FINE = "tests.worker.fault_models.models:Fine"
ALL = "tests.worker.fault_models.models:Everything"


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> list[Path]:
    return write_series(chest((8, 48, 48), seed=5), tmp_path_factory.mktemp("series"))


def request(paths, out: Path, model: str = FINE, **more) -> RunRequest:
    out.mkdir()
    asked = {"at": 1.7e9, "device": "cpu", "allow_python_models": True, **more}
    return RunRequest(model=model, inputs=tuple(map(str, paths)), out=str(out), **asked)


def test_a_run_writes_leaves_before_the_report_and_says_what_it_found(series, tmp_path):
    stages = []
    reply = analyse(request(series, tmp_path / "out"), enter=lambda *stage: stages.append(stage))

    assert [one.role for one in reply.files] == [Role.SEGMENTATION, Role.REPORT]
    assert stages == [("load", None), ("open", None), ("model", 60.0), ("encode", None), ("check", None)]
    assert set(reply.timings) == {"load", "wait", "open", "model", "encode", "check"}
    assert (reply.outcome, reply.model_identity) == (Outcome.FOUND, "fine@1.0.0")
    (volume,) = reply.findings
    assert (volume.label, volume.name, volume.unit) == ("Body", "Volume", "ml")
    for one in reply.files:
        dataset = pydicom.dcmread(one.path)
        assert str(dataset.SOPInstanceUID) == one.sop_instance
        assert str(dataset.file_meta.TransferSyntaxUID) == one.transfer_syntax


def test_the_same_run_makes_the_same_bytes_whatever_the_order_of_files(series, tmp_path):
    first = analyse(request(series, tmp_path / "first"))
    second = analyse(request(series[::-1], tmp_path / "second"))

    for one, other in zip(first.files, second.files, strict=True):
        assert Path(one.path).read_bytes() == Path(other.path).read_bytes()


def test_times_are_told_by_the_sites_clock_and_not_the_machines(series, tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    there = analyse(request(series, tmp_path / "there", time_zone="America/Lima"))
    again = analyse(request(series, tmp_path / "again", time_zone="America/Lima"))
    other = analyse(request(series, tmp_path / "other"))

    report = pydicom.dcmread(there.files[-1].path)
    assert (report.ContentDate, report.ContentTime) == ("20231114", "171320.000000")  # 22:13:20 in UTC
    assert "TimezoneOffsetFromUTC" not in report  # It would change what the copied study times mean.
    assert Path(there.files[-1].path).read_bytes() == Path(again.files[-1].path).read_bytes()
    # Other bytes, so another UID.
    assert [one.sop_instance for one in there.files] != [one.sop_instance for one in other.files]


def test_a_series_with_a_gap_gets_a_report_that_says_so_and_no_segmentation(series, tmp_path):
    reply = analyse(request([*series[:3], *series[5:]], tmp_path / "out"))

    assert reply.outcome is Outcome.REFUSED
    assert [one.role for one in reply.files] == [Role.REPORT]
    assert reply.because
    assert "model" not in reply.timings


def test_a_model_that_refuses_has_its_sentence_in_the_reply(series, tmp_path):
    reply = analyse(request(series, tmp_path / "out", model="tests.worker.fault_models.models:Picky"))
    assert (reply.outcome, reply.because) == (Outcome.REFUSED, "the lungs are not in the picture")


def test_files_that_are_no_images_at_all_are_the_studys_fault(tmp_path):
    (tmp_path / "letter.dcm").write_text("Dear colleague")
    with pytest.raises(StudyError):
        analyse(request([tmp_path / "letter.dcm"], tmp_path / "out"))


def test_python_of_the_site_runs_only_where_the_site_says_so(series, tmp_path):
    with pytest.raises(NotTrusted, match="does not allow"):
        analyse(request(series, tmp_path / "out", allow_python_models=False))


def test_findings_of_every_kind_become_results_and_lines(series, tmp_path):
    reply = analyse(request(series, tmp_path / "out", model=ALL))

    roles = [Role.SEGMENTATION, Role.PARAMETRIC_MAP, Role.PARAMETRIC_MAP, Role.MARKS, Role.REPORT]
    assert [one.role for one in reply.files] == roles
    assert len({one.path for one in reply.files}) == len({one.series for one in reply.files}) == 5
    assert reply.lines[0] == "Pneumothorax: present, probability 93 % (calibrated; present from 30 %)."
    said = {(one.label, one.name): (one.value, one.unit) for one in reply.findings}
    assert said["Nodule 1", "Certainty of Finding"] == (93.4, "%")
    assert said["Effusion", "Threshold Value"] == (50.0, "%")
    assert said["Carina", "Standard Deviation"] == (1.25, "mm")
    assert said["", "Bone age"] == (11.25, "a")
    again = analyse(request(series[::-1], tmp_path / "again", model=ALL))
    for one, other in zip(reply.files, again.files, strict=True):
        assert Path(one.path).read_bytes() == Path(other.path).read_bytes()


@pytest.mark.parametrize("name", ["Heavy", "Incapable"])
def test_what_lacks_memory_beside_others_is_crowded_and_alone_it_is_out_of_memory(series, tmp_path, name):
    mib = 1 << 20
    wide = Residents("cpu", budget=Budget(device="cpu", host=400 * mib, on_device=0))
    ready = read(request(series, tmp_path / "out", f"tests.worker.fault_models.hungry:{name}"), wide)
    with pytest.raises(Crowded, match=r"350\.0 MiB held the input of others"):
        compute(ready, wide, held=350 * mib)
    if name == "Heavy":
        assert compute(ready, wide).findings.outcome is Outcome.FOUND
    else:
        with pytest.raises(OutOfMemory, match="even with the least demanding"):
            compute(ready, wide)


def test_a_run_on_an_incomplete_study_says_so_whatever_came_of_it_and_has_other_uids(series, tmp_path):
    short = Shortfall(here=8, expected=12)
    said = "The study was incomplete: 8 of 12 images were here when this was made."
    whole = analyse(request(series, tmp_path / "whole"))
    partial = analyse(request(series, tmp_path / "partial", shortfall=short))
    refused = analyse(request([*series[:3], *series[5:]], tmp_path / "refused", shortfall=short))

    assert refused.outcome is Outcome.REFUSED
    for reply in (partial, refused):
        assert reply.cautions[0] == said
        report = pydicom.dcmread(reply.files[-1].path)
        texts = [item.TextValue for item in report.ContentSequence if item.ValueType == "TEXT"]
        assert f"Caution: {said}" in texts
    assert not {one.sop_instance for one in whole.files} & {one.sop_instance for one in partial.files}


def test_a_destination_that_shows_only_pictures_gets_them_of_the_very_images(series, tmp_path):
    plan = Plan(profile=PROFILES["plain-pacs"])
    reply = analyse(request(series, tmp_path / "out", plans=(plan,)))

    paths = {one.role: Path(one.path) for one in reply.files}
    assert paths.keys() >= {Role.SEGMENTATION, Role.OVERLAY, Role.SUMMARY, Role.DOCUMENT, Role.REPORT}
    assert reply.cautions == ()
    overlay = pydicom.dcmread(paths[Role.OVERLAY])
    shown = {str(item.ReferencedSOPInstanceUID) for item in overlay.SourceImageSequence}
    assert shown <= {str(pydicom.dcmread(path).SOPInstanceUID) for path in series}
    # The body of the phantom is grey, its outline is not.
    assert len(np.unique(overlay.pixel_array.reshape(-1, 3), axis=0)) > 100
    # The report leads to them.
    evidence = str(pydicom.dcmread(paths[Role.REPORT]).CurrentRequestedProcedureEvidenceSequence)
    assert str(overlay.SOPInstanceUID) in evidence
