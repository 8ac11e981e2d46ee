"""A whole run of the encoder on disk."""

from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset

from results.check import check_results
from results.findings import Findings
from results.marks import build_marks
from results.parametric_map import build_maps
from results.provenance import Run
from results.report import build_report
from results.segmentation import build_segmentation
from results.source import Source
from results.write import write
from tests.results.series import KINDS, Kind, a_run, findings, source


@dataclass(frozen=True)
class Made:
    """What was asked, and the files that came of it."""

    findings: Findings
    source: Source
    run: Run
    report: Path
    segmentation: Path | None
    maps: tuple[Path, ...] = ()
    marks: Path | None = None

    @property
    def seg(self) -> Dataset:
        assert self.segmentation is not None
        return pydicom.dcmread(self.segmentation)

    @property
    def sr(self) -> Dataset:
        return pydicom.dcmread(self.report)

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.segmentation, *self.maps, self.marks, self.report) if path is not None]

    def check(self) -> None:
        check_results(
            self.findings,
            self.source,
            self.run,
            report=self.report,
            segmentation=self.segmentation,
            maps=self.maps,
            marks=self.marks,
        )


def make(
    folder: Path,
    kind: Kind | str = "axial CT",
    *,
    said: Findings | None = None,
    of: Source | None = None,
    run: Run | None = None,
) -> Made:
    """Encode `said` (two lungs, if left out) of a source of `kind` into `folder`."""
    kind = KINDS[kind] if isinstance(kind, str) else kind
    of = of or source(kind)
    run = run or a_run(of)
    said = said or findings(kind)
    folder.mkdir(parents=True, exist_ok=True)
    segmentation = build_segmentation(said, of, run)
    path = folder / "segmentation.dcm" if segmentation is not None else None
    if segmentation is not None and path is not None:
        write(segmentation, path)
    maps = build_maps(said, of, run)
    written = tuple(folder / f"map{index}.dcm" for index in range(len(maps)))
    for dataset, place in zip(maps, written, strict=True):
        write(dataset, place)
    report = build_report(said, of, run, segmentation, maps)
    write(report, folder / "report.dcm")
    marks = build_marks(report, run)
    if marks is not None:
        write(marks, folder / "marks.dcm")
    return Made(
        said, of, run, folder / "report.dcm", path, written, None if marks is None else folder / "marks.dcm"
    )
