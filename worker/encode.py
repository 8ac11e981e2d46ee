"""From findings to the files that leave: encoded, written, read back and compared."""

import filecmp
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import Dataset

from ledger.result import Role
from results.check import CheckFailed, check_results
from results.finding_groups import point_numbers, verdict_numbers
from results.findings import Findings, Measurement
from results.follow_up import recommendation_numbers
from results.grid import grid_of
from results.lesions import lesion_numbers
from results.making import Asked, Shared, make
from results.measurements import certainty
from results.occupied import drawn_segments
from results.outline import lesions
from results.source import Source
from results.write import write
from worker.exchange import Finding, ResultFile


def warm_up() -> None:
    """Do once what costs time only the first time, so that no study waits for it."""
    # highdicom reads its tables of all IODs, half a second's worth, when it meets the first region.
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 0)], dtype=np.float64)
    image = hd.sr.SourceImageForRegion("1.2.840.10008.5.1.4.1.1.2", "1.2.3")
    hd.sr.ImageRegion(graphic_type="POLYLINE", graphic_data=square, source_image=image)


def encode(asked: Sequence[Asked], out: Path) -> list[list[ResultFile]]:
    """Write the results of each plan of a run into the folder `out`. What two plans have in common is one
    file, and nothing else may have its name. Leaves before the root: the report refers to all of them.
    """
    shared: Shared = {}
    written: dict[str, tuple[Dataset, ResultFile]] = {}
    taken: set[Path] = set()
    plans = []
    for one in asked:
        files = []
        for role, dataset in make(one, shared):
            uid = str(dataset.SOPInstanceUID)
            if uid not in written:
                written[uid] = dataset, _written(role, dataset, _free(out, role, taken))
            elif written[uid][0] is not dataset and not _same(dataset, Path(written[uid][1].path)):
                raise CheckFailed(f"two profiles make two objects of one SOP Instance UID: {role}, {uid}")
            files.append(written[uid][1])
        plans.append(files)
    return plans


def _same(dataset: Dataset, path: Path) -> bool:
    """Whether `dataset` is what was written to `path`, byte for byte: what two plans did not share may be."""
    again = path.with_suffix(".again")
    write(dataset, again)
    try:
        return filecmp.cmp(path, again, shallow=False)
    finally:
        again.unlink()


def check(asked: Asked, files: Sequence[ResultFile]) -> None:
    """Read `files` back and compare. Raises `CheckFailed`."""
    check_results(asked, [(one.role, Path(one.path)) for one in files])


def _free(out: Path, role: Role, taken: set[Path]) -> Path:
    """A name that this run has not taken: of some roles there are several, and of each plan a root."""
    names = (f"{role} {number}.dcm" if number > 1 else f"{role}.dcm" for number in count(1))
    path = next(out / name for name in names if out / name not in taken)
    taken.add(path)
    return path


def summary(findings: Findings, source: Source) -> Iterator[Finding]:
    """Every number, for people: as they are in the report, and under the same names."""
    for label, measurements in _measured(findings, source):
        for one in measurements:
            yield Finding(label=label, name=one.name.meaning, value=one.value, unit=one.unit.value)


def _measured(findings: Findings, source: Source) -> Iterator[tuple[str, Iterable[Measurement]]]:
    """(label, its measurements); the label of what is said of the whole is empty."""
    yield "", findings.measurements
    for verdict in findings.verdicts:
        yield verdict.label, verdict_numbers(verdict)
    for box in findings.boxes:
        yield box.label, (*certainty(box.score), *box.measurements)
    for point in findings.points:
        yield point.label, point_numbers(point)
    for one in findings.recommendations:
        yield one.label, recommendation_numbers(one)
    sizes: dict[str, list[Measurement]] = {}
    if any(segment.is_lesion for segment in findings.segments):
        grid = grid_of(source)
        for lesion in lesions(findings, drawn_segments(findings), grid):
            sizes[lesion.drawn.segment.label] = [*lesion_numbers(lesion, grid)]
    for segment in findings.segments:
        numbers = [*segment.measurements, *certainty(segment.score)]
        yield segment.label, sizes.get(segment.label, numbers)


def _written(role: Role, dataset: Dataset, path: Path) -> ResultFile:
    write(dataset, path)
    return ResultFile.of(dataset, role, path)
