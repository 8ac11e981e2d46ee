"""Does the archive have it? C-FIND by SOP Instance UID: the proof for peers with `confirm = "find"`.

An answer of Success says that the instance was taken. Some archives file it later, or lose it with the next
restart; being found by the archive's own query is the proof that a reader will find it too.
"""

from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN, PeerSettings
from dicom_node.requestor import Deadline, associate
from dicom_node.send import response_status
from dicom_node.upper_layer import (
    ContextResult,
    ProposedContext,
    command_set,
    elements_of_group,
    parse_elements,
)
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid

STUDY_ROOT_FIND = Uid("1.2.840.10008.5.1.4.1.2.2.1")

_SUCCESS = 0x0000
_PENDING = frozenset({0xFF00, 0xFF01})  # FF01: some optional key was not supported (PS3.4 §C.4.1.1.4)
_MESSAGE_ID = 1


class QueryRefused(PeerError):
    """The archive answers no C-FIND, or not this one: whether it has the instance stays unknown."""


def find_instance(
    peer: PeerSettings, *, calling: AETitle, study: Uid, series: Uid, sop_instance: Uid, deadline_s: float
) -> bool:
    """Whether `peer` finds the instance where it belongs: in that series of that study.

    Raises `QueryRefused`, or another `PeerError` where the peer is away or silent: then nothing is known.
    """
    # Implicit VR little endian is the one transfer syntax that every archive has to accept (PS3.5 §10.1).
    context = ProposedContext(STUDY_ROOT_FIND, (Uid(IMPLICIT_LITTLE_ENDIAN),))
    # All unique keys down to the level asked about: archives may refuse less (PS3.4 §C.4.1.3.1.1).
    identifier = elements_of_group(0x0008, {0x0018: sop_instance, 0x0052: "IMAGE"}) + elements_of_group(
        0x0020, {0x000D: study, 0x000E: series}
    )
    request: dict[int, Uid | int | str] = {
        0x0002: STUDY_ROOT_FIND,
        0x0100: 0x0020,  # C-FIND-RQ
        0x0110: _MESSAGE_ID,
        0x0700: 0x0000,
        0x0800: 0x0001,
    }
    found = False
    with associate(peer, calling=calling, contexts=[context], deadline=Deadline(deadline_s)) as association:
        context_id, answer = association.answered(context)
        if answer.result is not ContextResult.ACCEPTED:
            raise QueryRefused(
                f'{peer.name} does not answer C-FIND at study root: set confirm = "answer" for this peer'
            )
        association.send(context_id, command_set(request), identifier)
        while True:
            command, data = association.receive("waiting for its answer to C-FIND")
            status, comment = response_status(command, expected=0x8020, asked=_MESSAGE_ID)
            if status == _SUCCESS:
                return found
            if status not in _PENDING:
                words = f" ({comment})" if comment else ""
                raise QueryRefused(f"{peer.name} answered C-FIND with status 0x{status:04X}{words}")
            # Compared here: an archive that ignores a key answers with whatever it has.
            found = found or _uid_of(data) == sop_instance


def _uid_of(identifier: bytes) -> Uid | None:
    """SOP Instance UID (0008,0018) of one match, if it has one."""
    try:
        return Uid.parse(parse_elements(identifier).get((0x0008, 0x0018), b"").decode("ascii"))
    except ValueError:
        return None
