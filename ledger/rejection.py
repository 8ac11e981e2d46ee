"""
What a peer has and should no longer show, because a newer result lies there: who is owed a rejection note?

Rule 1: a peer is told only of what it accepted, and only after every result of a later job of the same rule
and series is committed there. An archive is never left without a result.
Rule 2: once. Whatever a note names is never named again.
Rule 3: nothing that still counts is named: two rules that ask the same model make the same instances, and
one of the two may stand where the other was overtaken.
Rule 4: what only says that a run was given up supersedes nothing, and is superseded by the results that its
job has after all.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.identifiers import DeliveryId, JobId, StudyId
from ledger.result import ResultRecord

_ARRIVES = (DeliveryState.WAITING, DeliveryState.SENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One result of one study at one peer, as the question of what to reject sees it."""

    delivery_id: DeliveryId
    study_id: StudyId
    subject: str  #: what its job is about, within rule and study
    rule: str
    job_id: JobId
    peer: str
    state: DeliveryState
    accepted: bool  #: The peer has said that it has it, and nobody has found otherwise since.
    named: bool  #: A rejection note names it already.
    kept: bool  #: Its file still lies in the spool.
    stands_in: bool = False  #: It says that its job was given up.
    result: ResultRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedNote:
    """What one peer has to be told: `superseded` is out of date since `job_id` is committed there."""

    study_id: StudyId
    job_id: JobId
    peer: str
    report: ResultRecord  #: of `job_id`: it says whose the note is
    superseded: tuple[Standing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionRecord:
    """A rejection note on its way to one peer, and the deliveries that it names."""

    note: DeliveryRecord
    policy: str  #: "reject" or "replace", as the peer's settings had it when the note was made
    names: tuple[DeliveryRecord, ...]


def owed_notes(standings: Iterable[Standing]) -> list[OwedNote]:
    """The notes that are owed now, from all deliveries of some studies: none is a note itself."""
    at_peer: dict[tuple[StudyId, str], list[Standing]] = defaultdict(list)
    for one in standings:
        at_peer[one.study_id, one.peer].append(one)
    return [note for key in sorted(at_peer) for note in _owed_at_peer(at_peer[key])]


def _owed_at_peer(there: Sequence[Standing]) -> Iterable[OwedNote]:
    lines: dict[tuple[str, str], list[Standing]] = defaultdict(list)
    for one in there:
        lines[one.subject, one.rule].append(one)
    # The job whose results count now, for each rule and what it is about.
    current = {line: _current(members) for line, members in lines.items()}
    counts = {
        one.result.sop_instance
        for line, members in lines.items()
        for one in members
        if not _out_of_date(one, current[line]) and (one.accepted or one.state in _ARRIVES)
    }
    for line in sorted(lines):
        job_id = current[line]
        if job_id is None:
            continue
        reports = [
            one
            for one in lines[line]
            if one.job_id == job_id and one.result.role.is_root and one.kept and not one.stands_in
        ]
        # The one that the peer has, where it got another form of it.
        report = next((o for o in reports if o.accepted), reports[0] if reports else None)
        superseded = tuple(
            sorted(
                (
                    one
                    for one in lines[line]
                    if _out_of_date(one, job_id)
                    and one.accepted
                    and not one.named
                    and one.result.sop_instance not in counts
                ),
                key=lambda one: one.delivery_id,
            )
        )
        if report is not None and superseded:
            yield OwedNote(
                study_id=report.study_id,
                job_id=job_id,
                peer=report.peer,
                report=report.result,
                superseded=superseded,
            )


def _out_of_date(one: Standing, current: JobId | None) -> bool:
    """Whether the results of `current`, of the same rule and subject, take its place."""
    return current is not None and (one.job_id < current or (one.job_id == current and one.stands_in))


def _current(line: Collection[Standing]) -> JobId | None:
    """The latest job of which the peer has everything, proved."""
    jobs: dict[JobId, set[DeliveryState]] = defaultdict(set)
    for one in line:
        if not one.stands_in:
            jobs[one.job_id].add(one.state)
    # What the peer declined it never had; what went instead is among the others.
    whole = [
        job_id
        for job_id, states in jobs.items()
        if states - {DeliveryState.DECLINED} == {DeliveryState.COMMITTED}
    ]
    return max(whole, default=None)
