"""The tables of transitions, as tables."""

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import commitment, delivery, job, notification, promise, study, workitem
from ledger.transition import IllegalTransition, advance, mermaid, states_before

MACHINES = [
    pytest.param(study.TRANSITIONS, study.StudyState, study.StudyEvent, study.StudyState.OPEN, id="study"),
    pytest.param(job.TRANSITIONS, job.JobState, job.JobEvent, job.JobState.QUEUED, id="job"),
    pytest.param(
        delivery.TRANSITIONS,
        delivery.DeliveryState,
        delivery.DeliveryEvent,
        delivery.DeliveryState.WAITING,
        id="delivery",
    ),
    pytest.param(
        commitment.TRANSITIONS,
        commitment.CommitmentState,
        commitment.CommitmentEvent,
        commitment.CommitmentState.OPENED,
        id="commitment",
    ),
    pytest.param(
        notification.TRANSITIONS,
        notification.NotificationState,
        notification.NotificationEvent,
        notification.NotificationState.WAITING,
        id="notification",
    ),
    pytest.param(
        promise.TRANSITIONS,
        promise.PromiseState,
        promise.PromiseEvent,
        promise.PromiseState.ASKED,
        id="promise",
    ),
    pytest.param(
        workitem.TRANSITIONS,
        workitem.WorkitemState,
        workitem.WorkitemEvent,
        workitem.WorkitemState.LISTED,
        id="workitem",
    ),
]


@pytest.mark.parametrize(("table", "states", "events", "initial"), MACHINES)
class TestEveryMachine:
    @given(data=st.data())
    def test_no_sequence_of_events_leaves_the_table(self, table, states, events, initial, data) -> None:
        state = initial
        for event in data.draw(st.lists(st.sampled_from(list(events)), max_size=30)):
            if (state, event) in table:
                state = advance(table, "thing", state, event)
                assert state in states
            else:
                with pytest.raises(IllegalTransition, match=f"a {state} thing cannot be"):
                    advance(table, "thing", state, event)

    def test_every_state_is_reached(self, table, states, events, initial) -> None:
        reached: set[StrEnum] = {initial}
        while True:
            more = {after for (before, _), after in table.items() if before in reached} - reached
            if not more:
                break
            reached |= more
        assert reached == set(states)

    def test_every_event_has_a_place(self, table, states, events, initial) -> None:
        for event in events:
            before = states_before(table, event)
            assert before
            assert before == {state for state in states if (state, event) in table}

    def test_the_diagram_shows_every_row(self, table, states, events, initial) -> None:
        drawn = mermaid(table, initial)
        assert f"[*] --> {initial}" in drawn
        for (before, event), after in table.items():
            assert f"{before} --> {after}: {event}" in drawn


def test_nothing_follows_a_finished_job() -> None:
    assert not [event for state, event in job.TRANSITIONS if state is job.JobState.DONE]


def test_a_parked_or_cancelled_job_can_be_asked_for_again() -> None:
    assert states_before(job.TRANSITIONS, job.JobEvent.RESUBMITTED) == {
        job.JobState.PARKED,
        job.JobState.CANCELLED,
    }
