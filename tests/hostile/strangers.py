"""P14: nobody gets in who may not, whichever way titles, address and certificate are put together.

Every combination is tried over the wire against a node that knows its callers, and whoever is turned away has
to be found in the ledger's history with the reason.
"""

import shutil
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from tests.dicom_node import caller_matrix as matrix
from tests.dicom_node.datasets import ROOT, ct_slice, encoded
from tests.dicom_node.node_process import NodeProcess, node_process
from tests.hostile.verdict import Verdict, all_of, none_of
from tests.hostile.victim import connect, ledger_of, read_pdu, recorded, request, store_message, stumbles
from tests.peers.loopback import free_port

SCANNER_AT, WARD_AT, NOBODYS = "127.0.3.1", "127.0.4.7", "127.0.9.9"
PEERS = [
    {"name": "scanner", "ae_title": "SCANNER", "host": SCANNER_AT, "port": 104, "addresses": [SCANNER_AT]},
    {"name": "ward", "ae_title": "WARD", "host": WARD_AT, "port": 104, "addresses": ["127.0.4.0/24"]},
    # It gets results and sends nothing: it may not even knock.
    {
        "name": "archive", "ae_title": "ARCHIVE", "host": SCANNER_AT, "port": 104, "receive": False,
        "confirm": "answer",  # So it has nothing to report either.
    },
    # It may only report what it has committed to.
    {
        "name": "pacs", "ae_title": "PACS", "host": WARD_AT, "port": 104, "receive": False,
        "confirm": "commitment", "addresses": [WARD_AT],
    },
]  # fmt: skip
TITLES = (
    "SCANNER",
    "WARD",
    "ARCHIVE",
    "PACS",
    "scanner",
    "SCANNER2",
    "SCANNE",
    "WETREAD",
    "ANY-SCP",
    "",
    "*",
    "%",
)
ADDRESSES = (SCANNER_AT, WARD_AT, "127.0.4.250", "127.0.5.1", NOBODYS, "127.0.0.1")
CALLED = ("WETREAD", "wetread", "WETREAD2", "ANY-SCP", "")
_ACCEPT, _REJECT, _ABORT = 2, 3, 7  # types of PDU
#: Rejected by who asks, aborted because nobody may be called that, or no certificate of ours.
_REFUSALS = ("association_rejected", "association_aborted", "tls_refused")
#: Who may associate, from where, by which name of ours.
ALLOWED = frozenset(
    {("SCANNER", SCANNER_AT, "WETREAD"), ("PACS", WARD_AT, "WETREAD")}
    | {("WARD", address, "WETREAD") for address in (WARD_AT, "127.0.4.250")}
)


@dataclass(frozen=True, slots=True)
class Knock:
    """One combination."""

    calling: str
    address: str
    called: str

    @property
    def allowed(self) -> bool:
        return (self.calling, self.address, self.called) in ALLOWED

    @property
    def ours(self) -> bool:
        """Whether it could be our own site that asks whether the node lives: refused, and no news."""
        return (self.calling, self.address) == ("WETREAD", "127.0.0.1")

    def __str__(self) -> str:
        return f"{self.calling!r} from {self.address} calling {self.called!r}"


@dataclass
class Tried:
    """What came of all knocks on one node."""

    knocks: int = 0
    accepted_wrongly: list[object] = field(default_factory=list)
    shut_out: list[object] = field(default_factory=list)
    allowed: int = 0
    unanswered: list[object] = field(default_factory=list)  #: refused without a word
    expected: Counter[str] = field(default_factory=Counter)  #: refusals by address
    told: Counter[str] = field(default_factory=Counter)  #: those that the history has
    nameless: list[object] = field(default_factory=list)  #: without a reason
    held: list[str] = field(default_factory=list)  #: instances that should not be there
    odd: list[str] = field(default_factory=list)

    @property
    def untold(self) -> list[str]:
        return [address for address, count in (self.expected - self.told).items() for _ in range(count)]


def try_strangers(folder: Path, *, every: int = 1) -> Verdict:
    """Knock in every way there is: by title, address and called title, then by certificate.

    With `every`, only each `every`th of those who may not come in without TLS.
    """
    left_out = ["the site's own AE title from this machine is refused without an event: its heartbeat"]
    plain = _try_titles(folder / "plain", every)
    parts = [plain]
    if shutil.which("openssl"):
        parts.append(_try_certificates(folder / "tls"))
    else:
        left_out.append("certificates: making them needs the program openssl")
    refused = sum(part.expected.total() for part in parts)
    knocks = sum(part.knocks for part in parts)
    return Verdict(
        promise="P14",
        done=(
            f"{plain.knocks} knocks: {len(TITLES)} calling × {len(CALLED)} called AE titles"
            f" × {len(ADDRESSES)} addresses; {knocks - plain.knocks} more: {len(matrix.TITLES)} AE titles"
            f" × {len(matrix.ADDRESSES)} addresses × {len(matrix.SHOWN)} certificates or none"
        ),
        measures=(
            none_of("let in who may not", _of(parts, "accepted_wrongly"), refused),
            none_of("instances in the ledger of who may not", plain.held, plain.expected.total()),
            all_of("let in who may", _of(parts, "shut_out"), sum(part.allowed for part in parts)),
            all_of("told so, by PDU or by TLS", _of(parts, "unanswered"), knocks),
            all_of("refusals in the history, with their address", _of(parts, "untold"), refused),
            none_of("refusals without a reason", _of(parts, "nameless"), refused),
            none_of("surprises in the log", _of(parts, "odd"), knocks),
        ),
        left_out=tuple(left_out),
    )  # fmt: skip


def _of(parts: Sequence[Tried], name: str) -> list[object]:
    return [each for part in parts for each in getattr(part, name)]


def _try_titles(folder: Path, every: int) -> Tried:
    """Each knocks twice: once as the standard asks, and once without waiting for the answer."""
    folder.mkdir(parents=True)
    knocks = [Knock(*each) for each in product(TITLES, ADDRESSES, CALLED)]
    knocks = [knock for number, knock in enumerate(knocks) if knock.allowed or number % every == 0]
    tries = [(knock, waits) for knock in knocks for waits in (True, False)]
    tried = Tried(knocks=len(tries), allowed=2 * len(ALLOWED))
    with node_process(folder, node={"port": 0, "callers": "known"}, peers=PEERS) as node:
        for number, (knock, waits) in enumerate(tries):
            answer = _knock(node, knock, number, waits=waits)
            if knock.allowed and answer != _ACCEPT:
                tried.shut_out.append(knock)
            elif not knock.allowed and answer == _ACCEPT:
                tried.accepted_wrongly.append(knock)
            elif not knock.allowed and waits and answer not in (_REJECT, _ABORT):
                tried.unanswered.append(knock)
        tried.expected = Counter(knock.address for knock, _ in tries if not (knock.allowed or knock.ours))
        _ask_the_ledger(node, folder, tried)
    return tried


def _try_certificates(folder: Path) -> Tried:
    """AE titles, addresses and certificates, as they are and as they should not be."""
    callers = matrix.Callers(folder / "certificates")
    site, tls_port = callers.site(), free_port()
    site["node"]["tls"]["port"] = tls_port
    with node_process(folder, **site) as node:
        knocks = matrix.try_callers(callers, node.port, tls_port)
        tried = Tried(knocks=len(knocks), allowed=sum(knock.allowed for knock in knocks))
        tried.accepted_wrongly = [each for each in knocks if each.answer == _ACCEPT and not each.allowed]
        tried.shut_out = [each for each in knocks if each.allowed and each.answer != _ACCEPT]
        tried.unanswered = [each for each in knocks if not each.allowed and not each.right]
        tried.expected = Counter(each.address for each in knocks if not each.allowed)
        _ask_the_ledger(node, folder, tried)
    return tried


def _ask_the_ledger(node: NodeProcess, folder: Path, tried: Tried) -> None:
    """Who stops in order has written down everything before."""
    node.process.send_signal(signal.SIGTERM)
    stopped = node.process.wait(30)
    with ledger_of(folder) as ledger:
        refusals = [each for each in ledger.history(limit=100_000) if each.event in _REFUSALS]
        tried.held = sorted(recorded(ledger))
    for each in refusals:  # A row may tell of several.
        tried.told[str(each.detail.get("address"))] += int(str(each.detail.get("count", 1)))
    tried.nameless = [each for each in refusals if not each.because]
    tried.odd = stumbles(node) + [f"exit status {stopped}"] * bool(stopped)


def _knock(node: NodeProcess, knock: Knock, number: int, *, waits: bool) -> int:
    """The type of the PDU that answers, 0 where the connection was closed without a word.

    Who does not wait sends an instance at once: a refusal has to hold against him as well.
    """
    uid = f"{ROOT}.14.{number}"
    instance = store_message(uid, encoded(ct_slice(number, series=f"{ROOT}.14", sop_instance=uid, rows=4)))
    wanted = request(knock.calling, knock.called)
    with connect(node.port, knock.address) as line:
        with suppress(OSError):
            line.sendall(wanted if waits or knock.allowed else wanted + instance)
        return (read_pdu(line) or b"\0")[0]
