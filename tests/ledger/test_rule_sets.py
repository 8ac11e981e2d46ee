"""Every set of rules that was in force is kept, and nobody overwrites what he has not seen."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.account import Role
from ledger.audit import Actor
from ledger.rule_set import RulesMovedOn, RuleSource
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from tests.ledger.site import close, receive

LUNGS = {"name": "lungs", "model": "lung_ct", "modality": ["CT"], "ranges": {"KVP": [80, None]}}
HEADS = {"name": "heads", "model": "head_mr", "modality": ["MR"]}


def save(ledger: Ledger, *rules: dict[str, object], base: int, by: str = "anna", **how):
    who = Actor(by, Role.ADMINISTRATOR, "192.0.2.7")
    return ledger.save_rule_set(rules, base=base, by=who, comment=how.pop("comment", "better"), **how)


def test_without_a_saved_version_there_is_none(ledger: Ledger) -> None:
    assert (ledger.rules_version(), ledger.latest_rule_set(), ledger.rule_sets()) == (0, None, [])
    with pytest.raises(NotInLedger, match="there is no version 1 of the rules"):
        ledger.rule_set(1)


def test_versions_are_numbered_and_all_of_them_stay(ledger: Ledger) -> None:
    first = save(ledger, LUNGS, base=0, source=RuleSource.FILE, by="wetread.toml")
    second = save(ledger, LUNGS, HEADS, base=1, comment="heads too")

    assert (first.number, second.number, ledger.rules_version()) == (1, 2, 2)
    assert ledger.latest_rule_set() == second
    assert ledger.latest_rule_set(RuleSource.FILE) == first
    assert ledger.rule_sets() == [second, first]
    assert ledger.rule_set(2).rules == (LUNGS, HEADS)
    assert (second.by, second.comment, second.source) == ("anna", "heads too", RuleSource.CONSOLE)
    told = [(one.thing, one.event, one.before, one.after, one.because) for one in ledger.history()]
    assert told == [("rules", "saved", "", "1", "better"), ("rules", "saved", "1", "2", "heads too")]


def test_going_back_is_a_new_version_equal_to_the_old_one(ledger: Ledger) -> None:
    save(ledger, LUNGS, base=0)
    save(ledger, base=1)
    back = save(ledger, *ledger.rule_set(1).rules, base=2, same_as=1)

    assert (back.number, back.same_as, back.rules) == (3, 1, (LUNGS,))
    assert ledger.rule_set(2).rules == ()


def test_whoever_did_not_see_the_latest_version_saves_nothing(ledger: Ledger) -> None:
    save(ledger, LUNGS, base=0)
    save(ledger, HEADS, base=1, by="ben")

    with pytest.raises(RulesMovedOn, match="made from version 1, and ben has saved version 2 since"):
        save(ledger, base=1)
    with pytest.raises(RulesMovedOn, match="made from no version, and ben has saved"):
        save(ledger, base=0)
    assert ledger.rules_version() == 2


def test_what_was_never_saved_cannot_be_saved_upon(ledger: Ledger) -> None:
    with pytest.raises(RulesMovedOn, match="there is no version 7 of the rules here"):
        save(ledger, LUNGS, base=7)


def test_of_many_who_save_at_once_one_does(ledger: Ledger) -> None:
    def attempt(who: int) -> bool:
        try:
            save(ledger, LUNGS, base=0, by=f"user {who}")
        except RulesMovedOn:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == [False] * 7 + [True]
    assert [one.number for one in ledger.rule_sets()] == [1]


def test_a_study_tells_by_which_version_it_was_routed(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    facts = ledger.study(study_id)
    assert facts.rules is None
    ledger.close_study(
        study_id,
        seen_instances=facts.instances,
        seen_last_arrival_at=facts.last_arrival_at,
        because="quiet for 5 s",
        notes=(),
        jobs=(),
        rules=4,
    )

    assert ledger.study(study_id).rules == 4
    assert ledger.history(study_id=study_id)[-1].detail["rules"] == 4


def test_studies_of_the_last_days_come_page_by_page_the_newest_first(ledger: Ledger) -> None:
    studies = [receive(ledger, f"1.2.{n}") for n in range(5)]
    for study_id in studies[:4]:
        close(ledger, study_id)
    ledger.purge_study(studies[2], "7 days are over")

    first = ledger.judged_studies(since=0, limit=2)
    second = ledger.judged_studies(since=0, before=first[-1].id, limit=9)
    assert [one.id for one in (*first, *second)] == [studies[k] for k in (3, 2, 1, 0)]
    assert ledger.count_judged_studies(since=0) == 4
    assert ledger.judged_studies(since=ledger.now() + 60) == []
