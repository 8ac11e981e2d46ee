import pytest

from dicom_node.association import Refusal, Request, refusal
from dicom_node.peers import PeerSettings
from dicom_node.settings import NodeSettings
from dicom_node.spool import Room
from dicom_node.status import Rejection

SCANNER = PeerSettings(
    name="scanner", ae_title="CT1", host="10.1.0.5", port=104, send=False, addresses=("10.1.0.0/16",)
)
# It calls back to report about what it got, and has nothing else to say.
REPORTER = PeerSettings(name="reporter", ae_title="REPORTER", host="10.4.0.1", port=104, receive=False)
ARCHIVE = PeerSettings(
    name="archive", ae_title="ARCHIVE", host="10.2.0.1", port=104, receive=False, confirm="answer"
)


def judge(
    calling="CT1", called="WETREAD", address="10.1.0.5", *, open_associations=0, room=Room.OK, **changes
):
    answer = refusal(
        Request(calling=calling, called=called, address=address),
        settings=NodeSettings(**changes),
        peers=(SCANNER, ARCHIVE, REPORTER),
        open_associations=open_associations,
        room=room,
    )
    return answer.rejection if isinstance(answer, Refusal) else None


def test_whoever_calls_us_by_our_name_may_talk_by_default() -> None:
    assert judge("STRANGER") is None


@pytest.mark.parametrize("calling", ["", " ", "A\\B", "A\nB", "SEVENTEEN LETTERS"])
def test_a_caller_needs_a_name(calling: str) -> None:
    assert judge(calling) is Rejection.CALLING_AE_TITLE_UNKNOWN


def test_a_wrong_called_ae_title_is_refused_unless_the_site_does_not_mind() -> None:
    assert judge(called="OTHER") is Rejection.CALLED_AE_TITLE_UNKNOWN
    assert judge(called="OTHER", require_called_ae_title=False) is None


@pytest.mark.parametrize(
    ("calling", "address", "expected"),
    [
        ("CT1", "10.1.0.5", None),
        ("CT1", "::ffff:10.1.0.5", None),
        ("CT1", "10.9.0.5", Rejection.CALLING_AE_TITLE_UNKNOWN),
        ("CT2", "10.1.0.5", Rejection.CALLING_AE_TITLE_UNKNOWN),
        ("ARCHIVE", "10.2.0.1", Rejection.CALLING_AE_TITLE_UNKNOWN),
        ("REPORTER", "10.4.0.1", None),
    ],
)
def test_only_known_callers_from_their_own_addresses(calling, address, expected) -> None:
    assert judge(calling, address=address, callers="known") is expected


def test_a_title_with_addresses_is_its_owners_alone_whoever_else_may_call() -> None:
    assert judge("CT1", address="10.9.0.5", callers="any") is Rejection.CALLING_AE_TITLE_UNKNOWN
    assert judge("CT1", address="10.1.0.5", callers="any") is None
    assert judge("REPORTER", address="10.9.0.5", callers="any") is None, "no address is known of it"


def test_the_limit_of_associations_and_a_full_disk_are_refused_for_now() -> None:
    assert judge(open_associations=25) is Rejection.TOO_MANY_ASSOCIATIONS
    assert judge(room=Room.HARD) is Rejection.CONGESTION
    assert judge(room=Room.SOFT) is None


def test_rejections_are_the_codes_of_the_standard() -> None:
    assert Rejection.CONGESTION.parts == (2, 3, 1)
    assert Rejection.TOO_MANY_ASSOCIATIONS.parts == (2, 3, 2)
    assert Rejection.CALLING_AE_TITLE_UNKNOWN.parts == (1, 1, 3)
    assert Rejection.CALLED_AE_TITLE_UNKNOWN.parts == (1, 1, 7)
