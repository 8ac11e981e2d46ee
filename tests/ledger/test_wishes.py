"""What operators want of the node: written down, answered once, and told in the history."""

import pytest

from ledger.identifiers import StudyId
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from ledger.wish import WishKind
from tests.ledger.people import ANN, BOB
from tests.ledger.site import close, digest, receive


def quarantined(ledger: Ledger, name: str = "1.2.3.9") -> int:
    ledger.record_quarantine(
        sop_instance=name,
        digest=digest(name),
        path=f"quarantine/{digest(name)}.dcm",
        because="SOPInstanceUID is missing",
        calling="SCANNER",
        address="127.0.0.1",
        study_id=None,
    )
    return ledger.quarantined()[0].id


def test_an_open_study_is_wished_closed_once_however_often_somebody_asks(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    first = ledger.wish_close(study_id, by=ANN, because="the scanner is broken")
    assert ledger.wish_close(study_id, by=BOB) == first
    (wish,) = ledger.wishes()
    assert (wish.kind, wish.study_id, wish.by, wish.because) == (
        WishKind.CLOSE, study_id, "ann", "the scanner is broken",
    )  # fmt: skip
    assert (wish.settled_at, wish.done, wish.answer) == (None, False, "")
    told = [(one.event, one.because, one.detail) for one in ledger.history(study_id=study_id)]
    assert told[-1] == ("closing_asked", "the scanner is broken", {"by": "ann"})
    assert [row.what for row in ledger.audit_rows()] == ["study.closing_asked"]


def test_whatever_closes_the_study_fulfils_the_wish_and_a_later_opening_does_not_renew_it(
    ledger: Ledger,
) -> None:
    study_id = receive(ledger, "1.2.3")
    ledger.wish_close(study_id, by=ANN)
    close(ledger, study_id, because="complete: 3 of 3 per PACS")
    assert ledger.wishes() == []
    (wish,) = ledger.wishes(pending=False)
    assert (wish.done, wish.answer) == (True, "complete: 3 of 3 per PACS")
    assert wish.settled_at is not None

    receive(ledger, "1.2.3", [4])
    assert ledger.wishes() == []
    assert ledger.wish_close(study_id, by=ANN) != wish.id


def test_only_an_open_study_can_be_closed(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    close(ledger, study_id)
    with pytest.raises(IllegalTransition, match="is closed: only an open one"):
        ledger.wish_close(study_id, by=ANN)
    with pytest.raises(NotInLedger):
        ledger.wish_close(StudyId(99), by=ANN)


def test_somebody_decides_once_about_a_file_in_quarantine(ledger: Ledger) -> None:
    number = quarantined(ledger)
    ledger.wish_quarantined(number, WishKind.TAKE_IN, by=ANN)
    with pytest.raises(IllegalTransition, match="somebody has decided"):
        ledger.wish_quarantined(number, WishKind.DISCARD, by=BOB)
    (wish,) = ledger.wishes()
    ledger.settle_wish(wish.id, done=False, answer="it would be set aside again")
    assert [row.what for row in ledger.audit_rows()] == ["quarantine.release_asked"]
    # Refused once, it may be asked for again, or deleted.
    ledger.wish_quarantined(number, WishKind.DISCARD, by=BOB)
    assert [(one.kind, one.answer) for one in ledger.wishes(pending=False)] == [
        (WishKind.DISCARD, ""),
        (WishKind.TAKE_IN, "it would be set aside again"),
    ]


def test_wishes_about_files_are_told_the_oldest_first_however_many_others_there_are(ledger: Ledger) -> None:
    number, other = quarantined(ledger), quarantined(ledger, "1.2.3.10")
    first = ledger.wish_quarantined(number, WishKind.TAKE_IN, by=ANN)
    ledger.settle_wish(first, done=False, answer="it would be set aside again")
    for _ in range(200):
        ledger.settle_wish(
            ledger.wish_quarantined(other, WishKind.TAKE_IN, by=ANN), done=False, answer="not this one"
        )
    second = ledger.wish_quarantined(number, WishKind.DISCARD, by=BOB)
    assert [one.id for one in ledger.wishes_about([number])] == [first, second]
    assert ledger.wishes_about([]) == []


def test_what_does_not_lie_in_quarantine_cannot_be_asked_for(ledger: Ledger) -> None:
    with pytest.raises(NotInLedger, match="under the number 7"):
        ledger.wish_quarantined(7, WishKind.TAKE_IN, by=ANN)
    with pytest.raises(NotInLedger):
        ledger.quarantined_file(7)
    with pytest.raises(IllegalTransition, match="cannot be asked to close"):
        ledger.wish_quarantined(7, WishKind.CLOSE, by=ANN)
    assert ledger.release_quarantined(7, "nothing") == []


def test_a_file_that_leaves_quarantine_leaves_its_path_unless_something_else_has_it(ledger: Ledger) -> None:
    number = quarantined(ledger)
    file = ledger.quarantined_file(number)
    assert not ledger.is_filed(file)
    assert ledger.release_quarantined(number, "taken in") == [file.path]
    assert ledger.quarantined() == []
    assert ledger.history()[-1].event == "released"
