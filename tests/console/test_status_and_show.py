"""What the ledger knows is what an operator sees."""

import json
from pathlib import Path

from ledger.completeness import Statement, Witness
from ledger.delivery import DeliveryEvent
from ledger.identifiers import AETitle, JobId, Uid
from ledger.job import JobState
from ledger.result import Role
from ledger.study import Completeness, RoutingNote
from tests.console.conftest import FilledSite, Wetread
from tests.ledger.site import (
    claim,
    close,
    digest,
    finish,
    new_job,
    queued_job,
    receive,
    result,
    send,
    slice_of,
)
from tests.results.everything import everything
from tests.results.made import make


def a_delivered_study(site: FilledSite) -> int:
    job = queued_job(site.ledger)
    for delivery in sorted(finish(site.ledger, claim(site.ledger, job))):
        send(site.ledger, delivery)
        site.ledger.confirm_delivery(delivery, "the peer answered 0x0000")
    return job


def a_parked_job(site: FilledSite) -> int:
    job = queued_job(site.ledger)
    site.ledger.park_job(claim(site.ledger, job), "the child was killed after 120 s")
    return job


def test_an_empty_site_needs_no_attention(wetread: Wetread, site: FilledSite) -> None:
    done = wetread("status")

    assert done.returncode == 0
    assert "nothing needs attention" in done.stdout
    assert "No study has arrived yet" in done.stdout


def test_a_site_that_nobody_serves_says_so(wetread: Wetread, site: FilledSite) -> None:
    (site.folder / "wetread-data" / "spool" / "node.lock").unlink()

    done = wetread("status")
    assert done.returncode == 1
    assert "no node runs, so nothing is received: start `wetread serve`" in done.stdout
    assert wetread("status", "--ping").returncode == 0  # It asks after the ledger, and nothing else.


def test_a_sender_that_was_refused_is_named(wetread: Wetread, site: FilledSite) -> None:
    because = "SCANNER2 at 10.0.0.5 calls another AE title than ours (WETREAD): correct it at that machine"
    for _ in range(3):
        site.ledger.record_event(
            "node", "association_rejected", because=because, detail={"address": "10.0.0.5", "code": 0x010107}
        )

    status = wetread("status")
    assert status.returncode == 0  # It is to be looked at, but nothing of ours stands still.
    assert "a sender was refused 3 times since" in status.stdout
    assert because in status.stdout


def test_a_delivered_study_says_so(wetread: Wetread, site: FilledSite) -> None:
    job = a_delivered_study(site)

    status = json.loads(wetread("status", "--json").stdout)
    assert status["counts"]["deliveries"]["committed"] == 2
    assert status["studies"][0]["where"] == "lung_ct has a result, and PACS has it."
    shown = wetread("show", job).stdout
    assert "lung_ct has a result, and PACS has it." in shown.splitlines()[1]
    assert "load 0.5 s, model 2.0 s" in shown
    assert "CET" in shown  # local time, with its zone
    assert shown.index("segmentation") < shown.index("report")


def test_what_a_report_says_is_shown_with_its_numbers(
    wetread: Wetread, site: FilledSite, tmp_path: Path
) -> None:
    job = a_delivered_study(site)
    assert "Pneumothorax" not in wetread("show", job).stdout  # The report is not in the spool any more.
    report = next(one for one in site.ledger.results_of(JobId(job)) if one.role is Role.REPORT)
    place = site.folder / "wetread-data" / "spool" / report.path
    place.parent.mkdir(parents=True)
    make(tmp_path / "made", said=everything()).report.rename(place)

    shown = " ".join(wetread("show", job).stdout.split())
    assert "Pneumothorax: present, probability 93 % (calibrated; present from 30 %)." in shown
    assert "Nodule 1: certainty 93 %, 1.88 x 4.12 x 7.5 mm, on images 3 to 5." in shown
    assert "Carina: on image 4, certainty 75 %, +/- 1.2 mm." in shown
    assert "Bone age" in shown
    (told,) = json.loads(wetread("show", job, "--json").stdout)["jobs"]
    assert "Caution: The lung bases are cut off." in told["says"]
    values = {(one["about"], one["name"]): (one["value"], one["unit"]) for one in told["values"]}
    assert values["lung_ct Pneumothorax", "Probability"] == (93.4, "%")
    assert values["lung_ct Nodule 1", "Certainty of Finding"] == (93.4, "%")
    assert values["lung_ct series", "Bone age"] == (11.25, "a")


def test_an_open_study_is_waited_for(wetread: Wetread, site: FilledSite) -> None:
    receive(site.ledger, "1.2.3")

    assert "the study is still open" in wetread("show", "1.2.3").stdout


def test_what_a_peer_still_has_of_an_open_study_is_shown(wetread: Wetread, site: FilledSite) -> None:
    study = receive(site.ledger, "1.2.3")
    said = {Uid("1.2.3.1"): 5, Uid("1.2.3.2"): 4}
    site.ledger.record_count(study, "PACS", theirs=9, series=said, asked_at=site.ledger.now())

    shown = wetread("show", "1.2.3").stdout
    assert "6 of 9 images are still to come, says PACS" in shown.splitlines()[1]
    assert "it has 9 images, here are 3" in shown
    assert "3 of 5 are here, of series 1.2.3.1" in shown
    values = json.loads(wetread("show", "1.2.3", "--json").stdout)
    assert values["lacking"][0]["series"] == {"1.2.3.1": [3, 5], "1.2.3.2": [0, 4]}
    assert values["counts"][0]["theirs"] == 9
    assert "6 of 9" in json.loads(wetread("status", "--json").stdout)["studies"][0]["where"]


def test_who_said_that_a_study_is_complete_or_not_is_shown(wetread: Wetread, site: FilledSite) -> None:
    study = receive(site.ledger, "1.2.3")
    facts = site.ledger.study(study)
    because = "partial: 3 of 9 per PACS; open for 900 s"
    site.ledger.close_study(
        study,
        seen_instances=facts.instances,
        seen_last_arrival_at=facts.last_arrival_at,
        because=because,
        closed_as=Completeness.PARTIAL,
        statements=[
            Statement(
                witness=Witness.COUNT, by="PACS", because="waiting for 6 of 9 per PACS", ours=3, theirs=9
            ),
            Statement(witness=Witness.LONGEST_WAIT, because=because, decided=True),
        ],
        notes=[],
        jobs=[new_job(site.ledger, study)],
    )
    shown = wetread("show", "1.2.3").stdout
    assert "Made on an incomplete study: partial: 3 of 9 per PACS" in " ".join(shown.splitlines()[1:3])
    assert "waiting for 6 of 9 per PACS" in shown
    assert "believed" in shown
    values = json.loads(wetread("show", "1.2.3", "--json").stdout)
    assert values["study"]["closed_as"] == "partial"
    assert [(one["witness"], one["decided"]) for one in values["statements"]] == [
        ("count", False), ("longest wait", True),
    ]  # fmt: skip
    status = json.loads(wetread("status", "--json").stdout)
    assert status["studies"][0]["closed_as"] == "partial"
    (alarm,) = [one for one in status["alarms"] if one["kind"] == "incomplete"]
    assert alarm["urgent"] is False
    assert alarm["words"] == (
        f"1 study was closed incomplete in the last day; the last: {because}  →  wetread show 1.2.3"
    )


def test_what_no_rule_took_gives_each_reason(wetread: Wetread, site: FilledSite) -> None:
    study = receive(site.ledger, "1.2.3")
    facts, (series,) = site.ledger.study(study), site.ledger.series_of(study)
    site.ledger.close_study(
        study,
        seen_instances=facts.instances,
        seen_last_arrival_at=facts.last_arrival_at,
        because="quiet",
        notes=[RoutingNote(series_id=series.id, rule="chest", taken=False, because="3 images, rule asks 20")],
        jobs=[],
    )
    shown = wetread("show", "1.2.3").stdout
    assert "no rule took any of its 1 series (3 images, rule asks 20)" in shown.splitlines()[1]
    assert "not taken" in shown


def test_a_parked_job_is_an_alarm_until_somebody_decides(wetread: Wetread, site: FilledSite) -> None:
    job = a_parked_job(site)

    status = wetread("status")
    assert status.returncode == 1
    assert f"job {job} (lung_ct) is parked: the child was killed after 120 s" in status.stdout
    assert f"`wetread retry {job}`" in wetread("show", job).stdout

    assert wetread("retry", job, "--because", "more memory now").returncode == 0
    assert site.ledger.job(job).state is JobState.QUEUED
    assert wetread("status").returncode == 0
    assert "more memory now" in wetread("show", job).stdout
    assert wetread("retry", job).returncode == 1  # It is queued: there is nothing to decide.


def test_a_cancelled_job_is_cancelled(wetread: Wetread, site: FilledSite) -> None:
    job = a_parked_job(site)

    assert "is cancelled" in wetread("cancel", job).stdout
    assert site.ledger.job(job).state is JobState.CANCELLED
    assert "was cancelled" in wetread("show", job).stdout


def test_an_archive_that_is_away_is_an_alarm_with_the_next_attempt(
    wetread: Wetread, site: FilledSite
) -> None:
    leaf, _ = sorted(finish(site.ledger, claim(site.ledger, queued_job(site.ledger))))
    send(site.ledger, leaf, DeliveryEvent.POSTPONED, status=None, retry_in_s=60.0)

    status = wetread("status")
    assert status.returncode == 1
    assert "PACS is away: 1 result waits, next attempt in" in status.stdout
    assert "wetread echo PACS" in status.stdout


def test_a_refused_result_is_sent_again_on_request(wetread: Wetread, site: FilledSite) -> None:
    job = queued_job(site.ledger)
    leaf, _ = sorted(finish(site.ledger, claim(site.ledger, job)))
    send(site.ledger, leaf, DeliveryEvent.REFUSED, status=0xA900)

    status = wetread("status")
    assert status.returncode == 1
    assert f"wetread retry {job}" in status.stdout
    assert "1 delivery to PACS will be sent again" in wetread("retry", job).stdout
    assert wetread("status").returncode == 0


def test_patients_are_named_only_on_request(wetread: Wetread, site: FilledSite) -> None:
    named = {"PatientName": "Canary^Bird", "PatientID": "CANARY-ID", "AccessionNumber": "A-77"}
    others = dict.fromkeys(
        ("ReferringPhysicianName", "OperatorsName", "ResponsiblePerson", "AdmissionID", "MilitaryRank",
         "StudyComments", "PatientComments", "InstitutionName", "RequestingPhysician"), "canary"
    )  # fmt: skip
    site.ledger.record_arrivals([slice_of("1.2.3", 1, **named, **others, ConvolutionKernel="B40f")])
    assert "B40f" in wetread("show", "A-77", "--json").stdout
    for command in (["status"], ["status", "--json"], ["show", "A-77"], ["show", "A-77", "--json"]):
        shown = wetread(*command).stdout
        # What programs collect stays without anything that leads to a patient.
        assert ("A-77" in shown) == (command != ["status", "--json"])
        assert "anary" not in shown.replace("CANARY", "canary"), command
        assert "Canary^Bird" in wetread(*command, "--patient").stdout


def test_nobody_knows_of_what_was_never_there(wetread: Wetread, site: FilledSite) -> None:
    for command in (["show", "1.2.3.4"], ["retry", "99"], ["cancel", "99"]):
        done = wetread(*command)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_a_late_image_shows_what_was_replaced(wetread: Wetread, site: FilledSite) -> None:
    first = a_delivered_study(site)
    study = receive(site.ledger, "1.2.3", [4])
    close(site.ledger, study, [new_job(site.ledger, study)])

    shown = wetread("show", "1.2.3").stdout
    assert f"job {first}" in shown
    assert "waits for a worker" in shown.splitlines()[1]
    assert json.loads(wetread("show", "1.2.3", "--json").stdout)["jobs"][1]["job"]["supersedes"] == first


def test_show_tells_what_the_archive_was_told_of_an_older_result(wetread: Wetread, site: FilledSite) -> None:
    first = a_delivered_study(site)
    study = receive(site.ledger, "1.2.3", [4])
    (second,) = close(site.ledger, study, [new_job(site.ledger, study)])
    for one in finish(site.ledger, claim(site.ledger, second)):
        send(site.ledger, one)
        site.ledger.confirm_delivery(one, "found")
    (owed,) = site.ledger.owed_notes(["PACS"])
    note = site.ledger.open_note(owed, result(Role.REJECTION_NOTE, 3), "reject")
    send(site.ledger, note)
    site.ledger.confirm_delivery(note, "the peer answered 0x0000")

    sentence = f"superseded by job {second}; PACS was told to hide the old result: committed"
    shown = json.loads(wetread("show", "1.2.3", "--json").stdout)
    assert shown["jobs"][0]["superseded"] == [f"{sentence} (the peer answered 0x0000)"]
    assert shown["jobs"][1]["superseded"] == []
    assert sentence in " ".join(wetread("show", f"job {first}").stdout.split())


def test_quarantine_is_listed(wetread: Wetread, site: FilledSite) -> None:
    assert "Nothing lies in quarantine" in wetread("show", "quarantine").stdout
    site.ledger.record_quarantine(
        sop_instance="1.2.3.4",
        digest=digest("x"),
        path="quarantine/x",
        because="other bytes under a known UID",
        calling="SCANNER",
        address="10.0.0.1",
        study_id=None,
    )
    assert "other bytes under a known UID" in wetread("show", "quarantine").stdout
    status = wetread("status")
    assert status.returncode == 0  # To be looked at, but nothing stands still.
    assert "1 received file lies in quarantine" in status.stdout


def test_what_an_archive_answers_for_is_shown(wetread: Wetread, site: FilledSite) -> None:
    job = queued_job(site.ledger)
    deliveries = sorted(finish(site.ledger, claim(site.ledger, job)))
    for delivery in deliveries:
        send(site.ledger, delivery)
    asked = site.ledger.open_commitment(job, "PACS", deliveries, calling=AETitle("WETREAD"))
    assert asked is not None
    kept, lost = (item.sop_instance for item in asked.items)
    site.ledger.report_commitment(asked.transaction, peer="PACS", committed=[kept], failed={lost: 0x0112})

    shown = wetread("show", job).stdout

    assert f"storage commitment {asked.transaction} succeeded for 1 of 2" in shown
    assert f"{lost}: 0x0112: no such object instance" in shown
    values = json.loads(wetread("show", job, "--json").stdout)
    assert values["jobs"][0]["commitments"][0]["state"] == "reported"
