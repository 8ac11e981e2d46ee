"""Peers on a page: what went to and fro, and what is wrong, while a peer that hangs holds nobody up."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from console.settings import load_site
from console.web.access.table import Role
from console.web.access.visitor import Visitor
from console.web.app import create_app
from console.web.connections import AllExamining, Examiner
from console.web.deck import Deck
from ledger.delivery import DeliveryEvent
from ledger.store.ledger import Ledger
from tests.console.web.conftest import Desk, served
from tests.dicom_node.raw_peer import raw_peer, read_pdu
from tests.ledger.site import claim, finish, queued_job, send
from tests.patience import patient
from tests.peers.certificates import authority
from tests.peers.loopback import free_port

SETTINGS = """
[[peer]]
name = "pacs"
ae_title = "SCANNER"
host = "127.0.0.1"
port = {port}
[[peer]]
name = "cloud"
receive = false
[peer.web]
url = "https://pacs.example/dicom-web"
[[peer]]
name = "secure"
ae_title = "SECURE"
host = "127.0.0.1"
port = {port}
[peer.tls]
ca_file = "ca/ca.pem"
certificate_file = "{certificate}"
key_file = "{key}"
required = false
[node]
ae_title = "WETREAD"
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    ours = authority(tmp_path / "ca")
    pair = ours.sign("wetread")
    file = tmp_path / "wetread.toml"
    text = SETTINGS.format(port=free_port(), certificate=pair.certificate, key=pair.key)
    file.write_text(text.replace("ca/ca.pem", str(ours.ca)))
    site = load_site(file)
    with Ledger.open(site.ledger) as ledger:
        deck = Deck.of(site, file, ledger)
        with served(Desk(site, ledger, deck, create_app(deck))) as desk:
            yield desk


def ask(desk: Desk, path: str) -> requests.Response:
    return requests.post(f"{desk.url}{path}", headers={"X-CSRF": "token"}, timeout=patient(60))


def test_only_who_steers_may_have_peers_asked(desk: Desk) -> None:
    desk.visitor = Visitor(name="vera", role=Role.VIEWER, csrf="token")
    for path in ("/peers/pacs/echo", "/peers/pacs/doctor", "/api/v1/peers/pacs/echo"):
        assert ask(desk, path).status_code == 403
    assert "Doctor" not in desk.page("/peers/pacs")
    assert desk.ledger.audit_rows(what="peer.") == []


def test_a_peer_that_nobody_knows_is_not_asked(desk: Desk) -> None:
    for path in ("/peers/pac/echo", "/peers/pac/doctor", "/api/v1/peers/pac/doctor"):
        answer = ask(desk, path)
        assert answer.status_code == 404
        assert "did you mean" in answer.text
    assert desk.get("/peers/pac").status_code == 404


def test_what_is_wrong_is_said_step_by_step_and_who_asked_is_written_down(desk: Desk) -> None:
    answer = ask(desk, "/peers/pacs/doctor")
    assert answer.status_code == 200
    assert "connection refused" in answer.text
    assert "something before it failed" in answer.text
    told = ask(desk, "/api/v1/peers/pacs/doctor").json()
    assert not told["well"]
    assert [one["finding"] for one in told["checks"][:3]] == ["well", "ill", "not tried"]
    heard = ask(desk, "/api/v1/peers/pacs/echo").json()
    assert not heard["heard"]
    assert "does not hear us" in heard["because"]
    assert "does not hear us" in ask(desk, "/peers/pacs/echo").text
    trail = [(row.what, row.thing_id, row.who) for row in desk.ledger.audit_rows(what="peer.")]
    assert trail == [("peer.echoed", "pacs", "ada")] * 2 + [("peer.examined", "pacs", "ada")] * 2


def test_peers_that_hang_cannot_take_all_threads(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, over = threading.Semaphore(0), threading.Event()

    def hangs(*_: object) -> Iterator[object]:
        inside.release()
        over.wait(patient(30))
        return iter(())

    monkeypatch.setattr("console.web.connections.examine", hangs)
    examiner = Examiner(desk.site)
    busy = [threading.Thread(target=examiner.examine, args=("pacs",)) for _ in range(3)]
    for one in busy:
        one.start()
        assert inside.acquire(timeout=patient(10))
    with pytest.raises(AllExamining, match="3 peers are being examined at this moment"):
        examiner.examine("pacs")
    over.set()
    for one in busy:
        one.join(patient(10))
    assert examiner.examine("pacs") == ()


def test_a_peer_that_says_nothing_is_given_up_at_the_deadline(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from console import doctor

    with raw_peer(lambda connection, over: (read_pdu(connection), over.wait(patient(30)))[0]) as hanging:
        peers = tuple(
            one.model_copy(update={"port": hanging.port}) if one.name == "pacs" else one
            for one in desk.site.peers
        )
        site = desk.site.model_copy(update={"peers": peers})
        checks = {one.step: one for one in doctor.examine(site, "pacs", deadline_s=1.0)}
    assert "it did not finish within 1 s" in checks["association"].words


def test_the_list_shows_directions_protection_and_what_went_to_and_fro(desk: Desk) -> None:
    job = queued_job(desk.ledger, to=("pacs",))
    first, second = finish(desk.ledger, claim(desk.ledger, job))
    send(desk.ledger, first, DeliveryEvent.ACCEPTED)
    send(desk.ledger, second, DeliveryEvent.REFUSED, status=0xC000)
    told = {one["name"]: one for one in desk.get("/api/v1/peers").json()["peers"]}

    pacs = told["pacs"]
    assert (pacs["sends"], pacs["gets"], pacs["protection"]) == (True, True, "none")
    assert (pacs["received"]["instances"], pacs["received"]["bytes"]) == (3, 3006)
    assert (pacs["sent"]["results"], pacs["sent"]["bytes"]) == (1, 5000)
    assert pacs["sent"]["unfinished"]["parked"] == 1
    assert pacs["heard_at"] is not None
    assert (told["cloud"]["sends"], told["cloud"]["protection"]) == (False, "HTTPS")
    assert told["secure"]["protection"] == "TLS when called"
    assert told["secure"]["certificate_until"] > desk.ledger.now()
    page = desk.page("/peers")
    assert "1 parked" in page
    assert "→ gets results" in page
    assert "3 images" in page
    one = desk.page("/peers/secure")
    assert "TLS when called" in one


def test_who_sends_without_being_a_peer_is_named(desk: Desk) -> None:
    queued_job(desk.ledger)
    desk.ledger.record_event("node", "started", because="")
    known = desk.site.model_copy(update={"peers": desk.site.peers[1:]})
    desk.app.state.deck = Deck.of(known, None, desk.ledger)
    assert "Sent without being a peer" in desk.page("/peers")
    assert "SCANNER" in desk.page("/peers")


def test_a_certificate_that_cannot_be_read_is_said(desk: Desk) -> None:
    tls = next(one for one in desk.site.peers if one.name == "secure").tls
    assert tls is not None
    assert tls.certificate_file is not None
    tls.certificate_file.write_text("no certificate")
    assert "holds no certificate in PEM" in desk.page("/peers")
