"""What became of a promise, and the table that says so."""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number that was promised, and what it was."""

    what: str
    bound: str  #: as a person reads it: "< 1 s"
    measured: str
    kept: bool
    why: str = ""  #: where it was broken: what happened, for whoever mends it


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One promise of reliability, tried once."""

    promise: str  #: "P8"
    done: str  #: what was done, with its counts
    measures: tuple[Measure, ...]
    left_out: tuple[str, ...] = ()  #: what this machine does not permit, each with its reason

    @property
    def kept(self) -> bool:
        return bool(self.measures) and all(measure.kept for measure in self.measures)


def at_most(
    what: str, limit: float, measured: float, unit: str, *, why: str = "", digits: int = 1
) -> Measure:
    """A measure that may not pass a limit."""
    return Measure(
        what=what,
        bound=f"≤ {limit:g} {unit}",
        measured=f"{measured:.{digits}f} {unit}",
        kept=measured <= limit,
        why=why,
    )


def below(what: str, limit: float, measured: float, unit: str, *, why: str = "", digits: int = 1) -> Measure:
    """A measure that has to stay below a limit."""
    return Measure(
        what=what,
        bound=f"< {limit:g} {unit}",
        measured=f"{measured:.{digits}f} {unit}",
        kept=measured < limit,
        why=why,
    )


def none_of(what: str, found: Sequence[object], out_of: int) -> Measure:
    """Something that may not have happened at all, however often it was tried."""
    return Measure(
        what=what,
        bound="0",
        measured=f"{len(found)} of {out_of}",
        kept=not found and out_of > 0,
        why="; ".join(str(each) for each in found[:5]) if out_of else "it was never tried",
    )


def all_of(what: str, missing: Sequence[object], out_of: int) -> Measure:
    """Something that has to have happened every time."""
    return Measure(
        what=what,
        bound="all",
        measured=f"{out_of - len(missing)} of {out_of}",
        kept=not missing and out_of > 0,
        why="; ".join(str(each) for each in missing[:5]) if out_of else "it was never tried",
    )


def broken(verdicts: Sequence[Verdict]) -> str:
    """Which measures were broken and why; empty where all promises were kept."""
    return "\n".join(
        f"{verdict.promise}: {measure.what}: {measure.measured}, bound {measure.bound}. {measure.why}"
        for verdict in verdicts
        for measure in verdict.measures
        if not measure.kept
    )


def table(verdicts: Sequence[Verdict]) -> str:
    """All verdicts, one line per measure."""
    lines = []
    for verdict in verdicts:
        lines.append(f"{verdict.promise}  {'kept  ' if verdict.kept else 'BROKEN'}  {verdict.done}")
        width = max((len(measure.what) for measure in verdict.measures), default=0)
        for measure in verdict.measures:
            mark = "✓" if measure.kept else "✗"
            lines.append(
                f"    {mark} {measure.what:<{width}}  {measure.measured:>14}   bound {measure.bound}"
            )
            if not measure.kept and measure.why:
                lines.append(f"        {measure.why}")
        lines += [f"    – left out: {reason}" for reason in verdict.left_out]
    return "\n".join(lines)


def circumstances(seed: int) -> str:
    """What has to be said with every number: seed, commit and machine."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"seed {seed} · commit {commit or 'unknown'} · Python {platform.python_version()}"
        f" · {platform.system()} {platform.release()}"
        f" · {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} · {memory_gib:.0f} GiB"
    )
