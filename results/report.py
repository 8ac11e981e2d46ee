"""
Findings → Comprehensive 3D SR (PS3.3 §A.35.13) with TID 1500 as root: the document that everything else hangs
on.

Every run makes one, also a run that found nothing or refused: silence could not be told from "not processed".
It refers to every other object of the run: to segments and maps where their values are, to the rest in a
container at its end.

**The title** is (126001, DCM, Oncology Measurement Report), though few of our reports are about tumours. TID
1500 has four titles (CID 7021), and OHIF (3.13.2, tried with these very reports) takes the first of them,
126000, to mean "draw the findings on the images". Findings that are segments leave its viewport black; with a
box on a slice added to each it shows a mean and an area of the box that it computed itself, where a reader
expects ours; and a report without any finding stops the viewer with an error. Under each of the other titles
it shows the report as text with every value and sentence. 126002 and 126003 would claim a modality, so this
one is the least wrong. What was done is said by Procedure Reported and the algorithm, never by the title; a
change of heart is a change of `codes.TITLE`.
"""

from collections.abc import Iterator, Mapping, Sequence

from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.profile import ReportTitle
from ledger.result import Role
from results import codes
from results.asked import Asked
from results.document import OUTCOMES, document, finish
from results.finding_groups import box_group, map_group, point_group, verdict_group
from results.findings import Concept, Findings
from results.follow_up import derived_measurements, grade_group, recommendation_group
from results.grid import NotEncodable, grid_of
from results.leaves import container_of_leaves
from results.lesions import lesion_numbers
from results.measurements import Group, segment_group, series_group
from results.occupied import Drawn, drawn_segments
from results.outline import lesions
from results.parametric_map import kept_maps
from results.provenance import Predecessor
from results.references import hierarchy, referenced_instances
from results.words import long_string

COMPREHENSIVE_3D_SR_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.88.34")

TITLES: Mapping[ReportTitle, Concept] = {"imaging": codes.DRAWN_TITLE, "oncology": codes.TITLE}


def build(asked: Asked) -> list[Dataset]:
    """The report, without file meta information. Raises `NotEncodable`."""
    findings, run = asked.findings, asked.run
    check_labels(findings)
    drawn = drawn_segments(findings)
    leaves = [leaf for role in Role if not role.is_root for leaf in asked.of(role)]
    groups = [*_groups(asked, drawn)]
    named = {instance for group in groups for item in group for _, instance in referenced_instances(item)}
    rest = [
        (role, leaf)
        for role in Role
        if not role.is_root
        for leaf in asked.of(role)
        if str(leaf.SOPInstanceUID) not in named
    ]
    dataset = document(
        asked,
        Role.REPORT,
        sop_class=COMPREHENSIVE_3D_SR_STORAGE,
        title=TITLES[asked.profile.report_title],
        groups=groups,
        drawn=drawn,
        further=[*derived_measurements(findings, run), *container_of_leaves(rest)],
        variant=report_variant(asked),
    )
    if run.predecessor is not None:
        dataset.PredecessorDocumentsSequence = [_predecessor(run.predecessor)]
    finish(dataset, asked, leaves)
    return [dataset]


def report_variant(asked: Asked) -> str:
    """What else than the run makes the report what it is: its title, and all that it refers to."""
    leaves = asked.naming(*(role for role in Role if role is not Role.REPORT))
    return f"{asked.profile.report_title} report of {leaves}"


def check_labels(findings: Findings) -> None:
    """Raise `NotEncodable` where two findings of a kind could not be told apart."""
    for kind in (
        findings.boxes,
        findings.points,
        findings.verdicts,
        findings.maps,
        findings.grades,
        findings.recommendations,
    ):
        labels = [long_string(one.label) for one in kind]
        if len(set(labels)) < len(labels) or not all(labels):
            raise NotEncodable(
                f"two findings of the kind {type(kind[0]).__name__} have the same label, or one has none"
            )


def _groups(asked: Asked, drawn: Sequence[Drawn]) -> Iterator[Group]:
    """First what is said of the whole, then what lies somewhere."""
    findings, source, run = asked.findings, asked.source, asked.run
    empty = True
    for group in _told(asked, drawn):
        empty = False
        yield group
    if findings.measurements or empty:
        yield series_group(findings, OUTCOMES[findings.outcome], source=source, run=run)


def _told(asked: Asked, drawn: Sequence[Drawn]) -> Iterator[Group]:
    findings, source, run = asked.findings, asked.source, asked.run
    for verdict in findings.verdicts:
        yield verdict_group(verdict, source=source, run=run)
    for grade in findings.grades:
        yield grade_group(grade, findings, source=source, run=run)
    for recommendation in findings.recommendations:
        yield recommendation_group(recommendation, findings, source=source, run=run)
    grid = grid_of(source) if findings.boxes or findings.points or drawn else None
    if grid is not None:
        for box in findings.boxes:
            yield box_group(box, grid=grid, run=run)
        for point in findings.points:
            yield point_group(point, grid=grid, run=run)
        sizes = {one.drawn.number: [*lesion_numbers(one, grid)] for one in lesions(findings, drawn, grid)}
        places = _places(asked.of(Role.SEGMENTATION))
        for item in drawn:
            yield segment_group(item, sizes.get(item.number), places, source=source, run=run)
    for one, dataset in zip(kept_maps(findings, source), asked.of(Role.PARAMETRIC_MAP), strict=False):
        yield map_group(one, dataset, run=run)


def _places(segmentations: Sequence[Dataset]) -> Mapping[str, tuple[str, str, int]]:
    """By Tracking UID: (SOP Class, SOP Instance, Segment Number) of the first that has the segment."""
    found: dict[str, tuple[str, str, int]] = {}
    for one in segmentations:
        for item in one.SegmentSequence:
            place = (str(one.SOPClassUID), str(one.SOPInstanceUID), int(item.SegmentNumber))
            found.setdefault(str(item.get("TrackingUID", "")), place)
    return found


def _predecessor(report: Predecessor) -> Dataset:
    """The report that this one replaces (PS3.3 §C.17.2): a late image must not leave two that look alike."""
    named = (str(report.series), str(report.sop_instance), str(report.sop_class))
    return hierarchy(str(report.study), [named])
