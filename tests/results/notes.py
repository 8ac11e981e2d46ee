"""A result, the newer one that replaces it, and the rejection note between the two."""

from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
from pydicom import Dataset

from ledger.identifiers import Digest, Uid
from ledger.result import NewResult, Role
from results import codes
from results.check_rejection import check_rejection
from results.findings import Concept
from results.provenance import Predecessor
from results.rejection import build_rejection
from results.source import Source
from results.write import write
from tests.results.made import Made, make
from tests.results.series import a_run, source

VERSION = "1.2.3"


@dataclass(frozen=True)
class Note:
    """What was asked for, and the file that came of it."""

    older: Made
    newer: Made
    superseded: tuple[NewResult, ...]
    title: Concept
    path: Path

    @property
    def dataset(self) -> Dataset:
        return pydicom.dcmread(self.path)

    def check(self) -> None:
        check_rejection(self.path, self.newer.sr, self.superseded, title=self.title, software_version=VERSION)


def as_result(path: Path, role: Role) -> NewResult:
    """The object at `path` as the ledger knows it."""
    dataset = pydicom.dcmread(path)
    return NewResult(
        role=role,
        sop_class=Uid(dataset.SOPClassUID),
        sop_instance=Uid(dataset.SOPInstanceUID),
        study=Uid(dataset.StudyInstanceUID),
        series=Uid(dataset.SeriesInstanceUID),
        transfer_syntax=Uid(dataset.file_meta.TransferSyntaxUID),
        digest=Digest("0" * 64),
        size=path.stat().st_size,
        path=path.name,
    )


def make_note(folder: Path, of: Source | None = None, *, title: Concept = codes.REJECTED_FOR_QUALITY) -> Note:
    """One image came late: the result of all but the last is replaced by that of all."""
    of = of or source()
    whole = a_run(of)
    older = make(folder / "older", of=of, run=replace(whole, inputs=whole.inputs[:-1]))
    superseded = (as_result(older.segmentation, Role.SEGMENTATION), as_result(older.report, Role.REPORT))
    newer = make(folder / "newer", of=of, run=replace(whole, predecessor=Predecessor.of(superseded[1])))
    path = folder / "note.dcm"
    write(build_rejection(newer.sr, superseded, title=title, software_version=VERSION), path)
    return Note(older, newer, superseded, title, path)
