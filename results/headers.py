"""What every result says before it says anything: whose it is, which series, which equipment, and when."""

from datetime import datetime, timedelta, timezone

from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.result import Role
from results.asked import Asked
from results.identity import copy_identity
from results.observer import contributing_equipment, general_equipment
from results.profile import series_number
from results.provenance import Run


def result_headers(
    asked: Asked,
    role: Role,
    *,
    sop_class: Uid,
    series_description: str,
    index: int = 0,
    name: str = "",
    variant: str = "",
) -> Dataset:
    """The modules that all results share.

    `index` counts the objects of a role from 0. `name` is what the object is called in its UIDs, where that
    is not its role; `variant` is as in `Asked.uid`.
    """
    source, run = asked.source, asked.run
    name = name or role
    dataset = Dataset()
    copy_identity(source.first, dataset)
    at = local_time(run, dataset)
    date, time = at.strftime("%Y%m%d"), at.strftime("%H%M%S.%f")

    # SOP Common
    dataset.SOPClassUID = str(sop_class)
    dataset.SOPInstanceUID = str(asked.uid(name, "instance", variant))
    dataset.InstanceCreationDate = date
    dataset.InstanceCreationTime = time
    dataset.InstanceNumber = 1  # each result is alone in its series: viewers show only the last of several

    # General Series
    dataset.Modality = role.modality
    dataset.SeriesInstanceUID = str(asked.uid(name, "series", variant))
    dataset.SeriesNumber = series_number(asked.profile, role, index)
    dataset.SeriesDescription = series_description
    dataset.SeriesDate, dataset.SeriesTime = date, time
    dataset.ContentDate, dataset.ContentTime = date, time
    body_part = source.first.get("BodyPartExamined")
    if body_part:
        dataset.BodyPartExamined = body_part
        # Laterality is Type 2C: only for a paired body part, and only what the source says of it.
        if source.first.get("Laterality") in {"L", "R"}:
            dataset.Laterality = source.first.Laterality

    general_equipment(dataset, run)
    dataset.ContributingEquipmentSequence = contributing_equipment(source.first, run)
    return dataset


def local_time(run: Run, dataset: Dataset) -> datetime:
    """The run's time on the clock that the study's own times are told by.

    Where the source states its offset from UTC (0008,0201), that; else the zone that the run's time came
    with.
    """
    offset = str(dataset.get("TimezoneOffsetFromUTC") or "")
    try:
        sign, hours, minutes = offset[0], int(offset[1:3]), int(offset[3:5])
        apart = timedelta(hours=hours, minutes=minutes)
        return run.at.astimezone(timezone(-apart if sign == "-" else apart))
    except (IndexError, ValueError):
        return run.at
