"""
Channels: which version of a model the bare name in a rule means, decided once for all workers.

A job is opened for `name@version`, so a promotion changes what is opened from now on and nothing that was
opened before. A shadow version runs beside the active one, on the same images, and its results go nowhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from ledger.identifiers import Digest
from ledger.job import NewJob, Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What a model's name means at this site."""

    name: str
    active: str  #: version
    shadow: str | None  #: version that runs beside it, to be compared
    changed_at: float
    changed_by: str


def on_channels(jobs: Sequence[NewJob], channels: Mapping[str, Channel]) -> list[NewJob]:
    """The same jobs with versions where a rule gives a bare name, and those of shadow versions beside them.

    A job's key stays the one of the name that the rule gives: a promotion is no reason to do again what was
    done. A model without a channel is what its name means to the worker: the newest version there.
    """
    opened = []
    for job in jobs:
        channel = channels.get(job.model)
        if channel is None:
            opened.append(job)
            continue
        opened.append(replace(job, model=f"{channel.name}@{channel.active}"))
        if channel.shadow is not None:
            opened.append(_shadow(job, f"{channel.name}@{channel.shadow}"))
    return opened


def _shadow(job: NewJob, identity: str) -> NewJob:
    key = Digest.parse(sha256(f"{job.key} shadow {identity}".encode()).hexdigest())
    # It must not hold up what somebody waits for.
    return replace(job, key=key, model=identity, destinations=(), priority=Priority.ROUTINE, shadow=True)
