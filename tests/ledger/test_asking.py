"""What an operator asks for by hand ends in jobs and deliveries like any other, with nothing beside them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ledger.delivery import DeliveryState
from ledger.identifiers import DeliveryId, JobId, StudyId
from ledger.job import JobState
from ledger.result import Role
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.people import ANN
from tests.ledger.site import claim, close, digest, finish, new_job, queued_job, receive, result, send


def done(ledger: Ledger, study: str = "1.2.3", **how) -> JobId:
    job_id = queued_job(ledger, study, **how)
    finish(ledger, claim(ledger, job_id))
    return job_id


def arrive(ledger: Ledger, deliveries: Sequence[DeliveryId]) -> None:
    for one in deliveries:
        send(ledger, one)
        ledger.confirm_delivery(one, "it is there")


def states(ledger: Ledger, job_id: JobId) -> list[DeliveryState]:
    return [one.state for one in ledger.deliveries_of(job_id)]


def audited(ledger: Ledger) -> list[tuple[str, str, str]]:
    return [(row.who, row.what, row.thing_id) for row in ledger.audit_rows()]


class TestARunAgain:
    def test_it_is_a_new_job_on_the_same_images_under_the_same_rule(self, ledger: Ledger) -> None:
        first = queued_job(ledger)
        held = claim(ledger, first)
        arrive(ledger, finish(ledger, held))
        again = ledger.run_again(first, by=ANN, because="new driver")

        job = ledger.job(again)
        assert (job.state, job.rule, job.model, job.again) == (JobState.QUEUED, "lungs", "lung_ct", 1)
        assert (job.supersedes, job.destinations) == (first, ("PACS",))
        second = claim(ledger, again)
        assert (second.inputs, second.settings, second.again) == (held.inputs, held.settings, 1)
        report = next(one for one in ledger.results_of(first) if one.role is Role.REPORT)
        assert second.predecessors == {"PACS": report}
        opened = [one for one in ledger.history(job_id=again) if one.event == "opened"]
        assert opened[0].because == f"job {first} again: it was asked for again: new driver"
        assert opened[0].detail == {"by": "ann"}
        assert audited(ledger)[-1] == ("ann", "job.run_again", str(first))

    def test_its_results_take_the_place_of_the_first_ones_and_none_stands_beside_them(
        self, ledger: Ledger
    ) -> None:
        first = queued_job(ledger)
        before = finish(ledger, claim(ledger, first))
        arrive(ledger, before)
        again = ledger.run_again(first, by=ANN)
        assert ledger.owed_notes(["PACS"]) == []  # Nothing is taken away before the new one is there.
        arrive(ledger, finish(ledger, claim(ledger, again)))

        (owed,) = ledger.owed_notes(["PACS"])
        assert (owed.job_id, [one.delivery_id for one in owed.superseded]) == (again, before)

    def test_what_was_not_sent_yet_of_the_first_run_is_not_sent_any_more(self, ledger: Ledger) -> None:
        first = done(ledger)
        again = ledger.run_again(first, by=ANN)
        assert states(ledger, first) == [DeliveryState.CANCELLED] * 2
        because = {one.because for one in ledger.deliveries_of(first)}
        assert because == {f"overtaken by job {again}: it was asked for again"}

    def test_only_the_latest_of_a_line_is_run_again_and_only_once_it_is_done(self, ledger: Ledger) -> None:
        first = done(ledger)
        again = ledger.run_again(first, by=ANN)
        with pytest.raises(IllegalTransition, match=f"job {first} was overtaken by job {again}"):
            ledger.run_again(first, by=ANN)
        with pytest.raises(IllegalTransition, match=f"job {again} is queued: only what is done"):
            ledger.run_again(again, by=ANN)
        finish(ledger, claim(ledger, again))
        assert ledger.job(ledger.run_again(again, by=ANN)).again == 2
        with pytest.raises(NotInLedger):
            ledger.run_again(JobId(99), by=ANN)

    def test_a_late_image_overtakes_it_as_it_would_have_overtaken_the_first(self, ledger: Ledger) -> None:
        again = ledger.run_again(done(ledger), by=ANN)
        study_id = receive(ledger, "1.2.3", [4])
        (late,) = close(ledger, study_id, [new_job(ledger, study_id)])
        assert ledger.job(again).state is JobState.CANCELLED
        assert ledger.job(late).supersedes == again
        assert ledger.job(late).again == 0

    def test_without_images_nothing_is_run_again(self, ledger: Ledger) -> None:
        job_id = done(ledger, to=())
        ledger.purge_study(ledger.job(job_id).study_id, "old")
        with pytest.raises(IllegalTransition, match="were deleted with its study"):
            ledger.run_again(job_id, by=ANN)

    def test_a_rule_that_is_asked_the_same_again_opens_nothing(self, ledger: Ledger) -> None:
        first = done(ledger)
        again = ledger.run_again(first, by=ANN)
        study_id = receive(ledger, "1.2.3", [1], series=2)  # Of another series: the study opens again.
        assert close(ledger, study_id, [new_job(ledger, study_id)]) == []
        assert ledger.job(again).state is JobState.QUEUED


class TestAModelByHand:
    def by_hand(self, ledger: Ledger, study_id: StudyId, model: str = "body_ct", to: tuple[str, ...] = ()):
        job = new_job(ledger, study_id, rule=f"by hand: {model}", to=to)
        return replace(job, model=model, key=digest(f"{job.key} {model}"))

    def test_it_is_a_job_like_any_other_beside_those_of_the_rules(self, ledger: Ledger) -> None:
        ruled = done(ledger)
        study_id = ledger.job(ruled).study_id
        (asked,) = ledger.ask_jobs(study_id, [self.by_hand(ledger, study_id)], by=ANN, because="second look")

        assert ledger.job(asked).model == "body_ct"
        assert ledger.job(ruled).state is JobState.DONE
        opened = next(one for one in ledger.history(job_id=asked) if one.event == "opened")
        assert opened.because == "body_ct on 3 instances, asked for by ann: second look"
        assert asked in [hint.subject_id for hint in ledger.unpublished()]
        assert audited(ledger)[-1] == ("ann", "job.asked", str(study_id))

    def test_the_same_twice_is_refused_with_the_number_of_the_first(self, ledger: Ledger) -> None:
        study_id = ledger.job(done(ledger)).study_id
        (asked,) = ledger.ask_jobs(study_id, [self.by_hand(ledger, study_id)], by=ANN)
        with pytest.raises(IllegalTransition, match=f"job {asked} is the same on the same images"):
            ledger.ask_jobs(study_id, [self.by_hand(ledger, study_id)], by=ANN)

    def test_an_open_or_purged_study_is_not_analysed(self, ledger: Ledger) -> None:
        study_id = receive(ledger, "1.2.3")
        with pytest.raises(IllegalTransition, match="is open: more may come"):
            ledger.ask_jobs(study_id, [self.by_hand(ledger, study_id)], by=ANN)
        asked = self.by_hand(ledger, study_id)
        close(ledger, study_id)
        ledger.purge_study(study_id, "old")
        with pytest.raises(IllegalTransition, match="is purged: its images were deleted"):
            ledger.ask_jobs(study_id, [asked], by=ANN)


class TestADeliveryAgain:
    def test_what_a_peer_had_and_lost_is_sent_once_more(self, ledger: Ledger) -> None:
        job_id = queued_job(ledger)
        leaf, root = finish(ledger, claim(ledger, job_id))
        arrive(ledger, [leaf, root])
        ledger.retry_delivery(leaf, "the archive lost it", by=ANN)

        (delivery, _) = ledger.deliveries_of(job_id)
        assert (delivery.state, delivery.committed_at) == (DeliveryState.WAITING, None)
        assert leaf in [hint.subject_id for hint in ledger.unpublished()]
        # It may still be there: a later result must not be taken for the first that arrives.
        study_id = receive(ledger, "1.2.3", [4])
        close(ledger, study_id, [new_job(ledger, study_id)])
        assert states(ledger, job_id) == [DeliveryState.WAITING, DeliveryState.COMMITTED]

    def test_what_a_rejection_note_named_stays_away(self, ledger: Ledger) -> None:
        first = queued_job(ledger)
        old, *rest = finish(ledger, claim(ledger, first))
        arrive(ledger, [old, *rest])
        again = ledger.run_again(first, by=ANN)
        arrive(ledger, finish(ledger, claim(ledger, again)))
        (owed,) = ledger.owed_notes(["PACS"])
        assert ledger.open_note(owed, result(Role.REJECTION_NOTE, 1, "2.25.99"), "reject") is not None
        with pytest.raises(IllegalTransition, match="a rejection note has told PACS"):
            ledger.retry_delivery(old, "by mistake", by=ANN)


class TestADeliveryElsewhere:
    def test_everything_that_was_made_goes_to_another_peer_leaves_first(self, ledger: Ledger) -> None:
        job_id = done(ledger)
        opened = ledger.deliver_to(job_id, "TEACHING", by=ANN, because="for the conference")

        there = [one for one in ledger.deliveries_of(job_id) if one.peer == "TEACHING"]
        assert [one.id for one in there] == opened
        assert [one.result.role for one in there] == [Role.SEGMENTATION, Role.REPORT]
        assert ledger.claim_delivery(opened[1], owner="w", lease_s=60) is None
        send(ledger, opened[0])
        send(ledger, opened[1])
        assert audited(ledger)[-1] == ("ann", "job.delivered_to", str(job_id))
        told = [one.because for one in ledger.history(job_id=job_id) if one.event == "opened"]
        assert told[-1] == "report to TEACHING: asked for by ann: for the conference"

    def test_it_goes_as_it_was_made_for_the_peer_that_is_named(self, ledger: Ledger) -> None:
        job_id = queued_job(ledger, to=("PACS", "OLD"))
        held = claim(ledger, job_id)
        for_pacs = replace(result(Role.SEGMENTATION, 1), peers=("PACS",))
        for_old = replace(result(Role.OVERLAY, 2), peers=("OLD",))
        from ledger.job import Outcome

        ledger.finish_job(
            held, outcome=Outcome.FOUND, because="", model_identity="lung_ct@1.0.0",
            results=[for_pacs, for_old], timings={},
        )  # fmt: skip
        ledger.deliver_to(job_id, "A", by=ANN)
        ledger.deliver_to(job_id, "B", like="OLD", by=ANN)
        went = {one.peer: one.result.role for one in ledger.deliveries_of(job_id)}
        assert went == {
            "PACS": Role.SEGMENTATION,
            "OLD": Role.OVERLAY,
            "A": Role.SEGMENTATION,
            "B": Role.OVERLAY,
        }

    def test_what_has_a_delivery_there_has_no_second(self, ledger: Ledger) -> None:
        job_id = done(ledger)
        with pytest.raises(IllegalTransition, match="nothing that PACS has no delivery of"):
            ledger.deliver_to(job_id, "PACS", by=ANN)
        with pytest.raises(IllegalTransition, match="is queued: it has nothing to send"):
            ledger.deliver_to(queued_job(ledger, "1.2.4"), "PACS", by=ANN)
        with pytest.raises(NotInLedger):
            ledger.deliver_to(JobId(99), "PACS", by=ANN)

    def test_what_was_deleted_goes_nowhere(self, ledger: Ledger) -> None:
        job_id = done(ledger, to=())
        ledger.purge_study(ledger.job(job_id).study_id, "old")
        with pytest.raises(IllegalTransition, match="were deleted with its study"):
            ledger.deliver_to(job_id, "TEACHING", by=ANN)
