"""A whole run of the encoder on disk."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset

from ledger.result import Role
from results import making as encoders
from results.check import check_results
from results.findings import Findings
from results.making import Asked
from results.pictures import Pictures
from results.profile import DEFAULT, Profile
from results.provenance import Run
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
    more: tuple[tuple[Role, Path], ...] = ()  #: objects of all other roles
    profile: Profile = DEFAULT
    pictures: Pictures | None = None

    @property
    def seg(self) -> Dataset:
        assert self.segmentation is not None
        return pydicom.dcmread(self.segmentation)

    @property
    def sr(self) -> Dataset:
        return pydicom.dcmread(self.report)

    @property
    def files(self) -> list[Path]:
        return [path for _, path in self.written]

    @property
    def asked(self) -> Asked:
        return Asked(
            findings=self.findings,
            source=self.source,
            run=self.run,
            profile=self.profile,
            pictures=self.pictures,
        )

    def of(self, role: Role) -> list[Dataset]:
        """What was written of `role`, read back."""
        return [pydicom.dcmread(path) for one, path in self.written if one is role]

    @property
    def written(self) -> list[tuple[Role, Path]]:
        return [
            *([] if self.segmentation is None else [(Role.SEGMENTATION, self.segmentation)]),
            *((Role.PARAMETRIC_MAP, path) for path in self.maps),
            *self.more,
            *([] if self.marks is None else [(Role.MARKS, self.marks)]),
            (Role.REPORT, self.report),
        ]

    def check(self) -> None:
        check_results(self.asked, self.written)


def make(
    folder: Path,
    kind: Kind | str = "axial CT",
    *,
    said: Findings | None = None,
    of: Source | None = None,
    run: Run | None = None,
    profile: Profile = DEFAULT,
    pictures: Pictures | None = None,
) -> Made:
    """Encode `said` (two lungs, if left out) of a source of `kind` into `folder`."""
    kind = KINDS[kind] if isinstance(kind, str) else kind
    of = of or source(kind)
    run = run or a_run(of)
    said = said or findings(kind)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[Role, list[Path]] = defaultdict(list)
    for role, dataset in encoders.make(asked(said, of, run, profile=profile, pictures=pictures)):
        number = len(files[role]) if role is Role.PARAMETRIC_MAP or files[role] else ""
        files[role].append(folder / f"{_NAMES.get(role, role)}{number}.dcm")
        write(dataset, files[role][-1])
    parts = files.pop(Role.SEGMENTATION, [])
    maps, marks, (report,) = (
        files.pop(Role.PARAMETRIC_MAP, []),
        files.pop(Role.MARKS, []),
        files.pop(Role.REPORT),
    )
    more = [(Role.SEGMENTATION, path) for path in parts[1:]]
    more += [(role, path) for role, paths in files.items() for path in paths]
    return Made(
        said,
        of,
        run,
        report,
        next(iter(parts), None),
        tuple(maps),
        next(iter(marks), None),
        tuple(more),
        profile,
        pictures,
    )


_NAMES = {Role.PARAMETRIC_MAP: "map"}


def asked(said: Findings, of: Source, run: Run | None = None, **more: Any) -> Asked:
    """What an encoder is asked for, of one series; `more` are further fields of `Asked`."""
    return Asked(findings=said, source=of, run=run or a_run(of), **more)
