"""What is said in storage commitment: Action Information and Event Information (PS3.4 §J.3.2, §J.3.3).

Pure functions between data sets as bytes and values. What a peer writes is never trusted: anything odd is a
`PeerConfused`, and a list has a limit. It is read item by item, and no further than to the first that names
no instance: pydicom would work for a minute on 7 MiB of empty items.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import encode

from dicom_node.headers import Headers, HeaderUnreadable, UnsafeDataSet, read_items
from dicom_node.limits import DataSetSettings
from dicom_node.upper_layer import PeerConfused
from ledger.identifiers import Uid
from ledger.promise import Reference

#: Storage Commitment Push Model SOP Class, and its one well-known instance (PS3.4 §J.3.1)
PUSH_MODEL = Uid("1.2.840.10008.1.20.1")
PUSH_MODEL_INSTANCE = Uid("1.2.840.10008.1.20.1.1")

REQUEST_COMMITMENT = 1  # Action Type ID (PS3.4 §J.3.2.1)
ALL_COMMITTED = 1  # Event Type ID: every instance is committed (PS3.4 §J.3.3.1)
SOME_FAILED = 2  # Event Type ID: at least one is not

#: No study has more, and a peer must not fill our memory.
REFERENCES_MAX = 60_000
INFORMATION_BYTES_MAX = 8 << 20

_FAILED = "FailedSOPSequence"
_READ = frozenset(
    {"TransactionUID", "ReferencedSOPSequence", _FAILED}
    | {"ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "FailureReason"}
)
_ANY_SITE = DataSetSettings()


class ListTooLarge(PeerConfused):
    """A list has more instances or bytes than are read, or is of a shape beyond `[data_set]`."""


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


def decode_request(
    data: bytes | memoryview, transfer_syntax: str, shape: DataSetSettings = _ANY_SITE
) -> Request:
    """What an N-ACTION asks. Raises `PeerConfused`; also where it asks for nothing."""
    listed, _, said = _decoded(data, transfer_syntax, shape)
    if not listed:
        raise PeerConfused("its request for storage commitment names no instance")
    return Request(_uid(said, "TransactionUID"), tuple(listed))


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


def decode_report(
    data: bytes | memoryview, transfer_syntax: str, shape: DataSetSettings = _ANY_SITE
) -> Report:
    """What an N-EVENT-REPORT says. Its lists count, whatever its event type is. Raises `PeerConfused`."""
    listed, failed, said = _decoded(data, transfer_syntax, shape)
    return Report(_uid(said, "TransactionUID"), tuple(listed), failed)


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


def _decoded(
    data: bytes | memoryview, transfer_syntax: str, shape: DataSetSettings
) -> tuple[list[Reference], dict[Reference, int | None], Headers]:
    """Referenced SOP Sequence, Failed SOP Sequence with its reasons, and what stands beside them."""
    if len(data) > INFORMATION_BYTES_MAX:
        raise ListTooLarge(f"its list has {len(data)} bytes; at most {INFORMATION_BYTES_MAX} are taken")
    listed: list[Reference] = []
    failed: dict[Reference, int | None] = {}
    said: Headers = {}
    try:
        for sequence, said in read_items(data, Uid(transfer_syntax), _READ, shape=shape):
            if not sequence:
                break
            reference = Reference(_uid(said, "ReferencedSOPClassUID"), _uid(said, "ReferencedSOPInstanceUID"))
            if len(listed) + len(failed) == REFERENCES_MAX:
                raise ListTooLarge(f"its list names more than {REFERENCES_MAX} instances")
            if sequence == _FAILED:
                reason = said.get("FailureReason", "")
                failed[reference] = int(reason) if reason.isdecimal() and len(reason) <= 5 else None
            else:
                listed.append(reference)
    except UnsafeDataSet as error:
        raise ListTooLarge(f"its list is not read: {error}") from None
    except HeaderUnreadable as error:
        raise PeerConfused(f"its list cannot be read: {error}") from None
    return listed, failed, said


def _uid(said: Headers, keyword: str) -> Uid:
    try:
        return Uid.parse(said.get(keyword, ""))
    except ValueError:
        raise PeerConfused(f"its {keyword} is missing or not a UID") from None
