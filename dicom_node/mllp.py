"""
HL7 v2 over MLLP: one message, one acknowledgement, within one deadline.

A message is <VT>, its bytes, <FS><CR> (HL7 v2.5.1 appendix C §4.3); so is its answer, of which no more is
read than the settings allow. A connection carries one message: what interface engines do with a second one
on it differs, and a notification is not in a hurry.
"""

import socket
import ssl
from urllib.parse import urlsplit

from dicom_node.handshake import shake_hands
from dicom_node.reach import Deadline, PeerAway, PeerSilent, PeerUntrusted, words
from dicom_node.receivers import ReceiverSettings
from dicom_node.requestor import PeerGone
from dicom_node.upper_layer import PeerConfused
from dicom_node.web_session import tls_context

START, END = b"\x0b", b"\x1c\r"
_PIECE_BYTES = 1 << 14


def exchange(receiver: ReceiverSettings, message: bytes, deadline: Deadline) -> bytes:
    """Send `message`; the answer, without its frame.

    Raises `PeerAway`, `PeerSilent`, `PeerGone`, `PeerConfused`, `PeerUntrusted` and `SecretMissing`.
    """
    connection = _connected(receiver, deadline)
    try:
        for piece in range(0, len(frame := START + message + END), _PIECE_BYTES):
            connection.settimeout(deadline.left("sending to it"))
            connection.sendall(frame[piece : piece + _PIECE_BYTES])
        return _answer(connection, receiver.answer_bytes_max, deadline)
    except TimeoutError as error:
        deadline.left("waiting for its acknowledgement")
        raise PeerSilent("it said nothing more") from error
    except OSError as error:
        raise PeerGone(f"the connection broke: {words(error)}") from error
    finally:
        connection.close()


def _connected(receiver: ReceiverSettings, deadline: Deadline) -> socket.socket:
    parts = urlsplit(receiver.to.url)
    host, port = parts.hostname or "", parts.port or 0
    context = tls_context(receiver.to.web()) if receiver.to.secure else None
    try:
        within = min(receiver.connect_s, deadline.left("connecting to it"))
        connection = socket.create_connection((host, port), within)
    except TimeoutError as error:
        raise PeerAway(f"nothing answered within {receiver.connect_s:g} s") from error
    except OSError as error:
        raise PeerAway(f"no connection to {host} port {port}: {words(error)}") from error
    if context is None:
        return connection
    secured = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    try:
        shake_hands(secured, lambda: deadline.left("agreeing on TLS with it"))
    except ssl.SSLCertVerificationError as error:
        secured.close()
        raise PeerUntrusted(
            f"its certificate is not trusted here ({error.verify_message}): name the file of whoever signed"
            ' it as "ca_file"'
        ) from error
    except OSError as error:
        secured.close()
        raise PeerUntrusted(f"no TLS with {host} port {port}: {words(error)}") from error
    except PeerSilent:
        secured.close()
        raise
    return secured


def _answer(connection: socket.socket, most: int, deadline: Deadline) -> bytes:
    """What comes between <VT> and <FS>; whatever comes before <VT> is no answer."""
    got = bytearray()
    while END[:1] not in got:
        connection.settimeout(deadline.left("waiting for its acknowledgement"))
        piece = connection.recv(_PIECE_BYTES)
        if not piece:
            raise PeerGone(
                "it closed the connection in the middle of its acknowledgement"
                if got
                else "it closed the connection without an acknowledgement"
            )
        got += piece
        if len(got) > most:
            raise PeerConfused(f"its acknowledgement is longer than {most} bytes")
    if not got.startswith(START):
        raise PeerConfused("what it answers is no MLLP")
    return bytes(got[1 : got.index(END[:1])])
