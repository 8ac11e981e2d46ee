"""One file to one peer: the bytes stay the same, and every answer has a meaning."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    SegmentationStorage,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import LabelMapSegmentationStorage

from dicom_node.peers import PeerSettings
from dicom_node.send import (
    STATUS,
    AnswerKind,
    Objection,
    ResultUnreadable,
    echo,
    meaning,
    send,
    send_many,
    written_as,
)
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.objects import data_set_digest, write_instance
from tests.dicom_node.raw_peer import peer
from tests.patience import patient
from tests.peers.dcmtk import storescp
from tests.peers.loopback import free_port
from tests.peers.orthanc import orthanc

WETREAD = AETitle("WETREAD")


@contextmanager
def archive_that_answers(
    status: int | Dataset,
    *,
    sop_classes: tuple[str, ...] = (CTImageStorage,),
    transfer_syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,),
    **settings: object,
) -> Iterator[tuple[PeerSettings, list[bytes]]]:
    """pynetdicom as an archive that gives `status` to every C-STORE, and the data sets that it got."""
    received: list[bytes] = []

    def on_store(event: evt.Event) -> int | Dataset:
        received.append(event.request.DataSet.getvalue())
        return status

    ae = AE("ARCHIVE")
    for name, value in settings.items():
        setattr(ae, name, value)
    for sop_class in sop_classes:
        ae.add_supported_context(sop_class, list(transfer_syntaxes))
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        yield peer(server.server_address[1]), received
    finally:
        server.shutdown()


@pytest.mark.peer
@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_the_archive_gets_the_data_set_of_the_file_to_the_last_bit(
    tmp_path: Path, transfer_syntax: str
) -> None:
    file = write_instance(tmp_path / "out", transfer_syntax=transfer_syntax)
    with storescp(tmp_path / "in") as archive:
        answer = send(file, peer(archive.port), calling=WETREAD, deadline_s=patient(20))

        assert answer.kind is AnswerKind.ACCEPTED
        assert [data_set_digest(path) for path in archive.received()] == [data_set_digest(file)]


@pytest.mark.peer
def test_orthanc_holds_the_bytes_that_were_sent_and_sending_again_makes_no_second_copy(
    tmp_path: Path,
) -> None:
    # Orthanc writes sequences with their lengths, whatever was sent: only then can the bytes be compared.
    file = write_instance(tmp_path / "out", change=_lengths_are_given)
    with orthanc(tmp_path / "orthanc") as archive:
        for _ in range(3):
            assert (
                send(file, peer(archive.dicom_port), calling=WETREAD, deadline_s=patient(20)).kind
                is AnswerKind.ACCEPTED
            )

        (instance,) = archive.instances()
        copy = tmp_path / "copy.dcm"
        copy.write_bytes(archive.file(instance))
        assert data_set_digest(copy) == data_set_digest(file)


@pytest.mark.peer
def test_compressed_files_are_sent_as_they_are(tmp_path: Path) -> None:
    file = write_instance(tmp_path / "out", transfer_syntax=ExplicitVRLittleEndian)
    compressed = write_instance(tmp_path / "out", transfer_syntax=JPEG2000Lossless, change=_encapsulate)
    with storescp(tmp_path / "in") as archive:
        answers = send_many([file, compressed], peer(archive.port), calling=WETREAD, deadline_s=patient(20))

        assert [answer.kind for answer in answers] == [AnswerKind.ACCEPTED] * 2
        assert {data_set_digest(path) for path in archive.received()} == {
            data_set_digest(file),
            data_set_digest(compressed),
        }


def _lengths_are_given(dataset: Dataset) -> None:
    dataset["AnatomicRegionSequence"].is_undefined_length = False


def _encapsulate(dataset: Dataset) -> None:
    from pydicom.encaps import encapsulate

    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(100)])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"


def test_a_large_data_set_arrives_whole_through_small_pdus(tmp_path: Path) -> None:
    file = write_instance(tmp_path, pixel_bytes=3_000_001 * 2)
    with archive_that_answers(0x0000, maximum_pdu_size=4096) as (archive, received):
        assert send(file, archive, calling=WETREAD, deadline_s=patient(30)).kind is AnswerKind.ACCEPTED

    (data_set,) = received
    assert file.read_bytes().endswith(data_set)
    assert len(data_set) > 6_000_000


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0x0000, AnswerKind.ACCEPTED),
        (0xB000, AnswerKind.WARNING),
        (0xB006, AnswerKind.WARNING),
        (0xB007, AnswerKind.WARNING),
        (0x0111, AnswerKind.WARNING),
        (0xA700, AnswerKind.RETRY),
        (0xA7FF, AnswerKind.RETRY),
        (0x0110, AnswerKind.RETRY),
        (0x0124, AnswerKind.RETRY),
        (0xA900, AnswerKind.REFUSED),
        (0xC000, AnswerKind.REFUSED),
        (0xCABC, AnswerKind.REFUSED),
        (0x0122, AnswerKind.REFUSED),
        (0x1234, AnswerKind.UNKNOWN),
    ],
)
def test_point_50_a_status_decides_what_happens_next(tmp_path: Path, status: int, kind: AnswerKind) -> None:
    with archive_that_answers(status) as (archive, _):
        answer = send(write_instance(tmp_path), archive, calling=WETREAD, deadline_s=patient(20))

    assert (answer.status, answer.kind) == (status, kind)
    assert f"0x{status:04X}" in answer.because


def test_the_comment_of_the_archive_is_passed_on(tmp_path: Path) -> None:
    refusal = Dataset()
    refusal.Status, refusal.ErrorComment = 0xC000, "no such patient"
    with archive_that_answers(refusal) as (archive, _):
        answer = send(write_instance(tmp_path), archive, calling=WETREAD, deadline_s=patient(20))

    assert answer.because == "status 0xC000: it cannot understand the data set (no such patient)"


@given(status=st.integers(0, 0xFFFF))
def test_every_status_has_exactly_one_meaning(status: int) -> None:
    answer = meaning(status)
    assert answer.status == status
    assert answer.kind in AnswerKind
    assert (answer.kind is AnswerKind.ACCEPTED) == (status == 0)


def test_no_row_of_the_status_table_is_hidden_behind_another() -> None:
    for index, (first, last, _, _) in enumerate(STATUS):
        earlier = STATUS[:index]
        assert any(
            not any(low <= status <= high for low, high, _, _ in earlier) for status in range(first, last + 1)
        )


def test_an_archive_that_does_not_know_the_kind_of_object_refuses_it_by_name(tmp_path: Path) -> None:
    file = write_instance(tmp_path, sop_class=LabelMapSegmentationStorage)
    with archive_that_answers(0x0000, sop_classes=(CTImageStorage, SegmentationStorage)) as (
        archive,
        received,
    ):
        answer = send(file, archive, calling=WETREAD, deadline_s=patient(20))

    assert answer.kind is AnswerKind.REFUSED
    assert answer.because == "it does not accept Label Map Segmentation Storage"
    assert received == []


def test_an_archive_that_does_not_take_the_transfer_syntax_gets_no_other_bytes(tmp_path: Path) -> None:
    file = write_instance(tmp_path, transfer_syntax=JPEG2000Lossless, change=_encapsulate)
    with archive_that_answers(0x0000) as (archive, received):
        answer = send(file, archive, calling=WETREAD, deadline_s=patient(20))

    assert answer.kind is AnswerKind.REFUSED
    assert (
        answer.because == "it does not accept CT Image Storage in JPEG 2000 Image Compression (Lossless Only)"
    )
    assert received == []


@pytest.mark.peer
def test_an_archive_that_takes_only_implicit_vr_gets_the_same_values_in_it(tmp_path: Path) -> None:
    file = write_instance(tmp_path)
    with storescp(tmp_path / "in", accepts=("+xi",)) as archive:
        for _ in range(2):
            assert (
                send(file, peer(archive.port), calling=WETREAD, deadline_s=patient(20)).kind
                is AnswerKind.ACCEPTED
            )
        (received,) = archive.received()
        there = pydicom.dcmread(received)
    here = pydicom.dcmread(file)
    assert there.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert there == here


def test_an_archive_that_takes_only_explicit_vr_gets_the_same_values_in_it(tmp_path: Path) -> None:
    file = write_instance(tmp_path, transfer_syntax=ImplicitVRLittleEndian)
    with archive_that_answers(0x0000) as (archive, received):
        assert send(file, archive, calling=WETREAD, deadline_s=patient(20)).kind is AnswerKind.ACCEPTED
    explicit = DicomBytesIO(received[0])
    assert read_dataset(explicit, is_implicit_VR=False, is_little_endian=True) == pydicom.dcmread(file)


def test_the_other_vr_is_not_offered_where_the_site_does_not_allow_it(tmp_path: Path) -> None:
    file = write_instance(tmp_path)
    with archive_that_answers(0x0000, transfer_syntaxes=(ImplicitVRLittleEndian,)) as (archive, received):
        strict = archive.model_copy(update={"transfer_syntaxes": (str(ExplicitVRLittleEndian),)})
        answer = send(file, strict, calling=WETREAD, deadline_s=patient(20))
        assert (answer.kind, answer.objects_to) == (AnswerKind.REFUSED, Objection.TRANSFER_SYNTAX)
        assert answer.because == "it does not accept CT Image Storage in Explicit VR Little Endian"
        assert received == []
        either = archive.model_copy(update={"transfer_syntaxes": (str(ImplicitVRLittleEndian),)})
        assert send(file, either, calling=WETREAD, deadline_s=patient(20)).kind is AnswerKind.ACCEPTED
    assert len(received) == 1


def test_a_result_written_with_the_other_vr_and_back_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    file = write_instance(tmp_path)
    implicit = written_as(file, Uid(ImplicitVRLittleEndian))
    assert implicit == written_as(file, Uid(ImplicitVRLittleEndian))
    again = pydicom.dcmread(BytesIO(implicit), force=True)
    assert again == pydicom.dcmread(file)


@pytest.mark.peer
def test_dcmtk_without_segmentations_takes_the_rest_and_names_what_it_refuses(tmp_path: Path) -> None:
    configuration = tmp_path / "storescp.cfg"
    configuration.write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LocalEndianExplicit\n"
        "TransferSyntax2 = LittleEndianImplicit\n"
        "[[PresentationContexts]]\n[NoSegmentations]\n"
        "PresentationContext1 = CTImageStorage\\Plain\nPresentationContext2 = VerificationSOPClass\\Plain\n"
        "[[Profiles]]\n[Default]\nPresentationContexts = NoSegmentations\n"
    )
    files = [
        write_instance(tmp_path, sop_class=sop_class) for sop_class in (SegmentationStorage, CTImageStorage)
    ]
    with storescp(tmp_path / "in", accepts=("-xf", str(configuration), "Default")) as archive:
        refused, taken = send_many(files, peer(archive.port), calling=WETREAD, deadline_s=patient(20))
    assert (refused.kind, refused.objects_to) == (AnswerKind.REFUSED, Objection.SOP_CLASS)
    assert refused.because == "it does not accept Segmentation Storage"
    assert taken.kind is AnswerKind.ACCEPTED


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"require_calling_aet": ["SOMEBODY"]}, "it does not know our AE title WETREAD"),
        ({"require_called_aet": True, "ae_title": "OTHER"}, "it does not answer to the AE title ARCHIVE"),
        ({"maximum_associations": 1}, "it has too many associations"),
    ],
)
def test_a_rejected_association_is_tried_again_and_says_what_to_mend(
    tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    file = write_instance(tmp_path)
    with archive_that_answers(0x0000, **settings) as (archive, received):
        other = AE("SOMEBODY")
        other.add_requested_context(CTImageStorage)
        first = other.associate(archive.host, archive.port)
        answer = send(file, archive, calling=WETREAD, deadline_s=patient(20))
        first.release()

    assert answer.kind is AnswerKind.RETRY
    assert answer.status is None
    assert words in answer.because
    assert received == []


def test_an_archive_that_is_switched_off_is_tried_again(tmp_path: Path) -> None:
    port = free_port()
    answer = send(write_instance(tmp_path), peer(port), calling=WETREAD, deadline_s=patient(20))

    assert answer.kind is AnswerKind.RETRY
    assert answer.because == f"no connection to 127.0.0.1 port {port}: connection refused"


def test_a_host_that_nobody_knows_is_tried_again(tmp_path: Path) -> None:
    nowhere = peer(104, host="archive.invalid")
    answer = send(write_instance(tmp_path), nowhere, calling=WETREAD, deadline_s=patient(20))

    assert answer.kind is AnswerKind.RETRY
    assert "archive.invalid is not known here" in answer.because


def test_one_association_carries_many_instances_in_their_order(tmp_path: Path) -> None:
    files = [write_instance(tmp_path) for _ in range(30)]
    strange = write_instance(tmp_path, sop_class=SegmentationStorage)
    with archive_that_answers(0x0000) as (archive, received):
        answers = send_many(
            [*files[:10], strange, *files[10:]], archive, calling=WETREAD, deadline_s=patient(30)
        )

    assert [index for index, answer in enumerate(answers) if answer.kind is AnswerKind.REFUSED] == [10]
    assert all(answer.kind is AnswerKind.ACCEPTED for answer in answers[:10] + answers[11:])
    assert all(file.read_bytes().endswith(data) for file, data in zip(files, received, strict=True))


def test_point_49_results_of_every_kind_need_few_of_the_128_contexts_of_an_association(
    tmp_path: Path,
) -> None:
    prefix = "1.2.840.10008.5.1.4.1.1."
    kinds = [prefix + kind for kind in ("66.4", "66.7", "30", "481.3", "11.1", "11.8", "7", "7.4", "104.1",
                                        "88.59", "88.22", "88.33", "88.34")]  # fmt: skip
    files = [write_instance(tmp_path / kind, sop_class=kind) for kind in kinds]
    with archive_that_answers(0x0000, sop_classes=tuple(kinds)) as (archive, received):
        answers = send_many(files, archive, calling=WETREAD, deadline_s=patient(30))
    assert {answer.kind for answer in answers} == {AnswerKind.ACCEPTED}
    assert len(received) == len(kinds)
    many = [write_instance(tmp_path / str(n), sop_class=f"{prefix}{n}") for n in range(65)]
    with pytest.raises(ValueError, match="cannot be proposed on one association"):
        send_many(many, archive, calling=WETREAD, deadline_s=patient(30))


def test_a_file_that_is_gone_or_no_dicom_is_our_own_trouble(tmp_path: Path) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("no image")
    for path in (tmp_path / "gone.dcm", text):
        with pytest.raises(ResultUnreadable, match=path.name):
            send(path, peer(free_port()), calling=WETREAD, deadline_s=patient(5))


@pytest.mark.peer
def test_an_echo_says_whether_the_peer_is_there(tmp_path: Path) -> None:
    with storescp(tmp_path / "in") as archive:
        there = echo(peer(archive.port), WETREAD)
    away = echo(peer(archive.port), WETREAD)

    assert there.reached
    assert there.because == "status 0x0000"
    assert not away.reached
    assert "connection refused" in away.because


def test_an_echo_to_a_peer_without_verification_says_so() -> None:
    with archive_that_answers(0x0000) as (archive, _):
        answer = echo(archive, WETREAD)

    assert not answer.reached
    assert answer.because == "it does not accept Verification"
