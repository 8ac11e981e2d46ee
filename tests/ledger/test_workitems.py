"""A workitem is taken down once, with one key, and each step of it happens once."""

from dataclasses import replace

import pytest

from ledger.identifiers import Uid
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from ledger.workitem import NewWorkitem, Output, WorkitemId, WorkitemState

NEW = NewWorkitem(
    manager="RIS",
    sop_instance=Uid("2.25.1"),
    study=Uid("1.2.3"),
    code="113106^DCM",
    rule="lungs",
    transaction=Uid("2.25.2"),
)
OUTPUT = Output(Uid("1.2.3"), Uid("2.25.5"), Uid("1.2.840.10008.5.1.4.1.1.88.34"), Uid("2.25.6"))


def test_what_is_listed_again_keeps_its_key(ledger: Ledger) -> None:
    first = ledger.list_workitem(NEW)
    again = ledger.list_workitem(replace(NEW, transaction=Uid("2.25.3")))
    assert again == first
    assert again.transaction == NEW.transaction
    other = ledger.list_workitem(replace(NEW, manager="ANOTHER", transaction=Uid("2.25.4")))
    assert other.id != first.id


def test_a_workitem_ends_with_what_was_committed(ledger: Ledger) -> None:
    one = ledger.list_workitem(NEW)
    ledger.workitem_claimed(one.id, "it is ours")
    ledger.workitem_finished(one.id, [OUTPUT], "committed")
    ledger.workitem_told(one.id)
    (ended,) = ledger.workitems(manager="RIS", states=[WorkitemState.COMPLETED])
    assert ended.outputs == (OUTPUT,)
    assert ended.claimed_at is not None
    assert ended.ended_at is not None
    assert [line.event for line in ledger.history() if line.thing == "workitem"] == [
        "listed",
        "claimed",
        "finished",
        "told",
    ]


def test_what_is_over_is_over(ledger: Ledger) -> None:
    one = ledger.list_workitem(NEW)
    with pytest.raises(IllegalTransition):
        ledger.workitem_finished(one.id, [OUTPUT], "nobody gave it to us")
    ledger.workitem_taken(one.id, "another was quicker")
    with pytest.raises(IllegalTransition):
        ledger.workitem_claimed(one.id, "too late")
    with pytest.raises(NotInLedger):
        ledger.workitem_claimed(WorkitemId(77), "unknown")
