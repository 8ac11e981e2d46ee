"""Questions are put soon enough to be quick and seldom enough to be gentle."""

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.closing import Counted
from dicom_node.count_schedule import Asked, due_s
from dicom_node.settings import ClosingSettings

PATIENCE = ClosingSettings()
AT_S = 1000.0


def asked(
    theirs: int | None,
    *,
    ours: int = 10,
    since_s: float = AT_S,
    questions: int = 1,
    alike: int = 1,
    failure: str = "",
) -> Asked:
    count = Counted(peer="PACS", ours=ours, theirs=theirs, asked_s=AT_S, since_s=since_s, failure=failure)
    return Asked(count=count, questions=questions, alike=alike)


def due(known: Asked | None, *, last_arrival_s: float = AT_S - 1, open_associations: int = 0) -> float:
    return due_s(known, last_arrival_s=last_arrival_s, open_associations=open_associations, patience=PATIENCE)


def test_the_first_question_waits_for_a_pause() -> None:
    assert due(None, last_arrival_s=AT_S) == AT_S + 0.3


def test_the_image_that_the_peer_counted_last_is_a_reason_to_ask_at_once() -> None:
    assert due(asked(10), last_arrival_s=AT_S + 60) == AT_S + 0.25


def test_an_answer_that_agrees_is_asked_again_only_while_an_association_is_open() -> None:
    assert due(asked(10)) == float("inf")
    assert due(asked(10), open_associations=1) == AT_S + 3.0


def test_a_peer_that_has_more_is_asked_less_and_less_often() -> None:
    waits = [due(asked(12, alike=alike, questions=alike)) - AT_S for alike in (1, 2, 3, 4, 5, 6, 50)]

    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_a_peer_that_is_away_is_left_alone_for_longer() -> None:
    waits = [due(asked(None, failure="away", alike=alike)) - AT_S for alike in (1, 2, 3, 4, 50)]

    assert waits == [5, 10, 20, 30, 30]


def test_images_that_drip_in_are_not_each_a_reason_to_ask() -> None:
    waits = [due(asked(4, questions=n), last_arrival_s=AT_S + 0.1) - AT_S for n in (1, 4, 9, 100)]

    assert waits == [0.75, 0.5 * 1.5**4, 5, 5]


some_questions = st.builds(
    asked,
    st.one_of(st.none(), st.integers(0, 20)),
    failure=st.sampled_from(["", "away"]),
    questions=st.integers(1, 100),
    alike=st.integers(1, 100),
)


@given(known=some_questions, arrived_s=st.floats(-60, 60), associations=st.integers(0, 2))
def test_no_peer_is_asked_about_one_study_more_than_four_times_a_second(
    known: Asked, arrived_s: float, associations: int
) -> None:
    assert due(known, last_arrival_s=AT_S + arrived_s, open_associations=associations) >= AT_S + 0.25
