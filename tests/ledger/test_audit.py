"""The audit trail: what is in it stays in it, and what was altered is found."""

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from sqlalchemy import text

from ledger.account import Role
from ledger.audit import GENESIS, Actor, AuditOutcome, AuditRow, harmless, link, walk
from ledger.settings import LedgerSettings
from ledger.store.audit import audit
from ledger.store.database import LedgerAway, LedgerRefused
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import claim, finish, queued_job

ANNA = Actor("anna", Role.OPERATOR, "192.0.2.7")
BEN = Actor("ben", Role.ADMINISTRATOR, "192.0.2.8")


def _fill(ledger: Ledger) -> None:
    ledger.record_audit(ANNA, "job.cancelled", thing_id=1)
    ledger.record_audit(BEN, "account.added", thing_id="carl", detail={"role": Role.VIEWER})
    ledger.record_audit(ANNA, "account.added", thing_id="dora", outcome=AuditOutcome.REFUSED)
    ledger.record_audit(BEN, "job.retried", thing_id=1)


def _by_force(ledger: Ledger, statement: str) -> None:
    """As somebody does who owns the database."""
    with ledger.write() as tx:
        if tx.connection.dialect.name == "sqlite":
            for event in ("update", "delete"):
                tx.connection.execute(text(f"DROP TRIGGER IF EXISTS audit_no_{event}"))
        else:
            tx.connection.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        tx.connection.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "broken_at", "because"),
    [
        ("UPDATE audit SET who = 'anna' WHERE number = 2", 2, "row 2 is not as it was written"),
        ("UPDATE audit SET detail = '{}' WHERE number = 2", 2, "row 2 is not as it was written"),
        ("UPDATE audit SET detail = 'no JSON' WHERE number = 3", 3, "row 3 is not as it was written"),
        ("UPDATE audit SET outcome = 'done' WHERE number = 3", 3, "row 3 is not as it was written"),
        ("UPDATE audit SET at = at + 1 WHERE number = 1", 1, "row 1 is not as it was written"),
        ("DELETE FROM audit WHERE number = 1", 1, "row 1 is missing"),
        ("DELETE FROM audit WHERE number = 2", 2, "row 2 is missing"),
        ("DELETE FROM audit WHERE number > 2", 3, "rows 3 to 4 are missing"),
        ("DELETE FROM audit", 1, "rows 1 to 4 are missing"),
        ("UPDATE audit_head SET number = 3", 4, "the end was written by others"),
        ("DELETE FROM audit_head", 1, "the record of where it ends is missing"),
    ],
)
def test_the_first_row_that_was_altered_is_named(
    ledger: Ledger, statement: str, broken_at: int, because: str
) -> None:
    _fill(ledger)
    assert ledger.verify_audit().broken_at is None
    _by_force(ledger, statement)

    found = ledger.verify_audit()

    assert found.broken_at is not None
    if "head SET" not in statement:
        assert (found.broken_at, because in found.because) == (broken_at, True), found


def test_an_end_that_was_cut_off_together_with_its_record_is_found_by_a_digest_kept_elsewhere(
    ledger: Ledger,
) -> None:
    _fill(ledger)
    kept = ledger.verify_audit()
    third = ledger.audit_at(3)
    assert third is not None
    _by_force(ledger, "DELETE FROM audit WHERE number = 4")
    _by_force(ledger, f"UPDATE audit_head SET number = 3, digest = '{third.digest}'")

    assert ledger.verify_audit().broken_at is None  # The chain alone cannot know.
    assert ledger.audit_at(kept.rows) is None


@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'nobody'", "DELETE FROM audit"])
def test_rows_are_neither_changed_nor_taken_out(ledger: Ledger, statement: str) -> None:
    _fill(ledger)

    with pytest.raises((LedgerAway, LedgerRefused), match="can only grow"), ledger.write() as tx:
        tx.connection.execute(text(statement))

    assert [row.who for row in ledger.audit_rows()] == ["ben", "anna", "ben", "anna"]


def test_a_decision_that_fails_leaves_no_row_and_no_gap(ledger: Ledger) -> None:
    ledger.record_audit(ANNA, "job.cancelled", thing_id=1)

    def fail() -> None:
        with ledger.write() as tx:
            audit(tx, ANNA, "job.cancelled", thing_id=2)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    ledger.record_audit(ANNA, "job.cancelled", thing_id=3)

    assert [(row.number, row.thing_id) for row in ledger.audit_rows()] == [(2, "3"), (1, "1")]
    assert ledger.verify_audit().rows == 2


def test_an_empty_trail_is_whole(ledger: Ledger) -> None:
    found = ledger.verify_audit()

    assert (found.rows, found.digest, found.broken_at) == (0, GENESIS, None)


def test_several_processes_make_one_chain(settings: LedgerSettings) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def decide(number: int) -> None:
        with Ledger.open(settings) as mine:
            for _ in range(5):
                mine.record_audit(ANNA, "job.retried", thing_id=number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decide, range(4)))
    with Ledger.open(settings) as ledger:
        assert ledger.verify_audit().rows == 20
        assert ledger.verify_audit().broken_at is None


def test_a_long_trail_is_walked_page_by_page(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.store.audit._PAGE", 3)
    for number in range(9):
        ledger.record_audit(ANNA, "job.retried", thing_id=number)
    assert ledger.verify_audit().rows == 9
    _by_force(ledger, "UPDATE audit SET thing_id = '99' WHERE number = 7")

    assert ledger.verify_audit().broken_at == 7


def test_rows_are_found_by_who_what_and_when(ledger: Ledger) -> None:
    _fill(ledger)
    rows = ledger.audit_rows()

    assert [row.number for row in ledger.audit_rows(who="anna")] == [3, 1]
    assert [row.number for row in ledger.audit_rows(what="account.added")] == [3, 2]
    assert [row.number for row in ledger.audit_rows(what="job.")] == [4, 1]
    assert [row.number for row in ledger.audit_rows(what="job")] == []
    assert ledger.audit_rows(since=rows[0].at + 1) == []
    assert len(ledger.audit_rows(until=rows[0].at + 1)) == 4
    assert [row.number for row in ledger.audit_rows(below=3, limit=1)] == [2]
    assert ledger.audit_words() == ["account.added", "job.cancelled", "job.retried"]


def test_no_patient_gets_into_the_trail(ledger: Ledger) -> None:
    ledger.record_audit(
        ANNA,
        "study.read",
        thing_id=7,
        detail={"patient_name": "ZZPHI^CANARY", "jobs": [1], "object": object()},
    )

    (row,) = ledger.audit_rows()
    assert "ZZPHI" not in str(row)
    assert row.detail == {"patient_name": "(withheld)", "jobs": [1], "object": "(withheld: object)"}
    with pytest.raises(ValueError, match=r"not of the form thing\.happened"):
        ledger.record_audit(ANNA, "read the study of ZZPHI^CANARY")


def test_what_a_database_would_change_is_changed_before_it_is_sealed(ledger: Ledger) -> None:
    ledger.record_audit(
        Actor("an\0na \ud800" + "x" * 300, Role.VIEWER, "::1"), "a.b", detail={"ä": 0.1, "b": None}
    )

    (row,) = ledger.audit_rows()
    assert row.who.startswith("anna ?x")
    assert len(row.who) <= 200
    assert ledger.verify_audit().broken_at is None


_rows = st.lists(
    st.builds(
        AuditRow,
        number=st.just(0),
        at=st.floats(0, 4e9),
        who=st.text(max_size=5),
        role=st.sampled_from([str(role) for role in Role]),
        address=st.text(max_size=5),
        what=st.just("a.b"),
        thing_id=st.text(max_size=5),
        outcome=st.sampled_from([str(one) for one in AuditOutcome]),
        detail=st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        digest=st.just(""),
    ),
    min_size=2,
    max_size=6,
)


@how(max_examples=60, deadline=None)
@given(_rows, st.data())
def test_no_row_can_be_exchanged_for_another(rows: list[AuditRow], data: st.DataObject) -> None:
    from dataclasses import replace

    chain: list[AuditRow] = []
    previous = GENESIS
    for number, row in enumerate(rows, start=1):
        one = replace(row, number=number)
        previous = link(previous, one)
        chain.append(replace(one, digest=previous))
    assert walk(chain, last=len(chain), digest=previous).broken_at is None

    place = data.draw(st.integers(0, len(chain) - 1))
    other = data.draw(_rows)[0]
    forged = replace(other, number=place + 1, digest=chain[place].digest)
    assume_different = replace(forged, digest="") != replace(chain[place], digest="")
    broken = walk([*chain[:place], forged, *chain[place + 1 :]], last=len(chain), digest=previous).broken_at
    assert broken == (place + 1 if assume_different else None)


def test_details_are_what_json_gives_back() -> None:
    assert harmless({"role": Role.VIEWER, "of": (2, {3: None})}) == {"role": "viewer", "of": [2, {"3": None}]}


def test_every_decision_about_a_job_a_delivery_and_a_model_leaves_a_row(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    ledger.cancel_job(job_id, "wrong patient: ZZPHI", by=ANNA)
    ledger.retry_job(job_id, "the right one after all", by=ANNA)
    leaf, _root = finish(ledger, claim(ledger, job_id))
    ledger.cancel_delivery(leaf, "not wanted", by=BEN)
    ledger.retry_delivery(leaf, "wanted", by=BEN)
    ledger.promote("lung_ct", "1.0.0", by=BEN, because="accepted")
    ledger.shadow("lung_ct", "2.0.0", active="1.0.0", by=BEN, because="to compare")
    ledger.drop_channel("lung_ct", by=BEN, because="always the newest")

    told = [(row.who, row.what, row.thing_id) for row in reversed(ledger.audit_rows())]
    assert told == [
        ("anna", "job.cancelled", str(job_id)),
        ("anna", "job.retried", str(job_id)),
        ("ben", "delivery.cancelled", str(leaf)),
        ("ben", "delivery.retried", str(leaf)),
        ("ben", "model.promoted", "lung_ct"),
        ("ben", "model.shadowed", "lung_ct"),
        ("ben", "model.channel_dropped", "lung_ct"),
    ]
    assert "ZZPHI" not in str(ledger.audit_rows())  # What people type is in the history.
    assert ledger.verify_audit().broken_at is None


def test_a_decision_that_the_states_do_not_allow_leaves_none(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    finish(ledger, claim(ledger, job_id))

    with pytest.raises(IllegalTransition):
        ledger.cancel_job(job_id, "too late", by=ANNA)

    assert ledger.audit_rows() == []
