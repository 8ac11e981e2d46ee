"""P14: nobody gets in who may not, whichever way his AE title, address and called title are put together.

Every combination is tried over the wire against a node that knows its callers, and whoever is turned away has
to be found in the ledger's history with the reason.
"""

import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tests.dicom_node.datasets import ROOT, ct_slice, encoded
from tests.dicom_node.node_process import NodeProcess, node_process
from tests.hostile.verdict import Verdict, all_of, none_of
from tests.hostile.victim import connect, ledger_of, read_pdu, recorded, request, store_message, stumbles

SCANNER_AT, WARD_AT, NOBODYS = "127.0.3.1", "127.0.4.7", "127.0.9.9"
PEERS = [
    {"name": "scanner", "ae_title": "SCANNER", "host": SCANNER_AT, "port": 104, "addresses": [SCANNER_AT]},
    {"name": "ward", "ae_title": "WARD", "host": WARD_AT, "port": 104, "addresses": ["127.0.4.0/24"]},
    # It gets results and sends nothing: it may not even knock.
    {"name": "archive", "ae_title": "ARCHIVE", "host": SCANNER_AT, "port": 104, "receive": False},
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

    def __str__(self) -> str:
        return f"{self.calling!r} from {self.address} calling {self.called!r}"


def try_strangers(folder: Path, *, every: int = 1) -> Verdict:
    """Knock in every way there is: once as the standard asks, and once without waiting for the answer.

    With `every`, only each `every`th of those who may not come in.
    """
    knocks = [Knock(*each) for each in product(TITLES, ADDRESSES, CALLED)]
    knocks = [knock for number, knock in enumerate(knocks) if knock.allowed or number % every == 0]
    tries = [(knock, waits) for knock in knocks for waits in (True, False)]
    accepted: list[tuple[Knock, bool]] = []
    unanswered: list[Knock] = []
    with node_process(folder, node={"port": 0, "callers": "known"}, peers=PEERS) as node:
        for number, (knock, waits) in enumerate(tries):
            answer = _knock(node, knock, number, waits=waits)
            if answer == _ACCEPT:
                accepted.append((knock, waits))
            elif waits and answer not in (_REJECT, _ABORT):
                unanswered.append(knock)
        refused = [each for each in tries if each not in accepted]
        expected = Counter(knock.address for knock, _ in refused)
        # Whoever stops in order has written down everything before.
        node.process.send_signal(signal.SIGTERM)
        stopped = node.process.wait(30)
        with ledger_of(folder) as ledger:
            rejections = [
                each for each in ledger.history(limit=100_000) if each.event == "association_rejected"
            ]
            held = recorded(ledger)
        # A row may tell of several.
        seen: Counter[str] = Counter()
        for each in rejections:
            seen[str(each.detail.get("address"))] += int(str(each.detail.get("count", 1)))
        nameless = [each for each in rejections if not each.because]
        odd = stumbles(node)
    wrong = [knock for knock, _ in accepted if not knock.allowed]
    shut_out = [knock for knock, waits in tries if knock.allowed and (knock, waits) not in accepted]
    unseen = [address for address, count in (expected - seen).items() for _ in range(count)]
    may_not = len(tries) - 2 * len(ALLOWED)
    return Verdict(
        promise="P14",
        done=(
            f"{len(tries)} knocks: {len(TITLES)} calling × {len(CALLED)} called AE titles"
            f" × {len(ADDRESSES)} addresses, with and without waiting for the answer"
        ),
        measures=(
            none_of("let in who may not", wrong, may_not),
            none_of("instances in the ledger of who may not", sorted(held), may_not),
            all_of("let in who may", shut_out, 2 * len(ALLOWED)),
            all_of("told so, by A-ASSOCIATE-RJ or A-ABORT", unanswered, may_not // 2),
            all_of("refusals in the history, with their address", unseen, len(refused)),
            none_of("refusals without a reason", nameless, len(refused)),
            none_of("surprises in the log", odd + [f"exit status {stopped}"] * bool(stopped), len(tries)),
        ),
    )


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
