"""What became of an older result: one sentence for each peer, pure, from what the ledger holds."""

from collections.abc import Mapping, Sequence

from ledger.delivery import DeliveryRecord
from ledger.identifiers import JobId
from ledger.job import JobRecord, JobState
from ledger.rejection import RejectionRecord

_TOLD = {"reject": "hide", "replace": "remove"}


def superseded(
    job: JobRecord,
    jobs: Sequence[JobRecord],
    deliveries: Mapping[JobId, Sequence[DeliveryRecord]],
    rejections: Sequence[RejectionRecord],
    policies: Mapping[str, str],
) -> list[str]:
    """Who took the place of `job`, and what each peer that has its results was told of that.

    `jobs`, oldest first, `deliveries` and `rejections` are those of its study; `policies` is peer →
    `superseded` in the settings. Empty where no later job of the same rule and series exists.
    """
    kind = (job.series, job.rule, job.shadow)
    later = [one for one in jobs if (one.series, one.rule, one.shadow) == kind and one.id > job.id]
    if not later:
        return []
    newest = next((one for one in reversed(later) if one.state is JobState.DONE), None)
    if newest is None:
        return [f"overtaken by job {later[-1].id}, which is {later[-1].state}"]
    mine = [one for one in deliveries.get(job.id, ()) if one.sent_at is not None]
    told = []
    for peer in dict.fromkeys(one.peer for one in mine):
        theirs = [
            one
            for one in rejections
            if one.note.peer == peer and any(named.job_id == job.id for named in one.names)
        ]
        told += [_told(one) for one in theirs] or [_not_told(peer, newest, policies.get(peer))]
    return [
        f"superseded by job {newest.id}{f'; {sentence}' if sentence else ''}" for sentence in told or [""]
    ]


def _told(one: RejectionRecord) -> str:
    said = f"{one.note.peer} was told to {_TOLD[one.policy]} the old result: {one.note.state}"
    return f"{said} ({one.note.because.rstrip('.')})" if one.note.because else said


def _not_told(peer: str, newest: JobRecord, policy: str | None) -> str:
    if policy == "keep":
        return f'{peer} shows both, for its settings say superseded = "keep"'
    if policy is None:
        return f"{peer} keeps the old result, for the settings do not know it any more"
    what = f"{_TOLD[policy]} the old result"
    return f"{peer} will be told to {what} once that of job {newest.id} is committed there"
