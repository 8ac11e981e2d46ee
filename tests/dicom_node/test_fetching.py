"""What is missing, what came before, what an operator wants: fetched beside all else, and on record."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom.dataset import Dataset

from dicom_node.fetching import Fetching, ask_for_priors, backoff_s
from dicom_node.peers import PeerSettings
from dicom_node.routing import Rule, route_study
from dicom_node.send import send_many
from dicom_node.series_facts import facts_of
from dicom_node.settings import ClosingSettings, FetchSettings, wrong_priors
from dicom_node.watch import Watch
from ledger.fetch import FetchId, FetchRecord, FetchState, NewFetch, Purpose
from ledger.identifiers import AETitle, StudyId, Uid
from ledger.study import StudyState
from tests.dicom_node.conftest import Running
from tests.dicom_node.objects import write_instance
from tests.dicom_node.raw_peer import peer, raw_peer
from tests.patience import patient
from tests.peers.dcmqrscp import dcmqrscp
from tests.peers.loopback import free_port, until
from tests.peers.orthanc import orthanc

WETREAD = AETitle("WETREAD")
ROOT = "1.2.826.0.1.3680043.8.498.31"
CURRENT, FIRST, SECOND, STRANGER = (Uid(f"{ROOT}.{n}") for n in (1, 2, 3, 4))
QUICK = {"missing_after_s": 0.0, "first_s": 0.05, "longest_s": 0.2, "every_s": 0.05, "attempts_max": 3}


def write_study(folder: Path, study: Uid, *, on: str, born: str = "19600229", images: int = 3) -> list[Path]:
    def of_patient(dataset: Dataset) -> None:
        dataset.StudyDate, dataset.PatientBirthDate = on, born

    return [
        write_instance(
            folder,
            study=str(study),
            series=f"{study}.1",
            sop_instance=f"{study}.1.{number}",
            change=of_patient,
        )
        for number in range(1, images + 1)
    ]


@contextmanager
def archive_of(
    kind: str, folder: Path, files: list[Path], port: int, **settings: object
) -> Iterator[PeerSettings]:
    if kind == "dcmqrscp":
        with dcmqrscp(folder / kind, destinations={"WETREAD": port}) as archive:
            there = peer(archive.port, **settings)
            send_many(files, there, calling=WETREAD, deadline_s=patient(20))
            yield there
    else:
        with orthanc(folder / kind, modalities={"WETREAD": port}) as running:
            there = peer(running.dicom_port, ae_title="ORTHANC", **settings)
            send_many(files, there, calling=WETREAD, deadline_s=patient(20))
            yield there


@contextmanager
def fetching(node: Running, *peers: PeerSettings, **changes: object) -> Iterator[Fetching]:
    site = node.site.model_copy(
        update={"peers": peers, "fetch": FetchSettings.model_validate({**QUICK, **changes})}
    )
    running = Fetching(node.ledger, site, node.node.receiver, node.node.senders, port=node.port)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def store(node: Running, files: list[Path]) -> StudyId:
    answers = send_many(
        files, peer(node.port, ae_title="WETREAD"), calling=AETitle("SCANNER"), deadline_s=patient(20)
    )
    assert [answer.status for answer in answers] == [0] * len(files)
    until(lambda: node.node.senders.associations() == 0, within_s=5, what="the sender has gone")
    return node.ledger.studies()[0].id


def counted(node: Running, study_id: StudyId, theirs: int) -> None:
    node.ledger.record_count(study_id, "archive", theirs=theirs, asked_at=node.ledger.now())


def wish(node: Running, study: Uid = CURRENT, purpose: Purpose = Purpose.WISH) -> FetchId:
    fetch_id = node.ledger.ask_fetch(
        NewFetch(purpose=purpose, study=study, peer="archive", told_with=None, because="asked for")
    )
    assert fetch_id is not None
    return fetch_id


def settled(node: Running, fetch_id: FetchId, within_s: float = 15) -> FetchRecord:
    until(
        lambda: node.ledger.fetch(fetch_id).state is not FetchState.ASKED,
        within_s=within_s,
        what="it is settled",
    )
    return node.ledger.fetch(fetch_id)


# What is missing


@pytest.mark.peer
@pytest.mark.parametrize(("kind", "how"), [("dcmqrscp", "move"), ("orthanc", "get")])
def test_what_the_archive_has_more_of_is_fetched_and_told(
    tmp_path: Path, node: Running, kind: str, how: str
) -> None:
    files = write_study(tmp_path / "in", CURRENT, on="20260101", images=5)
    study_id = store(node, files[:3])
    with archive_of(kind, tmp_path, files, node.port, retrieve=how) as there, fetching(node, there):
        counted(node, study_id, 5)
        [asked] = until(lambda: node.ledger.fetches_of(CURRENT), within_s=5, what="it is asked for")
        record = settled(node, asked.id)

    assert record.state is FetchState.FETCHED
    assert record.because.startswith(f"2 of 2 fetched from archive by C-{how.upper()}, in ")
    assert record.purpose is Purpose.MISSING
    assert len(node.instances()) == 5
    assert node.ledger.fetched_of(study_id) == 2
    assert node.ledger.lacking() == []
    told = [
        (one.event, one.because) for one in node.ledger.history(study_id=study_id) if one.thing == "fetch"
    ]
    assert told[0] == ("asked", "archive has 5, and 3 are here")
    assert told[-1] == ("fetched", record.because)


@pytest.mark.peer
def test_an_archive_that_counts_more_than_it_lists_is_asked_once(tmp_path: Path, node: Running) -> None:
    files = write_study(tmp_path / "in", CURRENT, on="20260101")
    study_id = store(node, files)
    with archive_of("dcmqrscp", tmp_path, files, node.port, retrieve="get") as there:
        with fetching(node, there) as running:
            counted(node, study_id, 4)
            [asked] = until(lambda: node.ledger.fetches_of(CURRENT), within_s=5, what="it is asked for")
            record = settled(node, asked.id)
            running.look()
            assert len(node.ledger.fetches_of(CURRENT)) == 1
            counted(node, study_id, 5)
            running.look()
            assert len(node.ledger.fetches_of(CURRENT)) == 2, "another number is news"
    assert record.because.startswith("all 3 that archive lists are here")


def test_what_may_still_be_on_its_way_is_not_fetched(tmp_path: Path, node: Running) -> None:
    study_id = store(node, write_study(tmp_path / "in", CURRENT, on="20260101"))
    there = peer(free_port(), retrieve="get")
    with fetching(node, there, missing_after_s=3600, every_s=60) as running:
        counted(node, study_id, 9)
        running.look()
        assert node.ledger.fetches_of(CURRENT) == []
    with fetching(node, there, every_s=60) as running:
        sender = object()
        node.node.senders.opened(sender)
        node.node.senders.sent(sender, study_id)
        running.look()
        assert node.ledger.fetches_of(CURRENT) == [], "somebody is sending"
        node.node.senders.closed(sender)
        running.look()
        assert len(node.ledger.fetches_of(CURRENT)) == 1


def test_nothing_is_fetched_from_a_peer_that_is_not_for_fetching(tmp_path: Path, node: Running) -> None:
    study_id = store(node, write_study(tmp_path / "in", CURRENT, on="20260101"))
    counted(node, study_id, 9)
    with fetching(node, peer(free_port())) as running:
        running.look()
        assert node.ledger.fetches_of(CURRENT) == []
        record = settled(node, wish(node))
    assert record.state is FetchState.ABANDONED
    assert record.because == 'archive: this site\'s settings have retrieve = "none" for it'


# Peers that do not play along


@pytest.mark.fault
def test_an_archive_that_is_away_is_asked_again_and_given_up_at_last(node: Running) -> None:
    with fetching(node, peer(free_port(), retrieve="get")):
        record = settled(node, wish(node))
    assert record.state is FetchState.ABANDONED
    assert record.attempts == 3
    assert record.because.startswith("given up after 3 attempts; no connection to 127.0.0.1 port")
    events = [one.event for one in node.ledger.history() if one.thing == "fetch"]
    assert events == ["asked", "postponed", "postponed", "gave_up"]


def test_the_pause_between_attempts_doubles_up_to_the_longest() -> None:
    settings = FetchSettings(first_s=5.0, longest_s=300.0)
    assert [backoff_s(attempt, settings) for attempt in (1, 2, 3, 7, 5000)] == [5.0, 10.0, 20.0, 300.0, 300.0]


@pytest.mark.peer
@pytest.mark.fault
def test_a_stalled_archive_holds_up_no_other_and_no_stop(tmp_path: Path, node: Running) -> None:
    connected = threading.Event()

    def stall(connection: object, over: threading.Event) -> None:
        connected.set()

    files = write_study(tmp_path / "in", CURRENT, on="20260101")
    threads = threading.active_count()
    with (
        raw_peer(stall, name="stalled", retrieve="get", deadline_s=patient(60.0)) as stalled,
        archive_of("dcmqrscp", tmp_path, files, node.port, retrieve="get") as there,
    ):
        silent = node.ledger.ask_fetch(
            NewFetch(purpose=Purpose.WISH, study=FIRST, peer="stalled", told_with=None, because="asked for")
        )
        assert silent is not None
        with fetching(node, stalled, there, at_once=2):
            assert connected.wait(patient(5))
            assert settled(node, wish(node)).state is FetchState.FETCHED
            began = time.monotonic()
        assert time.monotonic() - began < patient(5)
        assert node.ledger.fetch(silent).state is FetchState.ASKED
    until(lambda: threading.active_count() <= threads, within_s=5, what="no thread is left")


@pytest.mark.peer
def test_a_study_that_the_archive_does_not_know_is_not_waited_for(tmp_path: Path, node: Running) -> None:
    with archive_of("dcmqrscp", tmp_path, [], node.port, retrieve="get") as there, fetching(node, there):
        record = settled(node, wish(node))
    assert (record.state, record.attempts) == (FetchState.ABANDONED, 1)
    assert record.because == "archive does not know the study"


@pytest.mark.peer
def test_what_an_archive_cannot_send_is_told_with_its_numbers(tmp_path: Path, node: Running) -> None:
    files = write_study(tmp_path / "in", CURRENT, on="20260101")
    with archive_of("dcmqrscp", tmp_path, files, node.port, retrieve="get") as there:
        for held in (tmp_path / "dcmqrscp" / "held").glob("CT_*"):
            if f"{CURRENT}.1.2".encode() in held.read_bytes():
                held.unlink()
        with fetching(node, there):
            record = settled(node, wish(node))
    assert record.state is FetchState.ABANDONED
    assert (record.got, record.wanted) == (2, 3)
    assert record.because.startswith("given up after 3 attempts; 2 of 3 came: ")


# Priors


RULE = Rule.model_validate({
    "name": "lungs", "model": "lung_ct", "modality": "CT",
    "priors": {"peer": "archive", "number": 2, "within_days": 3650, "modality": "CT"},
})  # fmt: skip


@pytest.mark.peer
@pytest.mark.parametrize(("kind", "how"), [("dcmqrscp", "get"), ("orthanc", "move")])
def test_the_priors_of_a_study_come_beside_its_job_and_are_not_analysed(
    tmp_path: Path, node: Running, kind: str, how: str
) -> None:
    current = write_study(tmp_path / "in", CURRENT, on="20260101")
    held = [
        *current,
        *write_study(tmp_path / "in", FIRST, on="20250101"),
        *write_study(tmp_path / "in", SECOND, on="20240101", images=2),
        *write_study(tmp_path / "in", STRANGER, on="20250601", born="19990101"),
    ]
    study_id = store(node, current)
    watch = Watch(
        node.ledger,
        rules=[RULE],
        patience=ClosingSettings(quiet_s=0, quiet_open_s=0),
        associations=node.node.senders,
    )
    with archive_of(kind, tmp_path, held, node.port, retrieve=how) as there:
        assert watch.look() == [CURRENT]
        assert len(node.ledger.jobs_of(study_id)) == 1, "the job does not wait for them"
        with fetching(node, there):
            until(
                lambda: (
                    sum(each.state is FetchState.FETCHED for each in node.ledger.fetches_of(CURRENT)) == 3
                ),
                within_s=20,
                what="the search and both priors are settled",
            )
    until(lambda: node.node.senders.associations() == 0, within_s=5, what="the archive has gone")
    watch.look()

    search, *priors = node.ledger.fetches_of(CURRENT)
    assert search.because.startswith("2 of the studies of archive are priors; 1 left out, for ")
    assert [each.study for each in priors] == [FIRST, SECOND]
    assert len(node.instances()) == 8
    for uid in (FIRST, SECOND):
        prior = node.ledger.study_by_uid(uid)
        assert prior is not None
        assert prior.state is StudyState.CLOSED
        assert node.ledger.jobs_of(prior.id) == []
        [note] = node.ledger.routing_notes(prior.id)
        assert note.because == f"fetched as a prior of study {CURRENT}, and not to be analysed by itself"
    assert node.ledger.study_by_uid(STRANGER) is None


@pytest.mark.peer
def test_what_comes_as_a_prior_and_is_of_another_patient_is_told(tmp_path: Path, node: Running) -> None:
    current = write_study(tmp_path / "in", CURRENT, on="20260101")
    other = write_study(tmp_path / "in", STRANGER, on="20250101", born="19990101")
    study_id = store(node, current)
    with archive_of("dcmqrscp", tmp_path, other, node.port, retrieve="get") as there, fetching(node, there):
        asked = node.ledger.ask_fetch(
            NewFetch(
                purpose=Purpose.PRIOR, study=STRANGER, peer="archive", told_with=study_id, because="a prior"
            )
        )
        assert asked is not None
        record = settled(node, asked)
    assert record.state is FetchState.ABANDONED
    assert record.because == "what came is no prior, but of another patient, it seems: another birth date"


def test_the_priors_of_a_study_are_asked_for_once(tmp_path: Path, node: Running) -> None:
    study_id = store(node, write_study(tmp_path / "in", CURRENT, on="20260101"))
    study = node.ledger.study(study_id)
    series = [facts_of(record) for record in node.ledger.series_of(study_id)]
    twin = RULE.model_copy(update={"name": "the same again"})
    none = RULE.model_copy(update={"name": "none", "priors": None})
    for rules in ([RULE, twin, none], [RULE]):
        ask_for_priors(node.ledger, study, route_study(series, rules))
    [search] = node.ledger.fetches_of(CURRENT)
    assert search.terms == {"number": 2, "within_days": 3650, "modality": ["CT"]}
    assert search.because == "rule lungs wants 2 of the patient's earlier studies"


@pytest.mark.peer
def test_a_study_that_an_operator_wants_is_analysed_like_any_other(tmp_path: Path, node: Running) -> None:
    files = write_study(tmp_path / "in", CURRENT, on="20260101")
    with archive_of("dcmqrscp", tmp_path, files, node.port, retrieve="get") as there, fetching(node, there):
        record = settled(node, wish(node))
    assert record.because.startswith("3 of 3 fetched from archive by C-GET, in ")
    rule = RULE.model_copy(update={"priors": None})
    patience = ClosingSettings(quiet_s=0, quiet_open_s=0)
    Watch(node.ledger, rules=[rule], patience=patience, associations=node.node.senders).look()
    [study] = node.ledger.studies()
    assert len(node.ledger.jobs_of(study.id)) == 1
    assert record.told_with == study.id


def test_a_node_that_starts_again_makes_what_was_asked_for(start_node: Callable[..., Running]) -> None:
    node = start_node()
    fetch_id = wish(node)
    with fetching(node, peer(free_port(), retrieve="get"), attempts_max=1):
        assert settled(node, fetch_id).attempts == 1


# Settings that cannot be meant


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"retrieve": "move", "receive": False}, "it needs receive = true"),
        ({"ae_title": "", "host": "", "port": 0, "web": {"url": "http://127.0.0.1:1/dicom-web"}, "retrieve":
          "get"}, "needs ae_title, host and port"),
    ],
)  # fmt: skip
def test_a_peer_that_could_not_bring_anything_is_refused(settings: dict[str, object], words: str) -> None:
    given = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 104, **settings}
    with pytest.raises(ValidationError, match=words):
        PeerSettings.model_validate(given)


def test_priors_are_wanted_from_a_peer_that_gives_them() -> None:
    away, giving = peer(1), peer(1, retrieve="get")
    assert wrong_priors([giving], [RULE]) == ""
    assert wrong_priors([away], [RULE]) == (
        "rule 'lungs' wants priors from 'archive', which is no [[peer]] with retrieve (no [[peer]] has it)"
    )
