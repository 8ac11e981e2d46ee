"""Questions to a peer's database over the web (QIDO-RS, PS3.18 §10.6), asked by dicomweb-client.

The same questions as C-FIND answers, with the same answers: `count_study`, `count_series` and
`find_instance` stand beside those of `counts` and `readback`. Nothing that a peer says of a match is believed
to be what was asked for.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import requests
from dicomweb_client import DICOMwebClient

from dicom_node.counts import CountedBy, SeriesCounts, StudyCount
from dicom_node.listing import ListedSeries, Listing
from dicom_node.peers import PeerSettings
from dicom_node.prior_search import check_askable, words
from dicom_node.priors import Candidate, PatientFacts
from dicom_node.query import QueryRefused
from dicom_node.send import EchoAnswer
from dicom_node.upper_layer import PeerConfused
from dicom_node.web_session import WebSession
from ledger.errors import PeerError
from ledger.identifiers import Uid
from ledger.implementation import IMPLEMENTATION_CLASS_UID

_STUDY, _SERIES, _SOP_INSTANCE = "0020000D", "0020000E", "00080018"
_OF_STUDY, _OF_SERIES = "00201208", "00201209"
_SOP_CLASS, _MODALITY, _MODALITIES, _DATE = "00080016", "00080060", "00080061", "00080020"
_NAME, _ID, _ISSUER, _BORN = "00100010", "00100020", "00100021", "00100030"
_PRIORS_MAX = 500  # studies of one patient, the first that the peer names
_PAGE = 1000  # instances of one answer; archives have limits of their own, and a full page is asked on
_NO_SERVICE = frozenset({400, 404, 405, 406, 501})
_LISTED_MAX = 200_000  # A series has no more; a peer that goes on for ever is not counted to the end.

#: Tag in hexadecimal → {"vr": …, "Value": […]} of one match (PS3.18 Annex F)
WebMatch = Mapping[str, Any]


class WebQuery:
    """A session for questions, and the client that asks them."""

    def __init__(self, peer: PeerSettings, session: WebSession) -> None:
        """Use `asking`."""
        self._peer = peer
        web = session.web
        self._client = DICOMwebClient(web.qido_url or web.url, session=session)
        # Whoever asks decides when to ask again; nobody sleeps in here.
        self._client.set_http_retry_params(retry=False)

    def studies(self, filters: Mapping[str, str], fields: Sequence[str], limit: int) -> list[WebMatch]:
        """At most `limit` studies that match `filters`, with `fields` beside the usual attributes."""
        found = self._client.search_for_studies(
            search_filters=dict(filters), fields=list(fields) or None, limit=limit
        )
        return _matches(found)[:limit]

    def series(self, study: Uid, fields: Sequence[str]) -> Iterator[WebMatch]:
        """All series of a study."""
        return self._pages(
            lambda offset: self._client.search_for_series(
                str(study), fields=list(fields), limit=_PAGE, offset=offset
            ),
            _SERIES,
        )

    def instances(self, study: Uid, series: Uid, **filters: str) -> Iterator[WebMatch]:
        """All instances of a series that match `filters`."""
        return self._pages(
            lambda offset: self._client.search_for_instances(
                str(study), str(series), search_filters=filters, limit=_PAGE, offset=offset
            ),
            _SOP_INSTANCE,
        )

    def _pages(self, ask: Any, key: str) -> Iterator[WebMatch]:
        """One page after the other, until one has nothing new: not all peers know `offset`."""
        seen: set[Uid] = set()
        while len(seen) < _LISTED_MAX:
            page = _matches(ask(len(seen)))
            new = {uid: match for match in page if (uid := uid_of(match, key)) and uid not in seen}
            yield from new.values()
            seen |= new.keys()
            # A page that is not full may still be one of many: a peer may give fewer than it was asked for.
            if not new:
                return
        raise PeerConfused(f"it lists more than {_LISTED_MAX} objects")


@contextmanager
def asking(peer: PeerSettings, *, deadline_s: float) -> Iterator[WebQuery]:
    """Raises `QueryRefused` where the peer answers no questions, or another `PeerError`."""
    with WebSession.to(peer, deadline_s=deadline_s) as session:
        try:
            yield WebQuery(peer, session)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in _NO_SERVICE:
                url = session.web.qido_url or session.web.url
                raise QueryRefused(
                    f"{peer.name} answered QIDO-RS with {status}: is {url} what stands before /studies?"
                ) from error
            raise
        except (ValueError, RecursionError, AttributeError, TypeError) as error:
            if isinstance(error, requests.RequestException):
                raise
            raise PeerConfused("its answer to QIDO-RS is not what the standard says") from error


def count_study(peer: PeerSettings, *, study: Uid, deadline_s: float) -> StudyCount | None:
    """How many instances `peer` has of the study; None where it does not know the study.

    Raises `QueryRefused`, or another `PeerError` where the peer is away or silent.
    """
    with asking(peer, deadline_s=deadline_s) as query:
        matches = query.studies({"StudyInstanceUID": str(study)}, [_OF_STUDY], limit=_PAGE)
        mine = [match for match in matches if uid_of(match, _STUDY) == study]
        if not mine:
            return None
        counted = [count for match in mine if (count := count_of(match, _OF_STUDY)) is not None]
        if counted:
            return StudyCount(max(counted), CountedBy.STUDY)
        series = _series(query, study)
        return StudyCount(sum(series.instances.values()), series.by)


def count_series(peer: PeerSettings, *, study: Uid, deadline_s: float) -> SeriesCounts:
    """How many instances `peer` has of each series of the study; none where it does not know the study.

    Raises as `count_study`.
    """
    with asking(peer, deadline_s=deadline_s) as query:
        return _series(query, study)


def find_instance(
    peer: PeerSettings, *, study: Uid, series: Uid, sop_instance: Uid, deadline_s: float
) -> bool:
    """Whether `peer` finds the instance where it belongs: in that series of that study.

    Raises as `count_study`: then nothing is known.
    """
    with asking(peer, deadline_s=deadline_s) as query:
        matches = query.instances(study, series, SOPInstanceUID=str(sop_instance))
        return any(uid_of(match, _SOP_INSTANCE) == sop_instance for match in matches)


def list_study(peer: PeerSettings, *, study: Uid, deadline_s: float) -> Listing:
    """What `peer` has of the study, as `listing.list_study` says it. Raises as `count_study`."""
    with asking(peer, deadline_s=deadline_s) as query:
        series = {}
        for match in query.series(study, [_MODALITY]):
            uid = uid_of(match, _SERIES)
            if uid is not None and uid_of(match, _STUDY) in (study, None):
                series[uid] = text_of(match, _MODALITY)
        listed = [ListedSeries(uid, said, _instances(query, study, uid)) for uid, said in series.items()]
        return Listing(study, tuple(listed))


def _instances(query: WebQuery, study: Uid, series: Uid) -> dict[Uid, Uid | None]:
    mine = (match for match in query.instances(study, series) if uid_of(match, _SERIES) in (series, None))
    return {uid: uid_of(match, _SOP_CLASS) for match in mine if (uid := uid_of(match, _SOP_INSTANCE))}


def studies_of_patient(peer: PeerSettings, *, patient: PatientFacts, deadline_s: float) -> list[Candidate]:
    """All studies that `peer` has under the patient's ID, as `prior_search` says it.

    Raises `prior_search.NoPatient`, and as `count_study`.
    """
    check_askable(patient)
    with asking(peer, deadline_s=deadline_s) as query:
        matches = query.studies({"PatientID": patient.patient_id}, [_ISSUER, _BORN, _MODALITIES], _PRIORS_MAX)
        found: dict[Uid, Candidate] = {}
        for match in matches:
            study = uid_of(match, _STUDY)
            if study is None:
                continue
            modalities = texts_of(match, _MODALITIES) or [
                text_of(each, _MODALITY) for each in query.series(study, [_MODALITY])
            ]
            found[study] = Candidate(
                study=study,
                on=text_of(match, _DATE),
                modalities=words(modalities),
                patient=PatientFacts(
                    patient_id=text_of(match, _ID),
                    issuer=text_of(match, _ISSUER),
                    born=text_of(match, _BORN),
                    name=text_of(match, _NAME),
                ),
            )
        return list(found.values())


def echo_web(peer: PeerSettings, deadline_s: float | None = None) -> EchoAnswer:
    """Whether `peer` answers a question over the web: for a study that nobody has."""
    began = time.monotonic()
    try:
        with asking(peer, deadline_s=deadline_s if deadline_s is not None else peer.deadline_s) as query:
            query.studies({"StudyInstanceUID": str(IMPLEMENTATION_CLASS_UID)}, [], limit=1)
    except PeerError as error:
        return EchoAnswer(False, str(error), time.monotonic() - began)
    return EchoAnswer(True, "QIDO-RS was answered", time.monotonic() - began)


def _series(query: WebQuery, study: Uid) -> SeriesCounts:
    found: dict[Uid, int | None] = {}
    for match in query.series(study, [_OF_SERIES]):
        series = uid_of(match, _SERIES)
        if series is not None and uid_of(match, _STUDY) in (study, None):
            found[series] = count_of(match, _OF_SERIES)
    counts = {series: count for series, count in found.items() if count is not None}
    unknown = [series for series, count in found.items() if count is None]
    for series in unknown:
        listed = [
            match for match in query.instances(study, series) if uid_of(match, _SERIES) in (series, None)
        ]
        counts[series] = len(listed)
    return SeriesCounts(counts, CountedBy.LISTING if unknown else CountedBy.SERIES)


def _matches(answer: object) -> list[WebMatch]:
    if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
        raise PeerConfused("its answer to QIDO-RS is no list of matches")
    return answer


def value_of(match: WebMatch, tag: str) -> object:
    """The first value of an attribute; None where there is none."""
    attribute = match.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values[0] if isinstance(values, list) and values else None


def texts_of(match: WebMatch, tag: str) -> list[str]:
    """All texts of one attribute; of a name its alphabetic representation (PS3.18 §F.2.2)."""
    attribute = match.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    texts = [v.get("Alphabetic") if isinstance(v, dict) else v for v in _as_list(values)]
    return [text for text in texts if isinstance(text, str)]


def _as_list(values: object) -> list[object]:
    return values if isinstance(values, list) else []


def text_of(match: WebMatch, tag: str) -> str:
    """The first text of one attribute; empty where there is none."""
    return next(iter(texts_of(match, tag)), "")


def uid_of(match: WebMatch, tag: str) -> Uid | None:
    """The UID of one attribute, if it is there and is one."""
    value = value_of(match, tag)
    try:
        return Uid.parse(value) if isinstance(value, str) else None
    except ValueError:
        return None


def count_of(match: WebMatch, tag: str) -> int | None:
    """The number in one attribute of VR IS, which some peers write as text, if it is one that counts."""
    value = value_of(match, tag)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None
