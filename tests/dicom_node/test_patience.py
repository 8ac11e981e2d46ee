"""How long is waited, and who is asked, is said once for all, and otherwise by the peer that sends."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_node.patience import counting, patience_with
from dicom_node.peers import PeerSettings
from dicom_node.settings import ClosingSettings, NodeSite
from ledger.identifiers import AETitle

CLOSING = ClosingSettings(quiet_s=5.0, quiet_open_s=30.0, longest_s=900.0)


def peer(name: str, **settings: object) -> PeerSettings:
    return PeerSettings.model_validate(
        {"name": name, "ae_title": name.upper(), "host": "127.0.0.1", "port": 104, **settings}
    )


ARCHIVE = peer("archive", count="find")
SLOW = peer("slow", quiet_s=60.0, longest_s=3600.0, witnesses=["commitment"])
SCANNER = peer("ct1", counted_at="archive")
SITE = (ARCHIVE, SLOW, SCANNER)


def test_a_sender_that_is_no_peer_is_treated_as_closing_says() -> None:
    assert patience_with(AETitle("STRANGER"), SITE, CLOSING) is CLOSING


def test_a_sender_that_pauses_longer_is_waited_for_longer() -> None:
    patience = patience_with(AETitle("SLOW"), SITE, CLOSING)

    assert (patience.quiet_s, patience.quiet_open_s, patience.longest_s) == (60.0, 30.0, 3600.0)
    assert patience.witnesses == ("commitment",)
    assert counting(patience, SITE) is None


def test_studies_of_a_scanner_are_counted_where_it_says() -> None:
    assert counting(patience_with(AETitle("CT1"), SITE, CLOSING), SITE) == ARCHIVE


def test_studies_that_an_archive_sends_are_counted_at_itself() -> None:
    assert counting(patience_with(AETitle("ARCHIVE"), SITE, CLOSING), SITE) == ARCHIVE


def test_one_archive_may_count_for_everybody() -> None:
    closing = CLOSING.model_copy(update={"counted_at": "archive"})

    assert counting(patience_with(AETitle("STRANGER"), SITE, closing), SITE) == ARCHIVE
    assert counting(patience_with(AETitle("SLOW"), SITE, closing), SITE) is None


def test_a_site_without_an_archive_asks_nobody() -> None:
    assert counting(patience_with(AETitle("CT1"), [peer("ct1")], CLOSING), [peer("ct1")]) is None


def site(tmp_path: Path, *peers: PeerSettings, **closing: object) -> NodeSite:
    return NodeSite.model_validate({
        "ledger": {"url": f"sqlite:///{tmp_path / 'ledger.sqlite'}"},
        "spool": {"path": str(tmp_path / "spool")},
        "closing": closing,
        "peers": [one.model_dump(mode="json") for one in peers],
    })  # fmt: skip


@pytest.mark.parametrize("known", ["nowhere", "slow"])
def test_who_names_a_peer_that_does_not_count_is_told_so(tmp_path: Path, known: str) -> None:
    with pytest.raises(ValidationError, match=f"counted_at names '{known}', which is no ..peer.. with count"):
        site(tmp_path, ARCHIVE, SLOW, peer("ct1", counted_at=known))
    with pytest.raises(ValidationError, match=r"\[closing\]: counted_at names"):
        site(tmp_path, ARCHIVE, SLOW, counted_at=known)


def test_a_count_that_nobody_would_ask_for_is_told_so(tmp_path: Path) -> None:
    mute = peer("archive", count="find", receive=False)
    with pytest.raises(ValidationError, match="it would never be asked"):
        site(tmp_path, mute)
    assert site(tmp_path, mute, SCANNER).peers == (mute, SCANNER)
    assert site(tmp_path, mute, counted_at="archive").peers == (mute,)


def test_a_peer_is_asked_in_a_way_in_which_it_can_be_reached() -> None:
    with pytest.raises(ValidationError, match=r"needs a \[peer.web\] with its url"):
        peer("archive", count="qido")
    with pytest.raises(ValidationError, match="needs ae_title, host and port"):
        PeerSettings.model_validate(
            {"name": "cloud", "count": "find", "web": {"url": "https://cloud.example/dicom-web"}}
        )
