"""`wetread fetch`: the wish is kept, the node fulfils it, and whoever typed it hears what became of it."""

from pathlib import Path

import pytest

from dicom_node.send import send_many
from ledger.fetch import FetchState, NewFetch, Purpose
from ledger.identifiers import AETitle, Uid
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.console.conftest import FilledSite, Wetread
from tests.dicom_node.node_process import node_process
from tests.dicom_node.objects import write_instance
from tests.dicom_node.raw_peer import peer
from tests.ledger.site import receive
from tests.patience import patient
from tests.peers.dcmqrscp import dcmqrscp

PEER = (
    '[[peer]]\nname = "archive"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {port}\nretrieve = "get"\n'
)


def with_archive(site: FilledSite) -> FilledSite:
    with (site.folder / "wetread.toml").open("a") as file:
        file.write(PEER.format(port=1))
    return site


@pytest.mark.peer
def test_a_study_is_fetched_by_the_node_and_its_end_is_told(tmp_path: Path, wetread: Wetread) -> None:
    file = write_instance(tmp_path / "in")
    with dcmqrscp(tmp_path / "archive") as archive:
        there = peer(archive.port, retrieve="get")
        send_many([file], there, calling=AETitle("WETREAD"), deadline_s=patient(10))
        peers = [there.model_dump(mode="json")]
        (tmp_path / "wetread.toml").write_text(
            f'[ledger]\nurl = "sqlite:///{tmp_path}/ledger.sqlite"\n' + PEER.format(port=archive.port)
        )
        with node_process(tmp_path, peers=peers, fetch={"every_s": 0.05}):
            study = "1.2.826.0.1.3680043.8.498.1"
            done = wetread("fetch", "--peer", "archive", "--study", study)
            unknown = wetread("fetch", "--peer", "archive", "--study", "1.2.3")
    assert done.returncode == 0, done.stderr
    assert "fetch 1, fetched: 1 of 1 fetched from archive by C-GET" in done.stdout
    assert unknown.returncode == 1
    assert "archive does not know the study" in unknown.stderr
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        assert ledger.count_held(Uid(study)) == 1


def test_whoever_does_not_wait_is_told_the_number(site: FilledSite, wetread: Wetread) -> None:
    with_archive(site)
    study_id = receive(site.ledger, "1.2.3")
    asked = wetread(
        "fetch", "--peer", "archive", "--priors-of", "1.2.3", "--number", 3, "--modality", "ct", "--no-wait"
    )
    assert asked.returncode == 0, asked.stderr
    assert "fetch 1 is asked for" in asked.stdout
    [record] = site.ledger.fetches_of(Uid("1.2.3"))
    assert record.purpose is Purpose.PRIORS
    assert record.terms == {"number": 3, "within_days": 1825, "modality": ["CT"]}
    assert record.told_with == study_id
    [said] = site.ledger.audit_rows()
    assert (said.what, said.thing_id, said.role) == ("fetch.asked", str(record.id), "administrator")
    assert said.detail == {"peer": "archive", "purpose": "priors"}


def test_a_wish_that_is_being_fulfilled_is_joined(site: FilledSite, wetread: Wetread) -> None:
    with_archive(site)
    new = NewFetch(
        purpose=Purpose.WISH, study=Uid("1.2.3"), peer="archive", told_with=None, because="asked before"
    )
    first = site.ledger.ask_fetch(new)
    again = wetread("fetch", "--peer", "archive", "--study", "1.2.3", "--no-wait")
    assert f"fetch {first} is asked for" in again.stdout
    assert first is not None
    assert site.ledger.fetch(first).state is FetchState.ASKED


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--peer", "nobody", "--study", "1.2.3"), "no [[peer]] is called 'nobody' (PACS, archive)"),
        (("--peer", "PACS", "--study", "1.2.3"), 'give its [[peer]] retrieve = "get", "move" or "wado"'),
        (("--peer", "archive", "--study", "study"), "'study' is no Study Instance UID"),
        (("--peer", "archive", "--priors-of", "1.2.3"), "no study '1.2.3' is here"),
        (("--peer", "archive"), "give either --study or --priors-of"),
    ],
)
def test_a_wish_that_cannot_be_kept_is_refused_with_the_reason(
    site: FilledSite, wetread: Wetread, arguments: tuple[str, ...], words: str
) -> None:
    with_archive(site)
    refused = wetread("fetch", *arguments)
    assert refused.returncode in (1, 2)
    assert words in " ".join(refused.stderr.split())
    assert site.ledger.due_fetches() == []
