"""What is said in storage commitment: Action Information and Event Information (PS3.4 §J.3.2, §J.3.3).

Pure functions between data sets as bytes and values. What a peer writes is never trusted: anything odd is a
`PeerConfused`, and a list has a limit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from dicom_node.upper_layer import PeerConfused
from ledger.identifiers import Uid
from ledger.promise import Reference

#: Storage Commitment Push Model SOP Class, and its one well-known instance (PS3.4 §J.3.1)
PUSH_MODEL = Uid("1.2.840.10008.1.20.1")
PUSH_MODEL_INSTANCE = Uid("1.2.840.10008.1.20.1.1")

REQUEST_COMMITMENT = 1  # Action Type ID (PS3.4 §J.3.2.1)
ALL_COMMITTED = 1  # Event Type ID: every instance is committed (PS3.4 §J.3.3.1)
SOME_FAILED = 2  # Event Type ID: at least one is not

#: Some 60,000 references: no study has more, and a peer must not fill our memory.
INFORMATION_BYTES_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """A request for commitment: Transaction UID (0008,1195) and Referenced SOP Sequence (0008,1199)."""

    transaction: Uid
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The answer: what is committed, and what is not with its Failure Reason (0008,1197), if it has one."""

    transaction: Uid
    committed: tuple[Reference, ...]
    failed: Mapping[Reference, int | None]

    @property
    def event_type(self) -> int:
        """The Event Type ID that goes with it."""
        return SOME_FAILED if self.failed else ALL_COMMITTED

    @property
    def words(self) -> str:
        """The outcome in words."""
        total = len(self.committed) + len(self.failed)
        return f"storage commitment {self.transaction} succeeded for {len(self.committed)} of {total}"


def encode_request(request: Request, transfer_syntax: str) -> bytes:
    """The Action Information of an N-ACTION."""
    information = Dataset()
    information.TransactionUID = str(request.transaction)
    information.ReferencedSOPSequence = [_item(one) for one in request.references]
    return _encoded(information, transfer_syntax)


def decode_request(data: bytes | memoryview, transfer_syntax: str) -> Request:
    """What an N-ACTION asks. Raises `PeerConfused`; also where it asks for nothing."""
    information = _decoded(data, transfer_syntax)
    references = tuple(_references(information, "ReferencedSOPSequence"))
    if not references:
        raise PeerConfused("its request for storage commitment names no instance")
    return Request(_uid(information, "TransactionUID"), references)


def encode_report(report: Report, transfer_syntax: str) -> bytes:
    """The Event Information of an N-EVENT-REPORT."""
    information = Dataset()
    information.TransactionUID = str(report.transaction)
    # Each sequence is there only where it has items (PS3.4 Table J.3-2).
    if report.committed:
        information.ReferencedSOPSequence = [_item(one) for one in report.committed]
    if report.failed:
        information.FailedSOPSequence = [_item(one, reason) for one, reason in report.failed.items()]
    return _encoded(information, transfer_syntax)


def decode_report(data: bytes | memoryview, transfer_syntax: str) -> Report:
    """What an N-EVENT-REPORT says. Its lists count, whatever its event type is. Raises `PeerConfused`."""
    information = _decoded(data, transfer_syntax)
    failed: dict[Reference, int | None] = {}
    for item, reference in zip(
        _sequence(information, "FailedSOPSequence"),
        _references(information, "FailedSOPSequence"),
        strict=True,
    ):
        reason = item.get("FailureReason")
        failed[reference] = reason if isinstance(reason, int) else None
    return Report(
        _uid(information, "TransactionUID"),
        tuple(_references(information, "ReferencedSOPSequence")),
        failed,
    )


def _item(reference: Reference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = str(reference.sop_class)
    item.ReferencedSOPInstanceUID = str(reference.sop_instance)
    if reason is not None:
        item.FailureReason = reason
    return item


def _encoded(information: Dataset, transfer_syntax: str) -> bytes:
    syntax = UID(transfer_syntax)
    data = encode(information, syntax.is_implicit_VR, syntax.is_little_endian)
    assert data is not None, "our own data set is well-formed"
    return data


def _decoded(data: bytes | memoryview, transfer_syntax: str) -> Dataset:
    if len(data) > INFORMATION_BYTES_MAX:
        raise PeerConfused(f"its list has {len(data)} bytes; at most {INFORMATION_BYTES_MAX} are taken")
    syntax = UID(transfer_syntax)
    try:
        dataset = decode(BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian)
        # pydicom reads sequences when they are first looked at: now, while errors are caught.
        for _ in dataset.iterall():
            pass
    except Exception as error:  # pydicom raises whatever the bytes make it stumble over.
        raise PeerConfused(f"its list cannot be read ({type(error).__name__})") from None
    return dataset


def _sequence(information: Dataset, keyword: str) -> Sequence[Dataset]:
    value = information.get(keyword) or ()
    if isinstance(value, str | bytes) or not all(isinstance(item, Dataset) for item in value):
        raise PeerConfused(f"its {keyword} is no sequence")
    return list(value)


def _references(information: Dataset, keyword: str) -> Iterable[Reference]:
    for item in _sequence(information, keyword):
        yield Reference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))


def _uid(dataset: Dataset, keyword: str) -> Uid:
    try:
        return Uid.parse(str(dataset.get(keyword) or ""))
    except ValueError:
        raise PeerConfused(f"its {keyword} is missing or not a UID") from None
