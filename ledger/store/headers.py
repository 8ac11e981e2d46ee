"""What of an arrival's headers becomes a column. A value that cannot be read is absent, never an error."""

import math
from collections.abc import Mapping

from ledger.study import Arrival, StudyState


def study_values(arrival: Arrival, now: float) -> dict[str, object]:
    """The columns of a study that begins with `arrival`: open, and empty so far."""
    headers = arrival.headers
    return {
        "uid": arrival.study.value,
        "state": StudyState.OPEN,
        "generation": 0,
        "instances": 0,
        "series": 0,
        "first_arrival_at": now,
        "opened_at": now,
        "last_arrival_at": now,
        "closed_at": None,
        "closed_because": None,
        "closed_as": None,
        "calling": arrival.calling.value,
        "patient_id": headers.get("PatientID", "").strip(" \0"),
        "patient_name": headers.get("PatientName", "").strip(" \0"),
        "accession_number": headers.get("AccessionNumber", "").strip(" \0"),
        "study_date": headers.get("StudyDate", "").strip(" \0"),
        "description": headers.get("StudyDescription", "").strip(" \0"),
    }


def series_values(arrival: Arrival, study_id: int) -> dict[str, object]:
    """The columns of a series that begins with `arrival`."""
    return {
        "study_id": study_id,
        "uid": arrival.series.value,
        "modality": arrival.headers.get("Modality", "").strip(" \0"),
        "headers": dict(arrival.headers),
        "instances": 0,
    }


def instance_values(arrival: Arrival, *, study_id: int, series_id: int, now: float) -> dict[str, object]:
    """The columns of an instance."""
    headers = arrival.headers
    position = _decimals(headers, "ImagePositionPatient", 3)
    return {
        "study_id": study_id,
        "series_id": series_id,
        "sop_instance": arrival.sop_instance.value,
        "sop_class": arrival.sop_class.value,
        "transfer_syntax": arrival.transfer_syntax.value,
        "digest": arrival.digest.value,
        "size": arrival.size,
        "path": arrival.path,
        "calling": arrival.calling.value,
        "called": arrival.called.value,
        "address": arrival.address,
        "received_at": now,
        "instance_number": _integer(headers, "InstanceNumber"),
        # Absent means one (PS3.3 §C.7.6.6: it is required of multi-frame images only).
        "frames": max(1, _integer(headers, "NumberOfFrames") or 1),
        "position": position,
        "orientation": _decimals(headers, "ImageOrientationPatient", 6),
        # A thousand slices say a thousand times the same; of a radiograph each says what it is.
        "headers": dict(headers) if position is None else None,
    }


def _integer(headers: Mapping[str, str], keyword: str) -> int | None:
    text = headers.get(keyword, "").strip(" \0")
    # IS holds at most 12 characters and 32 bits (PS3.5 §6.2).
    if not text or len(text) > 12 or not text.isascii():
        return None
    try:
        number = int(text)
    except ValueError:
        return None
    return number if -(2**31) <= number < 2**31 else None


def _decimals(headers: Mapping[str, str], keyword: str, count: int) -> list[float] | None:
    parts = headers.get(keyword, "").split("\\")
    if len(parts) != count:
        return None
    try:
        numbers = [float(part.strip(" \0")) for part in parts]
    except ValueError:
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None
