"""A shadow version against the active one: what the two said of the same images, study by study."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from console.settings import Site
from console.tables import plain_table
from dicom_node.spool import Spool
from ledger.job import JobRecord
from ledger.result import Role, of_one_plan
from ledger.store.ledger import Ledger
from results.difference import Difference, SegmentDifference, difference

_COMPARED = (Role.SEGMENTATION, Role.REPORT)


@dataclass(frozen=True, slots=True)
class Compared:
    """The active version's job, the shadow's of the same images, and what they say differently."""

    active: JobRecord
    shadow: JobRecord
    difference: Difference | None  #: None: the files of one of them were deleted with their study


def compare(site: Site, ledger: Ledger, name: str, limit: int = 20) -> Iterator[Compared]:
    """The last runs of `name` that had a shadow, the latest first."""
    for active, shadow in ledger.shadow_pairs(name, limit):
        yield Compared(active, shadow, compare_pair(site, ledger, active, shadow))


def compare_pair(site: Site, ledger: Ledger, active: JobRecord, shadow: JobRecord) -> Difference | None:
    """What two runs on the same images say differently; None where the files of one were deleted."""
    spool = Spool(site.spool)
    paths = [
        [spool.absolute(one.path) for one in of_one_plan(ledger.results_of(job.id)) if one.role in _COMPARED]
        for job in (active, shadow)
    ]
    here = all(own and all(path.exists() for path in own) for own in paths)
    return difference(*paths) if here else None


def print_differences(site: Site, ledger: Ledger, name: str, console: Console, limit: int = 20) -> None:
    """A line for each study: what the two said, and how long each took."""
    table = plain_table("Jobs", "Active", "Shadow", "Segments", "Values", "Time")
    count = alike = 0
    for one in compare(site, ledger, name, limit):
        count += 1
        alike += one.difference is not None and one.difference.none
        table.add_row(
            f"{one.active.id} / {one.shadow.id}",
            f"{one.active.model.partition('@')[2]}: {one.active.outcome}",
            f"{one.shadow.model.partition('@')[2]}: {one.shadow.outcome}",
            *_said(one.difference),
            f"{_seconds(one.active)} / {_seconds(one.shadow)}",
        )
    if not count:
        console.print(f"No study was analysed by {name} and by a shadow of it yet.")
        return
    console.print(table)
    console.print(f"\n{count} studies compared, {alike} with the same result.")


def _said(found: Difference | None) -> tuple[Text | str, Text | str]:
    if found is None:
        return Text("files are gone", "dim"), ""
    segments = "\n".join(_segment(one) for one in found.segments) or "–"
    values = [
        f"{one.about} {one.name}: {one.first or '–'} → {one.second or '–'}".strip() for one in found.values
    ]
    more = f"\nand {len(values) - 4} more" if len(values) > 4 else ""
    return segments, ("\n".join(values[:4]) + more) or "the same"


def _segment(one: SegmentDifference) -> str:
    first, second = one.voxels
    if one.voxel_mm3 is None:
        return f"{one.label}: Dice {one.dice:.3f}, {second - first:+d} pixels"
    return f"{one.label}: Dice {one.dice:.3f}, {(second - first) * one.voxel_mm3 / 1000:+.1f} mL"


def _seconds(job: JobRecord) -> str:
    return f"{job.timings.get('model', 0.0):.1f} s"
