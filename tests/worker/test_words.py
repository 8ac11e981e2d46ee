"""What people and programs are told in words: once, without patients, and not a thousand times in a night."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from dicom_node.receivers import ReceiverSettings
from ledger.alarm import SeenAlarm
from ledger.feedback_link import read_link
from ledger.notification import NotificationRecord, NotificationState, Occasion
from ledger.store.ledger import Ledger
from results.notification_text import TemplateUnusable
from tests.ledger.site import pass_by
from tests.patience import patient
from tests.peers.receivers import Web, web
from tests.peers.smtp import Mailbox, mailbox
from tests.worker.overtaken import Overtaken
from tests.worker.test_notify import arrive, notices, site
from worker.notify import Messenger
from worker.words import check_templates

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def hooks() -> Iterator[Web]:
    with web() as server:
        server.answer = lambda *_: (200, {}, b"")
        yield server


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as running:
        yield running


def hook(server: Web, folder: Path, **more: Any) -> ReceiverSettings:
    (folder / "secret").write_text("b7d1c0ffee\n")
    return ReceiverSettings(
        name="OPS",
        kind="webhook",
        to={"url": f"{server.url}/hook", "secret_file": folder / "secret"},
        connect_s=patient(2),
        deadline_s=patient(2),
        **more,
    )


def mail(box: Mailbox, **more: Any) -> ReceiverSettings:
    return ReceiverSettings(
        name="MAIL",
        kind="email",
        to={"url": f"smtp+plain://127.0.0.1:{box.port}"},
        sender="wetread@hospital.example",
        recipients=("ops@hospital.example",),
        connect_s=patient(2),
        deadline_s=patient(5),
        **more,
    )


@contextmanager
def ended(folder: Path, receiver: ReceiverSettings) -> Iterator[Overtaken]:
    """A site with one result, which the archive has; the receiver is owed word of it."""
    with site(folder, receiver) as made:
        arrive(made, made.result())
        yield made


def tell(made: Overtaken) -> list[NotificationRecord]:
    """Open what is owed, and make one attempt at everything."""
    notices(made).open()
    messenger = Messenger(made.ledger, made.site, owner="teller")
    for one in reversed(made.ledger.notifications(limit=5000)):
        if one.state is NotificationState.WAITING:
            messenger.tell(one.id)
    return made.ledger.notifications(limit=5000)


def private(made: Overtaken) -> set[str]:
    """What of the patient must not be told."""
    (study,) = made.ledger.studies()
    report = {str(one.sop_instance) for job in made.ledger.jobs() for one in made.ledger.results_of(job.id)}
    known = {study.patient_id, study.patient_name, study.accession_number, str(study.study)}
    return {one for one in known | report if one}


def alarm(ledger: Ledger, *abouts: str, kind: str = "peer away", words: str = "it is away") -> None:
    ledger.keep_alarms(
        [SeenAlarm(kind=kind, about=one, words=words, urgent=True) for one in abouts], gone_s=0.0
    )


def test_a_program_hears_of_a_result_without_hearing_of_the_patient(tmp_path: Path, hooks: Web) -> None:
    with ended(tmp_path, hook(hooks, tmp_path)) as made:
        (one,) = tell(made)
        assert (one.state, one.occasion) == (NotificationState.TAKEN, Occasion.FOUND)
        ((_, _, headers, body),) = hooks.requests
        told = json.loads(body)
        assert told["id"] == headers["webhook-id"] == one.control_id
        assert (told["event"], told["receiver"], told["job"]) == ("found", "OPS", one.job_id)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0[12]:00", told["at"])
        assert private(made)
        assert [secret for secret in private(made) if secret in body.decode()] == []
        assert not re.search(r"\d+(\.\d+){4}", body.decode())
        assert tell(made) == [one]  # Once.


def test_a_receiver_that_may_know_hears_who_and_what(tmp_path: Path, hooks: Web) -> None:
    receiver = hook(hooks, tmp_path, patient=True, viewer="https://ohif.example/?s={study}&r={report}")
    with ended(tmp_path, receiver) as made:
        tell(made)
        told = json.loads(hooks.requests[0][3])
        (study,) = made.ledger.studies()
        assert told["patient"] == {
            "name": study.patient_name,
            "id": study.patient_id,
            "accession": study.accession_number,
            "study": str(study.study),
            "study_date": study.study_date,
        }
        assert "not verified" in told["findings"][0]
        assert told["link"].startswith(f"https://ohif.example/?s={study.study}&r=")


def test_a_mail_and_a_webhook_carry_the_link_by_which_a_reader_judges(
    tmp_path: Path, hooks: Web, box: Mailbox
) -> None:
    for folder, receiver in (("hook", hook(hooks, tmp_path)), ("mail", mail(box))):
        (tmp_path / folder).mkdir()
        with ended(tmp_path / folder, receiver) as made:
            made.site = made.site.model_copy(update={"console_url": "https://wetread.example/"})
            (one,) = tell(made)
            if receiver.kind == "webhook":
                link = json.loads(hooks.requests[0][3])["feedback"]
            else:
                link = next(word for word in box.read().get_content().split() if word.startswith("https:"))
            before, _, token = link.rpartition("/")
            assert before == "https://wetread.example/feedback/link"
            assert read_link(made.ledger.feedback_key(), token, made.ledger.now()) == one.job_id


def test_people_get_a_mail_that_says_where_to_look(tmp_path: Path, box: Mailbox) -> None:
    with ended(tmp_path, mail(box)) as made:
        (one,) = tell(made)
        assert one.state is NotificationState.TAKEN
        message = box.read()
        assert message["Subject"].startswith("[Wetread] found: ")
        assert (message["From"], message["To"]) == ("wetread@hospital.example", "ops@hospital.example")
        assert message["Message-ID"] == f"<{one.control_id}@hospital.example>"
        assert message["Auto-Submitted"] == "auto-generated"
        assert f"wetread show {one.job_id}" in text_of(message)
        assert [secret for secret in private(made) if secret in str(message)] == []


def test_a_mail_that_is_postponed_is_the_same_mail_later(tmp_path: Path, box: Mailbox) -> None:
    with ended(tmp_path, mail(box)) as made:
        patience = made.site.delivery.model_copy(update={"first_s": 0.01, "longest_s": 0.01})
        made.site = made.site.model_copy(update={"delivery": patience})
        box.refuse = {"taken": "451 try again"}
        (one,) = tell(made)
        assert (one.state, one.attempts) == (NotificationState.WAITING, 1)
        box.refuse = {}
        pass_by(made.ledger, 0.02)
        (one,) = tell(made)
        assert (one.state, one.attempts) == (NotificationState.TAKEN, 2)
        assert f"<{one.control_id}@hospital.example>" in box.mails[0].decode()


def test_what_a_program_refuses_for_good_is_parked(tmp_path: Path, hooks: Web) -> None:
    hooks.answer = lambda *_: (410, {}, b"")
    with ended(tmp_path, hook(hooks, tmp_path)) as made:
        (one,) = tell(made)
        assert (one.state, "HTTP 410" in one.because) == (NotificationState.PARKED, True)


def test_an_alarm_is_told_when_it_begins_and_when_it_is_over(tmp_path: Path, hooks: Web) -> None:
    with site(tmp_path, hook(hooks, tmp_path, events=(), alarms=("peer away",))) as made:
        notices(made).open()
        alarm(made.ledger, "PACS", words="PACS is away: 2 results of 1.2.840.113619.2.55 wait")
        tell(made)
        alarm(made.ledger, "PACS")
        tell(made)
        alarm(made.ledger)
        tell(made)
        told = [json.loads(one[3]) for one in hooks.requests]
    assert [(one["event"], one["alarm"], one["about"]) for one in told] == [
        ("alarm", "peer away", "PACS"),
        ("cleared", "peer away", "PACS"),
    ]
    assert told[0]["sentence"] == "PACS is away: 2 results of … wait"
    assert told[0]["urgent"] is True
    assert told[0]["since"] == told[1]["since"] == told[0]["at"]


def test_nobody_hears_of_alarms_that_were_not_asked_for_or_that_came_and_went(
    tmp_path: Path, hooks: Web
) -> None:
    with site(tmp_path, hook(hooks, tmp_path, alarms=("disk full", "receiver away"))) as made:
        alarm(made.ledger, "PACS")
        alarm(made.ledger, "", kind="disk full")
        alarm(made.ledger)  # All over, before anybody looked.
        assert tell(made) == []
        alarm(made.ledger, "OPS", kind="receiver away")  # Itself.
        assert tell(made) == []
        alarm(made.ledger, "RIS", kind="receiver away")
        assert len(tell(made)) == 1


def test_the_end_of_an_alarm_is_never_told_before_its_beginning(tmp_path: Path, hooks: Web) -> None:
    hooks.answer = lambda *_: (503, {}, b"")
    with site(tmp_path, hook(hooks, tmp_path, alarms=("all",))) as made:
        alarm(made.ledger, "PACS")
        tell(made)
        alarm(made.ledger)
        notices(made).open()
        over, begun = made.ledger.notifications()
        assert (over.occasion, begun.occasion) == (Occasion.CLEARED, Occasion.ALARM)
        assert made.ledger.claim_notification(over.id, owner="x", lease_s=60) is None


def test_a_thousand_alarms_are_not_a_thousand_mails(tmp_path: Path, box: Mailbox) -> None:
    with site(tmp_path, mail(box, alarms=("all",), at_most=5)) as made:
        alarm(made.ledger, *(f"PEER{number}" for number in range(400)))
        tell(made)
        assert len(box.mails) == 5
        last = box.read()
        assert last["Subject"] == "[Wetread] 396 more messages in one"
        assert "396  alarm: peer away" in text_of(last)
        states = [one.state for one in made.ledger.notifications(limit=5000)]
        assert states.count(NotificationState.TAKEN) == 5
        assert states.count(NotificationState.GATHERED) == 396
        # What comes next waits until there is room again.
        alarm(made.ledger, "ONE MORE")
        tell(made)
        assert len(box.mails) == 5


def test_ends_of_runs_are_gathered_as_well_and_told_only_once(tmp_path: Path, hooks: Web) -> None:
    with ended(tmp_path, hook(hooks, tmp_path, at_most=1, alarms=("all",))) as made:
        alarm(made.ledger, "PACS")
        tell(made)
        ((_, _, _, body),) = hooks.requests
        assert json.loads(body)["counts"] == {"found": 1, "alarm: peer away": 1}
        tell(made)
        assert len(hooks.requests) == 1
        (of_study,) = made.ledger.notifications_of(made.ledger.studies()[0].id)
        assert (of_study.state, of_study.occasion) == (NotificationState.GATHERED, Occasion.FOUND)


def test_a_message_that_was_made_for_another_kind_of_receiver_is_not_sent(
    tmp_path: Path, hooks: Web, box: Mailbox
) -> None:
    with ended(tmp_path, mail(box)) as made:
        notices(made).open()
        changed = hook(hooks, tmp_path).model_copy(update={"name": "MAIL"})
        made.site = made.site.model_copy(update={"receivers": (changed,)})
        (one,) = tell(made)
        assert one.state is NotificationState.PARKED
        assert hooks.requests == []


def test_a_template_of_the_site_is_used_and_tried_before_it_is_needed(tmp_path: Path, hooks: Web) -> None:
    own = tmp_path / "own.j2"
    own.write_text('{"text": {{ (event ~ " by " ~ (model or alarm or "many")) | tojson }} }')
    receiver = hook(hooks, tmp_path, template=own, alarms=("all",))
    with ended(tmp_path, receiver) as made:
        check_templates([receiver], MOMENT)
        tell(made)
        assert json.loads(hooks.requests[0][3])["text"].startswith("found by ")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ('{"text": "{{ patient.name }}"}', "cannot be filled"),
        ('{"text": "{{ patron }}"}', "'patron' is undefined"),
        ('{"text": "{% if %}"}', "in line 1"),
        ("not json", "is no JSON"),
        ("{{ ().__class__.__base__.__subclasses__() }}", "cannot be filled"),
        ("{% for n in range(10000000) %}x{% endfor %}", "cannot be filled"),
        ('{% include "/etc/passwd" %}', "cannot be filled"),
        ('{"text": "{{ 1 // 0 }}"}', "ZeroDivisionError"),
    ],
)
def test_a_template_that_cannot_be_meant_is_refused_before_the_night(
    tmp_path: Path, hooks: Web, template: str, words: str
) -> None:
    own = tmp_path / "own.j2"
    own.write_text(template)
    receiver = hook(hooks, tmp_path, template=own)
    with pytest.raises(TemplateUnusable) as refused:
        check_templates([receiver], MOMENT)
    assert "[[notify]] 'OPS', at 'found'" in str(refused.value)
    assert words in str(refused.value)


def test_what_a_template_cannot_say_is_said_in_our_words_and_holds_up_nobody(
    tmp_path: Path, hooks: Web, box: Mailbox, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.j2"
    own.write_text('{"text": "{{ sentence }}"}')  # No JSON, once there are quotation marks in the sentence.
    receivers = (hook(hooks, tmp_path, template=own, alarms=("all",)), mail(box, alarms=("all",)))
    check_templates(receivers, MOMENT)
    with site(tmp_path, *receivers) as made:
        alarm(made.ledger, "PACS", "VNA", words='it says "no"')
        tell(made)
    assert [json.loads(body)["sentence"] for *_, body in hooks.requests] == ['it says "no"'] * 2
    assert len(box.mails) == 2
    assert capsys.readouterr().out.count("is no JSON") == 1


def test_what_cannot_be_said_at_all_holds_up_nothing_else(tmp_path: Path, hooks: Web, box: Mailbox) -> None:
    receivers = (mail(box, alarms=("all",)), hook(hooks, tmp_path, alarms=("all",)))
    with site(tmp_path, *receivers) as made:
        alarm(made.ledger, "PA\nCS", "VNA")  # A line break has no place in a subject.
        told = tell(made)
    assert sorted(one.receiver for one in told) == ["MAIL", "OPS", "OPS"]
    assert "VNA" in box.read()["Subject"]


def test_half_a_surrogate_pair_is_a_template_that_cannot_be_meant(
    tmp_path: Path, hooks: Web, box: Mailbox
) -> None:
    own = tmp_path / "own.j2"
    own.write_text("Subject: odd\n\n{{ '\\ud800' }}\n")
    with pytest.raises(TemplateUnusable, match="UnicodeEncodeError"):
        check_templates([mail(box, template=own)], MOMENT)
    own.write_text("{{ '\\ud800' }}")
    with pytest.raises(TemplateUnusable, match="UnicodeEncodeError"):
        check_templates([hook(hooks, tmp_path, template=own, content_type="text/plain")], MOMENT)


def test_a_template_that_is_not_there_is_refused(tmp_path: Path, hooks: Web) -> None:
    receiver = hook(hooks, tmp_path, template=tmp_path / "gone.j2")
    with pytest.raises(TemplateUnusable, match="cannot be read"):
        check_templates([receiver], MOMENT)


def test_a_mail_needs_a_subject_and_its_subject_is_one_line(tmp_path: Path, box: Mailbox) -> None:
    own = tmp_path / "own.j2"
    own.write_text("Hello {{ rule }}")
    with pytest.raises(TemplateUnusable, match="has to begin with `Subject"):
        check_templates([mail(box, template=own)], MOMENT)
    for folder, subject in (
        ("plain", "x\\r\\tBcc: thief@example.com"),
        ("encoded", "=?utf-8?q?x=0ABcc:=20thief@example.com?="),
    ):
        (tmp_path / folder).mkdir()
        own.write_text(f"Subject: {{{{ '{subject}' }}}}\n\nbody\n")
        with ended(tmp_path / folder, mail(box, template=own)) as made:
            tell(made)
            assert box.read()["Bcc"] is None
    assert box.recipients == [["ops@hospital.example"]] * 2


def text_of(message: EmailMessage) -> str:
    content = message.get_content()
    assert isinstance(content, str)
    return content
