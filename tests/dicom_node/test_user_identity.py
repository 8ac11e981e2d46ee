"""User Identity Negotiation: who has to say as which user it comes, and who may not get a yes from us."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from dicom_node.peers import PeerSettings
from dicom_node.user_identity import Introduction, unproven
from tests.dicom_node.caller_matrix import Callers, client_context
from tests.dicom_node.conftest import Running
from tests.peers.loopback import until

PASSCODE = "correct horse"


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Callers:
    return Callers(tmp_path_factory.mktemp("certificates"))


def said(
    kind: int, name: bytes = b"modality", passcode: bytes = b"", *, answer: bool = False
) -> Introduction:
    return Introduction(kind, name, passcode, answer)


def peer(user: dict[str, Any] | None = None) -> PeerSettings:
    return PeerSettings.model_validate(
        {"name": "ct1", "ae_title": "CT1", "host": "127.0.0.1", "port": 104, "tls": {"ca_file": "ca.pem"},
         "user": user}
    )  # fmt: skip


def passcode_file(folder: Path, text: str = PASSCODE + "\n") -> str:
    path = folder / "passcode"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5])
def test_of_a_peer_without_a_user_it_is_ignored_unless_it_wants_a_confirmation(kind: int) -> None:
    assert unproven(said(kind), [peer()], secure=False) == ""
    assert "to be confirmed" in unproven(said(kind, answer=True), [peer()], secure=True)
    assert "to be confirmed" in unproven(said(kind, answer=True), [], secure=True)


def test_a_peer_with_a_user_has_to_say_so() -> None:
    assert "does not say as which user" in unproven(None, [peer({"name": "modality"})], secure=True)


@pytest.mark.parametrize(
    ("introduction", "because"),
    [
        (said(2, passcode=PASSCODE.encode()), ""),
        (said(2, b"somebody", PASSCODE.encode()), "another user name or passcode"),
        (said(2, passcode=b"wrong"), "another user name or passcode"),
        (said(2), "another user name or passcode"),
        (said(1), "needs type 2"),
        (said(3, passcode=PASSCODE.encode()), "type 3"),
        (said(5, passcode=PASSCODE.encode()), "type 5"),
    ],
)
def test_name_and_passcode_have_to_fit(introduction: Introduction, because: str, tmp_path: Path) -> None:
    known = peer({"name": "modality", "passcode_file": passcode_file(tmp_path)})

    answer = unproven(introduction, [known], secure=True)

    assert answer == "" if not because else because in answer
    assert PASSCODE not in answer


def test_a_passcode_file_that_is_empty_or_missing_lets_nobody_in(tmp_path: Path) -> None:
    empty = peer({"name": "modality", "passcode_file": passcode_file(tmp_path, "\n")})
    missing = peer({"name": "modality", "passcode_file": str(tmp_path / "nothing")})

    assert "is empty" in unproven(said(2, passcode=b""), [empty], secure=True)
    assert "cannot be read" in unproven(said(2, passcode=b""), [missing], secure=True)


def test_without_tls_the_right_user_is_refused(tmp_path: Path) -> None:
    known = peer({"name": "modality"})
    assert "without TLS" in unproven(said(1), [known], secure=False)


def test_a_user_needs_required_tls_in_the_settings() -> None:
    with pytest.raises(ValidationError, match=r"needs a \[peer\.tls\]"):
        PeerSettings.model_validate(
            {"name": "ct1", "ae_title": "CT1", "host": "h", "port": 104, "user": {"name": "modality"}}
        )


def test_what_was_sent_shows_in_no_text() -> None:
    shown = repr(said(2, passcode=PASSCODE.encode()))
    assert PASSCODE not in shown
    assert "modality" not in shown


@pytest.mark.parametrize(
    ("name", "passcode", "let_in"),
    [("modality", PASSCODE, True), ("modality", "wrong", False), ("other", PASSCODE, False)],
)
def test_over_the_wire_the_right_user_is_confirmed_and_any_other_rejected(  # noqa: PLR0917
    start_node: Callable[..., Running],
    callers: Callers,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    passcode: str,
    let_in: bool,
) -> None:
    ct1 = callers.shown["ct1"]
    assert ct1 is not None
    site = callers.site()
    user = {"name": "modality", "passcode_file": passcode_file(tmp_path)}
    site["peers"] = [
        {"name": "ct1", "ae_title": "CT1", "host": "127.0.0.1", "port": 104,
         "tls": {"fingerprints": [ct1.fingerprint]}, "user": user}
    ]  # fmt: skip
    node = start_node(**site)
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 2
    identity.primary_field, identity.secondary_field = name.encode(), passcode.encode()
    identity.positive_response_requested = True
    ae = AE("CT1")
    ae.add_requested_context("1.2.840.10008.1.1")
    ae.acse_timeout = ae.network_timeout = ae.connection_timeout = 15

    association = ae.associate(
        "127.0.0.1",
        node.node.tls_port or 0,
        ae_title="WETREAD",
        ext_neg=[identity],
        tls_args=(client_context(callers.authority, ct1), "localhost"),
    )

    assert association.is_established is let_in
    if let_in:
        # The confirmation has no content, but it has to be there.
        assert association.acceptor.user_identity is not None
        association.release()
    else:
        assert association.is_rejected
        until(
            lambda: any("user name or passcode" in event.because for event in node.ledger.history()),
            within_s=10,
            what="the refusal is in the history",
        )
    told = capfd.readouterr()
    assert PASSCODE not in told.out + told.err
    assert "wrong" not in "".join(event.because for event in node.ledger.history())
