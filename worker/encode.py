"""From findings to the files that leave: encoded, written, read back and compared."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import Dataset

from ledger.result import Role
from results.check import check_results
from results.findings import Findings
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
    """Write the results into the folder `out`. Leaves before the root: the report refers to the
    segmentation.
    """
    made: list[tuple[Role, Dataset]] = []
    segmentation = build_segmentation(findings, source, run)
    if segmentation is not None:
        made.append((Role.SEGMENTATION, segmentation))
    made.append((Role.REPORT, build_report(findings, source, run, segmentation)))
    return [_written(role, dataset, out / f"{role}.dcm") for role, dataset in made]


def check(findings: Findings, source: Source, run: Run, files: Sequence[ResultFile]) -> None:
    """Read `files` back and compare. Raises `CheckFailed`."""
    written = {one.role: Path(one.path) for one in files}
    check_results(
        findings, source, run, report=written[Role.REPORT], segmentation=written.get(Role.SEGMENTATION)
    )


def summary(findings: Findings) -> Iterator[Finding]:
    """What was measured, for people."""
    about = [("", findings.measurements), *((one.label, one.measurements) for one in findings.segments)]
    for label, measurements in about:
        for one in measurements:
            yield Finding(label=label, name=one.name.meaning, value=one.value, unit=one.unit.value)


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
