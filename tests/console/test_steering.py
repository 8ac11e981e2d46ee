"""What operators decide on the command line: done, told in a sentence, and audited under their name."""

import getpass

import pytest

from ledger.delivery import DeliveryState
from ledger.job import JobState, Priority
from ledger.pause import PauseKind
from ledger.wish import WishKind
from tests.console.conftest import FilledSite, Wetread
from tests.ledger.site import claim, close, finish, queued_job, receive, send
from tests.ledger.test_wishes import quarantined


def said(wetread: Wetread, *arguments: object) -> str:
    done = wetread(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused(wetread: Wetread, *arguments: object) -> str:
    done = wetread(*arguments)
    assert done.returncode == 1
    return done.stderr


def test_a_paused_model_is_told_wherever_one_asks_and_goes_on_when_somebody_says_so(
    wetread: Wetread, site: FilledSite
) -> None:
    job_id = queued_job(site.ledger)
    assert "its jobs stay queued" in said(wetread, "pause", "model", "lung_ct", "--because", "wrong side")
    assert said(wetread, "pause", "model", "lung_ct") == "model lung_ct is paused already."

    status = wetread("status").stdout
    me = getpass.getuser()
    assert f"model lung_ct is paused by {me}: wrong side, since" in status
    assert "its jobs wait  →  wetread resume model lung_ct" in status
    assert f"waits: the model lung_ct is paused by {me} since" in wetread("show", job_id).stdout
    assert "its model is paused" in said(wetread, "queue")
    assert wetread("pause", "planet", "mars").returncode == 2

    assert said(wetread, "resume", "model", "lung_ct") == "model lung_ct goes on."
    assert said(wetread, "resume", "model", "lung_ct") == "model lung_ct is not paused."
    assert site.ledger.pauses() == []
    assert [(row.who, row.what) for row in site.ledger.audit_rows()] == [
        (me, "model.resumed"),
        (me, "model.paused"),
    ]


def test_a_result_that_waits_for_a_paused_destination_says_so(wetread: Wetread, site: FilledSite) -> None:
    job_id = queued_job(site.ledger)
    finish(site.ledger, claim(site.ledger, job_id))
    said(wetread, "pause", "peer", "PACS", "--because", "migration")
    assert "not yet at PACS: what goes there is paused by" in wetread("show", job_id).stdout


def test_the_order_is_changed_by_job_number(wetread: Wetread, site: FilledSite) -> None:
    first, second, third = (queued_job(site.ledger, f"1.2.{n}") for n in (1, 2, 3))
    assert said(wetread, "front", third) == f"Job {third} is the next that a worker takes."
    assert said(wetread, "front", second, "--after", third) == f"Job {second} comes right after job {third}."
    assert [one.job.id for one in site.ledger.queue()] == [third, second, first]
    claim(site.ledger, third)
    assert "only what is queued has a place" in refused(wetread, "front", third)


def test_a_job_or_a_whole_study_is_made_stat_and_routine_again(wetread: Wetread, site: FilledSite) -> None:
    job_id = queued_job(site.ledger)
    assert said(wetread, "stat", job_id) == f"Job {job_id} waits in the stat lane."
    assert site.ledger.job(job_id).priority is Priority.STAT
    answer = said(wetread, "stat", "1.2.3", "--routine")
    assert "1 of its jobs changed lanes; those that are opened later wait as their rule says." in answer
    assert site.ledger.job(job_id).priority is Priority.ROUTINE
    assert said(wetread, "stat", "1.2.3").endswith("those that are opened later are stat, too.")
    assert "knows no study and no job" in refused(wetread, "stat", "9.9.9")


def test_what_is_parked_goes_on_and_what_is_done_is_done_again(wetread: Wetread, site: FilledSite) -> None:
    parked = queued_job(site.ledger)
    site.ledger.park_job(claim(site.ledger, parked), "odd")
    assert "is queued again" in said(wetread, "again", parked)
    finish(site.ledger, claim(site.ledger, parked))
    assert f"take the place of those of job {parked}" in said(wetread, "again", parked)
    assert "was overtaken by job" in refused(wetread, "again", parked)


def test_a_model_is_asked_about_a_series_that_it_fits(wetread: Wetread, site: FilledSite) -> None:
    study_id = receive(site.ledger, "1.2.3")
    close(site.ledger, study_id)
    told = refused(wetread, "ask", "cxr_quality", "1.2.3", "--series", "1.2.3.1")
    assert "cxr_quality" in told
    assert "this series is CT" in told
    assert "has no series '1.2.9'" in refused(wetread, "ask", "lung_ct", "1.2.3", "--series", "1.2.9")
    assert "is no [[peer]]" in refused(
        wetread, "ask", "lung_ct", "1.2.3", "--series", "1.2.3.1", "--to", "NOWHERE"
    )
    assert site.ledger.jobs() == []
    told = said(wetread, "ask", "lung_ct", "1.2.3", "--series", "1.2.3.1", "--to", "PACS")
    (job,) = site.ledger.jobs()
    assert told == f"Job {job.id} is queued: lung_ct; its results go to PACS."
    assert (job.rule, job.destinations) == ("by hand: lung_ct", ("PACS",))


def test_results_are_sent_again_and_only_where_there_are_some(wetread: Wetread, site: FilledSite) -> None:
    job_id = queued_job(site.ledger)
    assert "nothing of job" in refused(wetread, "deliver", job_id)
    for one in finish(site.ledger, claim(site.ledger, job_id)):
        send(site.ledger, one)
        site.ledger.confirm_delivery(one, "there")
    assert said(wetread, "deliver", job_id) == f"2 of 2 deliveries of job {job_id} are sent again, to PACS."
    assert {one.state for one in site.ledger.deliveries_of(job_id)} == {DeliveryState.WAITING}
    assert "is no [[peer]]" in refused(wetread, "deliver", job_id, "--to", "NOWHERE")


def test_an_open_study_is_closed_by_the_node_because_somebody_asks(
    wetread: Wetread, site: FilledSite
) -> None:
    study_id = receive(site.ledger, "1.2.3")
    told = said(wetread, "force-complete", "1.2.3", "--because", "the scanner is broken")
    assert "images that come later open it again" in told
    (wish,) = site.ledger.wishes()
    assert (wish.kind, wish.study_id, wish.because) == (WishKind.CLOSE, study_id, "the scanner is broken")
    assert "knows no study" in refused(wetread, "force-complete", "9.9.9")


@pytest.mark.parametrize(("delete", "kind"), [((), WishKind.TAKE_IN), (("--delete",), WishKind.DISCARD)])
def test_what_lies_in_quarantine_is_decided_by_its_number(
    wetread: Wetread, site: FilledSite, delete, kind
) -> None:
    number = quarantined(site.ledger)
    assert str(number) in wetread("show", "quarantine").stdout
    said(wetread, "release", number, *delete)
    assert [one.kind for one in site.ledger.wishes()] == [kind]
    assert "somebody has decided" in refused(wetread, "release", number)


def test_the_queue_is_listed(wetread: Wetread, site: FilledSite) -> None:
    assert "Nothing waits." in said(wetread, "queue")
    queued_job(site.ledger)
    assert "no worker takes jobs" in said(wetread, "queue")
    site.ledger.pause(PauseKind.PEER, "PACS", by=_ann(), because="")
    assert "peer PACS is paused by ann" in said(wetread, "queue")
    assert site.ledger.jobs(states=[JobState.QUEUED])


def _ann():
    from tests.ledger.people import ANN

    return ANN
