"""A scanner in a few lines: it sends what it is told to, however wrong, and waits for each answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import count

from pydicom.dataset import Dataset

from dicom_node.peers import PeerSettings
from dicom_node.reach import Deadline
from dicom_node.requestor import ProposedContext, RequestedAssociation, associate
from dicom_node.upper_layer import command_set
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.datasets import encoded
from tests.patience import patient

CT, EXPLICIT = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.1.2.1")


def send_all(port: int, instances: Mapping[str, bytes]) -> dict[str, int]:
    """The status that came back for each instance, on one association; those without an answer are absent."""
    answers: dict[str, int] = {}
    with suppress(PeerError), _association(port) as association:
        for number, (uid, data_set) in enumerate(instances.items(), start=1):
            association.send(1, _request(number, uid), data_set)
            elements, _ = association.receive("waiting for the answer")
            answers[uid] = int.from_bytes(elements[0x0000, 0x0900], "little")
    return answers


@contextmanager
def connected(port: int) -> Iterator[Callable[[Dataset], int]]:
    """An association that stays open until the block ends; what is given sends one instance: its status."""
    with _association(port) as association:
        sent = count(1)

        def send(ds: Dataset) -> int:
            association.send(1, _request(next(sent), str(ds.SOPInstanceUID)), encoded(ds))
            elements, _ = association.receive("waiting for the answer")
            return int.from_bytes(elements[0x0000, 0x0900], "little")

        yield send


@contextmanager
def busy(port: int, associations: int) -> Iterator[None]:
    """So many associations, each in the middle of an instance."""
    with ExitStack() as stack:
        stack.enter_context(suppress(PeerError))  # The node may be killed meanwhile.
        with suppress(PeerError):
            for number in range(associations):
                association = stack.enter_context(_association(port))
                association.send(1, _request(1, f"2.25.{number}"))  # The data set never comes.
        yield


def flood(port: int, slices: Iterable[Dataset]) -> None:
    """Send all without reading an answer, then read until the end: a `PeerError`, for it never ends well."""
    with _association(port) as association:
        for number, ds in enumerate(slices, start=1):
            association.send(1, _request(number, str(ds.SOPInstanceUID)), encoded(ds))
        while True:
            association.receive("waiting for the end")


def _association(port: int) -> AbstractContextManager[RequestedAssociation]:
    peer = PeerSettings(name="node", ae_title="WETREAD", host="127.0.0.1", port=port)
    context = ProposedContext(CT, (EXPLICIT,))
    return associate(peer, calling=AETitle("SCANNER"), contexts=[context], deadline=Deadline(patient(20)))


def _request(number: int, uid: str) -> bytes:
    """A C-STORE-RQ (PS3.7 §9.3.1.1); `uid` is sent as it is, for the parsing is left to the other side."""
    return command_set(
        {0x0002: CT, 0x0100: 0x0001, 0x0110: number, 0x0700: 0, 0x0800: 0x0000, 0x1000: Uid(uid)}
    )
