"""
Feedback: what readers say of a result, and how often a model's version is agreed with.

Rule 1: nothing that was said is ever changed or deleted. Whoever thinks again says something new, and of a
result the latest judgement counts, whoever gave it.
Rule 2: a result that nobody judged is neither right nor wrong: it does not count.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from ledger.errors import WetreadError
from ledger.identifiers import JobId, StudyId

#: Characters of a comment. Longer ones belong into the report.
COMMENT_MAX = 2000


class FeedbackRefused(WetreadError):
    """There is nothing to judge, or nothing was said."""


class Judgement(StrEnum):
    """What a reader thinks of a result as a whole."""

    ACCEPTED = "accepted"  #: It is right as it is.
    REJECTED = "rejected"  #: It is wrong, in whole or in a part that matters.


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRecord:
    """What one reader said of one result, once. `at` in seconds since 1970-01-01 UTC."""

    id: int
    at: float
    job_id: JobId
    study_id: StudyId
    model: str  #: name@version that made the result
    by: str  #: the user's name here
    judgement: Judgement | None  #: None: a comment that judges nothing
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A result with the judgement that counts."""

    job_id: JobId
    model: str  #: name@version
    made_at: float  #: when its run ended, in seconds since 1970-01-01 UTC
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of the results that were judged were accepted."""

    accepted: int
    judged: int

    @property
    def share(self) -> float | None:
        """0 to 1; None where nothing was judged."""
        return self.accepted / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true share lies with 95 % confidence, 0 to 1."""
        return wilson(self.accepted, self.judged)


@dataclass(frozen=True, slots=True)
class WeekOfAgreement:
    """The results of one week."""

    begins: date  #: its Monday
    agreement: Agreement


def said(judgement: Judgement | None, comment: str) -> str:
    """The comment as it is kept. Raises `FeedbackRefused` where it is too long, or nothing was said."""
    comment = comment.replace("\r\n", "\n").strip()
    if len(comment) > COMMENT_MAX:
        raise FeedbackRefused(f"a comment may have {COMMENT_MAX} characters, and this one has {len(comment)}")
    if judgement is None and not comment:
        raise FeedbackRefused("accept the result, reject it, or write a comment")
    return comment


def wilson(hits: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a share (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927, 209-212); `z` is the normal
    quantile, 1.96 for 95 %. Of nothing it is everything: 0 to 1.
    """
    if of <= 0:
        return 0.0, 1.0
    share, over = hits / of, z * z / of
    middle = (share + over / 2) / (1 + over)
    half = z * math.sqrt(share * (1 - share) / of + over / (4 * of)) / (1 + over)
    # By the formula the ends are exact at 0 and 1; in floating point they nearly are.
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return low, 1.0 if hits == of else min(1.0, middle + half)


def agreement(judged: Iterable[Judged]) -> dict[str, Agreement]:
    """Agreement by name@version, of those of which anything was judged."""
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in judged:
        counted[one.model][0] += one.judgement is Judgement.ACCEPTED
        counted[one.model][1] += 1
    return {model: Agreement(*counted[model]) for model in sorted(counted)}


def by_week(judged: Iterable[Judged], *, zone: ZoneInfo) -> dict[str, list[WeekOfAgreement]]:
    """Agreement by name@version and by the week in which a result was made, without gaps: a week in which
    nothing was judged is there with 0 of 0. Weeks begin on Monday (ISO 8601) in the time zone `zone`.

    By the making and not by the judging: what changes is the images, the scanner and the model.
    """
    counted: dict[str, dict[date, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for one in judged:
        monday = week_of(one.made_at, zone)
        counted[one.model][monday][0] += one.judgement is Judgement.ACCEPTED
        counted[one.model][monday][1] += 1
    found = {}
    for model in sorted(counted):
        weeks = counted[model]
        first, last = min(weeks), max(weeks)
        mondays = [first + timedelta(weeks=n) for n in range((last - first).days // 7 + 1)]
        found[model] = [WeekOfAgreement(day, Agreement(*weeks.get(day, (0, 0)))) for day in mondays]
    return found


def week_of(at: float, zone: ZoneInfo) -> date:
    """The Monday of the week that `at` (seconds since 1970-01-01 UTC) lies in, in the time zone `zone`."""
    day = datetime.fromtimestamp(at, zone).date()
    return day - timedelta(days=day.weekday())
