"""
What happens to real images: every DICOM file of ../shared/data through the running product.

    python -m benchmarks.evidence page            print the outcome
    python -m benchmarks.evidence page --write    write it as docs/evidence.md

The images are not part of the repository. Where they are absent this says so and ends well. A node, a
worker and a queue are started as `wetread serve` starts them; each data set is sent as it is, on an
association of its own, under the UIDs that it names itself, as scanners do. There is one rule for each
built-in model, and it asks for the modality alone, so that nothing is spared by a rule that asks for a chest.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import highdicom as hd
import numpy as np
import SimpleITK
from pydicom import dcmread

from benchmarks.measured import DATA, built_ins
from console.reading import read_report
from dicom_node.part10 import FileMeta
from dicom_node.peers import PeerSettings
from dicom_node.send import AnswerKind, send
from ledger.errors import WetreadError
from ledger.identifiers import AETitle, Uid
from ledger.job import JobRecord, JobState, Outcome
from ledger.result import Role
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.study import SeriesRecord, StudyState
from models.chest.anatomy import LEFT, RIGHT
from models.contract import Context
from models.registry import every_found, open_model
from results.findings import Findings
from worker.elements import read_file_meta
from worker.load import load_series

FOLDERS = (
    "ct_thorax_lungdx_A0002_b40f", "ct_thorax_cip64", "ct_totalseg", "geometry_failing_dicom2nifti",
    "mr_enhanced_dcmqa", "mr_multifragment", "cxr_dicom_rsna1", "mg_fodicom", "segsr_dcmqi",
    "segsr_highdicom", "ts_pydicom_data", "fuzz_sample",
)  # fmt: skip
_MOSTLY_OUTSIDE = 50.0  # percent of a box
SETTLE_S = 900.0  # For eight models and two busy cores; a quiet machine needs two minutes.

SITE = """
[site]
data = "{data}"
[node]
port = {port}
[closing]
quiet_s = 2.0
[spool]
reserve_bytes = 0
hard_percent = 100
resume_percent = 100
"""


@dataclass
class Sent:
    """What became of one folder."""

    files: int = 0
    stored: int = 0
    answers: Counter[str] = field(default_factory=Counter)


def evidence() -> str:
    """The page."""
    lines = [*header(), *through_the_product(), *geometry(), *lungs(), *tumour_boxes()]
    return "\n".join(lines).rstrip() + "\n"


def header() -> list[str]:
    """What this page is."""
    return [
        "# Evidence: real images",
        "",
        f"Written by `make evidence` on {date.today().isoformat()}, {os.cpu_count()} CPU cores, no GPU.",
        "The images are not part of the repository; their sources and licences are listed beside them.",
        "A handful of patients gives no rates: this page says what happened, case by case.",
        "Research software; no figure here is a claim about any other image.",
        "",
    ]


def through_the_product() -> list[str]:
    """Every file over DICOM; then what the ledger says of it."""
    lines = ["## Received, routed, analysed", ""]
    with tempfile.TemporaryDirectory(prefix="wetread-evidence-") as name:
        with site(Path(name)) as (port, ledger):
            outcomes = {
                folder: send_folder(DATA / folder, port) for folder in FOLDERS if (DATA / folder).is_dir()
            }
            settle(ledger)
            lines += ["| folder | DICOM files | stored | not stored, and why |", "|---|---|---|---|"]
            for folder, outcome in outcomes.items():
                why = "; ".join(f"{count} × {text}" for text, count in outcome.answers.most_common()) or "–"
                lines.append(f"| `{folder}` | {outcome.files} | {outcome.stored} | {why} |")
            total, stored = (sum(getattr(o, key) for o in outcomes.values()) for key in ("files", "stored"))
            lines += [f"| **all** | {total} | {stored} | every file that is not stored has a reason |", ""]
            lines += ["In quarantine (kept, never used):", ""]
            lines += [
                f"- {text} ({n} ×)" for text, n in Counter(q.because for q in ledger.quarantined()).items()
            ] or ["- nothing"]
            lines += [
                "",
                "### Series",
                "",
                "| series | modality | images | what became of it |",
                "|---|---|---|---|",
            ]
            lines += sorted(series_rows(ledger))
            lines += ["", *cases(ledger, Path(name) / "data" / "spool")]
    return [*lines, ""]


def send_folder(folder: Path, port: int) -> Sent:
    """Each Part 10 file of the folder, as it is."""
    peer = PeerSettings(name="wetread", ae_title="WETREAD", host="127.0.0.1", port=port)
    outcome = Sent()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as opened:
            if opened.read(132)[128:] != b"DICM":
                continue
        outcome.files += 1
        try:
            with as_a_scanner_would(path) as sendable:
                answer = send(sendable, peer, calling=AETitle.parse("SCANNER"), deadline_s=30)
        except WetreadError as error:
            outcome.answers[f"cannot be sent: {shorten(str(error), path)}"] += 1
            continue
        if answer.kind in (AnswerKind.ACCEPTED, AnswerKind.WARNING):
            outcome.stored += 1
        else:
            outcome.answers[shorten(answer.because, path)] += 1
    return outcome


@contextmanager
def as_a_scanner_would(path: Path) -> Iterator[Path]:
    """The file, or a copy whose File Meta Information names the UIDs of its data set, where the two
    disagree.
    """
    try:
        header = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True)
        own = (Uid.parse(str(header.SOPClassUID)), Uid.parse(str(header.SOPInstanceUID)))
        meta, start = read_file_meta(path.read_bytes())
        syntax = Uid.parse(str(meta.TransferSyntaxUID))
    except Exception:  # files made to break readers: they are sent as they are
        yield path
        return
    if tuple(map(str, own)) == (meta.get("MediaStorageSOPClassUID"), meta.get("MediaStorageSOPInstanceUID")):
        yield path
        return
    written = FileMeta(
        sop_class=own[0],
        sop_instance=own[1],
        transfer_syntax=syntax,
        sending=AETitle("SCANNER"),
        receiving=AETitle("WETREAD"),
    )
    with tempfile.NamedTemporaryFile(suffix=".part10") as copy:
        copy.write(written.encode() + path.read_bytes()[start:])
        copy.flush()
        yield Path(copy.name)


def shorten(text: str, path: Path) -> str:
    """A sentence without the file's own name in it, for a table."""
    return text.replace(str(path), "the file").replace(path.name, "the file").replace("|", "/")


def series_rows(ledger: Ledger) -> Iterator[str]:
    """One row per series that the ledger knows: what each model said of it, or why none was asked."""
    for study in ledger.studies(limit=1000):
        notes, jobs = ledger.routing_notes(study.id), ledger.jobs_of(study.id)
        for series in ledger.series_of(study.id):
            mine = [job for job in jobs if job.series == series.series]
            said = [f"`{job.model.partition('@')[0]}` {became(job)}" for job in mine]
            if not said:
                reasons = {note.because for note in notes if note.series_id == series.id and not note.taken}
                wrong_kind = all(because.startswith("modality is ") for because in reasons)
                said = [f"no model is for {series.modality}"] if wrong_kind else sorted(reasons)
            cells = (f"{what_it_is(series)} …{str(series.series)[-8:]}", series.modality)
            row = (*cells, str(len(series.instances)), "<br>".join(dict.fromkeys(said)))
            yield "| " + " | ".join(cell.replace("|", "/") for cell in row) + " |"


def what_it_is(series: SeriesRecord) -> str:
    return str(series.headers.get("SeriesDescription") or series.headers.get("Modality", ""))


def became(job: JobRecord) -> str:
    """How a job ended, in a line."""
    state = "" if job.state is JobState.DONE else f"{job.state} "
    return f"{state}{job.outcome or ''}: {job.because}".strip().rstrip(": ")


def cases(ledger: Ledger, spool: Path) -> Iterator[str]:
    """What the reports say where a model answered: every value, and every sentence beside it."""
    yield from ("### What the models said, case by case", "")
    for study in ledger.studies(limit=1000):
        known = {series.series: series for series in ledger.series_of(study.id)}
        for job in ledger.jobs_of(study.id):
            if job.state is not JobState.DONE or job.outcome is Outcome.REFUSED:
                continue
            reports = [one for one in ledger.results_of(job.id) if one.role is Role.REPORT]
            model, about = job.model.partition("@")[0], what_it_is(known[job.series])
            yield f"#### `{model}`: {job.outcome}, {about} …{str(job.series)[-8:]}"
            yield ""
            for one in reports:
                yield from reported(spool / one.path)


def reported(path: Path) -> Iterator[str]:
    """A report as lists and a table."""
    report = read_report(path)
    sentences = list(dict.fromkeys(report.sentences))
    yield from (f"- {sentence}" for sentence in sentences)
    if report.values:
        yield from ("", "| of | measurement | value |", "|---|---|---|")
        for value in report.values:
            yield f"| {value.about} | {value.name} | {value.value:.4g} {value.unit} |".replace(" 1 |", " |")
    yield ""


def geometry() -> list[str]:
    """Each defect is named."""
    root = DATA / "geometry_failing_dicom2nifti"
    if not root.is_dir():
        return []
    lines = ["## Series that are no volume", "", "| folder | what the loader says |", "|---|---|"]
    for folder in sorted(
        p for p in root.rglob("*") if p.is_dir() and any(f.suffix == ".dcm" for f in p.iterdir())
    ):
        try:
            loaded = load_series(sorted(folder.glob("*.dcm")))
            volume = loaded.volume
            said = f"**loads**: {volume.spatial_shape}, spacing {volume.spacing} mm"
        except WetreadError as error:
            said = f"{type(error).__name__}: {error}"
        lines.append(f"| `{folder.relative_to(root)}` | {said} |")
    return [*lines, ""]


def lungs() -> list[str]:
    """What `lung_ct` says of each chest, and of one series whose missing UIDs are filled in first."""
    cases = {
        "`ct_thorax_cip64`: 79 × 64 × 64, 4.17 × 4.17 × 3.99 mm": sorted(
            (DATA / "ct_thorax_cip64").rglob("*.dcm")
        ),
        "`ct_thorax_lungdx_A0002_b40f`: 30 × 512 × 512, 8 mm, a large tumour": sorted(
            (DATA / "ct_thorax_lungdx_A0002_b40f").rglob("*.dcm")
        ),
    }
    lines = ["## What `lung_ct` says", ""]
    with tempfile.TemporaryDirectory(prefix="wetread-evidence-") as name:
        cases["`ct_totalseg/example_ct_dicom`: abdomen with lung bases, JPEG 2000, empty UIDs filled in"] = (
            with_uids(DATA / "ct_totalseg" / "example_ct_dicom", Path(name))
        )
        for title, paths in cases.items():
            if paths:
                lines += [f"### {title}", "", *lung_case(paths), ""]
    return lines


def lung_case(paths: list[Path]) -> list[str]:
    """Outcome, values and cautions of one series."""
    model = open_model("lung_ct")
    model.load("cpu")
    loaded = load_series(paths)
    started = time.perf_counter()
    findings = model.run(loaded.volume, Context(headers=loaded.headers))
    seconds = time.perf_counter() - started
    lines = [f"Outcome: **{findings.outcome}**. {findings.because}".rstrip() + f" ({seconds:.1f} s)", ""]
    lines += [f"- Caution: {caution}" for caution in findings.cautions]
    reference = paths[0].parents[1] / "wholeLung-64.nrrd"
    if findings.label_map is not None and reference.exists():
        truth = SimpleITK.ReadImage(str(reference))
        labels = on_the_grid_of(truth, loaded.volume.with_array(findings.label_map))
        mask = np.isin(labels, (RIGHT, LEFT))
        known = SimpleITK.GetArrayFromImage(truth) > 0
        dice = 2 * np.logical_and(mask, known).sum() / (mask.sum() + known.sum())
        lines += [f"- Dice of both lungs together with `{reference.name}`: **{dice:.4f}**"]
    if findings.segments:
        lines += ["", "| segment | measurement | value |", "|---|---|---|"]
    return lines + [
        f"| {segment.label} | {m.name.meaning} | {m.value:.1f} {m.unit.value} |"
        for segment in findings.segments
        for m in segment.measurements
    ]


def with_uids(folder: Path, out: Path) -> list[Path]:
    """A copy of a series whose data sets name no UIDs: instances take those of their File Meta
    Information.
    """
    paths = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        dataset = dcmread(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", "2.25.2"
        dataset.FrameOfReferenceUID = dataset.get("FrameOfReferenceUID") or "2.25.3"
        paths.append(out / f"{path.name}.part10")
        dataset.save_as(paths[-1])
    return paths


def on_the_grid_of(image: SimpleITK.Image, labels: hd.Volume) -> np.ndarray:
    """The labels at the voxel centres of `image` (both in LPS millimetres), nearest neighbour: (z, y, x)
    of `image`.
    """
    size = np.array(image.GetSize())
    index = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 3)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    points = (direction @ (index * np.array(image.GetSpacing())).T).T + np.array(image.GetOrigin())
    at = np.rint(labels.map_reference_to_indices(points)).astype(int)
    inside = np.all((at >= 0) & (at < np.array(labels.spatial_shape)), axis=1)
    values = np.zeros(len(at), np.uint8)
    values[inside] = np.asarray(labels.array)[tuple(at[inside].T)]
    return values.reshape(tuple(size)).transpose(2, 1, 0)


def settle(ledger: Ledger) -> None:
    """Wait until every study is closed and every job has come to rest."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        studies = ledger.studies(limit=1000)
        jobs = [job for study in studies for job in ledger.jobs_of(study.id)]
        if all(s.state is StudyState.CLOSED for s in studies) and all(
            j.state not in (JobState.QUEUED, JobState.RUNNING) for j in jobs
        ):
            return
        time.sleep(0.5)
    raise SystemExit(f"studies or jobs were still moving after {SETTLE_S} s")


def rules() -> Iterator[str]:
    """A rule for every built-in model that asks for nothing but its modality."""
    for found in every_found():
        manifest = found.manifest
        asked = ", ".join(f'"{modality}"' for modality in manifest.input.modality)
        how = 'each = "image"' if manifest.given == "image" else "at_least = 2"
        yield f'[[rule]]\nname = "{manifest.name}"\nmodel = "{manifest.name}"\nmodality = [{asked}]\n{how}\n'


@contextmanager
def site(folder: Path) -> Iterator[tuple[int, Ledger]]:
    """`wetread serve` on a free port; gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "wetread.toml"
    config.write_text(SITE.format(data=folder / "data", port=port) + "".join(rules()))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "console", "serve", "--config", config],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the node does not listen:\n{(folder / 'log').read_text()}")
            time.sleep(0.2)
        ledger = Ledger.open(LedgerSettings(url=f"sqlite:///{folder}/data/ledger.sqlite"))
        try:
            yield port, ledger
        finally:
            ledger.close()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def tumour_boxes() -> Iterator[str]:
    """Which of the boxes that somebody drew around a tumour hold a nodule of `nodule_ct`, and why not."""
    folder = DATA / "ct_thorax_lungdx_A0002_b40f"
    if not folder.is_dir() or "nodule_ct" not in built_ins():
        return
    loaded = load_series(sorted(folder.rglob("*.dcm")))
    context = Context(headers=loaded.headers)
    lungs, nodules = (open_model(name) for name in ("lung_ct", "nodule_ct"))
    for model in (lungs, nodules):
        model.load("cpu")
    lung, found = (model.run(loaded.volume, context) for model in (lungs, nodules))
    yield from ("## Tumour boxes of `ct_thorax_lungdx_A0002_b40f` and `nodule_ct`", "")
    yield f"`nodule_ct`: {found.outcome}. {found.because}".rstrip()
    yield from (f"- {caution}" for caution in found.cautions)
    yield from ("", "| slice | box, mm | median HU | drawn as lung | hit |", "|---|---|---|---|---|")
    step = loaded.volume.pixel_spacing
    slices = {str(header.SOPInstanceUID): k for k, header in enumerate(loaded.source.datasets)}
    for k, box in sorted(drawn_boxes(folder, slices)):
        rows, columns = box
        here = (k, rows, columns)
        hu = float(np.median(loaded.volume.array[here]))
        inside = (
            0.0
            if lung.label_map is None
            else 100 * float(np.isin(lung.label_map[here], (RIGHT, LEFT)).mean())
        )
        size = f"{(rows.stop - rows.start) * step[0]:.0f} x {(columns.stop - columns.start) * step[1]:.0f}"
        yield f"| {k + 1} | {size} | {hu:.0f} | {inside:.0f} % | {hit(found, here, inside)} |"
    yield ""


def drawn_boxes(folder: Path, slices: Mapping[str, int]) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """(slice, (rows, columns)) of every box; each file is named by the instance that it was drawn on."""
    for path in sorted(folder.rglob("*.xml")):
        for box in ElementTree.parse(path).iter("bndbox"):
            x, y, to_x, to_y = (int(box.findtext(name, "0")) for name in ("xmin", "ymin", "xmax", "ymax"))
            yield slices[path.stem], (slice(y, to_y + 1), slice(x, to_x + 1))


def hit(found: Findings, here: tuple[int, slice, slice], inside_percent: float) -> str:
    """The nodule that reaches into the box, or why none does, as far as the images say."""
    numbers = [] if found.label_map is None else [int(n) for n in np.unique(found.layers[:, *here]) if n]
    if numbers:
        return ", ".join(found.segments[number - 1].label for number in numbers)
    if found.outcome is Outcome.REFUSED:
        return "no: the model refused the series"
    if inside_percent < _MOSTLY_OUTSIDE:
        return "no: nodules are sought in what is drawn as lung, and most of the box is not"
    return "no: nothing in it looks like a nodule to the model"
