"""What is promised in the daybook gets its file and its row, whatever fails in between, and is waited for."""

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.bookkeeper import Bookkeeper
from dicom_node.carry_forward import arrival_of, carry_forward
from dicom_node.daybook import Daybook, Page
from dicom_node.disk import Disk
from dicom_node.part import SpoolBroken, instance_path
from dicom_node.part10 import FileMeta
from dicom_node.settings import SpoolSettings
from dicom_node.spool import INCOMING, INSTANCES, QUARANTINE, Spool
from ledger import failpoint
from ledger.errors import SiteError
from ledger.identifiers import AETitle, Digest, StudyId, Uid
from ledger.store.database import LedgerAway, LedgerRefused
from ledger.store.ledger import Ledger
from ledger.study import Arrival, StudyState
from tests.dicom_node.datasets import ct_slice, digest_of_file, encoded
from tests.patience import patient
from tests.peers.loopback import until


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(
        SpoolSettings(path=tmp_path / "spool", hard_percent=100, resume_percent=100, reserve_bytes=0)
    )


@pytest.fixture
def books(spool: Spool, ledger: Ledger) -> Iterator[Bookkeeper]:
    keeper = Bookkeeper(Daybook(spool.path), spool, ledger)
    keeper.start()
    yield keeper
    failpoint.disarm()
    keeper.stop(within_s=5)


def on_page(books: Bookkeeper, number: int, **changes: object) -> tuple[Page, Arrival]:
    ds = ct_slice(number, **changes)
    data_set = encoded(ds)
    meta = FileMeta(
        sop_class=Uid(str(ds.SOPClassUID)),
        sop_instance=Uid(str(ds.SOPInstanceUID)),
        transfer_syntax=Uid("1.2.840.10008.1.2.1"),
        sending=AETitle("SCANNER"),
        receiving=AETitle("WETREAD"),
    )
    page = books.page(meta.encode())
    assert page is not None
    assert page.append([memoryview(data_set)])
    digest = Digest(hashlib.sha256(data_set).hexdigest())
    return page, arrival_of(meta, data_set, digest, instance_path(digest), "10.0.0.1")


def promise(books: Bookkeeper, number: int, told: list[StudyId] | None = None, **changes: object) -> Arrival:
    page, arrival = on_page(books, number, **changes)
    assert books.promise(page, arrival, (told if told is not None else []).append)
    return arrival


def rows(ledger: Ledger) -> dict[str, str]:
    return {
        str(instance.sop_instance): instance.path
        for study in ledger.studies()
        for series in ledger.series_of(study.id)
        for instance in series.instances
    }


def files_are_whole(spool: Spool, arrivals: list[Arrival]) -> bool:
    return all(digest_of_file(spool.absolute(one.path)) == str(one.digest) for one in arrivals)


def test_what_was_promised_has_file_and_row_when_it_has_settled(
    books: Bookkeeper, spool: Spool, ledger: Ledger
) -> None:
    told: list[StudyId] = []
    arrivals = [promise(books, number, told) for number in (1, 2, 3)]

    books.settle()

    assert rows(ledger) == {str(one.sop_instance): one.path for one in arrivals}
    assert files_are_whole(spool, arrivals)
    assert told == [ledger.studies()[0].id] * 3
    until(lambda: books.in_use() == 0, within_s=5, what="the pages are free")
    assert not list(spool.files(INCOMING))


def test_nothing_is_left_to_carry_forward_after_an_orderly_stop(spool: Spool, ledger: Ledger) -> None:
    books = Bookkeeper(Daybook(spool.path), spool, ledger)
    books.start()
    promise(books, 1)
    books.stop(within_s=5)

    with closing(Daybook(spool.path)) as daybook:
        assert list(daybook.entries()) == []
    assert len(rows(ledger)) == 1
    assert books.page(b"") is None


def test_an_instance_that_contradicts_another_is_set_aside_and_the_first_kept(
    books: Bookkeeper, spool: Spool, ledger: Ledger
) -> None:
    first = promise(books, 1, fill=1)
    books.settle()
    second = promise(books, 1, fill=2)
    books.settle()
    until(lambda: books.in_use() == 0, within_s=5, what="the pages are free")

    assert rows(ledger) == {str(first.sop_instance): first.path}
    assert list(spool.files(INSTANCES)) == [first.path]
    assert list(spool.files(QUARANTINE)) == [f"{QUARANTINE}/{second.digest}.dcm"]
    (kept,) = ledger.quarantined()
    assert "other bytes" in kept.because or "already here" in kept.because


def test_the_same_bytes_twice_are_one_file_with_the_header_of_the_first(
    books: Bookkeeper, spool: Spool, ledger: Ledger
) -> None:
    arrival = promise(books, 1)
    promise(books, 1)
    books.settle()

    assert rows(ledger) == {str(arrival.sop_instance): arrival.path}
    assert list(spool.files(INSTANCES)) == [arrival.path]


def test_a_study_is_not_closed_between_an_answer_and_its_row(books: Bookkeeper, ledger: Ledger) -> None:
    arrival = promise(books, 1)

    with books.closing(arrival.study) as settled:
        assert settled
        assert len(rows(ledger)) == 1
        page, late = on_page(books, 2)
        assert not books.promise(page, late, lambda _: None), "what comes meanwhile waits for the ledger"
        page.free()
        other = promise(books, 3, study="1.2.3.4")
    books.settle()

    assert str(other.sop_instance) in rows(ledger)
    promise(books, 2)


@pytest.mark.fault
def test_a_study_whose_rows_cannot_be_made_stays_open(books: Bookkeeper, ledger: Ledger, monkeypatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerAway("the ledger cannot be reached")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "record_arrivals", away)
        arrival = promise(books, 1)
        with books.closing(arrival.study) as settled:
            assert not settled
        until(lambda: books.page(b"") is None, within_s=5, what="nothing more is promised without the ledger")
        books.settle()  # and nobody waits for what cannot be

    until(lambda: len(rows(ledger)) == 1, within_s=5, what="the ledger is back, and has the row")


@pytest.mark.fault
def test_a_disk_that_fails_to_sync_costs_a_second_try_with_new_files_and_one_row(
    books: Bookkeeper, spool: Spool, ledger: Ledger, monkeypatch
) -> None:
    real, failed = Disk.sync, threading.Event()

    def fail_once(disk: Disk) -> bool:
        if not failed.is_set():
            failed.set()
            raise SpoolBroken("the spool cannot be used: Input/output error")
        return real(disk)

    monkeypatch.setattr(Disk, "sync", fail_once)
    arrivals = [promise(books, 1), promise(books, 2)]
    assert failed.wait(patient(5))
    until(lambda: books.in_use() == 0, within_s=5, what="the second try")

    assert files_are_whole(spool, arrivals)
    (study,) = ledger.studies()
    assert study.instances == 2
    assert "received_again" not in {event.event for event in ledger.history()}


@pytest.mark.fault
def test_where_one_sync_for_all_is_not_enough_every_file_and_folder_gets_its_own(
    books: Bookkeeper, spool: Spool, monkeypatch
) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(Disk, "sync", lambda _: False)
    monkeypatch.setattr(
        "dicom_node.bookkeeper.os.fsync",
        lambda d: (synced.append(str(Path(f"/proc/self/fd/{d}").readlink())), real(d)),
    )
    arrivals = [promise(books, 1), promise(books, 2)]
    until(lambda: books.in_use() == 0, within_s=5, what="everything is carried over")

    paths = {spool.absolute(one.path) for one in arrivals}
    assert {str(path) for path in paths} | {str(path.parent) for path in paths} <= set(synced)


@pytest.mark.fault
@pytest.mark.parametrize("name", ["files_named", "pages_recorded", "files_synced"])
def test_whatever_goes_wrong_between_two_steps_is_tried_again(
    books: Bookkeeper, spool: Spool, ledger: Ledger, name: str
) -> None:
    failpoint.arm(f"{name}:raise")
    arrivals = [promise(books, number) for number in (1, 2)]
    until(lambda: books.in_use() == 0, within_s=10, what="everything is carried over")

    assert set(rows(ledger)) == {str(one.sop_instance) for one in arrivals}
    assert files_are_whole(spool, arrivals)


@pytest.mark.fault
def test_an_instance_that_the_ledger_refuses_keeps_none_of_the_others_waiting_and_is_set_aside(
    books: Bookkeeper, spool: Spool, ledger: Ledger, monkeypatch
) -> None:
    real = ledger.record_arrivals

    def picky(arrivals, **named):
        if any(str(one.sop_instance).endswith(".2") for one in arrivals):
            raise LedgerRefused("the ledger does not take this value")
        return real(arrivals, **named)

    monkeypatch.setattr("dicom_node.bookkeeper._AGAIN_S", 0.01)
    monkeypatch.setattr(ledger, "record_arrivals", picky)
    arrivals = [promise(books, number) for number in (1, 2, 3)]
    until(lambda: books.in_use() == 0, within_s=10, what="everything has its place")

    refused = next(one for one in arrivals if str(one.sop_instance).endswith(".2"))
    assert set(rows(ledger)) == {str(one.sop_instance) for one in arrivals if one is not refused}
    assert list(spool.files(QUARANTINE)) == [f"{QUARANTINE}/{refused.digest}.dcm"]
    assert [one.because for one in ledger.quarantined()] == ["the ledger does not take this value"]
    assert books.page(b"") is not None


@pytest.mark.fault
def test_a_file_system_that_refuses_direct_writes_gets_plain_ones(
    books: Bookkeeper, spool: Spool, monkeypatch
) -> None:
    real = os.write

    def picky(descriptor: int, contents: memoryview) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, contents)

    monkeypatch.setattr("dicom_node.spool.os.write", picky)
    arrivals = [promise(books, 1), promise(books, 2)]
    until(lambda: books.in_use() == 0, within_s=5, what="everything is carried over")

    assert files_are_whole(spool, arrivals)
    assert not list(spool.files(INCOMING))


@pytest.mark.fault
def test_a_page_that_cannot_be_written_is_no_promise(books: Bookkeeper, ledger: Ledger, monkeypatch) -> None:
    page, arrival = on_page(books, 1)

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("dicom_node.daybook.os.pwrite", broken)
        with pytest.raises(SiteError):
            books.promise(page, arrival, lambda _: None)
    page.free()
    books.settle()

    assert rows(ledger) == {}
    assert books.in_use() == 0


# Large instances of several associations at once


LARGE = {"rows": 400}  # 320 kB


def in_hand(books: Bookkeeper, count: int) -> list[Page]:
    """Pages of instances that are coming in on other associations."""
    pages = [books.page(b"") for _ in range(count)]
    assert all(pages)
    return [page for page in pages if page is not None]


def pages_written(books: Bookkeeper, monkeypatch) -> list[Page]:
    """Fills with the pages that are written from now on."""
    written: list[Page] = []
    write = Page.write

    def noted(page: Page, address: str) -> None:
        written.append(page)
        write(page, address)

    monkeypatch.setattr(Page, "write", noted)
    return written


def test_a_large_instance_that_comes_with_others_is_a_file_before_it_is_answered(
    books: Bookkeeper, spool: Spool, ledger: Ledger, monkeypatch
) -> None:
    promise(books, 1)
    books.settle()
    others = in_hand(books, 3)
    written = pages_written(books, monkeypatch)

    arrival = promise(books, 2, **LARGE)
    assert files_are_whole(spool, [arrival])
    assert not written
    books.settle()
    assert rows(ledger)[str(arrival.sop_instance)] == arrival.path
    for page in others:
        page.free()
    until(lambda: books.in_use() == 0, within_s=5, what="the pages are free")


@pytest.mark.parametrize("how", ["alone", "small", "new study", "again"])
def test_everything_else_goes_into_the_daybook(
    books: Bookkeeper, ledger: Ledger, monkeypatch, how: str
) -> None:
    if how != "new study":
        promise(books, 1)
    if how == "again":
        promise(books, 2, **LARGE)
    books.settle()
    others = in_hand(books, 1 if how == "alone" else 3)
    written = pages_written(books, monkeypatch)

    promise(books, 2, **({} if how == "small" else LARGE))
    assert len(written) == 1
    books.settle()
    assert len(rows(ledger)) == (1 if how == "new study" else 2)
    for page in others:
        page.free()


@pytest.mark.fault
def test_a_file_that_cannot_be_synced_is_no_promise_and_leaves_none(
    books: Bookkeeper, spool: Spool, ledger: Ledger, monkeypatch
) -> None:
    first = promise(books, 1)
    books.settle()
    others = in_hand(books, 3)
    page, arrival = on_page(books, 2, **LARGE)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("dicom_node.spool.os.fsync", broken)
        with pytest.raises(SpoolBroken):
            books.promise(page, arrival, lambda _: None)
    for each in (page, *others):
        each.free()
    books.settle()

    assert list(rows(ledger)) == [str(first.sop_instance)]
    assert list(spool.files(INSTANCES)) == [first.path]


@pytest.mark.fault
def test_a_file_whose_row_a_dead_node_did_not_make_gets_it_at_the_next_start(
    spool: Spool, ledger: Ledger, monkeypatch
) -> None:
    books = Bookkeeper(Daybook(spool.path), spool, ledger)
    books.start()
    promise(books, 1)
    books.settle()
    in_hand(books, 3)

    def away(*_: object, **__: object) -> None:
        raise LedgerAway("the ledger cannot be reached")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "record_arrivals", away)
        arrival = promise(books, 2, **LARGE)
        books.stop(within_s=5)
    assert str(arrival.sop_instance) not in rows(ledger)

    spool.reconcile(ledger)
    assert rows(ledger)[str(arrival.sop_instance)] == arrival.path


# After a crash


def left_behind(spool: Spool, ledger: Ledger, *numbers: int, **changes: object) -> list[Arrival]:
    """Instances in the daybook of a node that died before it carried them over."""
    dead = Bookkeeper(Daybook(spool.path), spool, ledger)  # never started
    return [promise(dead, number, **changes) for number in numbers]


def carried(spool: Spool, ledger: Ledger) -> int:
    with closing(Daybook(spool.path)) as daybook:
        return carry_forward(daybook, spool, ledger)


@pytest.mark.fault
def test_what_a_dead_node_promised_is_carried_forward_once(spool: Spool, ledger: Ledger) -> None:
    arrivals = left_behind(spool, ledger, 1, 2)

    assert carried(spool, ledger) == 2
    assert carried(spool, ledger) == 0

    assert rows(ledger) == {str(one.sop_instance): one.path for one in arrivals}
    assert files_are_whole(spool, arrivals)
    (study,) = ledger.studies()
    (series,) = ledger.series_of(study.id)
    assert {str(one.calling) for one in series.instances} == {"SCANNER"}


@pytest.mark.fault
def test_a_node_that_stops_while_the_ledger_is_away_leaves_what_it_promised_to_the_next(
    spool: Spool, ledger: Ledger, monkeypatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerAway("the ledger cannot be reached")

    books = Bookkeeper(Daybook(spool.path), spool, ledger)
    books.start()
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "record_arrivals", away)
        arrival = promise(books, 1)
        books.stop(within_s=5)
    assert rows(ledger) == {}

    assert carried(spool, ledger) == 1
    assert rows(ledger) == {str(arrival.sop_instance): arrival.path}


@pytest.mark.fault
def test_a_file_that_the_crash_tore_is_healed_although_its_row_is_there(spool: Spool, ledger: Ledger) -> None:
    (arrival,) = left_behind(spool, ledger, 1)
    ledger.record_arrivals([arrival])
    spool.absolute(arrival.path).write_bytes(b"torn")

    assert carried(spool, ledger) == 0

    assert files_are_whole(spool, [arrival])
    (study,) = ledger.studies()
    assert study.instances == 1


@pytest.mark.fault
def test_a_contradiction_that_a_dead_node_promised_is_set_aside_once(spool: Spool, ledger: Ledger) -> None:
    first = left_behind(spool, ledger, 1, fill=1)[0]
    carried(spool, ledger)
    second = left_behind(spool, ledger, 1, fill=2)[0]

    carried(spool, ledger)
    assert list(spool.files(QUARANTINE)) == [f"{QUARANTINE}/{second.digest}.dcm"]
    assert rows(ledger) == {str(first.sop_instance): first.path}
    carried(spool, ledger)
    assert len(ledger.quarantined()) == 1


@pytest.mark.fault
def test_what_was_purged_since_does_not_come_back(books: Bookkeeper, spool: Spool, ledger: Ledger) -> None:
    promise(books, 1)
    books.settle()
    until(lambda: books.in_use() == 0, within_s=5, what="the pages are free")
    (study,) = ledger.studies()
    assert study.state is StudyState.OPEN
    with spool.deleting():  # as the retention does
        spool.remove(rows(ledger).values())

    assert carried(spool, ledger) == 0
    assert list(spool.files(INSTANCES)) == []
