"""C-MOVE to ourselves and C-GET: what was asked for comes into our spool, and nobody can make us wait."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as StudyRootGet

from dicom_node.contexts import TRANSFER_SYNTAXES, storage_sop_classes
from dicom_node.listing import ListedSeries, Listing, Portion, list_study, missing, portions
from dicom_node.peers import PeerSettings
from dicom_node.reach import PeerAway, PeerSilent
from dicom_node.requestor import AssociationAborted, PeerGone
from dicom_node.retrieve import RetrievalRefused, RetrievalStopped, Retrieved
from dicom_node.retrieve_get import Getter, storage_contexts
from dicom_node.retrieve_move import STUDY_ROOT_MOVE, Mover
from dicom_node.send import send_many
from dicom_node.upper_layer import PeerConfused, ProposedContext, command_set, data_header
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.conftest import Running
from tests.dicom_node.datasets import ROOT, ct_slice
from tests.dicom_node.objects import write_instance
from tests.dicom_node.raw_peer import Behaviour, acceptance, peer, raw_peer, read_message, read_pdu
from tests.patience import patient
from tests.peers.dcmqrscp import dcmqrscp
from tests.peers.loopback import free_port, until
from tests.peers.orthanc import orthanc

WETREAD = AETitle("WETREAD")
STUDY, FIRST, SECOND, OTHER = (Uid(f"1.2.826.0.1.3680043.8.498.9.{n}") for n in (1, 2, 3, 4))
HELD = {FIRST: [Uid(f"{FIRST}.{n}") for n in range(3)], SECOND: [Uid(f"{SECOND}.{n}") for n in range(2)]}
ALL = [uid for series in HELD.values() for uid in series]
CT = Uid(str(CTImageStorage))
WHOLE = Portion(level="STUDY", study=STUDY)


def write_study(folder: Path) -> list[Path]:
    return [
        write_instance(folder, study=str(STUDY), series=str(series), sop_instance=str(uid))
        for series, instances in HELD.items()
        for uid in instances
    ]


@contextmanager
def archive_of(kind: str, folder: Path, port: int) -> Iterator[PeerSettings]:
    """A real archive that holds the study, and knows us at `port` on loopback."""
    files = write_study(folder / "in")
    if kind == "dcmqrscp":
        with dcmqrscp(folder / kind, destinations={"WETREAD": port}) as archive:
            there = peer(archive.port)
            send_many(files, there, calling=WETREAD, deadline_s=patient(20))
            yield there
    else:
        with orthanc(folder / kind, modalities={"WETREAD": port}) as running:
            there = peer(running.dicom_port, ae_title="ORTHANC")
            send_many(files, there, calling=WETREAD, deadline_s=patient(20))
            yield there


def mover(there: PeerSettings, port: int = 1, **changes: object) -> Mover:
    given = {
        "peer": there,
        "own": WETREAD,
        "port": port,
        "deadline_s": patient(20.0),
        "silence_s": patient(10.0),
        "stopping": threading.Event(),
    }
    return Mover(**{**given, **changes})  # type: ignore[arg-type]


def getter(there: PeerSettings, node: Running, **changes: object) -> Getter:
    given = {
        "peer": there,
        "own": WETREAD,
        "receiver": node.node.receiver,
        "limits": node.site.node,
        "stored": lambda study_id: None,
        "deadline_s": patient(20.0),
        "silence_s": patient(10.0),
        "stopping": threading.Event(),
    }
    return Getter(**{**given, **changes})  # type: ignore[arg-type]


def nothing_arrives() -> int:
    return 0


# What to ask for


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["dcmqrscp", "orthanc"])
def test_a_study_is_listed_with_its_instances_and_their_classes(tmp_path: Path, kind: str) -> None:
    with archive_of(kind, tmp_path, free_port()) as there:
        listing = list_study(there, calling=WETREAD, study=STUDY, deadline_s=patient(10))
        unknown = list_study(there, calling=WETREAD, study=OTHER, deadline_s=patient(10))

    assert {one.series: set(one.instances) for one in listing.series} == {
        series: set(instances) for series, instances in HELD.items()
    }
    assert listing.sop_classes == ({CT} if kind == "orthanc" else set())
    assert listing.unsaid == (set() if kind == "orthanc" else {"CT"})
    assert {one.modality for one in listing.series} == {"CT"}
    assert unknown == Listing(OTHER, ())


def listing_of(held: dict[Uid, list[Uid]], sop_class: Uid | None = CT, modality: str = "CT") -> Listing:
    return Listing(
        STUDY,
        tuple(ListedSeries(uid, modality, dict.fromkeys(some, sop_class)) for uid, some in held.items()),
    )


def test_what_we_have_and_what_we_made_is_not_missing() -> None:
    listing = listing_of(HELD)
    assert missing(listing, frozenset(ALL[1:]), frozenset()) == {ALL[0]}
    assert missing(listing, frozenset(), frozenset(ALL[:2])) == set(ALL[2:])
    assert missing(listing, frozenset(ALL), frozenset()) == set()


def test_a_whole_study_a_whole_series_and_single_instances_are_asked_for_as_such() -> None:
    listing = listing_of(HELD)
    assert portions(listing, ALL) == [WHOLE]
    assert portions(listing, [ALL[0], *HELD[SECOND]]) == [
        Portion(level="IMAGE", study=STUDY, series=FIRST, instances=(ALL[0],)),
        Portion(level="SERIES", study=STUDY, series=SECOND),
    ]
    assert portions(listing, [OTHER]) == []


def test_a_long_list_of_instances_is_asked_for_in_parts() -> None:
    many = [Uid(f"{FIRST}.9.{n}") for n in range(201)]
    asked = portions(listing_of({FIRST: many}), many[:-1])
    assert [len(each.instances) for each in asked] == [64, 64, 64, 8]
    assert {uid for each in asked for uid in each.instances} == set(many[:-1])


# What comes


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["dcmqrscp", "orthanc"])
@pytest.mark.parametrize("how", ["move", "get"])
def test_what_is_missing_comes_and_nothing_else(tmp_path: Path, node: Running, kind: str, how: str) -> None:
    wanted = [ALL[1], *HELD[SECOND]]
    with archive_of(kind, tmp_path, node.port) as there:
        asked = portions(listing_of(HELD), wanted)
        if how == "move":
            said = mover(there, node.port).move(asked, nothing_arrives)
        else:
            said = getter(there, node).get(asked, wanted, listing_of(HELD, None))
        until(lambda: len(node.instances()) == 3, within_s=5, what="all are recorded")

    assert (said.completed, said.failed, said.said) == (3, 0, ())
    assert set(node.instances()) == {str(uid) for uid in wanted}


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["dcmqrscp", "orthanc"])
def test_what_comes_by_get_says_what_the_archive_was_given(tmp_path: Path, node: Running, kind: str) -> None:
    with archive_of(kind, tmp_path, node.port) as there:
        getter(there, node).get([WHOLE], ALL, listing_of(HELD))
    # Both archives write a data set in their own way, so what it says is compared, and not its bytes.
    given = {path.stem: pydicom.dcmread(path) for path in (tmp_path / "in").iterdir()}
    received = [pydicom.dcmread(node.spool.absolute(path)) for path in node.spooled()]
    assert {str(dataset.SOPInstanceUID): dataset for dataset in received} == given
    [study] = node.ledger.studies()
    assert {str(study.calling), str(study.study)} == {there.ae_title, str(STUDY)}


@pytest.mark.peer
def test_compressed_images_come_in_the_syntax_that_the_archive_has(tmp_path: Path, node: Running) -> None:
    frame = b"\xff\x4f\xff\x51" + bytes(range(60))

    def compress(dataset: Dataset) -> None:
        # Whether it decodes is nobody's business on the way.
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True

    file = write_instance(
        tmp_path / "in", study=str(STUDY), transfer_syntax=JPEG2000Lossless, change=compress
    )
    with dcmqrscp(tmp_path / "archive", "+xv") as archive:
        there = peer(archive.port)
        [answer] = send_many([file], there, calling=WETREAD, deadline_s=patient(10))
        assert answer.status == 0, answer
        # This archive uses no other context than the first of a class, and cannot convert.
        with pytest.raises(RetrievalRefused, match="0xA702"):
            getter(there, node).get([WHOLE], [Uid(file.stem)], listing_of(HELD, None))
        getter(there, node, each_syntax=False).get([WHOLE], [Uid(file.stem)], listing_of(HELD, None))

    [study] = node.ledger.studies()
    [series] = node.ledger.series_of(study.id)
    assert [str(one.transfer_syntax) for one in series.instances] == [JPEG2000Lossless]
    [path] = node.spooled()
    assert get_frame(pydicom.dcmread(node.spool.absolute(path)).PixelData, 0) == frame


def test_what_the_archive_says_is_in_the_study_may_come_in_every_syntax() -> None:
    few = storage_contexts(listing_of(HELD), each_syntax=True)
    assert {each.abstract_syntax for each in few} == {CT}
    assert len(few) == 13
    assert all(each.as_scp for each in few)
    assert ProposedContext(CT, (Uid(str(JPEG2000Lossless)),), as_scp=True) in few


def test_where_the_archive_does_not_say_its_classes_the_modality_and_all_others_are_proposed() -> None:
    many = storage_contexts(listing_of(HELD, None), each_syntax=True)
    assert len(many) == 127
    assert sum(each.abstract_syntax == CT for each in many) == 13
    assert Uid("1.2.840.10008.5.1.4.1.1.88.33") in {each.abstract_syntax for each in many}
    assert len(storage_contexts(listing_of(HELD, None, "XYZ"), each_syntax=True)) == 127


def test_a_study_of_many_classes_shares_the_room_and_what_we_never_take_gets_none() -> None:
    classes = [Uid(uid) for uid in storage_sop_classes()]
    for number, contexts in ((9, 117), (10, 20), (63, 126), (64, 64), (len(classes), 127)):
        listing = Listing(
            STUDY, (ListedSeries(FIRST, "OT", dict(zip(classes, classes[:number], strict=False))),)
        )
        assert len(storage_contexts(listing, each_syntax=True)) == contexts
    assert storage_contexts(listing_of(HELD, Uid("1.2.3")), each_syntax=True) == []


def test_the_archive_may_choose_one_syntax_for_each_class() -> None:
    [only] = storage_contexts(listing_of(HELD), each_syntax=False)
    assert only.abstract_syntax == CT
    assert [str(syntax) for syntax in only.transfer_syntaxes] == [each.uid for each in TRANSFER_SYNTAXES]


# Who does not play along


@pytest.mark.peer
def test_an_archive_that_does_not_know_us_as_destination_says_what_to_enter_there(tmp_path: Path) -> None:
    stranger = mover(peer(1), 11112, own=AETitle("STRANGER"))
    with archive_of("dcmqrscp", tmp_path, free_port()) as there, pytest.raises(RetrievalRefused) as refused:
        replace(stranger, peer=there).move([WHOLE], nothing_arrives)
    assert str(refused.value) == (
        "archive does not know STRANGER as a destination of C-MOVE (0xA801): enter there the AE title "
        "STRANGER with host 127.0.0.1 and port 11112"
    )


@pytest.mark.peer
def test_orthanc_aborts_the_association_of_whom_it_does_not_know(tmp_path: Path) -> None:
    with archive_of("orthanc", tmp_path, free_port()) as there, pytest.raises(AssociationAborted):
        mover(there, own=AETitle("STRANGER")).move([WHOLE], nothing_arrives)


@pytest.mark.peer
def test_a_node_that_the_archive_cannot_reach_is_told_of_failures(tmp_path: Path) -> None:
    with archive_of("dcmqrscp", tmp_path, free_port()) as there, pytest.raises(RetrievalRefused) as refused:
        mover(there).move([WHOLE], nothing_arrives)
    assert "archive answered C-MOVE with status 0x" in str(refused.value)


def test_an_archive_that_is_away_is_away(node: Running) -> None:
    there = peer(free_port())
    with pytest.raises(PeerAway):
        mover(there).move([WHOLE], nothing_arrives)
    with pytest.raises(PeerAway):
        getter(there, node).get([WHOLE], ALL, listing_of(HELD))


def test_an_archive_without_retrieval_says_so(node: Running) -> None:
    here = peer(node.port, ae_title="WETREAD")
    with pytest.raises(RetrievalRefused, match="does not answer C-MOVE at study root"):
        mover(here).move([WHOLE], nothing_arrives)
    with pytest.raises(RetrievalRefused, match="does not answer C-GET at study root"):
        getter(here, node).get([WHOLE], ALL, listing_of(HELD))


def answer_to_move(status: int, **numbers: int) -> bytes:
    """A C-MOVE-RSP in one PDU."""
    at = {"remaining": 0x1020, "completed": 0x1021, "failed": 0x1022, "warnings": 0x1023}
    command = command_set(
        {0x0100: 0x8021, 0x0120: 1, 0x0800: 0x0101, 0x0900: status}
        | {at[name]: number for name, number in numbers.items()}
    )
    return data_header(1, len(command), command=True, last=True) + command


def moving(*answers: bytes, then: Callable[[socket.socket], None] = lambda connection: None) -> Behaviour:
    """An archive that accepts C-MOVE and gives these answers to it."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        connection.sendall(acceptance(str(STUDY_ROOT_MOVE), ImplicitVRLittleEndian))
        read_message(connection)
        for answer in answers:
            connection.sendall(answer)
        then(connection)

    return behave


def test_the_numbers_and_words_of_the_last_answer_are_kept() -> None:
    answers = [
        answer_to_move(0xFF00, remaining=4, completed=1, failed=0, warnings=0),
        answer_to_move(0xB000, completed=3, failed=2, warnings=1),
    ]
    with raw_peer(moving(*answers)) as there:
        said = mover(there).move([WHOLE], nothing_arrives)
    assert said == Retrieved(
        completed=3, failed=2, warnings=1, said=("status 0xB000: some of it could not be sent",)
    )


@pytest.mark.fault
@pytest.mark.parametrize("answers", [(), (answer_to_move(0xFF00, remaining=4, completed=1),)])
def test_an_archive_that_never_answers_is_given_up_at_the_deadline_and_told_so(
    answers: Sequence[bytes],
) -> None:
    heard: list[bytes] = []
    threads = threading.active_count()
    with raw_peer(moving(*answers, then=lambda connection: heard.append(read_pdu(connection)))) as there:
        began = time.monotonic()
        with pytest.raises(PeerSilent, match=r"within 0\.6 s"):
            mover(there, deadline_s=0.6).move([WHOLE], nothing_arrives)
        assert 0.6 <= time.monotonic() - began < patient(2.5)
        until(lambda: heard, within_s=5, what="it was asked to stop")
    # C-CANCEL-RQ is command field 0x0FFF (PS3.7 §E.1).
    assert struct.pack("<HHIH", 0, 0x0100, 2, 0x0FFF) in heard[0]
    assert threading.active_count() == threads


@pytest.mark.fault
def test_silence_is_death_only_where_nothing_arrives_either() -> None:
    count = iter(range(1000))
    with raw_peer(moving()) as there:
        began = time.monotonic()
        with pytest.raises(PeerSilent, match=r"silent for 0\.5 s after C-MOVE, and nothing arrived"):
            mover(there, silence_s=0.5).move([WHOLE], nothing_arrives)
        assert time.monotonic() - began < patient(3)
        with pytest.raises(PeerSilent, match="did not finish within 2 s"):
            mover(there, silence_s=0.5, deadline_s=2.0).move([WHOLE], lambda: next(count))


@pytest.mark.fault
def test_a_stopping_node_waits_for_no_archive() -> None:
    stopping = threading.Event()
    stopping.set()
    with raw_peer(moving()) as there, pytest.raises(RetrievalStopped):
        mover(there, stopping=stopping).move([WHOLE], nothing_arrives)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("babble", "error", "words"),
    [
        (answer_to_move(0xA702, failed=5), RetrievalRefused, "it cannot send"),
        (answer_to_move(0x1234), RetrievalRefused, "that is no status of a retrieval"),
        (b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00", AssociationAborted, "aborted"),
        (b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00", PeerGone, "released"),
        (b"GET / HTTP/1.1\r\n\r\n", PeerConfused, "begins no DICOM PDU"),
        (struct.pack(">BxI", 4, 0x7FFFFFFF), PeerConfused, "at most 65536"),
    ],
)
def test_nonsense_ends_a_move(babble: bytes, error: type[Exception], words: str) -> None:
    with raw_peer(moving(babble)) as there, pytest.raises(error, match=words):
        mover(there).move([WHOLE], nothing_arrives)


@contextmanager
def giving(
    give: Callable[[evt.Event], Iterator[object]], *, as_scp: bool = True, syntax: str = "1.2.840.10008.1.2.1"
) -> Iterator[PeerSettings]:
    """An archive whose C-GET does what `give` does."""
    ae = AE("ARCHIVE")
    ae.add_supported_context(StudyRootGet)
    ae.add_supported_context(CTImageStorage, syntax, scu_role=as_scp, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_GET, give)])
    try:
        yield peer(server.server_address[1])
    finally:
        server.shutdown()


@pytest.mark.fault
def test_instances_that_nobody_asked_for_are_not_taken(node: Running) -> None:
    def give(event: evt.Event) -> Iterator[object]:
        yield 2
        for number in (1, 2):
            yield 0xFF00, ct_slice(number)

    with giving(give) as there:
        said = getter(there, node).get([WHOLE], [Uid(f"{ROOT}.1.1.1")], listing_of(HELD))
    assert set(node.instances()) == {f"{ROOT}.1.1.1"}
    assert (said.completed, said.failed) == (1, 1)
    assert said.said == ("status 0xB000: some of it could not be sent",)


@pytest.mark.fault
def test_an_archive_that_aborts_in_the_middle_leaves_what_came_before(node: Running) -> None:
    def give(event: evt.Event) -> Iterator[object]:
        yield 3
        yield 0xFF00, ct_slice(1)
        event.assoc.abort()

    with giving(give) as there, pytest.raises((AssociationAborted, PeerGone)):
        getter(there, node).get([WHOLE], [Uid(f"{ROOT}.1.1.{n}") for n in (1, 2, 3)], listing_of(HELD))
    assert set(node.instances()) == {f"{ROOT}.1.1.1"}
    assert len(node.spooled()) == 1


@pytest.mark.fault
def test_an_archive_that_cannot_send_some_says_how_many(node: Running) -> None:
    def give(event: evt.Event) -> Iterator[object]:
        yield 2
        yield 0xFF00, ct_slice(1)
        yield 0xC000, None

    with giving(give) as there, pytest.raises(RetrievalRefused, match="cannot process the question"):
        getter(there, node).get([WHOLE], [Uid(f"{ROOT}.1.1.1")], listing_of(HELD))
    assert set(node.instances()) == {f"{ROOT}.1.1.1"}


@pytest.mark.fault
@pytest.mark.parametrize("bytes_of_it", [0, 4, 200, 2000])
def test_an_archive_that_stalls_in_an_instance_is_given_up_at_the_deadline(
    node: Running, bytes_of_it: int
) -> None:
    uid = f"{ROOT}.1.1.1"
    command = command_set({
        0x0002: Uid(str(CTImageStorage)), 0x0100: 0x0001, 0x0110: 1, 0x0700: 0, 0x0800: 1, 0x1000: Uid(uid),
    })  # fmt: skip
    message = data_header(3, len(command), command=True, last=True) + command
    message += data_header(3, 5000, command=False, last=True) + bytes(5000)

    def stall(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        connection.sendall(accepting_get_and_ct())
        read_message(connection)
        connection.sendall(
            message[: len(message) - 5000 + bytes_of_it] if bytes_of_it > 4 else message[:bytes_of_it]
        )

    threads = threading.active_count()
    with raw_peer(stall) as there:
        began = time.monotonic()
        with pytest.raises(PeerSilent, match=r"within 0\.6 s"):
            getter(there, node, deadline_s=0.6).get([WHOLE], [Uid(uid)], listing_of(HELD))
        assert time.monotonic() - began < patient(2.5)
        with pytest.raises(PeerSilent, match=r"silent for 0\.3 s"):
            getter(there, node, silence_s=0.3).get([WHOLE], [Uid(uid)], listing_of(HELD))
    assert threading.active_count() == threads
    assert node.spooled() == []
    assert list((node.spool.path / "incoming").iterdir()) == []


def accepting_get_and_ct() -> bytes:
    """An A-ASSOCIATE-AC for C-GET (context 1) and CT in explicit little endian (context 3)."""
    body = acceptance(str(StudyRootGet), ImplicitVRLittleEndian)[6:]
    syntax = b"1.2.840.10008.1.2.1"
    item = struct.pack(">BBHBBBB", 0x21, 0, 8 + len(syntax), 3, 0, 0, 0)
    item += struct.pack(">BBH", 0x40, 0, len(syntax)) + syntax
    at = body.index(b"\x50\x00", 68)
    body = body[:at] + item + body[at:]
    return struct.pack(">BxI", 2, len(body)) + body
