"""When is a study complete? Four numbers in, one verdict out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.closing import StudyFacts, verdict
from dicom_node.settings import ClosingSettings

PATIENCE = ClosingSettings(quiet_s=5.0, quiet_open_s=30.0, longest_s=900.0)


def facts(
    *, quiet_s: float, waited_s: float | None = None, open_associations: int = 0, instances: int = 300
) -> StudyFacts:
    waited_s = quiet_s + 20.0 if waited_s is None else waited_s
    return StudyFacts(
        now_s=1_000_000.0,
        first_arrival_s=1_000_000.0 - waited_s,
        opened_s=1_000_000.0 - waited_s,
        last_arrival_s=1_000_000.0 - quiet_s,
        open_associations=open_associations,
        instances=instances,
    )


def test_a_released_association_and_five_quiet_seconds_close_a_study() -> None:
    judged = verdict(facts(quiet_s=5.0), PATIENCE)

    assert judged.closed
    assert judged.because == "presumed complete: no association open and 5.0 s quiet after image 300"


def test_an_open_association_asks_for_more_patience() -> None:
    waiting = verdict(facts(quiet_s=29.9, open_associations=1), PATIENCE)
    closed = verdict(facts(quiet_s=30.0, open_associations=2), PATIENCE)

    assert not waiting.closed
    assert waiting.because == "waiting: 1 association still open and 29.9 s of 30.0 s quiet after image 300"
    assert closed.closed
    assert closed.because == "presumed complete: 2 associations still open and 30.0 s quiet after image 300"


def test_images_that_drip_for_ever_do_not_withhold_a_result() -> None:
    judged = verdict(facts(quiet_s=1.0, waited_s=900.0, open_associations=1), PATIENCE)

    assert judged.closed
    assert judged.witness == "longest wait"
    assert judged.because == (
        "overdue: open for 900 s, the longest wait is 900 s; 300 images so far, 1 association still open"
    )


def test_the_longest_wait_counts_from_when_the_study_last_opened() -> None:
    late = replace(facts(quiet_s=1.0, waited_s=2.0), first_arrival_s=0.0)

    assert not verdict(late, PATIENCE).closed


numbers = st.floats(0, 2000, allow_nan=False)
some_facts = st.builds(
    lambda quiet, more, associations, instances: facts(
        quiet_s=quiet, waited_s=quiet + more, open_associations=associations, instances=instances
    ),
    numbers, numbers, st.integers(0, 5), st.integers(1, 5000),
)  # fmt: skip
some_patience = st.builds(
    ClosingSettings, quiet_s=st.floats(0, 120), quiet_open_s=st.floats(0, 600), longest_s=st.floats(0.1, 4000)
)


@given(facts=some_facts, patience=some_patience, later_s=numbers)
def test_what_is_closed_stays_closed_while_nothing_arrives(
    facts: StudyFacts, patience: ClosingSettings, later_s: float
) -> None:
    if verdict(facts, patience).closed:
        assert verdict(replace(facts, now_s=facts.now_s + later_s), patience).closed


@given(facts=some_facts, patience=some_patience)
def test_every_study_is_closed_in_the_end(facts: StudyFacts, patience: ClosingSettings) -> None:
    assert verdict(replace(facts, now_s=facts.opened_s + patience.longest_s + 1), patience).closed


@given(facts=some_facts, patience=some_patience)
def test_nothing_closes_before_it_is_quiet_except_by_the_longest_wait(
    facts: StudyFacts, patience: ClosingSettings
) -> None:
    judged = verdict(facts, patience)
    if judged.closed and facts.quiet_s < patience.quiet_s:
        assert judged.witness == "longest wait"
        assert facts.waited_s >= patience.longest_s


@given(facts=some_facts, patience=some_patience)
def test_one_more_open_association_never_closes_a_study(facts: StudyFacts, patience: ClosingSettings) -> None:
    busier = replace(facts, open_associations=facts.open_associations + 1)
    assert verdict(facts, patience).closed or not verdict(busier, patience).closed


@given(facts=some_facts, patience=some_patience, back_s=numbers)
def test_a_clock_that_was_set_back_closes_nothing_early(
    facts: StudyFacts, patience: ClosingSettings, back_s: float
) -> None:
    if not verdict(facts, patience).closed:
        assert not verdict(replace(facts, now_s=facts.now_s - back_s), patience).closed


@given(arrivals=st.permutations([0.0, 0.4, 3.0, 3.1, 9.0]), now_s=st.floats(9.0, 60.0))
def test_the_order_in_which_instances_are_recorded_does_not_matter(
    arrivals: list[float], now_s: float
) -> None:
    def seen(times: list[float]) -> StudyFacts:
        return StudyFacts(
            now_s=now_s, first_arrival_s=min(times), opened_s=min(times), last_arrival_s=max(times),
            open_associations=0, instances=len(times),
        )  # fmt: skip

    assert verdict(seen(arrivals), PATIENCE) == verdict(seen(sorted(arrivals)), PATIENCE)


@pytest.mark.parametrize("closed", [True, False])
def test_a_verdict_always_says_why_with_its_numbers(closed: bool) -> None:
    judged = verdict(facts(quiet_s=7.0 if closed else 2.0), PATIENCE)

    assert judged.closed is closed
    assert "after image 300" in judged.because
