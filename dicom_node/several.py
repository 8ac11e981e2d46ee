"""One study, several inputs of one model: which series is which?

Every input is filled by exactly one series, and no series fills two. Where several could fill an input, the
rule says which one it wants; where that one is needed by an input that has no other, it gives way. All come
from one frame of reference, unless the rule lets others through.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from dicom_node.conditions import Conditions
from dicom_node.series_facts import SeriesFacts, most_first, thinnest_first
from ledger.identifiers import SeriesId, Uid

#: When the first image of a series was made: the first of these pairs that is there.
_TIMES = (
    ("AcquisitionDateTime", ""),
    ("AcquisitionDate", "AcquisitionTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "AcquisitionTime"),
    ("StudyDate", "SeriesTime"),
    ("ContentDate", "ContentTime"),
)


class RuleInput(Conditions, frozen=True, extra="forbid"):
    """One of several series that a model is given at once. Its conditions hold beside those of the rule."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,47}$")  # as the model's manifest calls it
    # Which of several series that would do; "first" and "last" go by the time of acquisition.
    choose: Literal["thinnest", "most", "first", "last"] = "thinnest"


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of each series: the name of the input that it fills, or why it fills none."""

    taken: Mapping[SeriesId, str]
    because: Mapping[SeriesId, str]  #: of all that are not taken


def fill(
    inputs: Sequence[RuleInput],
    study: Sequence[SeriesFacts],
    *,
    refusal: Callable[[SeriesFacts], str | None],
    one_frame: bool,
) -> Filled:
    """Fill every input from the series of a study, or none.

    `refusal` is what the rule itself has against a series. With `one_frame` all come from one Frame of
    Reference. The answer does not depend on the order of the series.
    """
    refused = {series.series_id: refusal(series) for series in study}
    reasons: dict[SeriesId, dict[str, str]] = {series.series_id: {} for series in study}
    wanted: dict[str, list[SeriesFacts]] = {}
    for one in inputs:
        fits = []
        for series in study:
            if refused[series.series_id] is not None:
                continue
            unmet = one.unmet(series)
            if unmet is None:
                fits.append(series)
            else:
                reasons[series.series_id][one.name] = unmet
        wanted[one.name] = sorted(fits, key=_order(one))

    taken = _best(wanted, one_frame=one_frame)
    because = {}
    lacking = _lacking(wanted, one_frame=one_frame)
    for series in study:
        if taken and series.series_id in taken:
            continue
        said = refused[series.series_id]
        if said is None and taken:
            fitting = [name for name, fits in wanted.items() if series in fits]
            said = f"{', '.join(fitting)}: another series was chosen" if fitting else None
        elif said is None:
            fitting = [name for name, fits in wanted.items() if series in fits]
            said = f"it would be {' or '.join(fitting)}, but {lacking}" if fitting else None
        if said is None:
            said = "; ".join(f"{name}: {unmet}" for name, unmet in reasons[series.series_id].items())
        because[series.series_id] = said
    return Filled(taken or {}, because)


def _order(one: RuleInput) -> Callable[[SeriesFacts], tuple[object, ...]]:
    match one.choose:
        case "most":
            return most_first
        case "first":
            return lambda series: (acquired(series.headers) or "~", *thinnest_first(series))
        case "last":
            return lambda series: (_backwards(acquired(series.headers)), *thinnest_first(series))
    return thinnest_first


def acquired(headers: Mapping[str, str]) -> str:
    """When it was imaged, as text that sorts by time; empty where nobody says so."""
    for day, time in _TIMES:
        said = headers.get(day, "").strip(" \0"), headers.get(time, "").strip(" \0") if time else ""
        if said[0] and (said[1] or not time):
            return "".join(said)
    return ""


def _backwards(text: str) -> tuple[int, ...]:
    """Sorts the latest first, and what has no time last."""
    return tuple(-ord(letter) for letter in text.ljust(26)) if text else (0,)


def _best(wanted: Mapping[str, Sequence[SeriesFacts]], *, one_frame: bool) -> dict[SeriesId, str] | None:
    """The assignment that is best for the first input, then for the second, …; None if there is none."""
    found = []
    for group in _groups(wanted, one_frame=one_frame):
        chosen = _assigned(group)
        if chosen is not None:
            ranks = [wanted[name].index(series) for name, series in chosen.items()]
            found.append((ranks, chosen))
    if not found:
        return None
    _, best = min(found, key=lambda pair: pair[0])
    return {series.series_id: name for name, series in best.items()}


def _groups(
    wanted: Mapping[str, Sequence[SeriesFacts]], *, one_frame: bool
) -> list[dict[str, list[SeriesFacts]]]:
    """The candidates of each frame of reference by itself. A series without one is in no such group."""
    if not one_frame:
        return [{name: list(fits) for name, fits in wanted.items()}]
    frames = sorted({_frame(series) for fits in wanted.values() for series in fits} - {""})
    return [
        {name: [one for one in fits if _frame(one) == frame] for name, fits in wanted.items()}
        for frame in frames
    ]


def _frame(series: SeriesFacts) -> str:
    return series.headers.get("FrameOfReferenceUID", "").strip(" \0")


def _assigned(wanted: Mapping[str, Sequence[SeriesFacts]]) -> dict[str, SeriesFacts] | None:
    """A series for each input, none twice: input by input the best one with which the others still can be."""
    chosen: dict[str, SeriesFacts] = {}
    names = list(wanted)
    for k, name in enumerate(names):
        for series in wanted[name]:
            if series in chosen.values():
                continue
            used = {one.series for one in chosen.values()} | {series.series}
            if _possible([wanted[other] for other in names[k + 1 :]], used):
                chosen[name] = series
                break
        else:
            return None
    return chosen


def _possible(wanted: Sequence[Sequence[SeriesFacts]], used: set[Uid]) -> bool:
    """Whether each of `wanted` can have a series of its own beside `used` (Kuhn's augmenting paths)."""
    owner: dict[Uid, int] = {}

    def find(k: int, seen: set[Uid]) -> bool:
        for series in wanted[k]:
            uid = series.series
            if uid in used or uid in seen:
                continue
            seen.add(uid)
            if uid not in owner or find(owner[uid], seen):
                owner[uid] = k
                return True
        return False

    return all(find(k, set()) for k in range(len(wanted)))


def _lacking(wanted: Mapping[str, Sequence[SeriesFacts]], *, one_frame: bool) -> str:
    """Why there is no assignment, as the end of a sentence."""
    empty = [name for name, fits in wanted.items() if not fits]
    if empty:
        return f"no series is {' and none '.join(empty)}"
    if one_frame and _best(wanted, one_frame=False) is not None:
        return (
            "the series that would do are in different frames of reference, or in none: they need to be "
            'registered, or the rule needs frame_of_reference = "any"'
        )
    return "one series would have to be two of them"
