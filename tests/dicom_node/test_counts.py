"""What a PACS says that it has, whichever of the optional counts it knows."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.counts import CountedBy, SeriesCounts, StudyCount, count_series, count_study
from dicom_node.peers import PeerSettings
from dicom_node.query import STUDY_ROOT_FIND, QueryRefused
from dicom_node.reach import PeerAway, PeerSilent
from dicom_node.send import send_many
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.objects import write_instance
from tests.dicom_node.raw_peer import acceptance, peer, raw_peer, read_message, read_pdu
from tests.patience import patient
from tests.peers.dcmtk import storescp
from tests.peers.loopback import free_port
from tests.peers.orthanc import orthanc

WETREAD = AETitle("WETREAD")
STUDY, FIRST, SECOND, OTHER = (Uid(f"1.2.826.0.1.3680043.8.498.9.{n}") for n in (1, 2, 3, 4))
ASKED = {"calling": WETREAD, "study": STUDY, "deadline_s": patient(10.0)}
HELD = {FIRST: [f"{FIRST}.{n}" for n in range(3)], SECOND: [f"{SECOND}.{n}" for n in range(2)]}


def made(**elements: str) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


@contextmanager
def pacs(*, counts: Sequence[str] = (), babbles: bool = False, terse: bool = False) -> Iterator[PeerSettings]:
    """A PACS that fills in `counts` only; one that `babbles` answers with other studies too, one that is
    `terse` returns nothing of the levels above.
    """

    def studies(asked: Dataset) -> Iterator[Dataset]:
        if asked.StudyInstanceUID == str(STUDY):
            count = {"NumberOfStudyRelatedInstances": "5"} if "study" in counts else {}
            yield made(StudyInstanceUID=str(STUDY), **count)
        if babbles:
            yield made(StudyInstanceUID=str(OTHER), NumberOfStudyRelatedInstances="999")

    def series(asked: Dataset) -> Iterator[Dataset]:
        for uid, instances in HELD.items():
            known = "series" in counts or ("first series" in counts and uid == FIRST)
            count = {"NumberOfSeriesRelatedInstances": str(len(instances))} if known else {}
            above = {} if terse else {"StudyInstanceUID": str(STUDY)}
            yield made(SeriesInstanceUID=str(uid), **above, **count)
        if babbles:
            yield made(StudyInstanceUID=str(OTHER), SeriesInstanceUID=f"{OTHER}.1")

    def images(asked: Dataset) -> Iterator[Dataset]:
        for uid, instances in HELD.items():
            for instance in instances if str(uid) == asked.SeriesInstanceUID or babbles else []:
                above = {} if terse else {"SeriesInstanceUID": str(uid)}
                yield made(SOPInstanceUID=instance, **above)

    levels = {"STUDY": studies, "SERIES": series, "IMAGE": images}

    def on_find(event: evt.Event) -> object:
        for answer in levels[event.identifier.QueryRetrieveLevel](event.identifier):
            yield 0xFF00, answer
        yield 0x0000, None

    ae = AE("ARCHIVE")
    ae.add_supported_context(str(STUDY_ROOT_FIND), ImplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, on_find)])
    try:
        yield peer(server.server_address[1])
    finally:
        server.shutdown()


@pytest.mark.parametrize("babbles", [False, True])
@pytest.mark.parametrize(
    ("counts", "by"),
    [
        (("study",), CountedBy.STUDY),
        (("series",), CountedBy.SERIES),
        (("first series",), CountedBy.LISTING),
        ((), CountedBy.LISTING),
    ],
)
def test_a_study_is_counted_by_what_the_pacs_knows(
    counts: Sequence[str], by: CountedBy, babbles: bool
) -> None:
    with pacs(counts=counts, babbles=babbles) as archive:
        assert count_study(archive, **ASKED) == StudyCount(5, by)


@pytest.mark.parametrize("counts", [("series",), ("first series",), ()])
@pytest.mark.parametrize("terse", [False, True])
def test_each_series_is_counted(counts: Sequence[str], terse: bool) -> None:
    with pacs(counts=counts, terse=terse) as archive:
        counted = count_series(archive, **ASKED)
    assert counted.instances == {FIRST: 3, SECOND: 2}
    assert counted.by is (CountedBy.SERIES if counts == ("series",) else CountedBy.LISTING)


def test_a_study_that_the_pacs_does_not_know_has_no_count() -> None:
    with pacs(counts=("study",), babbles=True) as archive:
        assert count_study(archive, **{**ASKED, "study": Uid("1.2.3")}) is None


@pytest.mark.peer
def test_orthanc_counts_what_it_was_given(tmp_path: Path) -> None:
    files = [
        write_instance(tmp_path / "in", study=str(STUDY), series=str(series), sop_instance=uid)
        for series, instances in HELD.items()
        for uid in instances
    ]
    with orthanc(tmp_path / "orthanc") as archive:
        there = peer(archive.dicom_port, ae_title="ORTHANC")
        assert count_study(there, **ASKED) is None
        assert count_series(there, **ASKED) == SeriesCounts({}, CountedBy.SERIES)

        send_many(files, there, calling=WETREAD, deadline_s=patient(20))

        assert count_study(there, **ASKED) == StudyCount(5, CountedBy.STUDY)
        assert count_series(there, **ASKED) == SeriesCounts({FIRST: 3, SECOND: 2}, CountedBy.SERIES)


@pytest.mark.peer
def test_a_peer_without_queries_says_so(tmp_path: Path) -> None:
    with storescp(tmp_path / "in") as archive, pytest.raises(QueryRefused, match="does not answer C-FIND"):
        count_study(peer(archive.port), **ASKED)


def test_a_pacs_that_is_away_leaves_it_unknown() -> None:
    with pytest.raises(PeerAway):
        count_study(peer(free_port()), **ASKED)


@pytest.mark.fault
def test_a_pacs_that_stalls_is_given_up_at_the_deadline() -> None:
    def stall(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        connection.sendall(acceptance(str(STUDY_ROOT_FIND), ImplicitVRLittleEndian))
        read_message(connection)

    began = time.monotonic()
    with raw_peer(stall) as archive, pytest.raises(PeerSilent):
        count_study(archive, **{**ASKED, "deadline_s": 0.5})
    assert time.monotonic() - began < patient(3)
