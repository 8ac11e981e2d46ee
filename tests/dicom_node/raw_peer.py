"""A peer made of bytes: it can stop, lie or babble in the middle of anything."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from dicom_node.peers import PeerSettings
from tests.patience import patient

Behaviour = Callable[[socket.socket, threading.Event], None]


@contextmanager
def raw_peer(behave: Behaviour, **settings: object) -> Iterator[PeerSettings]:
    """A listening peer that does `behave(connection, over)` with every connection, until the block ends."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            behave(connection, over)
            over.wait(30)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.settimeout(patient(30))
                thread = threading.Thread(target=serve, args=(connection,), daemon=True)
                thread.start()
                threads.append(thread)

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield peer(listener.getsockname()[1], **settings)
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (acceptor, *threads):
            thread.join(patient(5))


def peer(port: int, **settings: object) -> PeerSettings:
    """The settings of a peer on loopback."""
    return PeerSettings.model_validate(
        {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port, **settings}
    )


def read_pdu(connection: socket.socket) -> bytes:
    """One whole PDU, header included."""
    header = _exactly(connection, 6)
    return header + _exactly(connection, int.from_bytes(header[2:6], "big"))


def read_message(connection: socket.socket) -> None:
    """Command and data set of one message."""
    for last in (0x03, 0x02):
        while read_pdu(connection)[11] != last:
            pass


def acceptance(sop_class: str, transfer_syntax: str, *, maximum_length: int = 16382) -> bytes:
    """An A-ASSOCIATE-AC, written by pynetdicom, that accepts the one context that was proposed."""
    requested = AE()
    requested.add_requested_context(sop_class, transfer_syntax)
    context = requested.requested_contexts[0]
    context.context_id, context.result = 1, 0
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "WETREAD", "ARCHIVE"
    primitive.result, primitive.result_source = 0, 1
    primitive.presentation_context_definition_results_list = [context]
    length = MaximumLengthNotification()
    length.maximum_length_received = maximum_length
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = "1.2.3.4"
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(primitive)
    return pdu.encode()


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise OSError("closed")
        data += part
    return data
