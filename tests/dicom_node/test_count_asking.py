"""Peers are asked how many images they have; nobody waits for them, and not everything is believed."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from dicom_node.closing import Counted
from dicom_node.count_asking import CountAsking
from dicom_node.peers import PeerSettings
from dicom_node.query import STUDY_ROOT_FIND
from dicom_node.settings import ClosingSettings
from ledger.completeness import CountRecord
from ledger.identifiers import AETitle, Uid
from ledger.job import Outcome
from ledger.result import NewResult, Role
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord
from tests.dicom_node.counting_pacs import counting_pacs
from tests.dicom_node.raw_peer import acceptance, raw_peer, read_pdu
from tests.dicom_node.test_watch import RULE, STUDY, arrival, the_study, watch
from tests.dicom_node.web_peers import number, says, uid, web_server
from tests.peers.loopback import free_port, until

PATIENCE = ClosingSettings(ask_after_s=0.0, ask_deadline_s=1.0)
FIRST, SECOND, RESULTS = Uid("1.2.3.1"), Uid("1.2.3.2"), Uid("2.25.9.1")


@contextmanager
def asking(ledger: Ledger, peer: PeerSettings) -> Iterator[CountAsking]:
    asked = CountAsking(ledger, [peer], calling=AETitle("WETREAD"))
    asked.start()
    try:
        yield asked
    finally:
        asked.stop()


def consider(
    asked: CountAsking, study: StudyRecord, peer: PeerSettings, *, per_series: bool = False
) -> float:
    return asked.consider(
        study,
        peer,
        now_s=float("inf"),
        ours=study.instances,
        open_associations=1,
        patience=PATIENCE,
        per_series=per_series,
    )


def ask(
    asked: CountAsking, ledger: Ledger, peer: PeerSettings, *, per_series: bool = False
) -> tuple[Counted, CountRecord]:
    """One question to its end."""
    study = ledger.study(the_study(ledger))
    before = ledger.counts_of(study.id)
    consider(asked, study, peer, per_series=per_series)
    until(lambda: ledger.counts_of(study.id) != before, within_s=10, what="the question is over")
    return asked.counted(study, peer, ours=study.instances), ledger.counts_of(study.id)[0]


@pytest.fixture
def received(ledger: Ledger) -> Ledger:
    ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
    return ledger


def test_a_number_that_is_ours_needs_one_question(received: Ledger) -> None:
    with counting_pacs("1.2.3", "3") as pacs, asking(received, pacs.settings) as asked:
        said, kept = ask(asked, received, pacs.settings)

    assert (said.theirs, said.failure, pacs.asked) == (3, "", [("STUDY", "1.2.3")])
    assert (kept.theirs, kept.counted_by) == (3, "number of study related instances")


def test_a_larger_one_is_asked_for_series_by_series_so_that_what_is_missing_can_be_fetched(
    received: Ledger,
) -> None:
    with counting_pacs("1.2.3", "9", _1="7", _2="2") as pacs, asking(received, pacs.settings) as asked:
        said, _ = ask(asked, received, pacs.settings)

    assert (said.theirs, said.missing, [level for level, _ in pacs.asked]) == (9, 6, ["STUDY", "SERIES"])
    (lack,) = received.lacking()
    assert (lack.peer, lack.series) == ("PACS", {FIRST: (3, 7), SECOND: (0, 2)})


def test_a_series_has_had_its_number_since_it_did_not_change(received: Ledger) -> None:
    study = received.study(the_study(received))
    with counting_pacs("1.2.3", "4", _1="3", _2="1") as pacs, asking(received, pacs.settings) as asked:
        peer = pacs.settings
        ask(asked, received, peer, per_series=True)
        first = [asked.counted_series(study, peer, uid, ours=3) for uid in (FIRST, SECOND)]
        pacs.series["1.2.3.2"] = "2"
        ask(asked, received, peer, per_series=True)
        second = [asked.counted_series(study, peer, uid, ours=3) for uid in (FIRST, SECOND)]

        assert asked.counted_series(study, peer, Uid("1.2.3.6"), ours=1) is None
    assert second[0].since_s == first[0].since_s
    assert second[1].since_s > first[1].since_s
    assert (second[0].theirs, second[1].theirs) == (3, 2)


def test_an_archive_on_the_web_is_asked_by_qido(received: Ledger) -> None:
    whole = [{"0020000D": uid(STUDY), "00201208": number(5)}]
    series = [{"0020000D": uid(STUDY), "0020000E": uid(FIRST), "00201209": number(5)}]
    answers = (says(body=whole), says(body=series), says(body=[]))
    with web_server(*answers) as web:
        peer = web.peer.model_copy(update={"count": "qido"})
        with asking(received, peer) as asked:
            said, kept = ask(asked, received, peer)

    assert (said.theirs, kept.series, kept.failure) == (5, {FIRST: 5}, "")
    assert [request.line.split("?")[0] for request in web.requests[:2]] == [
        "GET /dicom-web/studies",
        f"GET /dicom-web/studies/{STUDY}/series",
    ]


@pytest.mark.fault
@pytest.mark.parametrize("huge", ["1000001", "999999999"])
def test_a_number_that_no_study_has_is_not_believed(received: Ledger, huge: str) -> None:
    with counting_pacs("1.2.3", huge) as pacs, asking(received, pacs.settings) as asked:
        said, kept = ask(asked, received, pacs.settings)
        assert (said.theirs, said.holds_up()) == (None, False)
        assert kept.failure == f"PACS says that it has {huge} images of the study, which cannot be"
        # It is confused about this study, not away: it need not rest.
        pacs.whole = "3"
        said, _ = ask(asked, received, pacs.settings)
    assert (said.theirs, said.failure) == (3, "")


@pytest.mark.fault
@pytest.mark.parametrize("text", ["-1", "many", "", "3.0", "9" * 12])
def test_what_is_no_number_is_no_answer_and_the_series_are_counted(received: Ledger, text: str) -> None:
    with counting_pacs("1.2.3", text, _1="3") as pacs, asking(received, pacs.settings) as asked:
        said, kept = ask(asked, received, pacs.settings)

    assert (said.theirs, kept.counted_by) == (3, "number of series related instances")


@pytest.mark.fault
def test_series_that_together_have_an_impossible_number_are_not_believed(received: Ledger) -> None:
    with counting_pacs("1.2.3", "3", _1="999999", _2="2") as pacs, asking(received, pacs.settings) as asked:
        said, _ = ask(asked, received, pacs.settings, per_series=True)

    assert (said.theirs, said.holds_up()) == (None, False)


@pytest.mark.fault
def test_a_study_that_the_peer_does_not_know_has_no_images_there(received: Ledger) -> None:
    with counting_pacs("1.2.3") as pacs, asking(received, pacs.settings) as asked:
        said, _ = ask(asked, received, pacs.settings)

    assert (said.theirs, said.failure, said.holds_up(), said.agrees) == (0, "", False, False)


@pytest.mark.fault
def test_a_peer_that_loses_count_between_questions_begins_anew(received: Ledger) -> None:
    since = []
    with counting_pacs("1.2.3") as pacs, asking(received, pacs.settings) as asked:
        for whole in ("3", "3", None, "3"):
            pacs.whole = whole
            since.append(ask(asked, received, pacs.settings)[0].since_s)

    assert since[0] == since[1] < since[2] < since[3]


def our_result(number: int) -> NewResult:
    template = arrival(number, series=str(RESULTS))
    return NewResult(
        role=Role.REPORT, sop_class=template.sop_class, sop_instance=template.sop_instance, study=STUDY,
        series=RESULTS, transfer_syntax=template.transfer_syntax, digest=template.digest, size=1000, path="r",
    )  # fmt: skip


def test_results_that_we_sent_there_are_not_missing_here(received: Ledger) -> None:
    watch(received, RULE).look()
    (job,) = received.jobs_of(the_study(received))
    claim = received.claim_job(job.id, owner="test", lease_s=60, attempts_max=3)
    how = {"outcome": Outcome.FOUND, "because": "", "model_identity": "lung_ct", "timings": {}}
    received.finish_job(claim, results=[our_result(1)], **how)
    received.record_arrivals([arrival(4)])
    with counting_pacs("1.2.3", "5", _1="4") as pacs, asking(received, pacs.settings) as asked:
        pacs.series[str(RESULTS)] = "1"
        said, _ = ask(asked, received, pacs.settings)

    assert (said.theirs, [level for level, _ in pacs.asked]) == (4, ["SERIES"])
    assert received.lacking() == []


@pytest.mark.fault
def test_a_peer_that_is_away_rests_before_it_is_asked_about_another_study(received: Ledger) -> None:
    peer = PeerSettings(name="PACS", ae_title="PACS", host="127.0.0.1", port=free_port(), count="find")
    first = received.study(the_study(received))
    received.record_arrivals([replace(arrival(1, series="1.2.8.1"), study=Uid("1.2.8"))])
    other = next(study for study in received.studies() if study.study == Uid("1.2.8"))
    with asking(received, peer) as asked:
        consider(asked, first, peer)
        until(lambda: received.counts_of(first.id), within_s=5, what="the first question is over")
        with socket.create_server(("127.0.0.1", peer.port)) as listener:
            listener.settimeout(0)
            consider(asked, other, peer)
            until(lambda: received.counts_of(other.id), within_s=5, what="so is the second")
            with pytest.raises(BlockingIOError):
                listener.accept()
        said = {asked.counted(study, peer, ours=1).failure for study in (first, other)}

    assert len(said) == 1
    assert "connection refused" in said.pop()


@pytest.mark.fault
def test_nobody_waits_while_a_peer_is_silent(received: Ledger) -> None:
    def silent(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        connection.sendall(acceptance(str(STUDY_ROOT_FIND), "1.2.840.10008.1.2"))

    study = received.study(the_study(received))
    with raw_peer(silent, name="PACS", count="find") as peer, asking(received, peer) as asked:
        assert consider(asked, study, peer) == float("inf")
        assert consider(asked, study, peer) == float("inf")
        assert asked.counted(study, peer, ours=3).theirs is None
        (kept,) = until(lambda: received.counts_of(study.id), within_s=10, what="the deadline is over")

    assert kept.theirs is None
    assert kept.failure


def test_what_was_asked_before_a_study_opened_again_is_forgotten(received: Ledger) -> None:
    with counting_pacs("1.2.3", "3") as pacs, asking(received, pacs.settings) as asked:
        ask(asked, received, pacs.settings)
        watch(received).look()
        received.record_arrivals([arrival(4)])
        study = received.study(the_study(received))

        assert asked.counted(study, pacs.settings, ours=4) == Counted(peer="PACS", ours=4, theirs=None)
