"""What to do next about a result that an archive accepted, until it answers for it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel
from structlog.testing import capture_logs

from dicom_node.commitment_messages import Request, decode_request
from dicom_node.peers import PeerSettings
from dicom_node.query import QueryRefused
from dicom_node.readback import find_instance
from dicom_node.settings import SpoolSettings
from ledger.commitment import CommitmentState
from ledger.delivery import DeliveryEvent, DeliveryRecord, DeliveryState
from ledger.errors import PeerError
from ledger.identifiers import AETitle, JobId
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.dicom_node.raw_peer import peer as peer_at
from tests.ledger.site import OPERATOR, claim, finish, queued_job
from tests.ledger.site import send as record_send
from tests.patience import patient
from tests.peers.dcmtk import storescp
from tests.peers.loopback import free_port
from worker.commit import Step, commit, step
from worker.proof import prove
from worker.settings import DeliverySettings, QueueSettings, WorkerSite

#: No waiting: what a test wants to be over is over.
AT_ONCE = DeliverySettings(
    first_s=0.01, longest_s=0.02, proof_after_s=0, commitment_linger_s=0.2, commitment_patience_s=1000
)
OVER = AT_ONCE.model_copy(update={"commitment_patience_s": 0.0001, "proof_patience_s": 0.0001})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as opened:
        yield opened


@dataclass
class Archive:
    """An archive that takes requests and answers as it is told to."""

    requests: list[Request] = field(default_factory=list)
    status: int = 0x0000
    port: int = 0


@contextmanager
def archive(status: int = 0x0000) -> Iterator[Archive]:
    heard = Archive(status=status)

    def on_action(event: evt.Event) -> tuple[int, None]:
        information = event.request.ActionInformation.getvalue()
        heard.requests.append(decode_request(information, str(event.context.transfer_syntax)))
        return heard.status, None

    ae = AE("PACS")
    ae.add_supported_context(StorageCommitmentPushModel)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, on_action)])
    heard.port = server.server_address[1]
    try:
        yield heard
    finally:
        server.shutdown()


def site(
    tmp_path: Path, port: int, patience: DeliverySettings = AT_ONCE, confirm: str = "commitment"
) -> WorkerSite:
    return WorkerSite(
        ledger=LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite"),
        spool=SpoolSettings(path=tmp_path / "spool"),
        queue=QueueSettings(url="redis://127.0.0.1:1/0"),
        delivery=patience,
        peers=(peer_at(port, name="PACS", ae_title="PACS", confirm=confirm, deadline_s=patient(5)),),
    )


def sent(ledger: Ledger, study: str = "1.2.3") -> JobId:
    job_id = queued_job(ledger, study)
    for one in finish(ledger, claim(ledger, job_id)):
        record_send(ledger, one)
    return job_id


def states(ledger: Ledger, job_id: JobId) -> list[str]:
    return [str(one.state) for one in ledger.deliveries_of(job_id)]


def never(peer: PeerSettings, delivery: DeliveryRecord) -> bool:
    raise AssertionError("nobody should have been asked by C-FIND")


def finds(answer: bool | PeerError) -> Callable[[PeerSettings, DeliveryRecord], bool]:
    def find(peer: PeerSettings, delivery: DeliveryRecord) -> bool:
        if isinstance(answer, PeerError):
            raise answer
        return answer

    return find


def report(ledger: Ledger, request: Request, failed: Mapping[int, int] = {}) -> None:
    """What the node does with the archive's report; `failed` is index → reason."""
    lost = {request.references[index].sop_instance: reason for index, reason in failed.items()}
    kept = [one.sop_instance for one in request.references if one.sop_instance not in lost]
    ledger.report_commitment(request.transaction, peer="PACS", committed=kept, failed=lost)


def test_point_51_all_results_of_a_job_are_one_request_and_committed_by_its_report(
    ledger: Ledger, tmp_path: Path
) -> None:
    first, second = sent(ledger), sent(ledger, "1.2.4")
    with archive() as pacs:
        prove(ledger, site(tmp_path, pacs.port), never)
        prove(ledger, site(tmp_path, pacs.port), never)  # It waits for the report, and asks nothing more.
    assert len(pacs.requests) == 2
    assert [len(one.references) for one in pacs.requests] == [2, 2]
    assert [ledger.commitments_of(one)[0].state for one in (first, second)] == [CommitmentState.ASKED] * 2

    report(ledger, pacs.requests[0])

    assert states(ledger, first) == ["committed"] * 2
    assert states(ledger, second) == ["sent"] * 2
    because = f"storage commitment {pacs.requests[0].transaction} succeeded for 2 of 2"
    assert {one.because for one in ledger.deliveries_of(first)} == {because}


def test_what_the_archive_does_not_have_is_sent_again_and_asked_about_again(
    ledger: Ledger, tmp_path: Path
) -> None:
    job_id = sent(ledger)
    with archive() as pacs:
        here = site(tmp_path, pacs.port)
        prove(ledger, here, never)
        report(ledger, pacs.requests[0], failed={1: 0x0112})
        prove(ledger, here, never)
        assert states(ledger, job_id) == ["committed", "waiting"]
        lost = ledger.deliveries_of(job_id)[1]
        assert "failed for it (0x0112: no such object instance): it is sent again" in lost.because

        record_send_when_due(ledger, lost)
        prove(ledger, here, never)
        assert pacs.requests[1].references == pacs.requests[0].references[1:]
        assert pacs.requests[1].transaction != pacs.requests[0].transaction
        report(ledger, pacs.requests[1])
    assert states(ledger, job_id) == ["committed"] * 2


def record_send_when_due(ledger: Ledger, delivery: DeliveryRecord) -> None:
    from tests.ledger.site import pass_by

    pass_by(ledger, max(0.0, delivery.next_attempt_at - ledger.now()))
    record_send(ledger, delivery.id)


def test_a_request_waits_until_the_report_of_the_job_is_sent_too(ledger: Ledger, tmp_path: Path) -> None:
    job_id = queued_job(ledger)
    leaf, root = finish(ledger, claim(ledger, job_id))
    record_send(ledger, leaf)
    with archive() as pacs:
        prove(ledger, site(tmp_path, pacs.port), never)
        assert pacs.requests == []
        record_send(ledger, root, DeliveryEvent.POSTPONED, status=0xA700, retry_in_s=3600)
        prove(ledger, site(tmp_path, pacs.port), never)
        assert pacs.requests == []
        # One that the archive will not take does not hold the others back for ever.
        prove(ledger, site(tmp_path, pacs.port, OVER), never)
    assert [len(one.references) for one in pacs.requests] == [1]


def test_an_archive_that_is_away_gets_the_same_request_later(ledger: Ledger, tmp_path: Path) -> None:
    job_id = sent(ledger)
    prove(ledger, site(tmp_path, free_port()), never)
    (opened,) = ledger.commitments_of(job_id)
    assert opened.state is CommitmentState.OPENED
    with archive() as pacs:
        prove(ledger, site(tmp_path, pacs.port), never)
    assert [one.transaction for one in pacs.requests] == [opened.transaction]
    assert [one.state for one in ledger.commitments_of(job_id)] == [CommitmentState.ASKED]


@pytest.mark.parametrize("how", ["refused", "silent", "away"])
def test_where_its_word_is_not_to_be_had_the_archive_is_searched(
    ledger: Ledger, tmp_path: Path, how: str
) -> None:
    job_id = sent(ledger)
    with archive(status=0x0213 if how == "refused" else 0) as pacs:
        prove(ledger, site(tmp_path, free_port() if how == "away" else pacs.port), never)
        over = site(tmp_path, pacs.port, AT_ONCE if how == "refused" else OVER)
        prove(ledger, over, finds(True))  # lapses
        prove(ledger, over, finds(True))
    assert states(ledger, job_id) == ["committed"] * 2
    (because,) = {one.because for one in ledger.deliveries_of(job_id)}
    assert because.startswith("found in the archive by C-FIND (storage commitment 2.25.")
    assert ("status 0x0213" if how == "refused" else "no report came within 0.0001 s") in because


def test_what_neither_commitment_nor_search_proves_is_sent_again(ledger: Ledger, tmp_path: Path) -> None:
    job_id = sent(ledger)
    with archive(status=0x0110) as pacs:
        prove(ledger, site(tmp_path, pacs.port), never)
        prove(ledger, site(tmp_path, pacs.port), finds(False))
        assert states(ledger, job_id) == ["sent"] * 2  # It may index for minutes.
        prove(ledger, site(tmp_path, pacs.port, OVER), finds(False))
    assert states(ledger, job_id) == ["waiting"] * 2
    assert "not found in the archive by C-FIND" in ledger.deliveries_of(job_id)[0].because


def test_an_archive_without_commitment_and_search_is_asked_again_but_never_believed(
    ledger: Ledger, tmp_path: Path
) -> None:
    job_id = sent(ledger)
    refused = finds(QueryRefused("no C-FIND"))
    with archive(status=0x0110) as pacs:
        for _ in range(3):
            prove(ledger, site(tmp_path, pacs.port), refused)
        assert len(pacs.requests) == 1
        prove(ledger, site(tmp_path, pacs.port, OVER), refused)
    assert len(pacs.requests) == 2
    assert states(ledger, job_id) == ["sent"] * 2


def test_unless_told_otherwise_the_archive_has_to_answer_for_every_result(
    ledger: Ledger, tmp_path: Path
) -> None:
    assert PeerSettings(name="PACS", ae_title="PACS", host="pacs", port=104).confirm == "best"
    job_id = sent(ledger)
    with archive() as pacs:
        prove(ledger, site(tmp_path, pacs.port, confirm="best"), never)
        report(ledger, pacs.requests[0])
    assert states(ledger, job_id) == ["committed"] * 2
    assert "storage commitment" in ledger.deliveries_of(job_id)[0].because


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_without_its_word_the_best_proof_is_being_found(ledger: Ledger, tmp_path: Path, how: str) -> None:
    job_id = sent(ledger)
    with archive(status=0x0213 if how == "refused" else 0) as pacs:
        prove(ledger, site(tmp_path, pacs.port, confirm="best"), never)
        over = site(tmp_path, pacs.port, AT_ONCE if how == "refused" else OVER, confirm="best")
        prove(ledger, over, finds(True))
        prove(ledger, over, finds(True))
    assert states(ledger, job_id) == ["committed"] * 2
    assert ledger.deliveries_of(job_id)[0].because.startswith("found in the archive by C-FIND (storage comm")


def test_an_archive_that_offers_neither_is_believed_and_that_is_recorded(
    ledger: Ledger, tmp_path: Path
) -> None:
    job_id = sent(ledger)
    with storescp(tmp_path / "archive") as plain:  # DCMTK's: it stores, and does nothing else
        here = site(tmp_path, plain.port, confirm="best")

        def find(peer: PeerSettings, delivery: DeliveryRecord) -> bool:
            result = delivery.result
            return find_instance(
                peer, calling=AETitle("WETREAD"), study=result.study, series=result.series,
                sop_instance=result.sop_instance, deadline_s=patient(5),
            )  # fmt: skip

        prove(ledger, here, find)
        prove(ledger, here, find)
    assert states(ledger, job_id) == ["committed"] * 2
    because = ledger.deliveries_of(job_id)[0].because
    assert because.startswith("the peer answered 0x0000, and it cannot be asked whether it has it: ")
    assert "(storage commitment 2.25." in because


def test_a_peer_that_takes_a_result_twice_and_never_lists_it_is_believed_then(
    ledger: Ledger, tmp_path: Path
) -> None:
    """A router passes results on; it would be sent everything again for ever."""
    job_id = sent(ledger)
    with archive(status=0x0110) as pacs:
        here = site(tmp_path, pacs.port, OVER, confirm="best")
        prove(ledger, here, never)
        prove(ledger, here, finds(False))
        assert states(ledger, job_id) == ["waiting"] * 2
        for one in ledger.deliveries_of(job_id):
            record_send_when_due(ledger, one)
        for _ in range(3):
            prove(ledger, here, finds(False))
    assert states(ledger, job_id) == ["committed"] * 2
    because = ledger.deliveries_of(job_id)[0].because
    assert because.startswith("the peer answered 0x0000 twice; it does not list it by C-FIND (storage comm")


def test_a_peer_of_the_web_is_asked_by_qido_and_believed_where_that_is_refused(
    ledger: Ledger, tmp_path: Path
) -> None:
    found, refused = sent(ledger), sent(ledger, "1.2.4")
    web = PeerSettings.model_validate({"name": "PACS", "web": {"url": "http://127.0.0.1:1/dicom-web"}})
    here = site(tmp_path, 1).model_copy(update={"peers": (web,)})

    def find(peer: PeerSettings, delivery: DeliveryRecord) -> bool:
        if delivery.job_id == refused:
            raise QueryRefused("QIDO-RS is not offered")
        return True

    prove(ledger, here, find)
    assert {one.because for one in ledger.deliveries_of(found)} == {"found in the archive by QIDO-RS"}
    (because,) = {one.because for one in ledger.deliveries_of(refused)}
    assert because.endswith("it cannot be asked whether it has it: QIDO-RS is not offered")


def test_a_peer_that_cannot_be_asked_as_the_site_wants_is_told_of_with_what_to_set(
    ledger: Ledger, tmp_path: Path
) -> None:
    job_id = sent(ledger)
    here = site(tmp_path, 1, confirm="find")
    with capture_logs() as logged:
        prove(ledger, here, finds(QueryRefused("it does not accept Study Root queries")))
    assert states(ledger, job_id) == ["sent"] * 2
    (line,) = [one for one in logged if one["event"] == "proof.refused"]
    assert line["because"] == 'it does not accept Study Root queries: set confirm = "answer" for this peer'


def test_a_reason_that_says_nothing_of_the_instance_leads_to_a_search(ledger: Ledger, tmp_path: Path) -> None:
    job_id = sent(ledger)
    with archive() as pacs:
        prove(ledger, site(tmp_path, pacs.port), never)
        report(ledger, pacs.requests[0], failed={0: 0x0122})
        prove(ledger, site(tmp_path, pacs.port), finds(True))
    assert states(ledger, job_id) == ["committed"] * 2
    assert "0x0122: referenced SOP class not supported" in ledger.deliveries_of(job_id)[0].because


def test_a_report_that_comes_too_late_still_counts(ledger: Ledger, tmp_path: Path) -> None:
    job_id = sent(ledger)
    with archive() as pacs:
        prove(ledger, site(tmp_path, pacs.port), never)
        prove(ledger, site(tmp_path, pacs.port, OVER), never)
        assert ledger.commitments_of(job_id)[0].state is CommitmentState.OVERDUE
        report(ledger, pacs.requests[0])
    assert states(ledger, job_id) == ["committed"] * 2


def test_every_state_of_a_request_has_a_next_step(ledger: Ledger, tmp_path: Path) -> None:
    job_id = sent(ledger)
    delivery = ledger.deliveries_of(job_id)[0]
    last = ledger.open_commitment(job_id, "PACS", [delivery.id], calling=AETitle("WETREAD"))
    assert last is not None
    soon, later = last.opened_at + 1, last.opened_at + 2000

    def after(state: CommitmentState, now: float) -> Step:
        return step(delivery, replace(last, state=state), now=now, patience=AT_ONCE)

    assert step(delivery, None, now=soon, patience=AT_ONCE) is Step.ASK
    assert step(replace(delivery, sent_at=soon), last, now=soon, patience=AT_ONCE) is Step.ASK
    assert [after(CommitmentState.OPENED, now) for now in (soon, later)] == [Step.REPEAT, Step.LAPSE]
    assert [after(CommitmentState.ASKED, now) for now in (soon, later)] == [Step.WAIT, Step.LAPSE]
    for state in (CommitmentState.OVERDUE, CommitmentState.REFUSED, CommitmentState.REPORTED):
        assert after(state, soon) is Step.FIND


def test_a_settled_delivery_is_left_alone_by_a_round_that_saw_it_before(
    ledger: Ledger, tmp_path: Path
) -> None:
    job_id = sent(ledger)
    stale = ledger.sent_deliveries(10)
    with archive() as pacs:
        here = site(tmp_path, pacs.port)
        prove(ledger, here, never)
        report(ledger, pacs.requests[0], failed={0: 0x0112, 1: 0x0112})
        for one in stale:
            ledger.cancel_delivery(one.id, "withdrawn", by=OPERATOR)
        commit(ledger, here, here.peers[0], stale, never)
    assert {one.state for one in ledger.deliveries_of(job_id)} == {DeliveryState.CANCELLED}
