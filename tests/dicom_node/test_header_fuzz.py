"""Whatever happens to the bytes of a data set, our readers answer: headers, or a sentence of theirs."""

import tracemalloc
from contextlib import suppress
from io import BytesIO

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.headers import HeaderUnreadable, MoreNeeded, find_pixels, read_headers
from dicom_node.status import StoreStatus
from dicom_node.upper_layer import RELEASE_REQUEST
from ledger.identifiers import Uid
from tests.dicom_node.datasets import ROOT, ct_slice, digest_of, encoded
from tests.dicom_node.mutations import EXPLICIT, IMPLICIT, damaged, seeds
from tests.dicom_node.scanner import send_all
from tests.hostile.victim import connect, read_pdu, request, status_of, store_message
from tests.patience import patient
from worker.elements import HeaderUnreadable as WorkerUnreadable
from worker.elements import read_elements, value_of

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_KEPT_BYTES = 4 << 20  # at most 1000 values of at most 1 KiB, and what it takes to make text of them

fuzz = settings(
    max_examples=1500,
    deadline=patient(1000),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@fuzz
@given(damaged())
def test_a_damaged_data_set_is_read_or_refused_with_a_sentence_that_quotes_nothing(case) -> None:
    _, syntax, data = case
    said, headers = "", {}
    try:
        headers = read_headers(data, Uid(syntax))
    except HeaderUnreadable as error:
        said = str(error)
    assert len(said) < 200
    assert said.isascii()
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in headers.items())
    assert all(len(value) <= 6 * 1024 for value in headers.values())


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_reading_a_damaged_data_set_takes_no_more_memory_than_its_headers_are_worth(case) -> None:
    _, syntax, data = case
    tracemalloc.start()
    try:
        with suppress(HeaderUnreadable):
            read_headers(data, Uid(syntax))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < _KEPT_BYTES


@fuzz
@given(damaged(), st.integers(0, 4000))
def test_the_beginning_of_a_data_set_is_enough_or_more_is_asked_for(case, cut: int) -> None:
    """What the first bytes say is never taken back by the rest."""
    _, syntax, data = case
    try:
        from_beginning = read_headers(data[:cut], Uid(syntax), whole=len(data))
    except MoreNeeded:
        return
    except HeaderUnreadable:
        with pytest.raises(HeaderUnreadable):
            read_headers(data, Uid(syntax))
        return
    assert read_headers(data, Uid(syntax)) == from_beginning


@fuzz
@given(damaged())
def test_pixels_are_found_inside_the_data_or_not_at_all(case) -> None:
    _, syntax, data = case
    with suppress(HeaderUnreadable):
        place = find_pixels(data, Uid(syntax))
        if place is not None:
            assert 0 <= place.start <= len(data)
            assert place.length is None or place.start + place.length <= len(data)


@fuzz
@given(damaged())
def test_the_worker_reads_the_same_uids_as_the_node_or_none(case) -> None:
    """Two readers that disagree would put one patient's result into another's study."""
    _, syntax, data = case
    try:
        headers = read_headers(data, Uid(syntax))
        for keyword in _UIDS:
            Uid.parse(headers.get(keyword, ""))
        dataset, _ = read_elements(data, 0, implicit=syntax == IMPLICIT, whole=True)
    except (HeaderUnreadable, WorkerUnreadable, ValueError):
        return  # The node files it nowhere, or the worker uses it for nothing.
    for keyword in _UIDS:
        with suppress(WorkerUnreadable):
            theirs = str(value_of(dataset, keyword) or "").strip("\0 ")
            assert theirs == headers.get(keyword, ""), keyword


def test_the_seeds_are_read_as_pydicom_reads_them() -> None:
    assert len(seeds()) > 25
    for seed in seeds():
        ds = pydicom.filereader.read_dataset(
            BytesIO(seed.data), is_implicit_VR=seed.syntax == IMPLICIT, is_little_endian=True
        )
        with suppress(HeaderUnreadable):
            headers = read_headers(seed.data, Uid(seed.syntax))
            for keyword in _UIDS:
                assert headers.get(keyword, "") == str(ds.get(keyword, "") or "").strip("\0 "), seed.name


@pytest.mark.fault
def test_damaged_data_sets_over_the_wire_are_stored_set_aside_or_refused_and_all_accounted_for(node) -> None:
    sent: list[bytes] = []

    @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged(only="a CT slice"))
    def collect(case) -> None:
        name, syntax, data = case
        if (name, syntax) == ("a CT slice", EXPLICIT) and data not in sent:
            sent.append(data)

    collect()
    statuses = _send(node.port, str(ct_slice(3).SOPInstanceUID), sent)

    assert len(statuses) == len(sent) > 100, "the node ended the association over a data set"
    kept = {*node.instances().values(), *(str(each.digest) for each in node.ledger.quarantined(limit=10_000))}
    for status, data in zip(statuses, sent, strict=True):
        assert (digest_of(data) in kept) == (status != StoreStatus.DOES_NOT_MATCH)
    assert {StoreStatus.SUCCESS, StoreStatus.CANNOT_UNDERSTAND} <= set(statuses)
    good = encoded(ct_slice(1, series=f"{ROOT}.89"))
    assert send_all(node.port, {f"{ROOT}.89.1": good}) == {f"{ROOT}.89.1": StoreStatus.SUCCESS}


def _send(port: int, uid: str, data_sets: list[bytes]) -> list[int]:
    """The statuses of C-STOREs under one UID, on one association."""
    statuses: list[int] = []
    with connect(port) as line:
        line.sendall(request())
        assert read_pdu(line)[:1] == b"\2"
        for number, data in enumerate(data_sets, start=1):
            line.sendall(store_message(uid, data, number=number))
            status = status_of(read_pdu(line))
            if status is None:
                break
            statuses.append(status)
        line.sendall(RELEASE_REQUEST)
        read_pdu(line)  # Before an association ends, everything that it sent is in the ledger.
    return statuses
