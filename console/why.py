"""Why is there no result? One sentence: pure, from what the ledger holds about one study.

The first thing that is in the way is the answer; everything behind it only follows from it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

from ledger.completeness import CountRecord, Lack
from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.identifiers import JobId
from ledger.job import JobRecord, JobState, Outcome
from ledger.notification import NotificationRecord, NotificationState
from ledger.pause import Pause, PauseKind, pause_of
from ledger.result import Role
from ledger.study import Completeness, RoutingNote, StudyRecord, StudyState


def why(
    study: StudyRecord,
    notes: Sequence[RoutingNote],
    jobs: Sequence[JobRecord],
    deliveries: Mapping[JobId, Sequence[DeliveryRecord]],
    still_to_come: str = "",
    *,
    notifications: Sequence[NotificationRecord] = (),
    pauses: Sequence[Pause] = (),
) -> str:
    """One or two sentences about where the study stands. `jobs` oldest first; those that were overtaken do
    not count. `still_to_come` is what peers say of an open study, in the words of `awaited`; `pauses` are
    what operators hold still.
    """
    overtaken = {job.supersedes for job in jobs}
    everything = [job for job in jobs if job.id not in overtaken]
    # What somebody waits for comes first: a shadow run is for those who compare versions.
    current = [job for job in everything if not job.shadow]
    shadows = [job for job in everything if job.shadow]
    if study.state is StudyState.OPEN:
        return _about_open(study, current, deliveries, still_to_come or "more images may come", pauses)
    if not current:
        return _nothing_was_asked(study, notes)
    asides = [*_about_missing(study), *map(_about_shadow, shadows), *_about_untold(notifications)]
    return " ".join([_about_jobs(current, deliveries, pauses), *asides])


def awaited(counts: Sequence[CountRecord], lacking: Sequence[Lack]) -> str:
    """What is still to come of an open study, as far as a peer knows; empty where none does."""
    if lacking:
        lack = lacking[0]
        return f"{lack.theirs - lack.ours} of {lack.theirs} images are still to come, says {lack.peer}"
    away = next((one for one in counts if one.failure), None)
    if away is None:
        return ""
    return f"more images may come; {away.peer} does not say how many ({away.failure.rstrip('.')})"


def _about_open(
    study: StudyRecord,
    jobs: Sequence[JobRecord],
    deliveries: Mapping[JobId, Sequence[DeliveryRecord]],
    still_to_come: str,
    pauses: Sequence[Pause],
) -> str:
    """Series may have been routed by themselves; jobs from before the study opened again do not count."""
    early = [job for job in jobs if job.created_at >= study.opened_at]
    if not early:
        return f"No result yet: the study is still open, {still_to_come}."
    return f"{_about_jobs(early, deliveries, pauses)} The study is still open, {still_to_come}."


def _about_shadow(job: JobRecord) -> str:
    """A version that runs beside the active one."""
    because = f": {job.because.rstrip('.')}" if job.because else ""
    how = {
        JobState.PARKED: f"is parked{because}",
        JobState.RUNNING: "is running",
        JobState.QUEUED: "waits for a worker",
        JobState.CANCELLED: f"was cancelled{because}",
        JobState.DONE: "is done",
    }[job.state]
    return f"Beside it the shadow run of {job.model} (job {job.id}) {how}; its results stay here."


def _about_untold(notifications: Sequence[NotificationRecord]) -> Iterator[str]:
    """Who wanted to be told, and was not."""
    for receiver in dict.fromkeys(one.receiver for one in notifications):
        last = next(one for one in reversed(notifications) if one.receiver == receiver)
        because = f": {last.because.rstrip('.')}" if last.because else ""
        if last.state is NotificationState.PARKED:
            yield f"{receiver} will not be told{because}. `wetread retry {last.job_id}`."
        elif last.state is NotificationState.WAITING and last.attempts:
            yield f"{receiver} is not told yet{because}."


def _about_missing(study: StudyRecord) -> list[str]:
    """Whoever reads the result has to know what it was made on."""
    match study.closed_as:
        case Completeness.PARTIAL:
            return [f"Made on an incomplete study: {study.closed_because}."]
        case Completeness.OVERDUE:
            return [f"Perhaps made on an incomplete study: {study.closed_because}."]
        case _:
            return []


def _about_jobs(
    current: Sequence[JobRecord],
    deliveries: Mapping[JobId, Sequence[DeliveryRecord]],
    pauses: Sequence[Pause],
) -> str:
    for state in (JobState.PARKED, JobState.RUNNING, JobState.QUEUED, JobState.CANCELLED):
        if job := next((job for job in current if job.state is state), None):
            return _about_job(job, pause_of(pauses, PauseKind.MODEL, job.model))
    # Two rules may ask the same model, and come to the same end.
    return " ".join(dict.fromkeys(_about_done(job, deliveries.get(job.id, ()), pauses) for job in current))


def _nothing_was_asked(study: StudyRecord, notes: Sequence[RoutingNote]) -> str:
    reasons = list(dict.fromkeys(note.because for note in notes if not note.taken))
    if not reasons:
        return f"No result: no rule took any of its {study.series} series."
    shown = "; ".join(reasons[:3]) + ("; …" if len(reasons) > 3 else "")
    return f"No result: no rule took any of its {study.series} series ({shown})."


def _held(pause: Pause) -> str:
    """Who holds something still, since when, and why, behind "is paused"."""
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(pause.since))
    because = f" ({pause.because.rstrip('.')})" if pause.because else ""
    return f"paused by {pause.by} since {since}{because}"


def _about_job(job: JobRecord, pause: Pause | None) -> str:
    because = f": {job.because.rstrip('.')}" if job.because else ""
    match job.state:
        case JobState.PARKED:
            again = f"`wetread retry {job.id}`"
            return f"No result: job {job.id} is parked after {_times(job.attempts)}{because}. {again}."
        case JobState.RUNNING:
            return f"No result yet: job {job.id} ({job.model}) is running, attempt {job.attempts}."
        case JobState.QUEUED if pause is not None:
            return f"No result yet: job {job.id} waits: the model {pause.name} is {_held(pause)}."
        case JobState.QUEUED if job.attempts:
            after = f"after {_times(job.attempts)}{because}"
            return f"No result yet: job {job.id} waits for another attempt {after}."
        case JobState.QUEUED:
            return f"No result yet: job {job.id} ({job.model}) waits for a worker."
        case _:
            return f"No result: job {job.id} was cancelled{because}."


def _about_done(job: JobRecord, deliveries: Sequence[DeliveryRecord], pauses: Sequence[Pause]) -> str:
    what = {
        Outcome.FOUND: f"{job.model} has a result",
        Outcome.NOTHING: f"{job.model} ran and found nothing",
        Outcome.REFUSED: f"{job.model} did not analyse the images",
        None: f"{job.model} is done",
    }[job.outcome]
    because = f" ({job.because.rstrip('.')})" if job.because and job.outcome is not Outcome.FOUND else ""
    return f"{what}{because}{_about_deliveries(deliveries, pauses)}."


def _about_deliveries(everything: Sequence[DeliveryRecord], pauses: Sequence[Pause]) -> str:
    notes = [one for one in everything if one.result.role is Role.REJECTION_NOTE]
    deliveries = [one for one in everything if one not in notes]
    if not deliveries:
        return ", kept here as a shadow run: its rule names no destination"
    for state, words in (
        (DeliveryState.PARKED, "but {peer} refused it for good"),
        (DeliveryState.CANCELLED, "but its delivery to {peer} was cancelled"),
        (DeliveryState.WAITING, "not yet at {peer}"),
        (DeliveryState.SENDING, "on its way to {peer}"),
        (DeliveryState.SENT, "sent to {peer}, proof is awaited"),
    ):
        if one := next((one for one in deliveries if one.state is state), None):
            pause = pause_of(pauses, PauseKind.PEER, one.peer)
            if state is DeliveryState.WAITING and pause is not None:
                return f", not yet at {one.peer}: what goes there is {_held(pause)}"
            because = f": {one.because.rstrip('.')}" if one.because else ""
            return f", {words.format(peer=one.peer)}{because}"
    return f"{_at_its_destination(deliveries)}{_not_put_away(notes)}"


def _at_its_destination(deliveries: Sequence[DeliveryRecord]) -> str:
    """All of it arrived, or was declined by those whose settings say what then."""
    peers = sorted({one.peer for one in deliveries if one.state is DeliveryState.COMMITTED})
    has = f", and {' and '.join(peers)} has it" if peers else ""
    less = next((one for one in deliveries if one.state is DeliveryState.DECLINED), None)
    if less is None:
        return has
    return f"{has}, but {less.peer} not all of it as it was made: {less.because.rstrip('.')}"


def _not_put_away(notes: Sequence[DeliveryRecord]) -> str:
    refused = next((one for one in notes if one.state is DeliveryState.PARKED), None)
    still = f", but {refused.peer} will not put away the older one" if refused else ""
    still += f": {refused.because.rstrip('.')}" if refused and refused.because else ""
    return still


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"
