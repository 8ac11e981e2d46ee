"""What the names of models mean, and versions that run silently beside them."""

from dataclasses import replace

from ledger.account import Role
from ledger.audit import Actor
from ledger.channel import Channel, on_channels
from ledger.identifiers import Uid
from ledger.job import JobState, Priority
from ledger.store.ledger import Ledger
from tests.ledger.site import OPERATOR, claim, close, digest, finish, new_job, receive

BEN = Actor("ben", Role.ADMINISTRATOR, "192.0.2.8")


def channel(**more: object) -> Channel:
    known = {"name": "lung_ct", "active": "1.0.0", "shadow": None, "changed_at": 0.0, "changed_by": "me"}
    return Channel(**(known | more))


def test_a_name_that_was_promoted_means_that_version_until_another_is(ledger: Ledger) -> None:
    assert ledger.channels() == {}
    ledger.promote("lung_ct", "1.0.0", by=OPERATOR, because="accepted")
    ledger.promote("lung_ct", "2.0.0", by=BEN, because="better")

    (found,) = ledger.channels().values()
    assert (found.name, found.active, found.shadow, found.changed_by) == ("lung_ct", "2.0.0", None, "ben")
    told = [(one.event, one.before, one.after, one.because, one.detail["by"]) for one in ledger.history()]
    assert told == [
        ("promoted", "", "1.0.0", "accepted", "anna"),
        ("promoted", "1.0.0", "2.0.0", "better", "ben"),
    ]


def test_a_shadow_keeps_what_the_name_means_and_ends_where_it_is_promoted(ledger: Ledger) -> None:
    ledger.shadow("lung_ct", "2.0.0", active="1.0.0", by=OPERATOR, because="try it")
    found = ledger.channels()["lung_ct"]
    assert (found.active, found.shadow) == ("1.0.0", "2.0.0")

    ledger.shadow("lung_ct", "3.0.0", active="9.9.9", by=OPERATOR, because="newer")
    assert ledger.channels()["lung_ct"].active == "1.0.0"
    ledger.promote("lung_ct", "3.0.0", by=OPERATOR, because="the same, faster")
    assert ledger.channels()["lung_ct"] == replace(ledger.channels()["lung_ct"], active="3.0.0", shadow=None)


def test_without_a_channel_a_name_means_the_newest_again(ledger: Ledger) -> None:
    ledger.promote("lung_ct", "1.0.0", by=OPERATOR, because="")
    ledger.drop_channel("lung_ct", by=OPERATOR, because="always the newest")
    ledger.drop_channel("lung_ct", by=OPERATOR, because="twice is once")

    assert ledger.channels() == {}
    assert [one.event for one in ledger.history()] == ["promoted", "channel_dropped"]


def test_a_job_is_opened_for_a_version_and_keeps_the_key_of_the_name(ledger: Ledger) -> None:
    job = new_job(ledger, receive(ledger, "1.2.3"))

    assert on_channels([job], {}) == [job]
    assert on_channels([job], {"lung_ct": channel()}) == [replace(job, model="lung_ct@1.0.0")]
    pinned = replace(job, model="lung_ct@0.9")
    assert on_channels([pinned], {"lung_ct": channel()}) == [pinned]


def test_a_shadow_runs_beside_the_active_version_and_nobody_gets_its_results(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    both = {"lung_ct": channel(shadow="2.0.0")}
    jobs = on_channels([new_job(ledger, study_id, priority=Priority.STAT)], both)
    active_id, shadow_id = close(ledger, study_id, jobs)

    active, shadow = ledger.job(active_id), ledger.job(shadow_id)
    assert (active.model, active.shadow, active.destinations) == ("lung_ct@1.0.0", False, ("PACS",))
    assert (shadow.model, shadow.shadow, shadow.destinations) == ("lung_ct@2.0.0", True, ())
    assert (shadow.priority, shadow.state) == (Priority.ROUTINE, JobState.QUEUED)
    assert active.state is JobState.QUEUED  # The shadow has not overtaken it.
    assert finish(ledger, claim(ledger, shadow_id)) == []
    # Nor is it given out to whoever looks into what is held.
    finish(ledger, claim(ledger, active_id))
    held = ledger.held_study(Uid.parse("1.2.3"))
    assert held is not None
    made = {str(one.sop_instance) for series in held.series for one in series.instances}
    results = {str(one.sop_instance) for one in ledger.results_of(active_id)}
    assert results <= made
    assert not made & ({str(one.sop_instance) for one in ledger.results_of(shadow_id)} - results)


def test_a_late_image_overtakes_each_by_its_own_kind(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    both = {"lung_ct": channel(shadow="2.0.0")}
    first = close(ledger, study_id, on_channels([new_job(ledger, study_id)], both))
    receive(ledger, "1.2.3", [4])
    second = close(ledger, study_id, on_channels([new_job(ledger, study_id)], both))

    assert [ledger.job(one).supersedes for one in second] == first
    assert {ledger.job(one).state for one in first} == {JobState.CANCELLED}


def test_a_study_that_is_closed_again_after_a_promotion_is_not_done_again(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    close(ledger, study_id, on_channels([new_job(ledger, study_id)], {"lung_ct": channel()}))
    chest = new_job(ledger, study_id)
    receive(ledger, "1.2.3", [1], series=2)  # Something else of the study comes late.

    assert close(ledger, study_id, on_channels([chest], {"lung_ct": channel(active="2.0.0")})) == []


def test_runs_of_the_same_images_are_paired_for_comparison(ledger: Ledger) -> None:
    pairs = []
    for study in ("1.2.3", "1.2.4"):
        study_id = receive(ledger, study)
        both = {"lung_ct": channel(shadow="2.0.0")}
        other = replace(new_job(ledger, study_id, rule="brain"), model="brain", key=digest(study))
        active, shadow, _ = close(ledger, study_id, on_channels([new_job(ledger, study_id), other], both))
        pairs.append((active, shadow))
    for one in (*pairs[0], pairs[1][1]):
        finish(ledger, claim(ledger, one))

    assert [(a.id, b.id) for a, b in ledger.shadow_pairs("lung_ct")] == [pairs[0]]
    finish(ledger, claim(ledger, pairs[1][0]))
    assert [(a.id, b.id) for a, b in ledger.shadow_pairs("lung_ct")] == [pairs[1], pairs[0]]
    assert ledger.shadow_pairs("lung") == []
