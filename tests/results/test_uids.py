"""Doing it twice is doing it once: the same run gives the same files, another run gives other instances."""

import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.identifiers import Digest, Uid
from results.uids import derived_uid, tracking_uid
from tests.patience import patient
from tests.peers.programs import interpreter
from tests.results.made import make
from tests.results.series import PREDECESSOR, a_run, source

_BUILD = """
import sys, time
from pathlib import Path
from tests.results.made import make
from tests.results.series import KINDS
for name in ("oblique CT", "enhanced MR"):
    make(Path(sys.argv[1]) / name.replace(" ", "-"), name)
"""


def _build_elsewhere(folder: Path, **environment: str) -> dict[str, bytes]:
    root = Path(__file__).resolve().parents[2]
    env = os.environ | environment | {"PYTHONPATH": str(root)}
    subprocess.run(
        [interpreter(), "-c", _BUILD, str(folder)], check=True, cwd=root, env=env, timeout=patient(60)
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.dcm"))}


def test_05_a_retry_in_another_process_at_another_time_makes_the_same_bytes(tmp_path: Path) -> None:
    first = _build_elsewhere(tmp_path / "a", PYTHONHASHSEED="1", TZ="Asia/Tokyo")
    second = _build_elsewhere(tmp_path / "b", PYTHONHASHSEED="2", TZ="America/Lima")
    assert len(first) == 4
    assert first == second


def test_05_the_order_in_which_images_arrived_does_not_matter() -> None:
    run = a_run(source())
    assert derived_uid(run, "report", "instance") == derived_uid(
        replace(run, inputs=run.inputs[::-1]), "report", "instance"
    )


@pytest.mark.parametrize("change", [{"at": datetime(2027, 5, 5, tzinfo=UTC)}, {"software_version": "9.9.9"}])
def test_05_what_would_change_a_byte_changes_the_uid(change: dict[str, object], tmp_path: Path) -> None:
    run = a_run(source())
    one, other = make(tmp_path / "one", run=run), make(tmp_path / "other", run=replace(run, **change))
    for path, theirs in zip(one.files, other.files, strict=True):
        assert path.read_bytes() != theirs.read_bytes()
    assert one.sr.SOPInstanceUID != other.sr.SOPInstanceUID
    assert one.seg.SeriesInstanceUID != other.seg.SeriesInstanceUID


def test_06_another_version_setting_weight_code_or_input_makes_other_uids() -> None:
    of = source()
    run = a_run(of)
    others = [
        run,
        a_run(of, version="1.0.1"),
        a_run(of, settings={"erode": 3}),
        replace(run, provenance=replace(run.provenance, weights_digest=Digest("cd" * 32))),
        replace(run, provenance=replace(run.provenance, code_digest=Digest("cd" * 32))),
        replace(run, provenance=replace(run.provenance, name="other")),
        replace(run, inputs=run.inputs[:-1]),
    ]
    uids = {
        derived_uid(r, role, level)
        for r in others
        for role in ("report", "segmentation")
        for level in ("series", "instance")
    }
    assert len(uids) == len(others) * 4


@given(role=st.text(max_size=20), level=st.text(max_size=20))
def test_04_every_derived_uid_is_a_uid_under_2_25(role: str, level: str) -> None:
    uid = derived_uid(_RUN, role, level)
    assert Uid.parse(str(uid)) == uid
    assert str(uid).startswith("2.25.")
    assert int(str(uid)[5:]) < 1 << 128


_RUN = a_run(source())


def test_04_results_have_new_uids_and_stay_in_their_study(tmp_path: Path) -> None:
    made = make(tmp_path)
    taken = {str(image.SOPInstanceUID) for image in made.source.datasets} | {
        str(made.source.first.SeriesInstanceUID)
    }
    new = [str(d[k].value) for d in (made.seg, made.sr) for k in ("SOPInstanceUID", "SeriesInstanceUID")]
    assert len(set(new)) == 4
    assert not taken & set(new)
    assert {made.seg.StudyInstanceUID, made.sr.StudyInstanceUID} == {made.source.first.StudyInstanceUID}


@pytest.mark.parametrize("role", ["segmentation", "report"])
def test_the_rule_by_which_uids_derive_does_not_change(role: str) -> None:
    # An archive that was sent these keeps one copy when they are made again: changing the rule is breaking.
    expected = {
        "segmentation": "2.25.239846206888259264094643064243733265916",
        "report": "2.25.330402067615014449244280953672589604929",
    }
    assert str(derived_uid(_RUN, role, "instance")) == expected[role]


def test_38_a_finding_keeps_its_tracking_uid_when_a_late_image_comes() -> None:
    before = replace(_RUN, inputs=_RUN.inputs[:-1], at=datetime(2025, 5, 5, tzinfo=UTC))
    assert derived_uid(before, "report", "instance") != derived_uid(_RUN, "report", "instance")
    assert tracking_uid(before, "Left lung") == tracking_uid(_RUN, "Left lung")
    assert tracking_uid(before, None) == tracking_uid(_RUN, None)


def test_38_another_finding_series_or_model_has_another_tracking_uid() -> None:
    other_series = replace(_RUN, series=Uid("2.25.4"))
    other_model = replace(_RUN, provenance=replace(_RUN.provenance, name="other"))
    named = [tracking_uid(run, "Left lung") for run in (_RUN, other_series, other_model)]
    assert len({*named, tracking_uid(_RUN, "Right lung"), tracking_uid(_RUN, None)}) == 5


def test_a_report_that_replaces_another_has_uids_of_its_own_and_shares_the_segmentation() -> None:
    later = replace(_RUN, predecessor=PREDECESSOR)
    assert derived_uid(later, "report", "instance") != derived_uid(_RUN, "report", "instance")
    assert derived_uid(later, "segmentation", "instance") == derived_uid(_RUN, "segmentation", "instance")


def test_a_run_that_was_asked_for_again_shares_no_uid_of_an_object_with_the_first(tmp_path: Path) -> None:
    run = a_run(source())
    first, again = make(tmp_path / "first", run=run), make(tmp_path / "again", run=replace(run, again=1))
    for one, other in ((first.seg, again.seg), (first.sr, again.sr)):
        assert one.SOPInstanceUID != other.SOPInstanceUID
        assert one.SeriesInstanceUID != other.SeriesInstanceUID
        assert one.StudyInstanceUID == other.StudyInstanceUID
    assert tracking_uid(run, "Lung") == tracking_uid(replace(run, again=1), "Lung")
