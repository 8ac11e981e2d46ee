"""From files to results, for each thing that a model can be given; and from arrivals through a worker."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_node.routing import Rule
from dicom_node.settings import ClosingSettings
from dicom_node.watch import Watch
from ledger.job import JobState, Outcome
from ledger.result import Role
from tests.worker.images import radiograph, written
from tests.worker.series import Series, save
from tests.worker.site import WorkerBench, receive_files, worker_bench
from worker.exchange import RunReply, RunRequest
from worker.run import analyse

MODELS = "tests.worker.input_models"
MR = "1.2.840.10008.5.1.4.1.1.4"
GREY = np.full((32, 24), 3000, np.uint16)


def run(tmp_path: Path, model: str, **files) -> RunReply:
    out = tmp_path / "out"
    out.mkdir(parents=True, exist_ok=True)
    return analyse(
        RunRequest(
            model=f"{MODELS}:{model}", out=str(out), at=1e9, device="cpu", allow_python_models=True, **files
        )
    )


def result(reply: RunReply, role: Role) -> Dataset:
    return pydicom.dcmread(next(one.path for one in reply.files if one.role is role))


def mr(folder: Path, number: int, *, shape=(5, 24, 32), level: int, **headers) -> list[Path]:
    """One channel: a bright block on `level`, on a grid of its own."""
    stored = np.full(shape, level, np.int16)
    stored[1:3, 4:9, 5:11] = 900

    def change(k: int, dataset: Dataset) -> None:
        dataset.Modality, dataset.SeriesNumber = "MR", number
        dataset.ScanningSequence, dataset.SequenceVariant = "SE", "NONE"
        dataset.SeriesInstanceUID = f"2.25.80{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.9{number}00{k}"
        for keyword, value in headers.items():
            setattr(dataset, keyword, value)

    return Series(stored, sop_class=MR, slope=None, intercept=None).write(folder / str(number), change)


def channels(folder: Path) -> dict[str, list[Path]]:
    return {
        "t1c": mr(folder, 1, level=100, ContrastBolusAgent="Gadovist", EchoTime=12),
        "flair": mr(folder, 2, level=40, shape=(4, 12, 16), SequenceVariant="IR", EchoTime=110),
    }


def texts(paths: dict[str, list[Path]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(map(str, files)) for name, files in paths.items()}


def test_a_radiograph_becomes_a_report_about_that_very_image(tmp_path):
    path = str(written(radiograph(GREY, BitsStored=12, HighBit=11), tmp_path / "in"))

    reply = run(tmp_path, "Opacity", inputs=(path,))

    assert reply.outcome is Outcome.FOUND
    report = result(reply, Role.REPORT)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert [str(one.ReferencedSOPInstanceUID) for one in series.ReferencedSOPSequence] == ["2.25.301"]
    assert study.StudyInstanceUID == "2.25.31"


def test_a_lateral_radiograph_becomes_a_report_that_says_why_not(tmp_path):
    path = str(written(radiograph(GREY, ViewPosition="LL"), tmp_path / "in"))

    reply = run(tmp_path, "Opacity", inputs=(path,))

    assert reply.outcome is Outcome.REFUSED
    assert reply.because == "ViewPosition does not match; opacity@1.0.0 is made for /^(PA|AP)$/."
    assert [one.role for one in reply.files] == [Role.REPORT]


def test_two_channels_become_one_result_on_the_grid_of_the_reference(tmp_path):
    paths = channels(tmp_path / "in")

    reply = run(tmp_path, "Subtraction", named=texts(paths))

    assert reply.outcome is Outcome.FOUND, reply.because
    segmentation = result(reply, Role.SEGMENTATION)
    assert (segmentation.Rows, segmentation.Columns) == (24, 32)
    (series,) = segmentation.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "2.25.801"
    assert len(series.ReferencedInstanceSequence) == 5


def test_the_same_reference_with_another_second_series_is_another_result(tmp_path):
    paths = channels(tmp_path / "in")
    first = run(tmp_path, "Subtraction", named=texts(paths))
    paths["flair"] = mr(tmp_path / "in", 3, level=41, SequenceVariant="IR")
    second = run(tmp_path, "Subtraction", named=texts(paths))

    assert not {one.sop_instance for one in first.files} & {one.sop_instance for one in second.files}


def ct(folder: Path, number: int, day: str) -> list[str]:
    def change(k: int, dataset: Dataset) -> None:
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"2.25.70{number}", f"2.25.80{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.9{number}00{k}"
        dataset.StudyDate = day

    stored = np.full((4, 16, 16), 1100, np.int16)
    return [str(path) for path in Series(stored).write(folder / str(number), change)]


def test_a_timeline_tells_how_many_earlier_examinations_it_had(tmp_path):
    earlier = (tuple(ct(tmp_path, 2, "20240101")), tuple(ct(tmp_path, 3, "20250101")))

    reply = run(
        tmp_path, "Growth", inputs=tuple(ct(tmp_path, 1, "20260101")), earlier=earlier, earlier_asked=3
    )

    assert [one.value for one in reply.findings] == [2.0]
    assert reply.cautions == ("Earlier examinations asked for: 3 at most, here: 2.",)
    texts = [str(one.value) for one in result(reply, Role.REPORT).iterall() if one.keyword == "TextValue"]
    assert "Caution: Earlier examinations asked for: 3 at most, here: 2." in texts


def test_36_a_timeline_compares_with_the_very_images_that_it_was_given(tmp_path):
    earlier = (tuple(ct(tmp_path, 2, "20240101")), tuple(ct(tmp_path, 3, "20250101")))
    reply = run(tmp_path, "Growth", inputs=tuple(ct(tmp_path, 1, "20260101")), earlier=earlier)

    report = result(reply, Role.REPORT)
    named = {
        study.StudyInstanceUID: [
            item.ReferencedSOPInstanceUID
            for series in study.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        ]
        for study in report.PertinentOtherEvidenceSequence
    }
    # The volume begins with the series' last image, so its slice 1 is the image 2.
    assert named == {"2.25.702": ["2.25.92002"], "2.25.703": ["2.25.93002"]}
    assert "Bright: quantity 1024, was 1024 on 2025-01-01 (365 days before): +0 %." in reply.lines


def test_38_a_finding_that_its_model_matched_has_the_tracking_uid_of_the_earlier_result(tmp_path):
    then = run(tmp_path / "then", "Growth", inputs=tuple(ct(tmp_path, 2, "20250101")))
    now = run(
        tmp_path / "now",
        "Growth",
        inputs=tuple(ct(tmp_path, 1, "20260101")),
        earlier=(tuple(ct(tmp_path, 2, "20250101")),),
    )
    uids = [str(result(one, Role.SEGMENTATION).SegmentSequence[0].TrackingUID) for one in (then, now)]
    assert uids[0] == uids[1]


def test_another_number_asked_for_is_another_result_of_the_same_images(tmp_path):
    inputs = tuple(ct(tmp_path, 1, "20260101"))
    uids = set()
    for asked in (None, 1, 2):
        reply = run(tmp_path, "Growth", inputs=inputs, earlier_asked=asked)
        uids |= {one.sop_instance for one in reply.files if one.role is Role.REPORT}
    assert len(uids) == 3


# ------------------------------------------------------------------ from arrivals to results

GLIOMA = {
    "name": "glioma",
    "model": f"{MODELS}:Subtraction",
    "modality": "MR",
    "inputs": [
        {"name": "t1c", "contrast": True, "ranges": {"EchoTime": [0, 30]}},
        {
            "name": "flair",
            "attributes": {"SequenceVariant": "IR"},
            "ranges": {"EchoTime": [80, float("inf")]},
        },
    ],
}
VIEWS = {
    "name": "views",
    "model": f"{MODELS}:Opacity",
    "modality": "DX",
    "each": "image",
    "attributes": {"ViewPosition": "PA"},
}


class Nobody:
    """No association is open."""

    def open_for(self, study_id: object) -> int:
        return 0


@pytest.fixture
def bench(tmp_path):
    with worker_bench(tmp_path) as opened:
        yield opened


def closed(bench: WorkerBench, *rules: dict) -> None:
    """Judge every open study with these rules, as the node would."""
    watch = Watch(
        bench.ledger,
        rules=[Rule.model_validate(rule) for rule in rules],
        patience=ClosingSettings(quiet_s=0, quiet_open_s=0),
        associations=Nobody(),
    )
    assert watch.look()


@pytest.mark.peer
def test_a_study_of_two_channels_and_two_views_is_computed_by_a_worker(bench, tmp_path):
    paths = channels(tmp_path / "scan")
    views = [
        save(radiograph(GREY, instance=f"2.25.30{k}", ViewPosition=view), tmp_path / f"view{k}.dcm")
        for k, view in enumerate(("PA", "LL"))
    ]
    mr_study = receive_files(bench.ledger, bench.spool, [*paths["t1c"], *paths["flair"]], headers=True)
    dx_study = receive_files(bench.ledger, bench.spool, views, headers=True)
    closed(bench, GLIOMA, VIEWS)
    (both,) = bench.ledger.jobs_of(mr_study)
    (view,) = bench.ledger.jobs_of(dx_study)
    bench.start("dispatch")
    bench.start("compute")

    for job in (both, view):
        assert bench.wait(job.id, JobState.DONE, within_s=60).outcome is Outcome.FOUND

    assert str(both.series) == "2.25.801"
    results = {one.role: one for one in bench.ledger.results_of(both.id)}
    segmentation = pydicom.dcmread(bench.spool.absolute(results[Role.SEGMENTATION].path))
    assert segmentation.Rows == 24
    (report,) = bench.ledger.results_of(view.id)
    assert "2.25.300" in str(pydicom.dcmread(bench.spool.absolute(report.path)))
