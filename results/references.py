"""References to other instances: what a content tree points to, and the same by study and series."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from pydicom import Dataset


def referenced_instances(item: Dataset) -> Iterator[tuple[str, str]]:
    """(SOP Class UID, SOP Instance UID) of everything that the content tree below `item` points to."""
    for reference in item.get("ReferencedSOPSequence", []):
        yield str(reference.ReferencedSOPClassUID), str(reference.ReferencedSOPInstanceUID)
    for child in item.get("ContentSequence", []):
        yield from referenced_instances(child)


def hierarchy(study_uid: str, used: Sequence[tuple[str, str, str]]) -> Dataset:
    """(series, instance, SOP class), sorted, as references by study and series (PS3.3 §C.17.2.1)."""
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = []
    for series_uid, members in groupby(used, key=lambda member: member[0]):
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedSOPSequence = []
        for _, instance, sop_class in members:
            item = Dataset()
            item.ReferencedSOPClassUID = sop_class
            item.ReferencedSOPInstanceUID = instance
            series.ReferencedSOPSequence.append(item)
        study.ReferencedSeriesSequence.append(series)
    return study
