"""From findings to the files that leave: encoded, written, read back and compared."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import Dataset

from ledger.result import Role
from results.check import check_results
from results.finding_groups import point_numbers, verdict_numbers
from results.findings import Findings, Measurement
from results.marks import build_marks
from results.measurements import certainty
from results.parametric_map import build_maps
from results.provenance import Run
from results.report import build_report
from results.segmentation import build_segmentation
from results.source import Source
from results.write import write
from worker.exchange import Finding, ResultFile


def warm_up() -> None:
    """Do once what costs time only the first time, so that no study waits for it."""
    # highdicom reads its tables of all IODs, half a second's worth, when it meets the first region.
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 0)], dtype=np.float64)
    image = hd.sr.SourceImageForRegion("1.2.840.10008.5.1.4.1.1.2", "1.2.3")
    hd.sr.ImageRegion(graphic_type="POLYLINE", graphic_data=square, source_image=image)


def encode(findings: Findings, source: Source, run: Run, out: Path) -> list[ResultFile]:
    """Write the results into the folder `out`. Leaves before the root: the report refers to all of them."""
    made: list[tuple[Role, Dataset]] = []
    segmentation = build_segmentation(findings, source, run)
    if segmentation is not None:
        made.append((Role.SEGMENTATION, segmentation))
    maps = build_maps(findings, source, run)
    made += [(Role.PARAMETRIC_MAP, dataset) for dataset in maps]
    report = build_report(findings, source, run, segmentation, maps)
    marks = build_marks(report, run)
    if marks is not None:
        made.append((Role.MARKS, marks))
    made.append((Role.REPORT, report))
    files = []
    for position, (role, dataset) in enumerate(made):
        # There may be several maps, each a file of its own; everything else is there once.
        number = f" {position}" if role is Role.PARAMETRIC_MAP else ""
        files.append(_written(role, dataset, out / f"{role}{number}.dcm"))
    return files


def check(findings: Findings, source: Source, run: Run, files: Sequence[ResultFile]) -> None:
    """Read `files` back and compare. Raises `CheckFailed`."""
    written = {one.role: Path(one.path) for one in files}
    check_results(
        findings,
        source,
        run,
        report=written[Role.REPORT],
        segmentation=written.get(Role.SEGMENTATION),
        maps=[Path(one.path) for one in files if one.role is Role.PARAMETRIC_MAP],
        marks=written.get(Role.MARKS),
    )


def summary(findings: Findings) -> Iterator[Finding]:
    """Every number, for people: as they are in the report, and under the same names."""
    for label, measurements in _measured(findings):
        for one in measurements:
            yield Finding(label=label, name=one.name.meaning, value=one.value, unit=one.unit.value)


def _measured(findings: Findings) -> Iterator[tuple[str, Iterable[Measurement]]]:
    """(label, its measurements); the label of what is said of the whole is empty."""
    yield "", findings.measurements
    for verdict in findings.verdicts:
        yield verdict.label, verdict_numbers(verdict)
    for box in findings.boxes:
        yield box.label, (*certainty(box.score), *box.measurements)
    for point in findings.points:
        yield point.label, point_numbers(point)
    for segment in findings.segments:
        yield segment.label, (*segment.measurements, *certainty(segment.score))


def _written(role: Role, dataset: Dataset, path: Path) -> ResultFile:
    write(dataset, path)
    return ResultFile(
        role=role,
        path=str(path),
        sop_class=str(dataset.SOPClassUID),
        sop_instance=str(dataset.SOPInstanceUID),
        study=str(dataset.StudyInstanceUID),
        series=str(dataset.SeriesInstanceUID),
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
    )
