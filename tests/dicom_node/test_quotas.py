"""What one caller may send: counted by a clock of ours, and answered over the wire."""

import socket

import pytest

from dicom_node.limits import PeerQuota, Quota
from dicom_node.peers import PeerSettings
from dicom_node.quotas import OverQuota, Quotas
from dicom_node.status import StoreStatus
from ledger.identifiers import AETitle
from tests.dicom_node.datasets import ROOT, ct_slice, encoded
from tests.dicom_node.scanner import send_all
from tests.dicom_node.test_limits_on_the_wire import LOCAL_LIMIT, REQUEST, told
from tests.dicom_node.test_stream import read_pdu
from tests.patience import patient
from tests.peers.loopback import until

CT1, CT2 = AETitle("CT1"), AETitle("CT2")
CONGESTION = LOCAL_LIMIT[:9] + b"\1"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Here:
    """A ledger that knows what is here."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        self.held = 0
        self.asked = 0

    def open_by_caller(self) -> dict[str, int]:
        self.asked += 1
        return self.open

    def bytes_held_for(self, calling: str) -> int:
        self.asked += 1
        return self.held


def quotas(clock: Clock, here: Here, *peers: PeerSettings, **quota: int) -> Quotas:
    return Quotas(Quota(**quota), peers, here, clock=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def here() -> Here:
    return Here()


def sends(limits: Quotas, calling: AETitle, size: int = 0) -> bool:
    try:
        limits.check_instance(calling, "10.0.0.1")
    except OverQuota:
        return False
    limits.received(calling, size)
    return True


def test_nothing_is_counted_where_nobody_asked_for_it(clock: Clock, here: Here) -> None:
    assert Quota() == Quota(instances_per_minute=0, bytes_per_hour=0, open_studies=200, spool_bytes=0)
    limits = quotas(clock, here)
    assert all(sends(limits, CT1, 1 << 40) for _ in range(10_000))
    assert here.asked == 0


def test_instances_are_counted_over_the_last_minute_for_each_caller(clock: Clock, here: Here) -> None:
    limits = quotas(clock, here, instances_per_minute=3)
    assert [sends(limits, CT1) for _ in range(4)] == [True, True, True, False]
    assert sends(limits, CT2)
    clock.now = 30.0
    assert not sends(limits, CT1)
    clock.now = 61.0
    assert [sends(limits, CT1) for _ in range(4)] == [True, True, True, False]


def test_bytes_are_counted_over_the_last_hour(clock: Clock, here: Here) -> None:
    limits = quotas(clock, here, bytes_per_hour=1000)
    assert [sends(limits, CT1, 600), sends(limits, CT1, 600), sends(limits, CT1, 1)] == [True, True, False]
    clock.now = 3661.0
    assert sends(limits, CT1, 1)


def test_the_bytes_that_are_here_are_weighed_now_and_then_and_counted_between(
    clock: Clock, here: Here
) -> None:
    here.held = 900
    limits = quotas(clock, here, spool_bytes=1000)
    assert [sends(limits, CT1, 60), sends(limits, CT1, 60), sends(limits, CT1, 1)] == [True, True, False]
    assert here.asked == 1
    here.held, clock.now = 0, 31.0
    assert sends(limits, CT1, 1)


def test_open_studies_keep_new_associations_out(clock: Clock, here: Here) -> None:
    here.open = {"CT1": 200, "CT2": 199}
    limits = quotas(clock, here)
    assert limits.check_association(CT2, "10.0.0.1") is None
    because = limits.check_association(CT1, "10.0.0.1")
    assert because is not None
    assert "200 studies of CT1 are not complete yet" in because
    assert here.asked == 1
    here.open, clock.now = {}, 1.5
    assert limits.check_association(CT1, "10.0.0.1") is None


def test_a_peer_has_what_its_own_quota_says_and_the_rest_from_all(clock: Clock, here: Here) -> None:
    ct1 = PeerSettings(
        name="ct1", ae_title="CT1", host="10.0.0.1", port=104, addresses=("10.0.0.1/32",),
        quota=PeerQuota(instances_per_minute=1, open_studies=0),
    )  # fmt: skip
    here.open = {"CT1": 1000}
    limits = quotas(clock, here, ct1, instances_per_minute=3, bytes_per_hour=7)
    assert limits.of("CT1", "10.0.0.1") == Quota(instances_per_minute=1, bytes_per_hour=7, open_studies=0)
    assert limits.of("CT1", "10.0.0.2") == Quota(instances_per_minute=3, bytes_per_hour=7)
    assert [sends(limits, CT1), sends(limits, CT1)] == [True, False]
    assert limits.check_association(CT1, "10.0.0.1") is None


def test_invented_ae_titles_cost_a_bounded_memory(clock: Clock, here: Here) -> None:
    limits = quotas(clock, here, instances_per_minute=1)
    for number in range(5000):
        sends(limits, AETitle(f"X{number}"))
    assert len(limits._callers) <= 1024


def test_beyond_its_quota_a_caller_is_asked_to_come_again_and_the_reason_is_told(start_node) -> None:
    node = start_node(quota={"instances_per_minute": 2})
    slices = [ct_slice(number) for number in range(1, 5)]
    answers = send_all(node.port, {str(ds.SOPInstanceUID): encoded(ds) for ds in slices})

    assert list(answers.values()) == [0, 0, StoreStatus.OUT_OF_RESOURCES, StoreStatus.OUT_OF_RESOURCES]
    assert len(node.instances()) == 2
    event = told(node, "postponed")
    assert "[quota] instances_per_minute" in event.because
    assert event.detail["calling"] == "SCANNER"
    assert node.ledger.refusals(since=0.0)[0].event == "postponed"


def test_the_ledger_counts_what_a_caller_has_here(start_node) -> None:
    node = start_node(quota={"open_studies": 2})
    sent = {}
    for number in (1, 2):
        ds = ct_slice(1, study=f"{ROOT}.5{number}", series=f"{ROOT}.5{number}.1")
        sent[str(ds.SOPInstanceUID)] = encoded(ds)
    assert set(send_all(node.port, sent).values()) == {0}

    assert node.ledger.open_by_caller() == {"SCANNER": 2}
    assert node.ledger.bytes_held_for("SCANNER") == sum(map(len, sent.values()))
    assert node.ledger.bytes_held_for("CT9") == 0
    again = encoded(ct_slice(2, study=f"{ROOT}.51", series=f"{ROOT}.51.1"))
    # What the ledger says is believed for a second.
    until(
        lambda: send_all(node.port, {f"{ROOT}.51.1.2": again}) == {},
        within_s=5,
        what="no new association is let in",
    )
    assert "2 studies of SCANNER are not complete yet" in told(node, "association_rejected").because
    with socket.create_connection(("127.0.0.1", node.port), timeout=patient(10)) as line:
        line.sendall(REQUEST.replace(b"RAW    ", b"SCANNER"))
        assert read_pdu(line) == CONGESTION
