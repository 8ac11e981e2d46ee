"""Figures: what is counted once stays counted, whatever becomes of what it counted."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.delivery import DeliveryEvent
from ledger.figures import FIGURES, GAP_S, OTHER, Gap, Happening, Known, Tally, counted, gaps, still_missing
from ledger.identifiers import AETitle
from ledger.job import JobEvent
from ledger.pause import PauseKind
from ledger.schema import event, instance
from ledger.store.ledger import Ledger
from ledger.usage import Usage
from tests.ledger.people import ANN
from tests.ledger.site import (
    claim,
    close,
    finish,
    new_job,
    parked_long_ago,
    pass_by,
    queued_job,
    receive,
    send,
    slice_of,
)
from tests.patience import patient

SLOW = {"model": "lung_ct", "peer": "PACS"}
KNOWN = Known(
    callers={"SCANNER": "CT 1"},
    peers=frozenset({"PACS"}),
    models=frozenset({"lung_ct"}),
    receivers=frozenset({"RIS"}),
)


def of(ledger: Ledger, name: str, **labels: str) -> Tally | None:
    """The tally of that name and those labels."""
    wanted = tuple(sorted(labels.items()))
    return next((one for one in ledger.tallies() if one.name == name and one.labels == wanted), None)


def total(ledger: Ledger, name: str, **labels: str) -> float:
    found = of(ledger, name, **labels)
    return found.total if found else 0.0


def test_a_study_is_counted_from_its_first_instance_to_the_archive(ledger: Ledger) -> None:
    job_id = queued_job(ledger, "1.2.3")
    held = claim(ledger, job_id)
    usage = Usage(model="lung_ct@1.0.0", device="NVIDIA X", voxels=9, host_peak=1 << 28, device_peak=1 << 30)
    for one in finish(ledger, held):
        send(ledger, one)
        ledger.confirm_delivery(one, "found there")
    ledger.record_usage(job_id, "lung_ct@1", usage)
    assert ledger.add_up(KNOWN)

    assert total(ledger, "received_instances", peer="CT 1") == 3
    assert total(ledger, "received_bytes", peer="CT 1") == 1001 + 1002 + 1003
    assert total(ledger, "studies_opened", peer="CT 1", arrival="first") == 1
    assert total(ledger, "studies_closed", **{"as": "presumed"}) == 1
    assert total(ledger, "jobs_opened", model="lung_ct", lane="routine") == 1
    assert total(ledger, "jobs_ended", model="lung_ct", outcome="found") == 1
    assert total(ledger, "deliveries_accepted", peer="PACS") == 2
    assert total(ledger, "deliveries_confirmed", peer="PACS") == 2
    model = of(ledger, "job_stage_seconds", model="lung_ct", stage="model")
    assert model is not None
    assert (model.total, dict(model.cumulative())[3.0], dict(model.cumulative())[1.0]) == (2.0, 1, 0)
    for name, labels in {
        "study_open_seconds": {"peer": "CT 1"},
        "job_queue_seconds": {"model": "lung_ct", "lane": "routine"},
        "arrival_to_archive_seconds": {"model": "lung_ct", "peer": "PACS"},
        "job_memory_bytes": {"model": "lung_ct", "of": "gpu"},
    }.items():
        found = of(ledger, name, **labels)
        assert found is not None, name
        assert found.cumulative()[-1][1] == 1, name
    assert total(ledger, "last_arrival_timestamp_seconds", peer="CT 1") == pytest.approx(ledger.now(), abs=60)


def test_what_somebody_sends_again_or_elsewhere_tells_nothing_of_how_long_things_take(ledger: Ledger) -> None:
    job_id = queued_job(ledger, "1.2.3")
    first, *_ = delivered = finish(ledger, claim(ledger, job_id))
    for one in delivered:
        send(ledger, one)
        ledger.confirm_delivery(one, "found there")
    assert ledger.add_up(KNOWN)
    before = [
        of(ledger, "delivery_seconds", peer="PACS"),
        total(ledger, "arrival_to_archive_seconds", **SLOW),
    ]

    pass_by(ledger, 0.01)
    ledger.retry_delivery(first, "they lost it", by=ANN)
    for one in [first, *ledger.deliver_to(job_id, "OTHER", by=ANN)]:
        send(ledger, one)
        ledger.confirm_delivery(one, "found there")
    assert ledger.add_up(KNOWN)

    assert [
        of(ledger, "delivery_seconds", peer="PACS"),
        total(ledger, "arrival_to_archive_seconds", **SLOW),
    ] == before
    assert of(ledger, "arrival_to_archive_seconds", model="lung_ct", peer=OTHER) is None
    assert total(ledger, "deliveries_confirmed", peer="PACS") == 3


def test_adding_up_again_adds_nothing(ledger: Ledger) -> None:
    queued_job(ledger)
    assert ledger.add_up(KNOWN)
    before = ledger.tallies()
    assert before
    assert ledger.add_up(KNOWN)
    assert ledger.tallies() == before


def test_a_purge_takes_nothing_away_from_what_was_counted(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    close(ledger, study_id)
    ledger.add_up(KNOWN)
    ledger.purge_study(study_id, "30 days old")
    ledger.add_up(KNOWN)
    assert total(ledger, "received_instances", peer="CT 1") == 3
    assert total(ledger, "studies_purged") == 1
    receive(ledger, "1.2.3", [4])
    ledger.add_up(KNOWN)
    assert total(ledger, "received_instances", peer="CT 1") == 4
    assert total(ledger, "studies_opened", peer="CT 1", arrival="late") == 1


def test_much_is_added_up_in_pieces_and_comes_to_the_same(ledger: Ledger) -> None:
    for number in range(7):
        queued_job(ledger, f"1.2.{number + 3}")
    rounds = 0
    while not ledger.add_up(KNOWN, at_most=4):
        rounds += 1
        assert rounds < 50
    assert rounds > 3
    assert total(ledger, "received_instances", peer="CT 1") == 21
    assert total(ledger, "jobs_opened", model="lung_ct", lane="routine") == 7


def test_two_processes_that_add_up_at_the_same_moment_count_nothing_twice(ledger: Ledger) -> None:
    for number in range(6):
        queued_job(ledger, f"1.2.{number + 3}")
    gate = threading.Barrier(4)

    def add_up() -> None:
        gate.wait(patient(10))
        while not ledger.add_up(KNOWN, at_most=5):
            pass

    threads = [threading.Thread(target=add_up) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(patient(20))
    assert total(ledger, "received_instances", peer="CT 1") == 18
    assert total(ledger, "jobs_opened", model="lung_ct", lane="routine") == 6


def test_a_row_that_is_committed_after_a_later_one_is_counted_all_the_same(ledger: Ledger) -> None:
    """PostgreSQL gives numbers before it commits; here the row is taken away and put back by hand."""
    study_id = receive(ledger, "1.2.3")
    close(ledger, study_id)
    with ledger.write() as tx:
        (first, *_) = tx.connection.execute(event.select().order_by(event.c.id)).all()
        (one, *_) = tx.connection.execute(instance.select().order_by(instance.c.id)).all()
        tx.connection.execute(event.delete().where(event.c.id == first.id))
        tx.connection.execute(instance.delete().where(instance.c.id == one.id))
    ledger.add_up(KNOWN)
    assert total(ledger, "received_instances", peer="CT 1") == 2
    assert total(ledger, "studies_opened", peer="CT 1", arrival="first") == 0
    with ledger.write() as tx:
        tx.connection.execute(event.insert().values(first._asdict()))
        tx.connection.execute(instance.insert().values(one._asdict()))
    ledger.add_up(KNOWN)
    ledger.add_up(KNOWN)
    assert total(ledger, "received_instances", peer="CT 1") == 3
    assert total(ledger, "studies_opened", peer="CT 1", arrival="first") == 1


def test_callers_peers_and_models_that_the_settings_do_not_name_are_one_series(ledger: Ledger) -> None:
    for number in range(20):
        one = slice_of(f"1.2.{number + 3}", 1)
        title = AETitle(f"ROBERT'); {number}")
        ledger.record_arrivals([type(one)(**{**_fields(one), "calling": title})])
    job_id = queued_job(ledger, "1.2.99", to=("ELSEWHERE",))
    (leaf, _root) = finish(ledger, claim(ledger, job_id))
    send(ledger, leaf, DeliveryEvent.POSTPONED, retry_in_s=60.0)
    ledger.add_up(Known(models=frozenset({"another"})))
    labels = {value for one in ledger.tallies() for name, value in one.labels if name in ("peer", "model")}
    assert labels == {OTHER}
    assert total(ledger, "received_instances", peer=OTHER) == 23
    assert total(ledger, "delivery_failures", peer=OTHER, kind="postponed") == 1


def test_refusals_count_as_many_as_their_row_stands_for(ledger: Ledger) -> None:
    ledger.record_event("node", "association_rejected", because="x", detail={"count": 41})
    ledger.record_event("node", "association_rejected", because="x", detail={"count": 1})
    ledger.record_event("instance", "postponed", because="x", detail={"count": 5})
    ledger.record_event("node", "started", because="x")
    ledger.add_up(KNOWN)
    assert total(ledger, "refusals", kind="association_rejected") == 42
    assert total(ledger, "refusals", kind="postponed") == 5
    assert {one.name for one in ledger.tallies()} == {"refusals"}


def test_what_stands_in_the_queue_is_told_by_model_lane_and_state(ledger: Ledger) -> None:
    queued_job(ledger, "1.2.3")
    claim(ledger, queued_job(ledger, "1.2.4"))
    finish(ledger, claim(ledger, queued_job(ledger, "1.2.5")))
    receive(ledger, "1.2.6")
    standing = ledger.standing()
    assert {(one.of, one.lane, one.state, one.many) for one in standing.jobs} == {
        ("lung_ct", "routine", "queued", 1),
        ("lung_ct", "routine", "running", 1),
    }
    assert all(one.since is not None and one.since <= standing.at for one in standing.jobs)
    assert {(one.of, one.state, one.many) for one in standing.deliveries} == {("PACS", "waiting", 2)}
    assert (standing.open_studies, standing.quarantined) == (1, 0)
    assert standing.open_since is not None
    assert standing.open_since <= standing.at


def test_a_job_that_waits_for_other_images_has_no_age_in_the_queue(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    job = new_job(ledger, study_id)
    close(ledger, study_id, [type(job)(**{**_fields(job), "wait_s": 3600.0})])
    (line,) = ledger.standing().jobs
    assert (line.many, line.since) == (1, None)


def test_a_job_of_long_ago_that_runs_again_is_as_old_as_that_decision(ledger: Ledger) -> None:
    parked_long_ago(ledger)
    standing = ledger.standing()
    (line,) = standing.jobs
    assert line.since is not None
    assert standing.at - line.since < 3600


def test_what_is_paused_has_no_age_in_the_queue(ledger: Ledger) -> None:
    queued_job(ledger, "1.2.3")
    claim(ledger, queued_job(ledger, "1.2.4"))
    ledger.pause(PauseKind.MODEL, "lung_ct", by=ANN)
    lines = {one.state: one for one in ledger.standing().jobs}
    assert (lines["queued"].many, lines["queued"].since) == (1, None)
    ledger.resume(PauseKind.MODEL, "lung_ct", by=ANN)
    assert all(one.since is not None for one in ledger.standing().jobs)


def test_every_figure_has_words_and_every_histogram_rising_bounds() -> None:
    for name, figure in FIGURES.items():
        assert figure.words.endswith("."), name
        assert list(figure.bounds) == sorted(set(figure.bounds)), name
        assert bool(figure.bounds) == (figure.kind == "histogram"), name


@pytest.mark.parametrize("name", [*JobEvent, "opened"])
def test_whatever_happens_to_a_job_adds_to_known_figures_with_their_labels(name: str) -> None:
    happened = Happening(
        at=1.0, thing="job", event=name, model="lung_ct@2", timings={"queue": 1.0, "load": 2.0}
    )
    for count in counted(happened, KNOWN):
        assert tuple(sorted(FIGURES[count.name].labels)) == tuple(label for label, _ in count.labels)


def test_a_bucket_whose_bound_is_no_longer_one_counts_in_the_next_larger() -> None:
    tally = Tally("delivery_seconds", (("peer", "PACS"),), 22.0, {"2.0": 1, "20.0": 2, "inf": 1, "1e+300": 1})
    counts = dict(tally.cumulative())
    assert (counts[1.0], counts[3.0], counts[10.0], counts[30.0], counts[float("inf")]) == (0, 1, 1, 3, 5)


@given(st.sets(st.integers(1, 60), min_size=1), st.randoms(use_true_random=False))
def test_whatever_order_numbers_are_committed_in_each_is_counted_once(numbers: set[int], chance) -> None:
    """The cursor goes on; what it passed over is in the gaps until it comes."""
    order = sorted(numbers)
    chance.shuffle(order)
    there: set[int] = set()
    seen: list[int] = []
    up_to, missing = 0, []
    while order:
        there.update(order.pop() for _ in range(min(len(order), chance.randint(1, 5))))
        late = sorted(n for n in there for gap in missing if gap.first <= n <= gap.last)
        fresh = sorted(n for n in there if n > up_to)
        missing = still_missing(missing, late, 1.0) + gaps(up_to, fresh, 1.0)
        up_to = max([up_to, *fresh])
        seen += late + fresh
    assert sorted(seen) == sorted(numbers)


def test_a_gap_that_nobody_fills_is_forgotten() -> None:
    old = Gap(first=3, last=5, noticed_at=0.0)
    assert still_missing([old], [], GAP_S - 1) == [old]
    assert still_missing([old], [], GAP_S + 1) == []


def _fields(one: object) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}  # type: ignore[attr-defined]
