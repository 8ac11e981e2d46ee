"""
What can be done about a thing: asked of the tables of states, so that no button exists that would be refused.

Pure. Who may do it is another question; what a table cannot know (images deleted meanwhile, a later job) is
said here by a parameter, and by the ledger when it comes to it.
"""

from collections.abc import Mapping
from enum import StrEnum

from ledger import delivery, job, study
from ledger.delivery import DeliveryEvent, DeliveryRecord
from ledger.job import JobEvent, JobRecord, JobState, Priority
from ledger.result import Role
from ledger.study import StudyEvent, StudyRecord, StudyState
from ledger.transition import states_before


class Action(StrEnum):
    """What an operator can do."""

    FORCE_COMPLETE = "force complete"  #: The node judges the study complete now.
    RUN_MODEL = "run model"  #: A model on a series, whatever the rules say.
    RUN_AGAIN = "run again"
    CANCEL = "cancel"
    MAKE_STAT = "make STAT"
    MAKE_ROUTINE = "make routine"
    TO_FRONT = "to the front"
    DELIVER_AGAIN = "deliver again"
    DELIVER_ELSEWHERE = "deliver to another peer"
    RELEASE = "release"  #: from quarantine, if the checks pass now
    DISCARD = "delete"


#: Those that take something away, or stop something: they are asked twice.
GRAVE = frozenset({Action.CANCEL, Action.DISCARD, Action.FORCE_COMPLETE})

_STUDY: Mapping[Action, frozenset[StudyState]] = {
    Action.FORCE_COMPLETE: states_before(study.TRANSITIONS, StudyEvent.COMPLETED),
    Action.RUN_MODEL: frozenset({StudyState.CLOSED}),
}
_JOB: Mapping[Action, frozenset[JobState]] = {
    # A job that is done stays done: another one does the same again.
    Action.RUN_AGAIN: states_before(job.TRANSITIONS, JobEvent.RESUBMITTED) | {JobState.DONE},
    Action.CANCEL: states_before(job.TRANSITIONS, JobEvent.WITHDRAWN),
    Action.TO_FRONT: frozenset({JobState.QUEUED}),
    Action.DELIVER_ELSEWHERE: frozenset({JobState.DONE}),
}
_DELIVER_AGAIN = states_before(delivery.TRANSITIONS, DeliveryEvent.RESUBMITTED)


def study_actions(
    of: StudyRecord, *, queued: bool = False, asked: bool = False, series: bool = True
) -> tuple[Action, ...]:
    """What can be done about a study. `queued`: a routine job of it waits; `asked`: somebody has asked the
    node to close it; `series`: it holds images that are not our own results.
    """
    found = [action for action, states in _STUDY.items() if of.state in states]
    if asked:
        found.remove(Action.FORCE_COMPLETE)
    if not series and Action.RUN_MODEL in found:
        found.remove(Action.RUN_MODEL)
    if of.stat:
        found.append(Action.MAKE_ROUTINE)
    elif of.state is StudyState.OPEN or queued:
        found.append(Action.MAKE_STAT)
    return tuple(found)


def job_actions(
    of: JobRecord, *, overtaken: bool = False, images: bool = True, results: bool = True
) -> tuple[Action, ...]:
    """What can be done about a job. `overtaken`: a later one took its place; `images`: its study still has
    them; `results`: it made some, and they are still here.
    """
    found = [action for action, states in _JOB.items() if of.state in states]
    again = images and not overtaken
    if not again and Action.RUN_AGAIN in found:
        found.remove(Action.RUN_AGAIN)
    if not results and Action.DELIVER_ELSEWHERE in found:
        found.remove(Action.DELIVER_ELSEWHERE)
    if of.state is JobState.QUEUED:
        found.append(Action.MAKE_STAT if of.priority is Priority.ROUTINE else Action.MAKE_ROUTINE)
    return tuple(found)


def delivery_actions(of: DeliveryRecord, *, held: bool = True, named: bool = False) -> tuple[Action, ...]:
    """What can be done about a delivery. `held`: its file is still here; `named`: a rejection note has told
    its peer that it is out of date.
    """
    if of.state not in _DELIVER_AGAIN or not held or named or of.result.role is Role.REJECTION_NOTE:
        return ()
    return (Action.DELIVER_AGAIN,)


def quarantine_actions(*, asked: bool) -> tuple[Action, ...]:
    """What can be done about a file in quarantine; `asked`: somebody has decided, and the node has not done
    it yet.
    """
    return () if asked else (Action.RELEASE, Action.DISCARD)
