"""QIDO-RS (PS3.18 §10.6): a query string becomes a filter, and studies become answers.

Levels contain each other, so one walk answers them all: studies that match, in them series that match, in
them instances. The database narrows the studies; the rest is compared here, attribute by attribute, with
the rules of PS3.4 §C.2.2.2: single values, lists of UIDs, wildcards and ranges of dates and times.
"""

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from dicom_node.dicomweb.attributes import Json, described, element, keyword_of, tag_of, vr_of
from dicom_node.dicomweb.refusals import BadRequest
from dicom_node.headers import Headers
from ledger.holding import HeldInstance, HeldSeries, HeldStudy, StudyFilter, fits, name_fits
from ledger.identifiers import Uid

_PARAMETERS_MAXIMUM = 64
_VALUE_MAXIMUM = 1024  # characters; a list of UIDs is the longest
_UIDS_MAXIMUM = 500
_STARS_MAXIMUM = 8  # A database takes long over many of them.
_DAY = re.compile(r"\d{8}")
_RANGED = frozenset({"DA", "TM", "DT"})
_UNMATCHED = frozenset({"SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN", "AT"})

#: What an answer always has where the instance has it (PS3.18 §10.6.3.3, and what viewers list besides).
STUDY = [
    "SpecificCharacterSet",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDescription",
]
SERIES = [
    "Modality",
    "SeriesDescription",
    "SeriesNumber",
    "SeriesDate",
    "SeriesTime",
    "BodyPartExamined",
    "Laterality",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "TimezoneOffsetFromUTC",
]
INSTANCE = [
    "InstanceNumber",
    "Rows",
    "Columns",
    "BitsAllocated",
    "NumberOfFrames",
    "TimezoneOffsetFromUTC",
    "ContentDate",
    "ContentTime",
]


class Level(IntEnum):
    """What is asked for."""

    STUDY = 0
    SERIES = 1
    INSTANCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query, parsed. `match` holds patterns by tag that are compared here."""

    level: Level
    studies: StudyFilter
    match: Mapping[str, str]
    include: frozenset[str]  #: keywords
    include_all: bool
    limit: int | None
    offset: int
    fuzzy: bool  #: asked for, and not done: only literal matching is


def parse_query(
    level: Level, pairs: Iterable[tuple[str, str]], *, study: Uid | None, series: Uid | None
) -> Query:
    """The query that the parameters `pairs` ask below the resources `study` and `series`.

    Raises `BadRequest` for a parameter or a value that is none.
    """
    match: dict[str, str] = {}
    include: set[str] = set()
    include_all, fuzzy = False, False
    limit, offset = None, 0
    for count, (name, value) in enumerate(pairs):
        if count >= _PARAMETERS_MAXIMUM or len(value) > _VALUE_MAXIMUM * 8:
            raise BadRequest("the query has too many parameters, or too long ones")
        if name == "limit":
            limit = _number(value, name)
        elif name == "offset":
            offset = _number(value, name)
        elif name == "fuzzymatching":
            fuzzy = value.lower() == "true"
        elif name == "includefield":
            fields = {field.strip() for field in value.split(",")}
            include_all |= "all" in fields
            include |= {keyword_of(_tag(field)) for field in fields - {"all"}}
        elif value not in ("", "*"):  # universal matching
            match[_tag(name)] = _pattern(_tag(name), value)
    if level is Level.STUDY and any(_level_of(keyword_of(tag)) is not Level.STUDY for tag in match):
        raise BadRequest("studies are matched by attributes of studies only, such as ModalitiesInStudy")
    if study is not None:
        match[_tag("StudyInstanceUID")] = str(study)
    if series is not None:
        match[_tag("SeriesInstanceUID")] = str(series)
    return Query(
        level=level,
        studies=_study_filter(match),
        match=match,
        include=frozenset(include - {""}),
        include_all=include_all,
        limit=limit,
        offset=offset,
        fuzzy=fuzzy,
    )


def _number(value: str, name: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise BadRequest(f"{name} has to be a whole number")
    return int(value)


def _tag(name: str) -> str:
    if "." in name:
        raise BadRequest("attributes within sequences cannot be asked for: only those of the top level")
    tag = tag_of(name)
    if tag is None:
        raise BadRequest(
            "the query names an attribute that is neither a keyword nor eight hexadecimal digits"
        )
    return tag


def _pattern(tag: str, value: str) -> str:
    vr = vr_of(tag)
    if vr in _UNMATCHED or not keyword_of(tag):
        raise BadRequest(f"attribute {tag} cannot be matched")
    if (
        len(value) > (_VALUE_MAXIMUM if vr != "UI" else 65 * _UIDS_MAXIMUM)
        or value.count("*") > _STARS_MAXIMUM
    ):
        raise BadRequest(f"the value for {tag} is too long or has more than {_STARS_MAXIMUM} wildcards")
    if vr == "UI":
        uids = re.split(r"[,\\]", value)
        try:
            return "\\".join(str(Uid.parse(uid)) for uid in uids[:_UIDS_MAXIMUM])
        except ValueError as error:
            raise BadRequest(f"the value for {tag} is no UID, nor a list of them") from error
    if vr == "DA" and not all(_DAY.fullmatch(end) or not end for end in value.split("-", 1)):
        raise BadRequest(f"the value for {tag} is no date (YYYYMMDD), nor a range of two of them")
    return value


def _study_filter(match: Mapping[str, str]) -> StudyFilter:
    """What of the match the database can narrow by."""
    uids = match.get(_tag("StudyInstanceUID"))
    days = match.get(_tag("StudyDate"))
    first, dash, last = (days or "").partition("-")
    return StudyFilter(
        studies=None if uids is None else tuple(Uid.parse(uid) for uid in uids.split("\\")),
        patient_id=match.get(_tag("PatientID")),
        patient_name=match.get(_tag("PatientName")),
        accession_number=match.get(_tag("AccessionNumber")),
        study_dates=None if days is None else (first, last if dash else first),
    )


def answers(
    query: Query, studies: Iterable[HeldStudy], read: Callable[[HeldInstance], Headers]
) -> Iterator[Json]:
    """The matches among `studies`, from `offset` on and without a limit, each as DICOM JSON.

    `read` gives the headers of an instance; it is asked as seldom as possible. The entry "study" and so on
    with Retrieve URLs is added by whoever knows our address.
    """
    return itertools.islice(_walk(query, studies, read), query.offset, None)


def _walk(
    query: Query, studies: Iterable[HeldStudy], read: Callable[[HeldInstance], Headers]
) -> Iterator[Json]:
    for study in studies:
        of_study = _study_headers(study, read)
        facts = _study_facts(study)
        if not _fits(query, Level.STUDY, of_study | facts):
            continue
        if query.level is Level.STUDY:
            yield _json(query, of_study, STUDY, facts)
            continue
        for series in study.series:
            of_series = _series_headers(series, read)
            known = {"SeriesInstanceUID": str(series.series), "Modality": series.modality}
            if not _fits(query, Level.SERIES, of_series | known):
                continue
            if query.level is Level.SERIES:
                count = {"NumberOfSeriesRelatedInstances": str(series.count)}
                yield _json(query, of_series | of_study, [*STUDY, *SERIES], facts | known | count)
                continue
            for instance in series.instances:
                mine = {
                    "SOPClassUID": str(instance.sop_class),
                    "SOPInstanceUID": str(instance.sop_instance),
                }
                # Reading a file is dear: compare first what the ledger knows.
                if not _fits(query, Level.INSTANCE, mine, only=mine.keys()):
                    continue
                headers = {**read(instance), **mine}
                if _fits(query, Level.INSTANCE, headers):
                    yield _json(query, headers | of_study, [*STUDY, *SERIES, *INSTANCE], facts | known | mine)


def _study_headers(study: HeldStudy, read: Callable[[HeldInstance], Headers]) -> dict[str, str]:
    headers = _series_headers(study.series[0], read) if study.series else {}
    return headers | {
        "PatientID": study.patient_id,
        "PatientName": study.patient_name,
        "AccessionNumber": study.accession_number,
        "StudyDate": study.study_date,
        "StudyDescription": study.description,
    }


def _series_headers(series: HeldSeries, read: Callable[[HeldInstance], Headers]) -> dict[str, str]:
    return dict(series.headers or read(series.instances[0]))


def _study_facts(study: HeldStudy) -> dict[str, str]:
    return {
        "StudyInstanceUID": str(study.study),
        "ModalitiesInStudy": "\\".join(study.modalities),
        "NumberOfStudyRelatedSeries": str(len(study.series)),
        "NumberOfStudyRelatedInstances": str(sum(series.count for series in study.series)),
        "InstanceAvailability": "ONLINE",
    }


_OF_STUDIES = frozenset(
    {*STUDY, "StudyInstanceUID", "ModalitiesInStudy", "NumberOfStudyRelatedSeries"}
    | {"NumberOfStudyRelatedInstances", "InstanceAvailability"}
)
_OF_SERIES = frozenset([*SERIES, "SeriesInstanceUID"]) - _OF_STUDIES


def _level_of(keyword: str) -> Level:
    if keyword in _OF_STUDIES:
        return Level.STUDY
    return Level.SERIES if keyword in _OF_SERIES else Level.INSTANCE


def _fits(
    query: Query, level: Level, headers: Mapping[str, str], *, only: Collection[str] | None = None
) -> bool:
    """Whether `headers` match in what belongs to `level`; an attribute of a level below the one that is asked
    for is compared there, with the first instance of a series.
    """
    return all(
        _matches(tag, pattern, headers.get(keyword_of(tag), ""))
        for tag, pattern in query.match.items()
        if min(_level_of(keyword_of(tag)), query.level) == level and (only is None or keyword_of(tag) in only)
    )


def _matches(tag: str, pattern: str, value: str) -> bool:
    vr = vr_of(tag)
    if vr == "UI":
        return value in pattern.split("\\")
    if vr == "PN":
        return any(name_fits(pattern, name) for name in value.split("\\"))
    if vr in _RANGED and "-" in pattern:
        first, _, last = pattern.partition("-")
        # A time may be given to the minute; the end of a range includes all that begins with it.
        return bool(value) and (first or "0") <= value and (not last or value[: len(last)] <= last)
    if vr == "TM":
        return value.startswith(pattern.rstrip("0") if len(pattern) > 6 else pattern)
    return any(fits(pattern, each.strip(" ")) for each in value.split("\\"))


def _json(query: Query, headers: Mapping[str, str], wanted: Iterable[str], facts: Mapping[str, str]) -> Json:
    keywords = headers.keys() if query.include_all else {*wanted, *query.include} & headers.keys()
    entry = described({**{keyword: headers[keyword] for keyword in keywords}, **facts})
    # Ours is always UTF-8, whatever the instance was written in (PS3.18 §F.2).
    entry.pop("00080005", None)
    return {"00080005": element("00080005", "ISO_IR 192"), **entry}
