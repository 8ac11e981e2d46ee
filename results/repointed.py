"""
A report, or key images, for an archive that has not what they refer to.

The report said where the label map is, which this archive refused: it gets one that says where the binary
segmentation is, and nothing else otherwise. Key images that list what was refused list it no more.
"""

import copy
from collections.abc import Iterator, Sequence

from pydicom import Dataset

from ledger.identifiers import Uid
from results.expect import expect
from results.in_place import NEXT_SERIES, name_of, numbers_of
from results.uids import in_place_uid


def repointed(
    document: Dataset, pairs: Sequence[tuple[Dataset, Dataset]], without: Sequence[Dataset] = ()
) -> Dataset:
    """`document` (a report, or key images), without file meta information, referring to the second of each of
    `pairs` where it referred to the first: (refused, sent instead). What it lists of `without` it lists no
    more, which only key images can do: what a report says of a segment, it says by referring to it.
    """
    other = copy.deepcopy(document)
    uids = [Uid(one.SOPInstanceUID) for one in (document, *(new for _, new in pairs), *without)]
    other.SOPInstanceUID = str(in_place_uid(uids, "instance"))
    other.SeriesInstanceUID = str(in_place_uid(uids, "series"))
    other.SeriesNumber = int(document.SeriesNumber) + NEXT_SERIES
    _leave_out(other, {str(one.SOPInstanceUID) for one in without})
    by_uid = {str(old.SOPInstanceUID): (old, new) for old, new in pairs}
    for reference in _references(other):
        if (pair := by_uid.get(str(reference.ReferencedSOPInstanceUID))) is not None:
            old, new = pair
            reference.ReferencedSOPClassUID = new.SOPClassUID
            reference.ReferencedSOPInstanceUID = new.SOPInstanceUID
            if "ReferencedSegmentNumber" in reference:
                numbers = numbers_of(old, new)
                reference.ReferencedSegmentNumber = numbers[int(reference.ReferencedSegmentNumber)]
    series = {str(old.SeriesInstanceUID): str(new.SeriesInstanceUID) for old, new in pairs}
    for study in other.get("CurrentRequestedProcedureEvidenceSequence", []):
        for item in study.ReferencedSeriesSequence:
            item.SeriesInstanceUID = series.get(str(item.SeriesInstanceUID), str(item.SeriesInstanceUID))
    return other


def _leave_out(document: Dataset, gone: set[str]) -> None:
    """Items of the content, marks on an image that it lists, and entries of the evidence."""
    document.ContentSequence = [
        item
        for item in document.ContentSequence
        if not any(str(one.ReferencedSOPInstanceUID) in gone for one in item.get("ReferencedSOPSequence", []))
    ]
    for item in document.ContentSequence:
        for image in item.get("ReferencedSOPSequence", []):
            shown_by = image.get("ReferencedSOPSequence", [])
            if any(str(one.ReferencedSOPInstanceUID) in gone for one in shown_by):
                del image.ReferencedSOPSequence
    for study in document.get("CurrentRequestedProcedureEvidenceSequence", []):
        for series in study.ReferencedSeriesSequence:
            series.ReferencedSOPSequence = [
                one for one in series.ReferencedSOPSequence if str(one.ReferencedSOPInstanceUID) not in gone
            ]
        study.ReferencedSeriesSequence = [
            series for series in study.ReferencedSeriesSequence if series.ReferencedSOPSequence
        ]


def check_repointed(
    other: Dataset,
    document: Dataset,
    pairs: Sequence[tuple[Dataset, Dataset]],
    without: Sequence[Dataset] = (),
) -> None:
    """Raise `CheckFailed` unless `other`, as read back, is `document` with other references."""
    what = f"{'key images' if document.Modality == 'KO' else 'report'} in place"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        expect(other[keyword].value != document[keyword].value, f"{what}: has the {keyword} of the first")
    absent = {str(one.SOPInstanceUID) for one in without}
    gone = absent | {str(old.SOPInstanceUID) for old, _ in pairs}
    used = _used(other)
    expect(not gone & {uid for _, uid, _ in used}, f"{what}: refers to what was refused")
    meant = _as_meant(_used(document), pairs, without)
    expect(used == meant, f"{what}: refers to something else than the first")
    expect(
        _listed(other) == _as_listed(document, pairs, without), f"{what}: its evidence is not what it names"
    )
    said, first = (_said(one, absent) for one in (other, document))
    expect(said == first, f"{what}: says something else than the first")


#: SOP class, SOP instance, and the name of the segment that is meant, if one is.
_Used = tuple[str, str, str]


def _used(document: Dataset) -> list[_Used]:
    """What the content names, in its order; segments by number."""
    return [
        (
            str(one.ReferencedSOPClassUID),
            str(one.ReferencedSOPInstanceUID),
            str(one.get("ReferencedSegmentNumber", "")),
        )
        for one in _in_content(document)
    ]


def _as_meant(
    used: Sequence[_Used], pairs: Sequence[tuple[Dataset, Dataset]], without: Sequence[Dataset]
) -> list[_Used]:
    """What has to be named for `used`: the segment of the same label, whatever its number."""
    gone = {str(one.SOPInstanceUID) for one in without}
    swap = {str(old.SOPInstanceUID): (old, new) for old, new in pairs}
    meant = []
    for sop_class, uid, number in used:
        if uid in swap:
            old, new = swap[uid]
            meant.append((str(new.SOPClassUID), str(new.SOPInstanceUID), _same_segment(number, old, new)))
        elif uid not in gone:
            meant.append((sop_class, uid, number))
    return meant


def _same_segment(number: str, old: Dataset, new: Dataset) -> str:
    if not number:
        return ""
    (name,) = [name_of(one) for one in old.SegmentSequence if str(one.SegmentNumber) == number]
    (there,) = [str(one.SegmentNumber) for one in new.SegmentSequence if name_of(one) == name]
    return there


def _listed(document: Dataset) -> list[tuple[str, str, str, str]]:
    """(study, series, SOP class, SOP instance) of the evidence, sorted."""
    return sorted(
        (
            str(study.StudyInstanceUID),
            str(series.SeriesInstanceUID),
            str(one.ReferencedSOPClassUID),
            str(one.ReferencedSOPInstanceUID),
        )
        for study in document.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    )


def _as_listed(
    document: Dataset, pairs: Sequence[tuple[Dataset, Dataset]], without: Sequence[Dataset]
) -> list[tuple[str, str, str, str]]:
    gone = {str(one.SOPInstanceUID) for one in without}
    swap = {
        str(old.SOPInstanceUID): (str(new.SeriesInstanceUID), str(new.SOPClassUID), str(new.SOPInstanceUID))
        for old, new in pairs
    }
    return sorted(
        (study, *swap.get(uid, (series, sop_class, uid)))
        for study, series, sop_class, uid in _listed(document)
        if uid not in gone
    )


def _said(document: Dataset, gone: set[str]) -> Dataset:
    """Everything but where it points to, and nothing of items that are about what is `gone`."""
    own = {"SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "CurrentRequestedProcedureEvidenceSequence"}
    bare = Dataset()
    bare.update({e.tag: copy.deepcopy(e) for e in document if e.keyword not in own})
    about = [
        [str(one.ReferencedSOPInstanceUID) for one in _in_content(item)] for item in bare.ContentSequence
    ]
    kept = zip(bare.ContentSequence, about, strict=True)
    bare.ContentSequence = [item for item, uids in kept if not uids or uids[0] not in gone]
    for reference in list(_in_content(bare)):
        for keyword in _POINTING:
            if keyword in reference:
                delattr(reference, keyword)
    return bare


_POINTING = (
    "ReferencedSOPClassUID",
    "ReferencedSOPInstanceUID",
    "ReferencedSegmentNumber",
    "ReferencedSOPSequence",
)


def _references(document: Dataset) -> Iterator[Dataset]:
    """Every reference of the content tree, and of the evidence."""
    yield from _in_content(document)
    for study in document.get("CurrentRequestedProcedureEvidenceSequence", []):
        for series in study.ReferencedSeriesSequence:
            yield from series.ReferencedSOPSequence


def _in_content(item: Dataset) -> Iterator[Dataset]:
    """References, and those within them: an image and the presentation state that it shall be shown with."""
    for reference in item.get("ReferencedSOPSequence", []):
        yield reference
        yield from reference.get("ReferencedSOPSequence", [])
    for child in item.get("ContentSequence", []):
        yield from _in_content(child)
