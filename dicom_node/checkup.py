"""A peer looked at from the outside in: name, connection, TLS, association, C-ECHO, what it is needed for.

Rule 1: each step says one sentence that somebody can act on; where one fails, what needs it is not tried.
Rule 2: nothing is stored anywhere and nobody's images are asked for: questions are for UIDs that nobody has.
Rule 3: everything ends at one deadline, whatever the peer does, the look-up of its name included.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.commitment_messages import PUSH_MODEL
from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN, PeerSettings
from dicom_node.reach import Deadline, reach, words
from dicom_node.readback import STUDY_ROOT_FIND, find_instance
from dicom_node.requestor import RequestedAssociation, associate
from dicom_node.send import VERIFICATION, name_of, verified
from dicom_node.upper_layer import ContextResult, ProposedContext
from dicom_node.web_query import echo_web
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid
from ledger.implementation import IMPLEMENTATION_CLASS_UID
from ledger.result import Role

DEADLINE_S = 30.0  # Of a whole examination: a person waits.
SOON_S = 30 * 86400.0  # Before a certificate ends: some CAs need weeks.

_STORAGE = "1.2.840.10008.5.1.4.1.1"
#: What a destination is sent, by what its profile asks for (PS3.6 Table A-1).
_OBJECTS = {
    Role.SEGMENTATION: f"{_STORAGE}.66.4",
    Role.PARAMETRIC_MAP: f"{_STORAGE}.30",
    Role.STRUCTURE_SET: f"{_STORAGE}.481.3",
    Role.PRESENTATION: f"{_STORAGE}.11.1",
    Role.BLENDING: f"{_STORAGE}.11.8",
    Role.OVERLAY: f"{_STORAGE}.7.4",
    Role.SUMMARY: f"{_STORAGE}.7",
    Role.DOCUMENT: f"{_STORAGE}.104.1",
    Role.KEY_IMAGES: f"{_STORAGE}.88.59",
    Role.MARKS: f"{_STORAGE}.88.33",
    Role.REPORT: f"{_STORAGE}.88.34",
}
_LABEL_MAP = f"{_STORAGE}.66.7"
_MOVE, _GET = Uid("1.2.840.10008.5.1.4.1.2.2.2"), Uid("1.2.840.10008.5.1.4.1.2.2.3")
_NOBODYS = Uid(f"{IMPLEMENTATION_CLASS_UID}.1")


class Finding(StrEnum):
    """What came out of one step."""

    WELL = "well"
    ATTENTION = "attention"  #: It works, but somebody should look at it.
    ILL = "ill"  #: It does not work, and the sentence says who can mend it.
    NOT_TRIED = "not tried"  #: Something before it failed, or it is not wanted of this peer.


class Step(StrEnum):
    """What is looked at, in this order."""

    NAME = "name"
    CONNECTION = "connection"
    TLS = "TLS"
    ASSOCIATION = "association"
    ECHO = "C-ECHO"
    OBJECTS = "objects"
    PROOF = "proof"
    FETCHING = "fetching"
    WEB = "web"


@dataclass(frozen=True, slots=True)
class Check:
    """One step, and how long it took in seconds."""

    step: Step
    finding: Finding
    words: str
    took_s: float


def check_up(
    peer: PeerSettings, *, calling: AETitle, now: float, deadline_s: float = DEADLINE_S
) -> Iterator[Check]:
    """Each step as soon as it is done. `now` is in seconds since 1970, to judge certificates by."""
    deadline = Deadline(deadline_s)
    if peer.speaks_dicom:
        ill = False
        for step, look in (
            (Step.NAME, lambda: _name(peer, deadline)),
            (Step.CONNECTION, lambda: _connection(peer, deadline)),
            (Step.TLS, lambda: _tls(peer, deadline, now)),
        ):
            check = _timed(step, look) if not ill else Check(step, Finding.NOT_TRIED, _BEFORE, 0.0)
            ill = ill or check.finding is Finding.ILL
            yield check
        if ill:
            rest = (Step.ASSOCIATION, Step.ECHO, Step.OBJECTS, Step.PROOF, Step.FETCHING)
            yield from (Check(step, Finding.NOT_TRIED, _BEFORE, 0.0) for step in rest)
        else:
            yield from _associated(peer, calling, deadline)
    if peer.web is not None:
        yield _timed(Step.WEB, lambda: _web(peer, deadline))


_BEFORE = "something before it failed"
_Told = tuple[Finding, str]


def _timed(step: Step, look: Callable[[], _Told]) -> Check:
    began = time.monotonic()
    try:
        finding, said = look()
    except PeerError as error:
        finding, said = Finding.ILL, f"{error}"
    return Check(step, finding, said, time.monotonic() - began)


def _name(peer: PeerSettings, deadline: Deadline) -> _Told:
    try:
        ipaddress.ip_address(peer.host)
    except ValueError:
        pass
    else:
        return Finding.WELL, f"{peer.host} is an address: there is no name to look up"
    found: list[str] = []
    failed: list[str] = []

    def look_up() -> None:
        try:
            told = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(str(one[4][0]) for one in told))
        except OSError as error:
            failed.append(words(error))

    # The system's resolver knows no deadline of ours: it is left behind where it goes on for too long.
    looking = threading.Thread(target=look_up, daemon=True)
    looking.start()
    looking.join(min(10.0, deadline.left("looking up its name")))
    if found:
        return Finding.WELL, f"{peer.host} is {', '.join(found[:4])}"
    because = failed[0] if failed else "the name server did not answer in time"
    return Finding.ILL, f"the host name {peer.host} is not known here: {because}"


def _connection(peer: PeerSettings, deadline: Deadline) -> _Told:
    began = time.monotonic()
    with closing(reach(peer.model_copy(update={"tls": None}), deadline)):
        took_ms = (time.monotonic() - began) * 1000
    return Finding.WELL, f"port {peer.port} of {peer.host} takes connections ({took_ms:.0f} ms)"


def _tls(peer: PeerSettings, deadline: Deadline, now: float) -> _Told:
    if peer.tls is None or not peer.tls.send:
        return (
            Finding.NOT_TRIED,
            "it is called without TLS, as its settings say: whoever is on the network can read along",
        )
    with closing(reach(peer, deadline)) as secured:
        assert isinstance(secured, ssl.SSLSocket)
        version, cipher = secured.version(), (secured.cipher() or ("?",))[0]
        shown = secured.getpeercert() or {}
    ends = ssl.cert_time_to_seconds(str(shown["notAfter"])) if "notAfter" in shown else None
    said = f"{version} with {cipher}"
    if ends is None:
        return Finding.WELL, said
    days = int((ends - now) // 86400)
    said += f"; its certificate is good for {days} more days"
    return (Finding.ATTENTION if ends - now < SOON_S else Finding.WELL), said


def _associated(peer: PeerSettings, calling: AETitle, deadline: Deadline) -> Iterator[Check]:
    echo = ProposedContext(VERIFICATION, (Uid(IMPLICIT_LITTLE_ENDIAN),))
    wanted = _wanted(peer)
    others = [PUSH_MODEL, STUDY_ROOT_FIND, _MOVE, _GET]
    services = {uid: ProposedContext(uid, (Uid(IMPLICIT_LITTLE_ENDIAN),)) for uid in others}
    proposed = [echo, *services.values(), *(one for ways in wanted.values() for one in ways)]
    began = time.monotonic()
    checks: list[Check] = []
    taken: set[Uid] | None = None
    try:
        with associate(peer, calling=calling, contexts=proposed, deadline=deadline) as association:
            took = time.monotonic() - began
            where = f"{peer.ae_title} accepts {calling} ({took * 1000:.0f} ms)"
            checks.append(Check(Step.ASSOCIATION, Finding.WELL, where, took))
            checks.append(_timed(Step.ECHO, lambda: _echo(association, echo)))
            taken = {uid for uid, context in services.items() if _accepts(association, context)}
            checks.append(_timed(Step.OBJECTS, lambda: _objects(peer, association, wanted)))
    except PeerError as error:
        if not checks:
            checks.append(Check(Step.ASSOCIATION, Finding.ILL, str(error), time.monotonic() - began))
    yield from checks
    for step in (Step.ECHO, Step.OBJECTS)[len(checks) - 1 :]:
        yield Check(step, Finding.NOT_TRIED, _BEFORE, 0.0)
    if taken is None:
        yield Check(Step.PROOF, Finding.NOT_TRIED, _BEFORE, 0.0)
        yield Check(Step.FETCHING, Finding.NOT_TRIED, _BEFORE, 0.0)
        return
    offered = taken
    yield _timed(Step.PROOF, lambda: _proof(peer, offered, calling, deadline))
    yield _timed(Step.FETCHING, lambda: _fetching(peer, offered))


def _wanted(peer: PeerSettings) -> dict[Uid, list[ProposedContext]]:
    """What it is sent over DICOM: SOP class → each transfer syntax as a context of its own."""
    if not peer.send or peer.stores_by_web:
        return {}
    classes = [_OBJECTS[role] for role in Role if role in peer.shows.kinds and role in _OBJECTS]
    if peer.shows.segmentation == "labelmap":
        classes = [_LABEL_MAP if one == _OBJECTS[Role.SEGMENTATION] else one for one in classes]
    return {
        Uid(one): [ProposedContext(Uid(one), (Uid(syntax),)) for syntax in peer.transfer_syntaxes]
        for one in dict.fromkeys(classes)
    }


def _accepts(association: RequestedAssociation, context: ProposedContext) -> bool:
    return association.answered(context)[1].result is ContextResult.ACCEPTED


def _echo(association: RequestedAssociation, context: ProposedContext) -> _Told:
    began = time.monotonic()
    answer = verified(association, context)
    if not answer.reached:
        return Finding.ILL, f"C-ECHO: {answer.because}"
    return Finding.WELL, f"C-ECHO was answered in {(time.monotonic() - began) * 1000:.0f} ms"


def _objects(
    peer: PeerSettings, association: RequestedAssociation, wanted: dict[Uid, list[ProposedContext]]
) -> _Told:
    if not wanted:
        why = "results go to it over the web" if peer.stores_by_web else "it gets no results (send = false)"
        return Finding.NOT_TRIED, why
    takes: list[Uid] = []
    refuses: list[Uid] = []
    forced: list[str] = []
    for sop_class, ways in wanted.items():
        accepted = [one for one in ways if _accepts(association, one)]
        (takes if accepted else refuses).append(sop_class)
        if accepted and accepted[0] is not ways[0]:
            forced.append(name_of(sop_class))
    syntaxes = " It takes some only as its second transfer syntax." if forced else ""
    if not refuses:
        return (
            Finding.WELL,
            f"it takes all {len(takes)} kinds of objects that its profile asks for.{syntaxes}",
        )
    report = Uid(_OBJECTS[Role.REPORT])
    listed = ", ".join(name_of(one) for one in refuses)
    if takes and not (report in refuses and not peer.shows.instead.get(Role.REPORT)):
        return Finding.ATTENTION, f"it takes {len(takes)} kinds of objects, and refuses: {listed}.{syntaxes}"
    return (
        Finding.ILL,
        f"it refuses what it should get: {listed}. Have them allowed there, or choose another profile",
    )


def _proof(peer: PeerSettings, offered: set[Uid], calling: AETitle, deadline: Deadline) -> _Told:
    if not peer.send:
        return Finding.NOT_TRIED, "it gets no results (send = false)"
    if peer.confirm == "answer":
        return Finding.WELL, 'its answer to each object is believed (confirm = "answer")'
    if peer.confirm in ("best", "commitment") and PUSH_MODEL in offered:
        return Finding.WELL, "it takes requests for storage commitment: it can vouch for what it has"
    if peer.confirm == "commitment":
        return (
            Finding.ILL,
            'it takes no storage commitment, and confirm = "commitment" asks for it: have it allowed there, '
            'or set confirm = "best"',
        )
    if peer.web is not None:
        return Finding.WELL, "it is asked over the web what it has: see the step web"
    return _found(peer, offered, calling, deadline)


def _found(peer: PeerSettings, offered: set[Uid], calling: AETitle, deadline: Deadline) -> _Told:
    if STUDY_ROOT_FIND not in offered and peer.confirm == "best":
        only = "it takes neither storage commitment nor C-FIND, so its answer is the only proof"
        return Finding.ATTENTION, only
    if STUDY_ROOT_FIND not in offered:
        return Finding.ILL, 'it takes no C-FIND, and confirm = "find" asks for it: have it allowed there'
    left = deadline.left("asking it what it has")
    if find_instance(
        peer, calling=calling, study=_NOBODYS, series=_NOBODYS, sop_instance=_NOBODYS, deadline_s=left
    ):
        return (
            Finding.ATTENTION,
            "it finds an instance that does not exist: its answers to C-FIND prove nothing",
        )
    return Finding.WELL, "it answers C-FIND: what it has can be looked up there"


def _fetching(peer: PeerSettings, offered: set[Uid]) -> _Told:
    lacking = []
    if peer.count == "find" and STUDY_ROOT_FIND not in offered:
        lacking.append('C-FIND (count = "find")')
    if peer.retrieve == "move" and _MOVE not in offered:
        lacking.append('C-MOVE (retrieve = "move")')
    if peer.retrieve == "get" and _GET not in offered:
        lacking.append('C-GET (retrieve = "get")')
    if lacking:
        return Finding.ILL, f"it does not offer {' and '.join(lacking)}: have it allowed there"
    if peer.retrieve in ("move", "get"):
        return Finding.WELL, f"it offers C-{peer.retrieve.upper()}"
    return Finding.NOT_TRIED, "nothing is fetched from it over DICOM"


def _web(peer: PeerSettings, deadline: Deadline) -> _Told:
    answer = echo_web(peer, min(15.0, deadline.left("asking it over the web")))
    assert peer.web is not None
    where = peer.web.qido_url or peer.web.url
    if not answer.reached:
        return Finding.ILL, f"{where}: {answer.because}"
    return Finding.WELL, f"{where} answers questions (QIDO-RS) in {answer.took_s * 1000:.0f} ms"
