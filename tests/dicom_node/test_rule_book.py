"""The rules in force come from the ledger, and what was routed stays routed."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.routing import Rule
from dicom_node.rule_book import RuleBook, RulesUnreadable, adopt, as_tables, in_force, rules_of
from dicom_node.senders import Senders
from dicom_node.settings import ClosingSettings
from dicom_node.watch import Watch
from ledger.account import Role
from ledger.audit import Actor
from ledger.job import JobState
from ledger.rule_set import RuleSet, RuleSource
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.dicom_node.node_process import node_process
from tests.dicom_node.test_watch import AT_ONCE, arrival, the_study
from tests.patience import patient
from tests.peers.loopback import until

PATIENT = ClosingSettings(quiet_s=3600, quiet_open_s=3600, longest_s=3600, series_quiet_s=0.0)
EARLIER = {"peer": "pacs", "number": 2, "wait_s": 3600}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as opened:
        yield opened


def rule(name: str = "lungs", **changes: object) -> Rule:
    return Rule.model_validate({"name": name, "model": "lung_ct", "modality": "CT", **changes})


def by(name: str) -> Actor:
    return Actor(name, Role.ADMINISTRATOR, "192.0.2.7")


def save(ledger: Ledger, *rules: Rule) -> RuleSet:
    return ledger.save_rule_set(as_tables(rules), base=ledger.rules_version(), by=by("anna"), comment="")


def watch(ledger: Ledger, *rules: Rule, patience: ClosingSettings = AT_ONCE) -> Watch:
    return Watch(ledger, rules=rules, patience=patience, associations=Senders(), every_s=0.01)


def test_what_the_file_says_becomes_a_version_once(ledger: Ledger) -> None:
    assert in_force(ledger, [rule()]).version == 1
    first = adopt(ledger, [rule()])
    assert first is not None
    assert (first.number, first.source, first.by) == (1, RuleSource.FILE, "settings file")
    assert adopt(ledger, [rule()]) is None

    second = adopt(ledger, [rule(at_least=60)])
    assert second is not None
    assert in_force(ledger, [rule(at_least=60)]).rules == (rule(at_least=60),)


def test_what_was_saved_stays_until_the_file_changes(ledger: Ledger) -> None:
    adopt(ledger, [rule()])
    save(ledger, rule("saved"))

    assert in_force(ledger, [rule()]).rules == (rule("saved"),)
    assert adopt(ledger, [rule()]) is None
    assert in_force(ledger, [rule("new")]).rules == (rule("new"),)
    adopt(ledger, [rule("new")])
    assert [one.source for one in ledger.rule_sets()] == ["file", "console", "file"]


def test_a_file_without_rules_leaves_them_to_the_console(ledger: Ledger) -> None:
    assert in_force(ledger, []).rules == ()
    adopt(ledger, [rule()])
    save(ledger, rule("saved"))

    assert adopt(ledger, []) is None
    assert in_force(ledger, []).rules == (rule("saved"),)


def test_rules_that_nobody_decided_for_give_way_to_any_that_were_saved(ledger: Ledger) -> None:
    assert adopt(ledger, [rule("default")], default=True) is None
    assert in_force(ledger, [rule("default")], default=True).rules == (rule("default"),)
    save(ledger, rule("saved"))
    assert in_force(ledger, [rule("default")], default=True).rules == (rule("saved"),)


@given(
    st.fixed_dictionaries(
        {"modality": st.sets(st.sampled_from(["CT", "MR", "PT"]), min_size=1)},
        optional={
            "body_part": st.sets(st.sampled_from(["CHEST", "HEAD"])),
            "description": st.sampled_from(["lung|thorax", "^CT"]),
            "attributes": st.just({"ConvolutionKernel": "B[34]0"}),
            "ranges": st.sampled_from([{"KVP": [80, float("inf")]}, {"EchoTime": [0, 30]}]),
            "contrast": st.booleans(),
            "at_least": st.integers(1, 500),
            "spacing_max_mm": st.floats(0.5, 5),
            "each": st.sampled_from(["series", "image"]),
            "priority": st.sampled_from(["stat", "routine"]),
            "deliver_to": st.just(["archive"]),
            "settings": st.just({"least_mm": 4.5, "fine": True}),
        },
    )
)
def test_a_rule_comes_back_from_the_ledger_as_it_was(conditions: dict[str, object]) -> None:
    asked = rule(**conditions)
    kept = json.loads(json.dumps(as_tables([asked]), allow_nan=False))
    version = RuleSet(number=1, at=0, by="anna", comment="", source=RuleSource.CONSOLE, rules=tuple(kept))
    assert rules_of(version) == (asked,)


def test_a_running_watch_asks_the_rules_that_were_saved_meanwhile(ledger: Ledger) -> None:
    looking = watch(ledger, rule("before"))
    ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
    looking.look()
    assert [job.rule for job in ledger.jobs_of(the_study(ledger))] == ["before"]
    assert ledger.study(the_study(ledger)).rules is None

    saved = save(ledger, rule("after", at_least=5))
    ledger.record_arrivals([arrival(4)])
    looking.look()

    assert [(note.rule, note.taken) for note in ledger.routing_notes(the_study(ledger))] == [("after", False)]
    assert ledger.study(the_study(ledger)).rules == saved.number
    # What the rule that is gone had asked for is still there.
    assert [(job.rule, job.state) for job in ledger.jobs_of(the_study(ledger))] == [
        ("before", JobState.QUEUED)
    ]


def test_a_study_that_was_routed_is_not_routed_again_by_new_rules(ledger: Ledger) -> None:
    looking = watch(ledger, rule("before"))
    ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
    looking.look()
    save(ledger, rule("after"))

    assert looking.look() == []
    assert [job.rule for job in ledger.jobs_of(the_study(ledger))] == ["before"]


def test_a_series_that_is_there_already_is_asked_by_a_new_rule_for_series(ledger: Ledger) -> None:
    looking = watch(ledger, patience=PATIENT)
    ledger.record_arrivals([arrival(n) for n in range(1, 13)])
    looking.look()
    assert ledger.jobs_of(the_study(ledger)) == []

    saved = save(ledger, rule("early", when="series"))
    looking.look()
    assert [job.rule for job in ledger.jobs_of(the_study(ledger))] == ["early"]
    (routed,) = [one for one in ledger.history() if one.event == "series_routed"]
    assert routed.detail["rules"] == saved.number
    looking.look()
    assert len(ledger.jobs_of(the_study(ledger))) == 1


def test_a_job_whose_rule_was_changed_says_so_and_not_that_images_came(ledger: Ledger) -> None:
    looking = watch(ledger, rule("early", when="series"), patience=PATIENT)
    ledger.record_arrivals([arrival(n) for n in range(1, 13)])
    looking.look()
    save(ledger, rule("early", when="series", settings={"least_mm": 4}))
    looking.look()

    first, second = ledger.jobs_of(the_study(ledger))
    assert (first.state, second.supersedes) == (JobState.CANCELLED, first.id)
    assert first.because == f"overtaken by job {second.id}: its rule was changed"


def test_a_job_that_waits_is_given_what_the_rule_asked_that_opened_it(ledger: Ledger) -> None:
    save(ledger, rule("change", choose="thinnest", priors=EARLIER))
    looking = watch(ledger)
    ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
    looking.look()
    (job,) = ledger.jobs_of(the_study(ledger))
    (asked,) = ledger.fetches_of(job.study)

    save(ledger, rule("other"))
    ledger.fetch_abandoned(asked.id, "the archive is gone")
    looking.look()

    waited = [one.because for one in ledger.history(job_id=job.id) if one.event == "waited"]
    assert waited == ["0 of at most 2 earlier examinations are here"]


@pytest.mark.fault
def test_a_version_that_this_release_cannot_read_does_not_take_the_rules_away(
    ledger: Ledger, tmp_path: Path
) -> None:
    save(ledger, rule("good"))
    looking = watch(ledger)
    looking.look()
    ledger.save_rule_set(
        [{"name": "later", "phase_of_moon": "full"}],
        base=1,
        by=by("ben"),
        comment="",
    )

    ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
    looking.look()
    looking.look()
    assert ledger.study(the_study(ledger)).rules == 1
    (told,) = [one for one in ledger.history() if one.event == "unreadable"]
    assert told.because.startswith("version 2 of the rules, saved by ben, cannot be used by this release: ")
    with pytest.raises(RulesUnreadable, match="wetread rules rollback"):
        in_force(ledger, [])

    save(ledger, rule("mended"))
    assert RuleBook(ledger, []).look().rules == (rule("mended"),)


@pytest.mark.fault
def test_a_version_that_was_damaged_in_the_database_is_told_as_unreadable(
    ledger: Ledger, tmp_path: Path
) -> None:
    save(ledger, rule())
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("UPDATE rule_set SET rules = '[{\"name\": 3}]'")
    connection.close()
    with pytest.raises(RulesUnreadable, match="version 1 of the rules"):
        in_force(ledger, [])


def test_a_node_makes_the_rules_of_its_settings_a_version_and_notices_a_newer_one(tmp_path: Path) -> None:
    asked = {"name": "lungs", "model": "lung_ct", "modality": ["CT"]}
    with node_process(tmp_path, rules=[asked]) as node:
        assert node.port
        with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
            first = ledger.latest_rule_set()
            assert first is not None
            assert (first.number, first.rules) == (1, (asked,))
            save(ledger, rule("other"))
            until(
                lambda: any('"rules.taken"' in line or "rules.taken" in line for line in node.log),
                within_s=10,
                what="the node has taken version 2",
            )
            assert any("version=2" in line or '"version": 2' in line for line in node.log)


def test_a_node_does_not_start_on_rules_that_do_not_fit_its_peers(tmp_path: Path) -> None:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        save(ledger, rule("change", priors=EARLIER))
    with node_process(tmp_path) as node:
        assert node.process.wait(patient(10)) == 2
    assert "rule 'change' wants priors from 'pacs'" in node.log[-1]
    assert "(version 1 of the rules)" in node.log[-1]
