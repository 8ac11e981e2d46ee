"""What others ask us to answer for: kept until it is answered, and a witness of what they believe to have
sent.
"""

import pytest

from ledger.identifiers import AETitle, StudyId, Uid
from ledger.promise import PromiseId, PromiseState, Reference
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import CT, close, pass_by, receive

SCANNER = AETitle("SCANNER")


def references(*numbers: int, study: str = "1.2.3") -> list[Reference]:
    return [Reference(CT, Uid(f"{study}.1.{number}")) for number in numbers]


def ask(ledger: Ledger, *numbers: int, transaction: str = "1.9.1", answer_in_s: float = 0.0) -> PromiseId:
    return ledger.record_promise(
        Uid(transaction),
        calling=SCANNER,
        address="127.0.0.1",
        references=references(*numbers),
        answer_in_s=answer_in_s,
    )


def test_a_request_is_due_until_it_is_answered(ledger: Ledger) -> None:
    promise_id = ask(ledger, 1, 2)
    assert ledger.due_promises() == [promise_id]
    assert list(ledger.promise(promise_id).references) == references(1, 2)

    ledger.promise_postponed(promise_id, "nobody listens", retry_in_s=3600)
    assert ledger.due_promises() == []
    ledger.promise_reported(promise_id, "succeeded for 2 of 2")

    record = ledger.promise(promise_id)
    assert (record.state, record.attempts) == (PromiseState.ANSWERED, 2)
    with pytest.raises(IllegalTransition):
        ledger.promise_postponed(promise_id, "late", retry_in_s=0)


def test_a_request_in_progress_is_left_alone_for_a_while(ledger: Ledger) -> None:
    ask(ledger, 1, answer_in_s=3600)
    over = ask(ledger, 2, transaction="1.9.2", answer_in_s=0.02)
    pass_by(ledger, 0.02)
    assert ledger.due_promises() == [over]


def test_the_same_request_again_is_answered_again(ledger: Ledger) -> None:
    promise_id = ask(ledger, 1, 2)
    ledger.promise_abandoned(promise_id, "nobody is known under that AE title")
    assert ask(ledger, 1, 2, 3, 3) == promise_id
    record = ledger.promise(promise_id)
    assert (record.state, record.attempts) == (PromiseState.ASKED, 0)
    assert list(record.references) == references(1, 2, 3)


def test_only_what_was_received_is_held(ledger: Ledger) -> None:
    receive(ledger, "1.2.3", [1, 2])
    held = ledger.held_instances([one.sop_instance for one in references(1, 2, 3)])
    assert sorted(str(uid) for uid in held) == ["1.2.3.1.1", "1.2.3.1.2"]
    assert {(one.sop_class, one.size) for one in held.values()} == {(CT, 1001), (CT, 1002)}


def test_ten_thousand_instances_are_one_question(ledger: Ledger) -> None:
    assert ledger.held_instances([Uid(f"1.2.{n}") for n in range(1, 10_000)]) == {}


def test_what_a_sender_asks_about_is_what_it_believes_to_have_sent(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1, 2])
    other = receive(ledger, "1.2.4", [1])
    ask(ledger, 1, 2, 3)
    (expected,) = ledger.expectations(study_id)
    assert (expected.calling, expected.expected, expected.held) == (SCANNER, 3, 2)
    assert not expected.complete
    assert ledger.expectations(other) == []

    receive(ledger, "1.2.3", [3])
    assert ledger.expectations(study_id)[0].complete


def test_a_purged_study_is_forgotten_except_where_its_report_is_still_owed(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1, 2])
    answered, owed = ask(ledger, 1, 2), ask(ledger, 1, transaction="1.9.2")
    ledger.promise_reported(answered, "succeeded for 2 of 2")
    close(ledger, study_id)
    ledger.purge_study(StudyId(study_id), "older than 7 days")
    assert ledger.held_instances([one.sop_instance for one in references(1, 2)]) == {}
    assert ledger.expectations(study_id) == []
    assert ledger.promise(answered).references == ()
    assert list(ledger.promise(owed).references) == references(1)
