"""Models of a site's own: installed, named by what they make, and replaced while studies come in."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from console.difference import compare
from console.settings import load_site
from dicom_node.routing import Rule
from dicom_node.senders import Senders
from dicom_node.settings import ClosingSettings
from dicom_node.watch import Watch
from ledger.job import JobRecord, JobState, Outcome
from ledger.result import Role
from models.install import install
from models.scaffold import begin
from models.settings import ModelsSettings
from models.shelf import package_in
from tests.ledger.site import OPERATOR
from tests.worker.site import WorkerBench, receive, worker_bench

pytestmark = [pytest.mark.peer, pytest.mark.journey]

AT_ONCE = ClosingSettings(quiet_s=0.0, quiet_open_s=3600.0, longest_s=3600.0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[WorkerBench]:
    with worker_bench(tmp_path) as running:
        running.site = running.site.model_copy(
            update={"models": ModelsSettings(folder=tmp_path / "models", allow_unsigned=True)}
        )
        yield running


def install_bright(bench: WorkerBench, version: str, threshold_hu: int) -> Path:
    """The scaffold of a Python model: everything that is denser than `threshold_hu`."""
    folder = bench.folder / f"bright-{version}"
    begin("bright", "python", folder)
    for name, before, after in (
        ("manifest.toml", '"0.1.0"', f'"{version}"'),
        ("model.py", "THRESHOLD_HU = -300", f"THRESHOLD_HU = {threshold_hu}"),
    ):
        text = (folder / name).read_text()
        assert before in text
        (folder / name).write_text(text.replace(before, after))
    return install(folder, bench.site.models, bench.site.models.folder).place.folder


def study(bench: WorkerBench, model: str) -> list[JobRecord]:
    """A study comes in and is closed by a rule that names `model`: its jobs, done or parked."""
    bench.series += 1
    number = bench.series
    study_id = receive(bench.ledger, bench.spool, bench.folder / f"scan{number}", seed=number)
    rule = Rule(name="all", model=model, modality="CT")  # type: ignore[arg-type]
    Watch(bench.ledger, rules=[rule], patience=AT_ONCE, associations=Senders(), every_s=0.01).look()
    jobs = bench.ledger.jobs_of(study_id)
    return [bench.wait(job.id, JobState.DONE, JobState.PARKED, within_s=60) for job in jobs]


def result(bench: WorkerBench, job: JobRecord, role: Role) -> pydicom.Dataset:
    (path,) = [one.path for one in bench.ledger.results_of(job.id) if one.role is role]
    return pydicom.dcmread(bench.spool.absolute(path))


def made_by(dataset: pydicom.Dataset) -> pydicom.Dataset:
    return dataset.ContributingEquipmentSequence[-1]


def test_versions_come_and_go_while_studies_are_analysed(bench: WorkerBench) -> None:
    first = install_bright(bench, "1.0.0", -300)
    bench.start("dispatch")
    bench.start("compute")

    # The newest version, and a result that names exactly what made it.
    (job,) = study(bench, "bright")
    assert (job.state, job.outcome) == (JobState.DONE, Outcome.FOUND)
    equipment = made_by(result(bench, job, Role.SEGMENTATION))
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("bright", "1.0.0")
    assert str(package_in(first).weights_digest) in equipment.ContributionDescription
    assert "trust unsigned code" in equipment.ContributionDescription
    assert "unsigned code" in bench.log

    # A second one runs beside it, for nobody to see; the same worker has both.
    install_bright(bench, "2.0.0", 100)
    bench.ledger.shadow("bright", "2.0.0", active="1.0.0", by=OPERATOR, because="")
    active, shadow = study(bench, "bright")
    assert (active.model, shadow.model, shadow.shadow) == ("bright@1.0.0", "bright@2.0.0", True)
    assert bench.ledger.deliveries_of(shadow.id) == []
    devices = {str(made_by(result(bench, one, Role.REPORT)).DeviceUID) for one in (job, active, shadow)}
    assert len(devices) == 2

    # What the two say differently is known before anybody decides.
    (bench.folder / "wetread.toml").write_text(f'[spool]\npath = "{bench.spool.path}"\n')
    site = load_site(bench.folder / "wetread.toml")
    (compared,) = compare(site, bench.ledger, "bright")
    (body,) = compared.difference.segments
    masks = [
        np.unpackbits(np.frombuffer(result(bench, one, Role.SEGMENTATION).PixelData, np.uint8))
        for one in (active, shadow)
    ]
    assert body.label == "Body"
    assert body.voxels == tuple(int(mask.sum()) for mask in masks)
    assert 0 < body.dice < 1
    assert body.dice == pytest.approx(2 * body.voxels[1] / sum(body.voxels))  # One lies within the other.
    (volume,) = [one for one in compared.difference.values if one.name.startswith("Volume")]
    assert volume.first != volume.second

    # Promoted: from the next study on, for every worker.
    bench.ledger.promote("bright", "2.0.0", by=OPERATOR, because="")
    (job,) = study(bench, "bright")
    assert (job.model, job.shadow) == ("bright@2.0.0", False)
    (old,) = study(bench, "bright@1.0.0")  # Old versions stay runnable.
    assert made_by(result(bench, old, Role.REPORT)).SoftwareVersions == "1.0.0"


def test_a_file_that_was_changed_after_it_was_installed_parks_the_job(bench: WorkerBench) -> None:
    folder = install_bright(bench, "1.0.0", -300)
    code = folder / "model.py"
    code.write_text(code.read_text().replace("-300", "-301"))
    bench.start("dispatch")
    bench.start("compute")

    (job,) = study(bench, "bright")

    assert job.state is JobState.PARKED
    assert "model.py is not the file that its manifest vouches for: install the model again" in job.because
    assert job.attempts == 1


def test_code_that_nobody_vouches_for_is_not_run_where_the_site_says_nothing(bench: WorkerBench) -> None:
    install_bright(bench, "1.0.0", -300)
    strict = bench.site.models.model_copy(update={"allow_unsigned": False})
    bench.site = bench.site.model_copy(update={"models": strict})
    bench.start("dispatch")
    bench.start("compute")

    (job,) = study(bench, "bright")

    assert job.state is JobState.PARKED
    assert "without a signature of a key that this site trusts" in job.because


def test_a_network_that_is_data_needs_nobodys_word(bench: WorkerBench) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    from tests.models.manifests import segment, write_model

    threshold = helper.make_tensor("threshold", TensorProto.FLOAT, [1], [-300.0])
    nodes = [
        helper.make_node("Sub", ["image", "threshold"], ["above"]),
        helper.make_node("Sub", ["above", "above"], ["nothing"]),
        helper.make_node("Concat", ["nothing", "above"], ["scores"], axis=1),
    ]
    axes = ["n", 1, "z", "y", "x"]
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2, "z", "y", "x"])],
        [threshold],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(network)
    folder = write_model(
        bench.folder / "dense",
        {"model.onnx": network.SerializeToString()},
        name="dense",
        runtime="onnx",
        segments=[segment(1)],
    )
    strict = bench.site.models.model_copy(update={"allow_unsigned": False})
    bench.site = bench.site.model_copy(update={"models": strict})
    install(folder, strict, strict.folder)
    bench.start("dispatch")
    bench.start("compute")

    (job,) = study(bench, "dense")

    assert (job.state, job.outcome) == (JobState.DONE, Outcome.FOUND), job.because
    equipment = made_by(result(bench, job, Role.SEGMENTATION))
    assert "trust data only" in equipment.ContributionDescription
