"""From what is out of order to the message about it: as the console watches, and the dispatcher tells."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.alarms import Alarm
from console.settings import Site
from console.status import ledger_alarms
from console.web.clerk import Clerk
from dicom_node.spool import Spool
from ledger.alarm import SeenAlarm
from ledger.notification import NotificationState
from ledger.store.ledger import Ledger
from tests.console.web.monitored import CANARIES, monitored_site, received
from tests.ledger.site import OPERATOR, claim
from tests.peers.receivers import Web, web
from worker.notify import Messenger, Notices
from worker.settings import QueueSettings

HOOK = """
[[notify]]
name = "OPS"
kind = "webhook"
events = ["given up"]
alarms = ["job parked", "sender refused"]
[notify.to]
url = "{url}"
secret_file = "secret"
"""


@pytest.fixture
def hooks() -> Iterator[Web]:
    with web() as server:
        server.answer = lambda *_: (200, {}, b"")
        yield server


def round_of(site: Site, ledger: Ledger) -> None:
    """One round of the console's clerk, and one of the dispatcher."""
    Clerk(site, ledger, lambda: ledger_alarms(site, ledger)).round()
    workers = site.with_queue(QueueSettings(url="redis://127.0.0.1:1").url).worker_site()
    Notices(ledger, Spool(site.spool), workers).open()
    messenger = Messenger(ledger, workers, owner="teller")
    for one in reversed(ledger.notifications(states=[NotificationState.WAITING])):
        messenger.tell(one.id)


@pytest.mark.parametrize(
    "seen",
    [None, (Alarm("ledger away", "nothing is known of the studies"),)],
    ids=["nobody has looked yet", "nobody could look"],
)
def test_what_nobody_could_look_for_is_not_over(tmp_path: Path, seen: tuple[Alarm, ...] | None) -> None:
    site = monitored_site(tmp_path)
    with Ledger.open(site.ledger) as ledger:
        ledger.keep_alarms([SeenAlarm(kind="peer away", about="PACS", words="PACS is away", urgent=True)])
        with ledger.write() as tx:  # An hour ago.
            tx.connection.exec_driver_sql("UPDATE alarm SET seen_at = seen_at - 3600")
        Clerk(site, ledger, lambda: seen).round()
        assert len(ledger.kept_alarms()) == 1
        Clerk(site, ledger, tuple).round()
        assert ledger.kept_alarms() == []


def test_a_parked_job_rings_once_and_is_quiet_again_when_somebody_decided(tmp_path: Path, hooks: Web) -> None:
    (tmp_path / "secret").write_text("b7d1c0ffee")
    site = monitored_site(tmp_path, HOOK.format(url=hooks.url))
    with Ledger.open(site.ledger) as ledger:
        round_of(site, ledger)
        jobs = [received(ledger, number) for number in range(1, 12)]
        for job_id in jobs:
            ledger.park_job(claim(ledger, job_id), "KANARIE^Zoe is not what it likes")
        ledger.record_event(
            "node", "association_rejected", because="OPS-CT is not known here", detail={"count": 3}
        )
        round_of(site, ledger)
        round_of(site, ledger)
        told = [json.loads(body) for _, _, _, body in hooks.requests]
        assert [(one["event"], one["alarm"], one["about"]) for one in told] == [
            ("alarm", "sender refused", ""),
            ("alarm", "job parked", "lung_ct"),
        ]
        assert "11 jobs of lung_ct are parked" in told[1]["sentence"]
        for job_id in jobs:
            ledger.cancel_job(job_id, "seen", by=OPERATOR)
        ledger.keep_alarms([], gone_s=0.0)  # A minute passes.
        round_of(site, ledger)
        told = [json.loads(body) for _, _, _, body in hooks.requests]
        assert ("cleared", "job parked") in [(one["event"], one["alarm"]) for one in told]
        everything = b"".join(body for _, _, _, body in hooks.requests).decode()
        assert [canary for canary in CANARIES if canary in everything] == []
