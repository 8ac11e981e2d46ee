"""What operators do with the queue and with studies, each as one call that says in a sentence what it did.

The command line and the pages call the same; who may is decided before.
"""

from collections.abc import Sequence

from console.asked import jobs_by_hand, look_at_destination
from console.settings import Site
from ledger.audit import Actor
from ledger.delivery import TRANSITIONS, DeliveryEvent
from ledger.errors import WetreadError
from ledger.identifiers import DeliveryId, JobId, SeriesId, StudyId
from ledger.job import JobState, Priority
from ledger.pause import PauseKind
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition, states_before
from ledger.wish import WishKind

AGAIN = states_before(TRANSITIONS, DeliveryEvent.RESUBMITTED)


class NothingToSend(WetreadError):
    """No delivery of the job can be sent again."""


def pause(ledger: Ledger, kind: PauseKind, name: str, *, by: Actor, because: str) -> str:
    """Hold it still."""
    if not ledger.pause(kind, name, by=by, because=because):
        return f"{kind} {name} is paused already."
    return {
        PauseKind.MODEL: f"The model {name} is paused: its jobs stay queued; what runs runs to its end.",
        PauseKind.WORKER: f"The worker {name} is paused: it finishes what it has, and takes no other job.",
        PauseKind.PEER: f"{name} is paused: what goes there waits here, in its order.",
    }[kind]


def resume(ledger: Ledger, kind: PauseKind, name: str, *, by: Actor, because: str) -> str:
    """Let it go on."""
    if not ledger.resume(kind, name, by=by, because=because):
        return f"{kind} {name} is not paused."
    return f"{kind} {name} goes on."


def move(ledger: Ledger, job: int, after: int | None, *, by: Actor, because: str = "") -> str:
    """To the front of its lane, or right behind another job."""
    ledger.place_job(JobId(job), after=None if after is None else JobId(after), by=by, because=because)
    if after is None:
        return f"Job {job} is the next that a worker takes."
    return f"Job {job} comes right after job {after}."


def set_job_priority(ledger: Ledger, job: int, priority: Priority, *, by: Actor, because: str) -> str:
    """Into the other lane."""
    ledger.set_priority(JobId(job), priority, by=by, because=because)
    return f"Job {job} waits in the {priority} lane."


def set_study_priority(ledger: Ledger, study: int, priority: Priority, *, by: Actor, because: str) -> str:
    """All that waits of a study, and all that comes of it."""
    changed = ledger.set_study_priority(StudyId(study), priority, by=by, because=because)
    jobs = f"{len(changed)} of its jobs changed lanes" if changed else "none of its jobs waits"
    later = "are stat, too" if priority is Priority.STAT else "wait as their rule says"
    return f"The study is {priority}: {jobs}; those that are opened later {later}."


def close(ledger: Ledger, study: int, *, by: Actor, because: str) -> str:
    """Have the node judge an open study complete now."""
    ledger.wish_close(StudyId(study), by=by, because=because)
    return "The node closes the study now, and routes what is here; images that come later open it again."


def run_again(ledger: Ledger, job: int, *, by: Actor, because: str) -> str:
    """A parked or cancelled job goes on; of one that is done there is a new one."""
    if ledger.job(JobId(job)).state is not JobState.DONE:
        ledger.retry_job(JobId(job), because, by=by)
        return f"Job {job} is queued again; its attempts start from zero."
    opened = ledger.run_again(JobId(job), by=by, because=because)
    return f"Job {opened} does the same again; its results will take the place of those of job {job}."


def run_model(
    site: Site,
    ledger: Ledger,
    study: int,
    series: int,
    *,
    model: str,
    destinations: Sequence[str],
    by: Actor,
    because: str,
) -> str:
    """A model on a series, whatever the rules say."""
    jobs = jobs_by_hand(
        site, ledger, StudyId(study), SeriesId(series), model=model, destinations=destinations
    )
    opened = ledger.ask_jobs(StudyId(study), jobs, by=by, because=because)
    what = f"Job {opened[0]} is" if len(opened) == 1 else f"Jobs {opened[0]} to {opened[-1]} are"
    where = f"its results go to {', '.join(destinations)}" if destinations else "its results stay here"
    return f"{what} queued: {model}; {where}."


def cancel(ledger: Ledger, job: int, *, by: Actor, because: str) -> str:
    """Withdraw a job that is not done."""
    ledger.cancel_job(JobId(job), because, by=by)
    return f"Job {job} is cancelled; it can be run again."


def deliver_again(ledger: Ledger, delivery: int, *, by: Actor, because: str) -> str:
    """One result to its peer once more."""
    ledger.retry_delivery(DeliveryId(delivery), because, by=by)
    return "It is sent again, the same bytes."


def deliver_all_again(ledger: Ledger, job: int, *, by: Actor, because: str) -> str:
    """Everything of a job that was settled, to whom it went. Raises `NothingToSend`, and what forbids the
    first of them where all are forbidden.
    """
    settled = [one for one in ledger.deliveries_of(JobId(job)) if one.state in AGAIN]
    sent, refused = [], None
    for one in settled:
        try:
            ledger.retry_delivery(one.id, because, by=by)
            sent.append(one)
        except IllegalTransition as error:
            refused = refused or error
    if not sent:
        raise refused or NothingToSend(f"nothing of job {job} was delivered, so nothing can be sent again")
    peers = ", ".join(sorted({one.peer for one in sent}))
    return f"{len(sent)} of {len(settled)} deliveries of job {job} are sent again, to {peers}."


def deliver_to(
    site: Site, ledger: Ledger, job: int, peer: str, *, like: str | None, by: Actor, because: str
) -> str:
    """What a job made to somebody else as well."""
    look_at_destination(site, peer)
    opened = ledger.deliver_to(JobId(job), peer, like=like, by=by, because=because)
    return f"{len(opened)} results of job {job} are on their way to {peer}."


def release(ledger: Ledger, number: int, *, by: Actor, because: str) -> str:
    """Take in what lies in quarantine."""
    ledger.wish_quarantined(number, WishKind.TAKE_IN, by=by, because=because)
    return "The node looks at the file again, and takes it in if its checks pass now."


def discard(ledger: Ledger, number: int, *, by: Actor, because: str) -> str:
    """Delete what lies in quarantine."""
    ledger.wish_quarantined(number, WishKind.DISCARD, by=by, because=because)
    return "The node deletes the file."
