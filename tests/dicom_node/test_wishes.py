"""What operators want of the node: a study closed now, a file out of quarantine."""

import hashlib
import mmap
from dataclasses import replace

import pytest

from dicom_node.closing import Counted, verdict
from dicom_node.senders import Senders
from dicom_node.settings import ClosingSettings
from dicom_node.spool import Room
from dicom_node.status import StoreStatus
from dicom_node.watch import Watch
from dicom_node.wishes import WishesAboutFiles
from ledger.completeness import Witness
from ledger.identifiers import Digest
from ledger.job import JobState
from ledger.store.ledger import Ledger
from ledger.study import Completeness, StudyState
from ledger.wish import WishKind, WishRecord
from tests.dicom_node.datasets import ROOT, ct_slice, digest_of, encoded
from tests.dicom_node.test_closing import PATIENCE, facts
from tests.dicom_node.test_receive import store_one
from tests.dicom_node.test_watch import RULE, STUDY, arrival
from tests.ledger.people import ANN
from tests.peers.loopback import until

UID = f"{ROOT}.1.1.1"
FIRST, SECOND = encoded(ct_slice(fill=1)), encoded(ct_slice(fill=2))


def asked(**how):
    return replace(facts(quiet_s=0.1, **how), asked_by="ann", asked_because="the scanner is broken.")


class TestTheVerdict:
    def test_an_operator_is_believed_although_images_may_still_come(self) -> None:
        judged = verdict(asked(open_associations=1), PATIENCE)
        assert judged.closed
        assert (judged.witness, judged.by, judged.closed_as) == (
            Witness.OPERATOR, "ann", Completeness.PRESUMED,
        )  # fmt: skip
        assert judged.because == (
            "presumed complete: closed by operator ann (the scanner is broken) after image 300, "
            "1 association still open"
        )

    def test_what_a_peer_says_is_missing_is_told_all_the_same(self) -> None:
        short = replace(asked(), count=Counted(peer="PACS", ours=300, theirs=320, asked_s=1_000_000.0))
        judged = verdict(short, PATIENCE)
        assert (judged.witness, judged.closed_as) == (Witness.OPERATOR, Completeness.PARTIAL)
        assert judged.because.startswith("partial: 300 of 320 per PACS; closed by operator ann")

    def test_who_knows_the_number_is_believed_before_the_operator(self) -> None:
        known = replace(
            asked(),
            count=Counted(peer="PACS", ours=300, theirs=300, asked_s=1_000_000.0, since_s=1_000_000.0),
        )
        assert verdict(known, PATIENCE).witness is Witness.COUNT

    def test_without_an_operator_nothing_changes(self) -> None:
        assert not verdict(facts(quiet_s=0.1), PATIENCE).closed

    def test_a_site_does_not_choose_this_witness(self) -> None:
        with pytest.raises(ValueError, match="witnesses"):
            ClosingSettings(witnesses=("operator",))  # type: ignore[arg-type]


class TestTheWatch:
    def test_a_study_is_closed_and_routed_as_soon_as_somebody_asks(self, ledger: Ledger) -> None:
        senders = Senders()
        senders.opened("association")
        receipts = ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
        study_id = receipts[0].study_id
        senders.sent("association", study_id)
        looking = Watch(ledger, rules=[RULE], patience=PATIENCE, associations=senders, every_s=0.01)
        assert looking.look() == []
        ledger.wish_close(study_id, by=ANN)

        assert looking.look() == [STUDY]
        study = ledger.study(study_id)
        assert (study.state, study.closed_as) == (StudyState.CLOSED, Completeness.PRESUMED)
        assert study.closed_because.startswith("presumed complete: closed by operator ann after image 3")
        assert [job.state for job in ledger.jobs_of(study_id)] == [JobState.QUEUED]
        (decided,) = [one for one in ledger.statements_of(study_id) if one.decided]
        assert (decided.witness, decided.by) == (Witness.OPERATOR, "ann")
        (wish,) = ledger.wishes(pending=False)
        assert (wish.done, wish.answer) == (True, study.closed_because)

    def test_an_image_that_comes_later_opens_the_study_again_and_the_wish_is_spent(
        self, ledger: Ledger
    ) -> None:
        (receipt,) = ledger.record_arrivals([arrival(1)])
        ledger.wish_close(receipt.study_id, by=ANN)
        patience = ClosingSettings(quiet_s=3600.0, quiet_open_s=3600.0, longest_s=3600.0)
        looking = Watch(ledger, rules=[RULE], patience=patience, associations=Senders(), every_s=0.01)
        assert looking.look() == [STUDY]
        ledger.record_arrivals([arrival(2)])
        assert looking.look() == []
        assert ledger.study(receipt.study_id).state is StudyState.OPEN


@pytest.fixture
def wishes(node) -> WishesAboutFiles:
    return WishesAboutFiles(node.ledger, node.spool, node.node.receiver, every_s=0.01)


def answered(node, wishes: WishesAboutFiles, kind: WishKind = WishKind.TAKE_IN) -> WishRecord:
    """What came of the wish about the only file in quarantine."""
    (file,) = node.ledger.quarantined()
    node.ledger.wish_quarantined(file.id, kind, by=ANN)
    assert wishes.look() == 1
    assert wishes.look() == 0
    return node.ledger.wishes(pending=False)[0]


def set_aside(node, sop_instance: str, *, path: str = "") -> int:
    """The number of a file in quarantine of which there is only the row."""
    digest = Digest(hashlib.sha256(sop_instance.encode()).hexdigest())
    node.ledger.record_quarantine(
        sop_instance=sop_instance,
        digest=digest,
        path=path or f"quarantine/{digest}.dcm",
        because="odd",
        calling="SCANNER",
        address="127.0.0.1",
        study_id=None,
    )
    return next(file.id for file in node.ledger.quarantined() if file.sop_instance == sop_instance)


def purge(node) -> None:
    (study,) = node.ledger.studies()
    node.ledger.close_study(
        study.id,
        seen_instances=study.instances,
        seen_last_arrival_at=study.last_arrival_at,
        because="quiet",
        notes=[],
        jobs=[],
    )
    node.spool.remove(node.ledger.purge_study(study.id, "old"))


class TestTheQuarantine:
    def conflict(self, node) -> None:
        assert store_one(node, FIRST, sop_instance=UID) == StoreStatus.SUCCESS
        node.instances()
        assert store_one(node, SECOND, sop_instance=UID) == StoreStatus.SUCCESS
        until(node.ledger.quarantined, within_s=10, what="the second is set aside")

    def test_a_file_is_taken_in_once_nothing_speaks_against_it(self, node, wishes) -> None:
        self.conflict(node)
        purge(node)
        assert node.instances() == {}
        wish = answered(node, wishes)

        assert (wish.done, wish.answer) == (True, "it is taken in")
        assert node.instances() == {UID: digest_of(SECOND)}
        assert node.ledger.quarantined() == []
        assert node.quarantined_files() == []
        (study,) = node.ledger.studies()
        assert (study.state, str(study.calling)) == (StudyState.OPEN, "SCANNER")

    def test_a_file_that_would_be_set_aside_again_stays_where_it_is(self, node, wishes) -> None:
        self.conflict(node)
        wish = answered(node, wishes)

        assert not wish.done
        assert wish.answer.startswith("it would be set aside again: this SOP Instance UID is already here")
        assert node.instances() == {UID: digest_of(FIRST)}
        assert node.quarantined_files() == [f"quarantine/{digest_of(SECOND)}.dcm"]
        # Somebody may decide otherwise now.
        assert answered(node, wishes, WishKind.DISCARD).done

    def test_what_cannot_be_filed_is_not_filed_because_somebody_wishes_so(self, node, wishes) -> None:
        broken = encoded(ct_slice(study=""))
        assert store_one(node, broken, sop_instance=UID) == StoreStatus.CANNOT_UNDERSTAND
        wish = answered(node, wishes)
        assert not wish.done
        assert "StudyInstanceUID is missing or empty" in wish.answer
        assert node.instances() == {}
        assert len(node.ledger.quarantined()) == 1

    def test_a_full_disk_is_no_answer_for_good(self, node, wishes, monkeypatch) -> None:
        self.conflict(node)
        purge(node)
        monkeypatch.setattr(node.spool, "room", lambda: Room.HARD)
        wish = answered(node, wishes)
        assert (wish.done, wish.answer.startswith("there is no room for it now")) == (False, True)
        monkeypatch.undo()
        assert answered(node, wishes).done

    def test_what_is_deleted_is_gone_from_ledger_and_disk(self, node, wishes) -> None:
        self.conflict(node)
        wish = answered(node, wishes, WishKind.DISCARD)
        assert (wish.done, wish.answer) == (True, "it is deleted")
        assert node.ledger.quarantined() == []
        assert node.quarantined_files() == []
        assert node.ledger.history()[-1].because == "ann had it deleted"

    def test_a_file_that_is_gone_or_not_ours_is_answered_and_holds_up_nobody(self, node, wishes) -> None:
        self.conflict(node)
        (file,) = node.ledger.quarantined()
        node.spool.absolute(file.path).write_bytes(b"something else")
        assert answered(node, wishes).answer.startswith("it cannot be read where it lies")
        node.spool.remove([file.path])
        assert answered(node, wishes).answer.startswith("it cannot be read where it lies")
        node.ledger.wish_quarantined(file.id, WishKind.TAKE_IN, by=ANN)
        node.ledger.release_quarantined(file.id, "expired meanwhile")
        wishes.look()
        assert "nothing lies in quarantine" in node.ledger.wishes(pending=False)[0].answer

    def test_an_empty_file_is_answered_and_does_not_hold_up_the_next_wish(self, node, wishes) -> None:
        self.conflict(node)
        (empty,) = node.ledger.quarantined()
        node.spool.absolute(empty.path).write_bytes(b"")
        other = set_aside(node, "1.2.9")
        node.ledger.wish_quarantined(empty.id, WishKind.TAKE_IN, by=ANN)
        node.ledger.wish_quarantined(other, WishKind.DISCARD, by=ANN)

        assert wishes.look() == 2
        later, first = node.ledger.wishes(pending=False)
        assert (later.done, later.answer) == (True, "it is deleted")
        assert (first.done, first.answer) == (False, "it cannot be read where it lies: it is empty")
        # Somebody may decide otherwise now.
        node.ledger.wish_quarantined(empty.id, WishKind.DISCARD, by=ANN)
        assert wishes.look() == 1
        assert node.ledger.quarantined() == []

    def test_whatever_is_wrong_with_one_wish_is_its_answer_and_others_go_on(
        self, node, wishes, monkeypatch
    ) -> None:
        outside = set_aside(node, "1.2.8", path="../outside.dcm")
        self.conflict(node)
        odd = next(file.id for file in node.ledger.quarantined() if file.id != outside)
        last = set_aside(node, "1.2.9")
        for number, kind in (
            (outside, WishKind.TAKE_IN),
            (odd, WishKind.TAKE_IN),
            (last, WishKind.DISCARD),
        ):
            node.ledger.wish_quarantined(number, kind, by=ANN)
        monkeypatch.setattr(mmap, "mmap", lambda *_, **__: 1 // 0)  # As a mistake of ours would be.

        assert wishes.look() == 3
        answers = [(wish.done, wish.answer) for wish in reversed(node.ledger.wishes(pending=False))]
        assert answers == [
            (False, "the ledger names a file outside the spool: '../outside.dcm'"),
            (False, "the node stumbled over it (ZeroDivisionError); its log says where"),
            (True, "it is deleted"),
        ]

    def test_a_node_looks_by_itself_and_says_that_there_is_news(self, node) -> None:
        self.conflict(node)
        purge(node)
        (file,) = node.ledger.quarantined()
        news: list[int] = []
        looking = WishesAboutFiles(
            node.ledger, node.spool, node.node.receiver, filed=lambda: news.append(1), every_s=0.01
        )
        looking.start()
        try:
            node.ledger.wish_quarantined(file.id, WishKind.TAKE_IN, by=ANN)
            until(lambda: news, within_s=10, what="the file is taken in")
        finally:
            looking.stop()
        assert node.instances() == {UID: digest_of(SECOND)}
