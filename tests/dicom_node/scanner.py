"""A scanner in a few lines: it sends what it is told to, however wrong, and waits for each answer."""

from collections.abc import Mapping
from contextlib import suppress

from dicom_node.peers import PeerSettings
from dicom_node.requestor import Deadline, ProposedContext, RequestedAssociation, associate
from dicom_node.upper_layer import command_set
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid

CT, EXPLICIT = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.1.2.1")


def send_all(port: int, instances: Mapping[str, bytes]) -> dict[str, int]:
    """The status that came back for each instance, on one association; those without an answer are absent."""
    answers: dict[str, int] = {}
    context = ProposedContext(CT, (EXPLICIT,))
    peer = PeerSettings(name="node", ae_title="WETREAD", host="127.0.0.1", port=port)
    with suppress(PeerError):
        with associate(
            peer, calling=AETitle("SCANNER"), contexts=[context], deadline=Deadline(10)
        ) as association:
            context_id, _ = association.answered(context)
            for number, (uid, data_set) in enumerate(instances.items(), start=1):
                answers.update(_store(association, context_id, number, uid, data_set))
    return answers


def _store(
    association: RequestedAssociation, context_id: int, number: int, uid: str, data_set: bytes
) -> dict[str, int]:
    command = command_set(
        {0x0002: CT, 0x0100: 0x0001, 0x0110: number, 0x0700: 0, 0x0800: 0x0000, 0x1000: Uid(uid)}
    )
    association.send(context_id, command, data_set)
    elements, _ = association.receive("waiting for the answer")
    return {uid: int.from_bytes(elements[0x0000, 0x0900], "little")}
