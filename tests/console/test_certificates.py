"""Certificates that end, and files that are no certificates: told before, and said once."""

import time
from pathlib import Path

import pytest

from console.alarms import Alarm
from console.certificates import certificate_alarms
from console.settings import Site, load_site
from tests.peers.certificates import Authority, authority

DAY_S = 86400.0


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = authority(tmp_path_factory.mktemp("ours"))
    made.sign("node", days=300)
    return made


def site(folder: Path, ours: Authority, more: str = "", certificate: str = "node") -> Site:
    path = folder / "wetread.toml"
    path.write_text(
        f"""
        [node.tls]
        certificate_file = "{ours.folder}/{certificate}.pem"
        key_file = "{ours.folder}/{certificate}.key"
        ca_file = "{ours.ca}"
        {more}
        """
    )
    return load_site(path)


def told(site: Site, in_days: float = 0.0) -> list[Alarm]:
    return certificate_alarms(site, time.time() + in_days * DAY_S)


def without_the_ca(found: list[Alarm]) -> list[Alarm]:
    """The CA of the tests lives for two days."""
    return [alarm for alarm in found if "the CA of" not in alarm.words]


def test_a_good_certificate_is_no_news(ours: Authority, tmp_path: Path) -> None:
    assert without_the_ca(told(site(tmp_path, ours))) == []


def test_a_certificate_is_told_of_thirty_days_before_it_expires_and_urgently_after(
    ours: Authority, tmp_path: Path
) -> None:
    assert without_the_ca(told(site(tmp_path, ours), in_days=269)) == []
    (soon,) = without_the_ca(told(site(tmp_path, ours), in_days=271))
    assert soon.kind == "certificate expires"
    assert not soon.urgent
    assert "others refuse us" in soon.words
    (late,) = without_the_ca(told(site(tmp_path, ours), in_days=301))
    assert late.kind == "certificate expired"
    assert late.urgent


def test_a_ca_that_expires_is_told_of_too(ours: Authority, tmp_path: Path) -> None:
    (soon,) = told(site(tmp_path, ours))
    assert "the CA of [node.tls]" in soon.words
    (late,) = told(site(tmp_path, ours), in_days=3)
    assert late.kind == "certificate expired"


def test_of_several_cas_one_that_is_good_is_enough(ours: Authority, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(ours.ca.read_bytes() + (ours.folder / "node.pem").read_bytes())
    changed = site(tmp_path, ours)
    tls = changed.node.tls
    assert tls is not None
    node = changed.node.model_copy(update={"tls": tls.model_copy(update={"ca_file": both})})
    assert told(changed.model_copy(update={"node": node}), in_days=3) == []


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (None, "No such file"),
        ("rubbish", "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
    ],
)
def test_a_file_that_is_no_certificate_is_told_urgently(
    ours: Authority, tmp_path: Path, content: str | None, because: str
) -> None:
    broken = authority(tmp_path / "broken")
    pair = broken.sign("node")
    pair.certificate.unlink()
    if content is not None:
        pair.certificate.write_text(content)

    (found,) = without_the_ca(told(site(tmp_path, broken)))

    assert found.urgent
    assert because in found.words
    assert str(pair.certificate) in found.words


def test_a_key_that_was_exchanged_alone_is_told_urgently(tmp_path: Path) -> None:
    made = authority(tmp_path / "made")
    made.sign("other")
    made.sign("node").key.write_bytes((made.folder / "other.key").read_bytes())

    (found,) = without_the_ca(told(site(tmp_path, made)))

    assert "does not belong to the certificate" in found.words


def test_a_peers_own_certificate_is_told_of_by_the_name_of_the_peer(ours: Authority, tmp_path: Path) -> None:
    expired = ours.sign("expired", days=-1)
    more = f"""
        [[peer]]
        name = "archive"
        ae_title = "PACS"
        host = "pacs"
        port = 104
        [peer.tls]
        certificate_file = "{expired.certificate}"
        key_file = "{expired.key}"
    """
    (found,) = without_the_ca(told(site(tmp_path, ours, more)))
    assert "[peer.tls] of archive" in found.words


def test_a_peer_borrows_from_the_node_and_relative_files_are_seen_from_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "wetread.toml"
    path.write_text(
        """
        [node.tls]
        certificate_file = "node.pem"
        ca_file = "ca.pem"
        [[peer]]
        name = "archive"
        ae_title = "PACS"
        host = "pacs"
        port = 104
        [peer.tls]
        [peer.user]
        name = "pacs"
        passcode_file = "passcode"
        """
    )
    (peer,) = load_site(path).peers
    assert peer.tls is not None
    assert peer.tls.certificate_file == tmp_path / "node.pem"
    assert peer.tls.ca_file == tmp_path / "ca.pem"
    assert peer.user is not None
    assert peer.user.passcode_file == tmp_path / "passcode"


@pytest.mark.parametrize(
    ("table", "because"),
    [
        ('[peer.tls]\nsend = false', "could never call"),
        ("[peer.tls]\nrequired = false", "needs ca_file"),
        ('[peer.tls]\nca_file = "ca.pem"\ncheck_name = false', "needs fingerprints"),
        ('[peer.tls]\nfingerprints = ["abc"]', "no SHA-256 fingerprint"),
        ('[peer.user]\nname = "pacs"', "needs a [peer.tls]"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_in_a_sentence(
    tmp_path: Path, table: str, because: str
) -> None:
    path = tmp_path / "wetread.toml"
    path.write_text(f'[[peer]]\nname = "p"\nae_title = "P"\nhost = "h"\nport = 104\n{table}\n')
    with pytest.raises(Exception, match=because.replace("[", r"\[").replace("]", r"\]")):
        load_site(path)
