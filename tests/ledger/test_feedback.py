"""What readers say of results, over both databases; how agreement is counted; links nobody can make up."""

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.account import Role
from ledger.audit import Actor
from ledger.feedback import (
    COMMENT_MAX,
    Agreement,
    FeedbackRefused,
    Judged,
    Judgement,
    agreement,
    by_week,
    week_of,
    wilson,
)
from ledger.feedback_link import LinkRefused, link_token, new_key, read_link
from ledger.identifiers import JobId
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from tests.ledger.site import OPERATOR, claim, finish, queued_job

ACCEPTED, REJECTED = Judgement.ACCEPTED, Judgement.REJECTED
BEN = Actor("ben", Role.VIEWER, "192.0.2.8")
KEY = bytes(range(32))
UTC_ZONE = ZoneInfo("UTC")


def done_job(ledger: Ledger, study: str = "1.2.3") -> JobId:
    job = queued_job(ledger, study)
    finish(ledger, claim(ledger, job))
    return job


def test_a_job_without_a_result_cannot_be_judged_and_nothing_is_kept(ledger: Ledger) -> None:
    job = queued_job(ledger)
    with pytest.raises(FeedbackRefused, match=f"job {job} is queued: there is no result to judge"):
        ledger.give_feedback(job, by=OPERATOR, judgement=ACCEPTED)
    with pytest.raises(NotInLedger, match="there is no job 4711"):
        ledger.give_feedback(JobId(4711), by=OPERATOR, judgement=ACCEPTED)
    assert ledger.latest_feedback() == []


def test_nothing_said_and_too_much_said_are_refused(ledger: Ledger) -> None:
    job = done_job(ledger)
    with pytest.raises(FeedbackRefused, match="accept the result, reject it, or write a comment"):
        ledger.give_feedback(job, by=OPERATOR, judgement=None, comment=" \r\n ")
    with pytest.raises(FeedbackRefused, match=f"may have {COMMENT_MAX} characters"):
        ledger.give_feedback(job, by=OPERATOR, judgement=REJECTED, comment="x" * (COMMENT_MAX + 1))
    assert ledger.feedback_of(job) == []


def test_the_latest_judgement_counts_and_all_that_was_said_is_kept_and_audited(ledger: Ledger) -> None:
    job = done_job(ledger)
    ledger.give_feedback(
        job, by=OPERATOR, judgement=REJECTED, comment="misses the left lung\r\nbelow the hilum"
    )
    ledger.give_feedback(job, by=BEN, judgement=ACCEPTED)
    ledger.give_feedback(job, by=OPERATOR, judgement=None, comment="I was wrong: it is the window")

    told = [(one.by, one.judgement, one.comment) for one in ledger.feedback_of(job)]
    assert told == [
        ("anna", REJECTED, "misses the left lung\nbelow the hilum"),
        ("ben", ACCEPTED, ""),
        ("anna", None, "I was wrong: it is the window"),
    ]
    assert {one.model for one in ledger.feedback_of(job)} == {"lung_ct@1.0.0"}
    (counts,) = ledger.judged()
    assert (counts.job_id, counts.model, counts.judgement) == (job, "lung_ct@1.0.0", ACCEPTED)
    assert counts.made_at == ledger.job(job).finished_at

    said = [one for one in ledger.history(job_id=job) if "by" in one.detail]
    assert [(one.event, one.detail["by"], one.detail["comment"]) for one in said] == [
        ("rejected", "anna", True),
        ("accepted", "ben", False),
        ("commented", "anna", True),
    ]
    assert not any("lung" in one.because for one in said)
    trail = [one for one in ledger.audit_rows() if one.what == "job.judged"]
    assert [(one.who, one.thing_id, one.detail["judgement"]) for one in trail][::-1] == [
        ("anna", str(job), "rejected"),
        ("ben", str(job), "accepted"),
        ("anna", str(job), ""),
    ]


def test_feedback_is_found_by_model_and_by_time(ledger: Ledger) -> None:
    first, second = done_job(ledger, "1.2.3"), done_job(ledger, "1.2.4")
    ledger.give_feedback(first, by=OPERATOR, judgement=ACCEPTED)
    ledger.give_feedback(second, by=OPERATOR, judgement=REJECTED)
    ledger.give_feedback(second, by=OPERATOR, judgement=ACCEPTED)

    assert [one.job_id for one in ledger.judged()] == [second, first]
    assert ledger.judged(model="lung_c") == ledger.judged(model="lung_ct%") == []
    assert len(ledger.judged(model="lung_ct")) == 2
    finished = ledger.job(second).finished_at
    assert finished is not None
    assert [one.job_id for one in ledger.judged(since=finished)] == [second]
    assert [one.job_id for one in ledger.latest_feedback(limit=2)] == [second, second]
    assert ledger.latest_feedback(model="other") == []


def test_a_key_is_made_once_and_is_the_same_for_all(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(lambda _: ledger.feedback_key(), range(8)))
    assert len(keys) == 1
    assert len(keys.pop()) == 32


def test_a_link_names_its_job_until_it_ends() -> None:
    token = link_token(KEY, JobId(12), 2_000_000_000.9)
    assert read_link(KEY, token, 1_999_999_999.0) == 12
    with pytest.raises(LinkRefused, match="this feedback link is over; find the result by its accession"):
        read_link(KEY, token, 2_000_000_001.0)


@pytest.mark.parametrize(
    "forge",
    [
        lambda token: token.replace("12.", "13.", 1),
        lambda token: token.replace(".2000000000.", ".3000000000."),
        lambda token: token[:-1],
        lambda token: token + "A",
        lambda token: token.rpartition(".")[0],
        lambda token: token.rpartition(".")[0] + "." + "A" * 43,
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token.replace("12", "１２", 1),
        lambda _: "",
        lambda _: "../../etc/passwd",
        lambda _: "9" * 10_000,
    ],
)
def test_a_forged_or_damaged_link_is_refused(forge) -> None:
    forged = forge(link_token(KEY, JobId(12), 2_000_000_000))
    with pytest.raises(LinkRefused, match="no feedback link of this site"):
        read_link(KEY, forged, 0.0)


def test_a_link_of_another_site_is_refused() -> None:
    with pytest.raises(LinkRefused):
        read_link(bytes(32), link_token(KEY, JobId(12), 2e9), 0.0)
    with pytest.raises(ValueError, match="32 random bytes"):
        new_key(b"short")


# 81 of 263: R. G. Newcombe, Stat. Med. 17 (1998) 857-872, Table I, method 3. 0 of n: z² / (n + z²).
@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (5, 10, 0.2365931, 0.7634069),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_the_interval_is_wilsons(hits: int, of: int, low: float, high: float) -> None:
    assert wilson(hits, of) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.integers(1, 500).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_the_interval_holds_the_share_and_is_symmetric(counted: tuple[int, int]) -> None:
    hits, of = counted
    low, high = wilson(hits, of)
    assert 0 <= low <= hits / of <= high <= 1
    other_low, other_high = wilson(of - hits, of)
    assert math.isclose(other_low, 1 - high, abs_tol=1e-9)
    assert math.isclose(other_high, 1 - low, abs_tol=1e-9)


def test_of_nothing_judged_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert Agreement(0, 0).share is None
    assert agreement([]) == by_week([], zone=UTC_ZONE) == {}


def judged(job: int, when: str, what: Judgement, model: str = "lung_ct@1.0.0") -> Judged:
    at = datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()
    return Judged(job_id=JobId(job), model=model, made_at=at, judgement=what)


def test_weeks_begin_on_monday_in_the_readers_zone_and_empty_ones_are_there() -> None:
    given_ = [
        judged(1, "2026-03-02T00:30", ACCEPTED),  # a Monday in UTC, and still Sunday in New York
        judged(2, "2026-03-04T12:00", REJECTED),
        judged(3, "2026-03-18T12:00", ACCEPTED),
        judged(4, "2026-03-18T12:00", REJECTED, model="lung_ct@2.0.0"),
    ]
    weeks = by_week(given_, zone=UTC_ZONE)
    assert [(one.begins, one.agreement) for one in weeks["lung_ct@1.0.0"]] == [
        (date(2026, 3, 2), Agreement(1, 2)),
        (date(2026, 3, 9), Agreement(0, 0)),
        (date(2026, 3, 16), Agreement(1, 1)),
    ]
    assert [one.agreement for one in weeks["lung_ct@2.0.0"]] == [Agreement(0, 1)]
    assert agreement(given_) == {"lung_ct@1.0.0": Agreement(2, 3), "lung_ct@2.0.0": Agreement(0, 1)}
    assert week_of(given_[0].made_at, ZoneInfo("America/New_York")) == date(2026, 2, 23)
