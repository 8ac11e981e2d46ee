"""Our bytes, read and written by pynetdicom; and bytes that nobody should have written."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from dicom_node.upper_layer import (
    ContextResult,
    PeerConfused,
    ProposedContext,
    associate_request,
    command_set,
    data_header,
    fragments_of,
    parse_associate_accept,
    parse_elements,
)
from ledger.identifiers import AETitle, Uid
from ledger.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

uids = st.lists(st.integers(0, 10**9), min_size=2, max_size=6).map(
    lambda parts: Uid(".".join(map(str, [1, *parts])))
)
titles = st.text("ABCXYZ0189_-", min_size=1, max_size=16).map(AETitle)


@given(
    calling=titles,
    called=titles,
    contexts=st.lists(st.tuples(uids, st.lists(uids, min_size=1, max_size=3)), min_size=1, max_size=128),
    maximum_length=st.integers(4096, 1 << 20),
)
def test_pynetdicom_reads_our_request_as_it_was_meant(
    calling: AETitle, called: AETitle, contexts: list[tuple[Uid, list[Uid]]], maximum_length: int
) -> None:
    proposed = [ProposedContext(abstract, tuple(syntaxes)) for abstract, syntaxes in contexts]
    request = A_ASSOCIATE_RQ()
    request.decode(
        associate_request(calling=calling, called=called, contexts=proposed, maximum_length=maximum_length)
    )

    assert (request.calling_ae_title, request.called_ae_title) == (str(calling), str(called))
    assert request.application_context_name == "1.2.840.10008.3.1.1.1"
    assert [
        (context.context_id, context.abstract_syntax, context.transfer_syntax)
        for context in request.presentation_context
    ] == [
        (2 * index + 1, str(abstract), [str(syntax) for syntax in syntaxes])
        for index, (abstract, syntaxes) in enumerate(contexts)
    ]
    assert request.user_information.maximum_length == maximum_length
    assert request.user_information.implementation_class_uid == str(IMPLEMENTATION_CLASS_UID)
    assert request.user_information.implementation_version_name == IMPLEMENTATION_VERSION_NAME


@given(
    results=st.lists(st.sampled_from(list(ContextResult)), min_size=1, max_size=40),
    syntax=st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
    maximum_length=st.sampled_from([0, 4096, 16382, 1 << 20]),
)
def test_an_acceptance_that_pynetdicom_wrote_is_read_as_it_was_meant(
    results: list[ContextResult], syntax: str, maximum_length: int
) -> None:
    body = _acceptance(results, syntax, maximum_length)[6:]
    accepted = parse_associate_accept(body)

    assert accepted.maximum_length == maximum_length
    assert [accepted.contexts[2 * index + 1].result for index in range(len(results))] == results
    for answer in accepted.contexts.values():
        assert (answer.transfer_syntax == Uid(syntax)) == (answer.result is ContextResult.ACCEPTED)


def _acceptance(results: list[ContextResult], syntax: str, maximum_length: int) -> bytes:
    contexts = []
    for index, result in enumerate(results):
        context = build_context("1.2.840.10008.5.1.4.1.1.2", syntax)
        context.context_id, context.result = 2 * index + 1, int(result)
        contexts.append(context)
    length = MaximumLengthNotification()
    length.maximum_length_received = maximum_length
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = "1.2.3"
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "A", "B"
    primitive.result, primitive.result_source = 0, 1
    primitive.presentation_context_definition_results_list = contexts
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


@given(sop_class=uids, sop_instance=uids, message_id=st.integers(1, 0xFFFF), data=st.binary(min_size=1))
def test_pynetdicom_reads_our_message_as_it_was_meant(
    sop_class: Uid, sop_instance: Uid, message_id: int, data: bytes
) -> None:
    command = command_set(
        {0x0002: sop_class, 0x0100: 1, 0x0110: message_id, 0x0700: 0, 0x0800: 1, 0x1000: sop_instance}
    )
    message = C_STORE_RQ()
    for part, is_command in ((command, True), (data, False)):
        pdu = P_DATA_TF()
        pdu.decode(data_header(1, len(part), command=is_command, last=True) + part)
        complete = message.decode_msg(pdu.to_primitive())
    request = message.message_to_primitive()

    assert complete
    assert (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID) == (
        str(sop_class),
        str(sop_instance),
    )
    assert request.MessageID == message_id
    assert request.DataSet.getvalue() == data
    # Command Group Length (0000,0000) counts the bytes that follow it (PS3.7 §E.1).
    assert struct.unpack_from("<HHII", command) == (0, 0, 4, len(command) - 12)


@given(data=st.binary(min_size=1, max_size=200), last=st.booleans(), command=st.booleans())
def test_a_fragment_is_read_as_it_was_written(data: bytes, last: bool, command: bool) -> None:
    pdu = data_header(3, len(data), command=command, last=last) + data
    assert list(fragments_of(pdu[6:])) == [(3, command, last, data)]


@given(body=st.binary(max_size=300))
def test_garbage_is_confusion_and_never_anything_else(body: bytes) -> None:
    for parse in (parse_associate_accept, parse_elements, lambda data: list(fragments_of(data))):
        try:
            parse(body)
        except PeerConfused:
            continue


@given(
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 10_000),
)
def test_a_damaged_acceptance_is_confusion_or_an_acceptance(flips: list[tuple[int, int]], cut: int) -> None:
    body = bytearray(_acceptance([ContextResult.ACCEPTED] * 3, ExplicitVRLittleEndian, 16382)[6:])
    for position, value in flips:
        body[position % len(body)] = value
    try:
        accepted = parse_associate_accept(bytes(body[: len(body) - cut % 8]))
    except PeerConfused:
        return
    for answer in accepted.contexts.values():
        assert (answer.result is ContextResult.ACCEPTED) == (answer.transfer_syntax is not None)


@pytest.mark.parametrize("maximum_length", [1, 6, 7])
def test_a_peer_that_takes_no_bytes_at_all_is_confused(maximum_length: int) -> None:
    body = _acceptance([ContextResult.ACCEPTED], ExplicitVRLittleEndian, 16382)[6:]
    with pytest.raises(PeerConfused, match="which is none"):
        parse_associate_accept(body.replace(struct.pack(">I", 16382), struct.pack(">I", maximum_length)))
