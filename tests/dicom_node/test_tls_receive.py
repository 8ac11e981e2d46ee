"""DICOM over TLS at our port: who gets in, what it takes, and who is kept waiting (nobody)."""

import select
import shutil
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from pynetdicom import AE

from console.pulse import echo_ourselves
from console.settings import load_site
from dicom_node.peers import PeerSettings
from dicom_node.reach import Deadline
from dicom_node.requestor import associate
from dicom_node.tls import TlsUnusable
from dicom_node.tls_settings import PeerTlsSettings
from dicom_node.upper_layer import ProposedContext
from ledger.event import EventRecord
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.caller_matrix import (
    ADDRESSES,
    SHOWN,
    TITLES,
    Callers,
    client_context,
    request,
    silent,
    trickle,
    try_callers,
)
from tests.dicom_node.conftest import Running
from tests.dicom_node.datasets import ROOT, ct_slice, digest_of_file, write
from tests.dicom_node.node_process import node_process
from tests.dicom_node.objects import write_instance
from tests.patience import patient
from tests.peers.certificates import Pair
from tests.peers.dcmtk import echoscu, storescu, tls_options
from tests.peers.loopback import free_port, until


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Callers:
    return Callers(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(start_node: Callable[..., Running], callers: Callers) -> Callable[..., Running]:
    """Starts a node with TLS; keywords are fields of `[node.tls]`."""

    def start(peers: list[dict[str, object]] | None = None, **tls: object) -> Running:
        return start_node(node={"port": 0, "tls": {**files_of(callers), **tls}}, peers=peers or [])

    return start


def files_of(callers: Callers) -> dict[str, object]:
    """Fields of `[node.tls]`."""
    return {
        "port": 0,
        "certificate_file": str(callers.node.certificate),
        "key_file": str(callers.node.key),
        "ca_file": str(callers.authority.ca),
    }


def tls_port(node: Running) -> int:
    assert node.node.tls_port is not None
    return node.node.tls_port


def scanner(callers: Callers) -> Pair:
    identity = callers.shown["ct1"]
    assert identity is not None
    return identity


def echo(node: Running, callers: Callers, **options: object) -> int:
    """The exit status of a good peer's C-ECHO."""
    ours = tls_options(scanner(callers), callers.authority)
    return echoscu(tls_port(node), options=ours).returncode


def events(node: Running) -> list[EventRecord]:
    wanted = ("association_rejected", "tls_refused")
    return [event for event in node.ledger.history() if event.event in wanted]


def refusals(node: Running) -> list[str]:
    return [event.because for event in events(node)]


# ------------------------------------------------------------------ what comes in


@pytest.mark.peer
@pytest.mark.parametrize("dcmtk_profile", ["+py", "+pz", "+px"])
def test_dcmtk_sends_over_tls_by_each_of_its_profiles(
    secure, callers: Callers, tmp_path: Path, dcmtk_profile: str
) -> None:
    node = secure()
    write(tmp_path / "out", *(ct_slice(number) for number in range(1, 6)))

    answer = storescu(
        tls_port(node),
        tmp_path / "out",
        options=[*tls_options(scanner(callers), callers.authority), dcmtk_profile],
    )

    assert answer.returncode == 0, answer.stderr
    assert len(node.instances()) == 5


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("profile", ["B.12", "B.13"])
def test_what_comes_over_tls_is_kept_to_the_byte(
    secure, callers: Callers, tmp_path: Path, profile: str, version: ssl.TLSVersion
) -> None:
    node = secure(profile=profile)
    # Larger than any buffer on the way, and no multiple of a TLS record.
    (path,) = write(tmp_path, ct_slice(rows=1023))
    context = client_context(callers.authority, scanner(callers))
    context.minimum_version = context.maximum_version = version
    ae = AE("SCANNER")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    association = ae.associate(
        "127.0.0.1", tls_port(node), ae_title="WETREAD", tls_args=(context, "localhost")
    )
    assert association.is_established

    import pydicom

    status = association.send_c_store(pydicom.dcmread(path))
    association.release()

    assert status.Status == 0x0000
    assert node.instances() == {f"{ROOT}.1.1.1": digest_of_file(path)}


def test_our_own_sender_and_our_own_node_agree_over_tls(secure, callers: Callers, tmp_path: Path) -> None:
    from dicom_node.send import AnswerKind, send_many

    node = secure()
    files = [write_instance(tmp_path, pixel_bytes=size) for size in (2, 70_000, 3_000_001, 16_384)]

    answers = send_many(files, ourselves(node, callers), calling=AETitle("SCANNER"), deadline_s=patient(20))

    assert [answer.kind for answer in answers] == [AnswerKind.ACCEPTED] * len(files), answers
    assert len(node.instances()) == len(files)


def test_records_that_cut_everything_in_the_middle_are_put_together(secure, callers: Callers) -> None:
    node = secure()
    wanted = request("SCANNER")
    with (
        socket.create_connection(("127.0.0.1", tls_port(node)), 10) as plain,
        client_context(callers.authority, scanner(callers)).wrap_socket(plain) as line,
    ):
        for byte in wanted:
            line.sendall(bytes([byte]))  # a TLS record each
        assert line.recv(1) == b"\x02"


# ------------------------------------------------------------------ nobody waits for the silent


def test_silent_connections_keep_no_good_peer_waiting(secure, callers: Callers) -> None:
    node = secure()
    lines = silent(tls_port(node), 5)
    began = time.monotonic()

    assert echo(node, callers) == 0

    assert time.monotonic() - began < patient(2.0)
    for line in lines:
        line.close()


def test_a_silent_handshake_ends_in_time_and_is_told(secure, callers: Callers) -> None:
    node = secure(handshake_s=0.3)
    (line,) = silent(tls_port(node), 1)
    with line:
        line.settimeout(patient(5))
        assert line.recv(1) == b""
    until(lambda: refusals(node), within_s=5, what="the refusal is in the history")
    assert "does not finish within 0.3 s" in refusals(node)[0]


def test_a_byte_now_and_then_does_not_extend_the_handshake(secure) -> None:
    node = secure(handshake_s=0.5)
    over = threading.Event()
    began = time.monotonic()
    try:
        trickle(tls_port(node), over, every_s=0.05).join(patient(10))
    finally:
        over.set()

    assert time.monotonic() - began < patient(3.0)  # the hello alone has some 500 bytes
    until(lambda: refusals(node), within_s=5, what="the refusal is in the history")


def test_stopping_does_not_wait_for_silent_connections(callers: Callers, tmp_path: Path) -> None:
    port = free_port()
    tls = {**files_of(callers), "port": port, "handshake_s": patient(30.0)}
    with node_process(tmp_path, node={"port": 0, "tls": tls}) as node:
        lines = silent(port, 5)
        began = time.monotonic()

        node.process.send_signal(signal.SIGTERM)

        assert node.process.wait(patient(10)) == 0
        assert time.monotonic() - began < patient(4.0)
        for line in lines:
            line.close()


def test_connections_over_tls_and_without_are_counted_together(
    start_node: Callable[..., Running], callers: Callers
) -> None:
    node = start_node(node={"port": 0, "connections_per_address": 3, "tls": files_of(callers)})
    lines = [*silent(node.port, 2), *silent(tls_port(node), 2)]

    (closed, *others), _, _ = select.select(lines, [], [], 5)

    assert closed.recv(1) == b""
    assert not others
    for line in lines:
        line.close()
    until(lambda: echo(node, callers) == 0, within_s=10, what="the places are free again")


# ------------------------------------------------------------------ who stays out (fault row 15)


def _say(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as line:
        line.sendall(data)
        line.settimeout(patient(10))
        while line.recv(4096):
            pass


def _handshake(context: ssl.SSLContext) -> Callable[[int], None]:
    def knock(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            with context.wrap_socket(plain) as line:
                # In TLS 1.3 a client learns only afterwards that its certificate was not liked.
                line.sendall(request("SCANNER"))
                assert line.recv(1) == b""

    return knock


def _old_tls(callers: Callers) -> ssl.SSLContext:
    context = client_context(callers.authority, scanner(callers))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@pytest.mark.parametrize(
    ("knock", "because"),
    [
        (lambda callers: lambda port: _say(port, b"\x16\x03\x01\x00\x05hello"), "TLS fails"),
        (lambda callers: lambda port: _say(port, b"GET / HTTP/1.1\r\n\r\n"), "does not speak TLS"),
        (lambda callers: lambda port: _say(port, request("SCANNER")), "does not speak TLS"),
        (lambda callers: _handshake(client_context(callers.authority, None)), "it shows no certificate"),
        (
            lambda callers: _handshake(client_context(callers.authority, callers.shown["forged"])),
            "nobody in ca_file vouches",
        ),
        (
            lambda callers: _handshake(client_context(callers.authority, callers.shown["expired"])),
            "its certificate has expired",
        ),
        (lambda callers: _handshake(_old_tls(callers)), "no TLS 1.2 or newer"),
    ],
    ids=["garbage", "http", "plain DICOM", "no certificate", "other CA", "expired", "TLS 1.1"],
)
def test_who_cannot_agree_on_tls_is_refused_and_told_of_and_others_do_not_notice(
    secure, callers: Callers, knock, because: str
) -> None:
    node = secure()

    with suppress(OSError):  # an alert, a reset or an end without a word, as it happens
        knock(callers)(tls_port(node))

    assert echo(node, callers) == 0
    until(lambda: refusals(node), within_s=5, what="the refusal is in the history")
    assert because in refusals(node)[0]
    assert "127.0.0.1" in refusals(node)[0]


def test_a_monitor_that_looks_whether_the_port_is_open_is_no_news(secure, callers: Callers) -> None:
    node = secure()
    socket.create_connection(("127.0.0.1", tls_port(node)), 10).close()

    assert echo(node, callers) == 0

    assert refusals(node) == []


def test_only_the_right_combination_of_title_address_and_certificate_gets_in(
    start_node: Callable[..., Running], callers: Callers
) -> None:
    node = start_node(**callers.site())

    knocks = try_callers(callers, node.port, tls_port(node))

    assert len(knocks) == len(TITLES) * len(ADDRESSES) * len(SHOWN)
    assert [str(knock) for knock in knocks if not knock.right] == []
    # The last caller knows that it is refused a moment before the node has taken it down.
    until(lambda: node.node.turnstile.inside() == 0, within_s=10, what="every caller is gone")
    node.node.refusals.stop(within_s=10)  # What was gathered is written.
    told = [int(str(event.detail["count"])) for event in events(node)]
    assert sum(told) == sum(not knock.allowed for knock in knocks)


def test_an_ae_title_with_tls_is_its_owners_alone_also_where_anybody_may_call(
    secure, callers: Callers
) -> None:
    peer = {
        "name": "ct1", "ae_title": "CT1", "host": "127.0.0.1", "port": 104,
        "tls": {"fingerprints": [scanner(callers).fingerprint]},
    }  # fmt: skip
    node = secure(peers=[peer])
    ours = tls_options(scanner(callers), callers.authority)
    other = callers.shown["other"]
    assert other is not None

    assert echoscu(tls_port(node), calling="CT1", options=ours).returncode == 0
    assert echoscu(node.port, calling="CT1").returncode != 0
    assert (
        echoscu(tls_port(node), calling="CT1", options=tls_options(other, callers.authority)).returncode != 0
    )
    assert echoscu(node.port, calling="ANYBODY").returncode == 0
    assert "requires it" in refusals(node)[-1] or "requires it" in refusals(node)[0]


def test_without_plain_the_plain_port_says_no_to_everybody(secure, callers: Callers) -> None:
    node = secure(plain=False)

    assert echoscu(node.port).returncode != 0
    assert echo(node, callers) == 0
    assert any("plain = false" in because for because in refusals(node))


def test_without_plain_the_site_still_sees_that_its_node_lives(
    start_node: Callable[..., Running], callers: Callers, tmp_path: Path
) -> None:
    tls = {**files_of(callers), "plain": False}
    node = start_node(node={"host": "127.0.0.5", "port": 0, "tls": tls})
    site = load_site(None, data=tmp_path).model_copy(update={"node": node.site.node})

    alive, words = echo_ourselves(site, port=node.port)

    assert alive, words


# ------------------------------------------------------------------ renewing certificates


@pytest.fixture
def renewable(callers: Callers, tmp_path: Path) -> dict[str, str]:
    """Copies of the node's files that may be exchanged."""
    shutil.copy(callers.node.certificate, tmp_path / "node.pem")
    shutil.copy(callers.node.key, tmp_path / "node.key")
    return {"certificate_file": str(tmp_path / "node.pem"), "key_file": str(tmp_path / "node.key")}


def shown_by(node: Running, callers: Callers) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", tls_port(node)), 10) as plain,
        client_context(callers.authority, scanner(callers)).wrap_socket(plain) as line,
    ):
        der = line.getpeercert(binary_form=True)
        assert der is not None
        return der


def test_a_renewed_certificate_is_shown_without_a_restart_and_open_associations_stay(
    secure, callers: Callers, renewable: dict[str, str], tmp_path: Path
) -> None:
    node = secure(**renewable)
    before = shown_by(node, callers)
    verification = ProposedContext(Uid("1.2.840.10008.5.1.4.1.1.2"), (Uid("1.2.840.10008.1.2.1"),))
    with associate(
        ourselves(node, callers),
        calling=AETitle("SCANNER"),
        contexts=[verification],
        deadline=Deadline(patient(20)),
    ) as association:
        renewed = callers.authority.sign("node-renewed")
        shutil.copy(renewed.key, tmp_path / "node.key")
        shutil.copy(renewed.certificate, tmp_path / "node.pem")

        until(lambda: shown_by(node, callers) != before, within_s=10, what="the new certificate is shown")
        assert not association.speaks(0.0), "the open association was ended"
    events = [event.event for event in node.ledger.history() if event.thing == "node"]
    assert "certificate_loaded" in events


def test_a_broken_renewal_keeps_the_old_certificate_and_says_so(
    secure, callers: Callers, renewable: dict[str, str], tmp_path: Path
) -> None:
    node = secure(**renewable)
    before = shown_by(node, callers)
    (tmp_path / "node.key").write_text("rubbish")

    def told() -> list[str]:
        assert shown_by(node, callers) == before
        return [event.because for event in node.ledger.history() if event.event == "certificate_refused"]

    (because,) = until(told, within_s=10, what="the broken key is told of")
    assert "node.key" in because


def test_a_key_of_another_certificate_stops_the_start_with_a_sentence(secure, callers: Callers) -> None:
    with pytest.raises(TlsUnusable, match="does not belong to the certificate"):
        secure(key_file=str(scanner(callers).key))


def ourselves(node: Running, callers: Callers) -> PeerSettings:
    """The node as a peer of our own sender."""
    return PeerSettings(
        name="node",
        ae_title="WETREAD",
        host="127.0.0.1",
        port=tls_port(node),
        tls=PeerTlsSettings(
            certificate_file=scanner(callers).certificate,
            key_file=scanner(callers).key,
            ca_file=callers.authority.ca,
        ),
    )


def test_an_rsa_certificate_with_a_password_serves_as_well(secure, callers: Callers, tmp_path: Path) -> None:
    locked = callers.authority.sign("locked", password="open sesame", rsa_bits=2048)
    (tmp_path / "password").write_text("open sesame\n")

    node = secure(
        certificate_file=str(locked.certificate),
        key_file=str(locked.key),
        key_password_file=str(tmp_path / "password"),
    )

    assert echo(node, callers) == 0


@pytest.mark.peer
def test_many_associations_send_while_certificates_are_renewed(
    secure, callers: Callers, renewable: dict[str, str], tmp_path: Path
) -> None:
    node = secure(**renewable)
    write(tmp_path / "out", *(ct_slice(number) for number in range(1, 25)))
    ours = [*tls_options(scanner(callers), callers.authority)]
    codes: list[int] = []

    def send() -> None:
        codes.append(storescu(tls_port(node), tmp_path / "out", options=ours).returncode)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(3):
        renewed = callers.authority.sign(f"node-again-{number}")
        # As `mv` does it: each file is whole at any time.
        for new, old in ((renewed.key, "node.key"), (renewed.certificate, "node.pem")):
            (tmp_path / "new").write_bytes(new.read_bytes())
            (tmp_path / "new").rename(tmp_path / old)
    for thread in threads:
        thread.join(patient(60))

    assert codes == [0, 0, 0]
    assert len(node.instances()) == 24
