"""Who is told that a run has ended: from the command line."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from console.complaints import SettingsRefused
from console.decide import NothingToDecide, cancel, retry
from console.notify import test_receiver as send_test
from console.rule_checks import check_names
from console.serve import serve, serve_worker
from console.settings import load_site
from ledger.delivery import DeliveryState
from ledger.notification import NewNotification, NotificationEvent, NotificationState, Occasion, Wish
from ledger.store.ledger import Ledger
from results.notification_text import TemplateUnusable
from tests.console.conftest import FilledSite, Wetread
from tests.ledger.site import OPERATOR, claim, finish, queued_job, send
from tests.peers.receivers import engine, field_of, says, web
from tests.peers.smtp import mailbox

PACS = '[[peer]]\nname = "PACS"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 1\n'
RIS = '[[notify]]\nname = "RIS"\nkind = "{kind}"\n{more}\n[notify.to]\nurl = "{url}"\n'


def site_of(folder: Path, *tables: str):
    (folder / "wetread.toml").write_text("".join(tables))
    return load_site(folder / "wetread.toml")


def told(ledger: Ledger) -> int:
    """A job of which the archive has everything, with an open notification; its number."""
    wish = Wish(receiver="RIS", occasions=tuple(Occasion))
    ledger.owed_notifications([wish])
    job = queued_job(ledger)
    for delivery in sorted(finish(ledger, claim(ledger, job))):
        send(ledger, delivery)
        ledger.confirm_delivery(delivery, "found")
    (owed,) = ledger.owed_notifications([wish])
    opened = ledger.open_notification(owed, NewNotification(control_id="W0815", body="MSH|Doe^Jane"))
    assert opened is not None
    return job


def answer(ledger: Ledger, event: NotificationEvent, because: str) -> None:
    (one,) = ledger.notifications()
    held = ledger.claim_notification(one.id, owner="teller", lease_s=60)
    assert held is not None
    ledger.record_notification(held, event, because=because)


def test_a_test_message_is_about_nobody_and_for_training(tmp_path: Path) -> None:
    with engine() as ris:
        site = site_of(tmp_path, RIS.format(kind="hl7v2", url=ris.url, more=""))
        taken, sentence = send_test(site, "RIS")
        assert taken
        assert "took a test message" in sentence
        message = ris.messages[0].decode()
        assert field_of(message, "MSH", 11) == "T"
        assert field_of(message, "PID", 5).startswith("Test^Wetread")
        assert field_of(message, "OBR", 25) == "X"  # Nobody may take it for a result.

        ris.behave = says("AR", error="203")
        taken, sentence = send_test(site, "RIS")
        assert not taken
        assert "unsupported version id" in sentence
    with web() as server:
        site = site_of(tmp_path, RIS.format(kind="fhir", url=server.url, more=""))
        assert send_test(site, "RIS")[0]
        assert server.reports[0]["status"] == "cancelled"
    with pytest.raises(SettingsRefused, match="did you mean 'RIS'"):
        send_test(site, "RISS")


HOOK = """
[[notify]]
name = "OPS"
kind = "webhook"
alarms = ["all"]
{more}
[notify.to]
url = "{url}"
secret_file = "secret"
"""
MAIL = """
[[notify]]
name = "MAIL"
kind = "email"
events = []
alarms = ["disk full"]
sender = "wetread@hospital.example"
recipients = ["ops@hospital.example"]
[notify.to]
url = "smtp+plain://127.0.0.1:{port}"
"""


def test_a_program_and_a_mailbox_get_a_test_message_as_well(wetread: Wetread, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("b7d1c0ffee")
    with web() as server, mailbox() as box:
        server.answer = lambda *_: (204, {}, b"")
        (tmp_path / "wetread.toml").write_text(
            HOOK.format(url=f"{server.url}/hook?key=s3cret", more="") + MAIL.format(port=box.port)
        )
        done = wetread("notify", "test", "OPS")
        assert done.returncode == 0, done.stderr
        assert "took a test message" in done.stdout
        assert "s3cret" not in done.stdout
        told = json.loads(server.requests[0][3])
        assert "This is a test of the connection" in told["sentence"]
        assert "patient" not in told
        done = wetread("notify", "test", "MAIL")
        assert done.returncode == 0, done.stderr
        assert "[Wetread] test" in box.read()["Subject"]
        box.refuse = {"taken": "554 no"}
        done = wetread("notify", "test", "MAIL")
        assert done.returncode == 1
        assert "did not take a test message: it does not take the mail (SMTP 554)" in done.stdout


def test_a_template_that_cannot_be_filled_stops_every_start(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("b7d1c0ffee")
    (tmp_path / "own.j2").write_text('{"who": {{ patient.name | tojson }} }')
    site = site_of(tmp_path, HOOK.format(url="https://ops.example/hook", more='template = "own.j2"'))
    starts = (
        lambda: serve(site, None, Console()),
        lambda: serve_worker(site, ("dispatch",), Console()),
        lambda: send_test(site, "OPS"),
    )
    for start in starts:
        with pytest.raises(TemplateUnusable, match=r"\[\[notify\]\] 'OPS', at 'found': the template"):
            start()


def test_what_a_receiver_refused_is_sent_again_by_its_name(site: FilledSite, wetread: Wetread) -> None:
    told(site.ledger)
    answer(site.ledger, NotificationEvent.REFUSED, "HTTP 410")
    assert "Nothing for NOBODY is parked" in wetread("notify", "retry", "NOBODY").stdout
    assert "1 message to RIS will be sent again." in wetread("notify", "retry", "RIS").stdout
    (one,) = site.ledger.notifications()
    assert one.state is NotificationState.WAITING


def test_the_command_prints_what_was_answered(wetread: Wetread, tmp_path: Path) -> None:
    with engine() as ris:
        (tmp_path / "wetread.toml").write_text(RIS.format(kind="hl7v2", url=ris.url, more=""))
        done = wetread("notify", "test", "RIS")
        assert done.returncode == 0, done.stderr
        assert "took a test message" in done.stdout
    away = wetread("notify", "test", "RIS")
    assert away.returncode == 1
    assert "connection refused" in away.stdout


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (
            (RIS.format(kind="hl7v2", url="mllp://r:1", more='archive = "VNA"'),),
            "no [[peer]] that gets results",
        ),
        ((RIS.format(kind="hl7v2", url="mllp://r:1", more='rules = ["x"]'),), "no [[rule]] here"),
        ((RIS.format(kind="hl7v2", url="mllp://r:1", more=""),) * 2, "two [[notify]] entries"),
    ],
)
def test_names_that_mean_nothing_are_refused(tmp_path: Path, tables: tuple[str, ...], words: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        check_names(site_of(tmp_path, PACS, *tables))  # As every start does.
    assert words in str(refused.value)


def test_files_are_seen_from_the_settings_file(tmp_path: Path) -> None:
    url = "https://engine.example/hl7"
    table = RIS.format(kind="hl7v2", url=url, more="") + 'auth = "bearer"\ntoken_file = "token"\n'
    (one,) = site_of(tmp_path, table).receivers
    assert one.to.token_file == tmp_path / "token"


def test_show_lists_who_was_told_and_never_what(wetread: Wetread, site: FilledSite) -> None:
    job = told(site.ledger)
    answer(site.ledger, NotificationEvent.REFUSED, "it rejected the message: AR")
    shown = wetread("show", job).stdout
    assert "W0815" in shown
    assert "RIS will not be told: it rejected the message: AR. `wetread retry" in " ".join(shown.split())
    assert "Jane" not in shown
    assert "Jane" not in wetread("show", job, "--json").stdout


def test_status_says_who_is_not_told(wetread: Wetread, site: FilledSite) -> None:
    told(site.ledger)
    assert "RIS" not in wetread("status").stdout
    answer(site.ledger, NotificationEvent.REFUSED, "it rejected the message: AR")
    status = wetread("status")
    assert status.returncode == 1
    assert "RIS refused 1 message for good: it rejected the message: AR" in status.stdout


def test_an_operator_sends_again_what_was_refused_or_withdraws_it(site: FilledSite) -> None:
    job = told(site.ledger)
    answer(site.ledger, NotificationEvent.REFUSED, "it rejected the message: AR")
    assert "1 notification to RIS will be sent again" in retry(site.ledger, job, "mended there", by=OPERATOR)
    (one,) = site.ledger.notifications()
    assert one.state is NotificationState.WAITING

    assert "1 notification cancelled" in cancel(site.ledger, job, "not wanted", by=OPERATOR)
    (one,) = site.ledger.notifications()
    assert one.state is NotificationState.CANCELLED
    with pytest.raises(NothingToDecide):
        cancel(site.ledger, job, "again", by=OPERATOR)
    assert {each.state for each in site.ledger.deliveries()} == {DeliveryState.COMMITTED}
