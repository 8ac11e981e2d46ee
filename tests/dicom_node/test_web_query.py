"""What an archive says over the web that it has, whichever of the counts it knows."""

import socket
import ssl
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from dicom_node.counts import CountedBy, SeriesCounts, StudyCount
from dicom_node.peers import PeerSettings
from dicom_node.query import QueryRefused
from dicom_node.reach import PeerAway
from dicom_node.send import send_many
from dicom_node.upper_layer import PeerConfused
from dicom_node.web_query import count_series, count_study, find_instance
from dicom_node.web_session import NotAdmitted
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.objects import write_instance
from tests.dicom_node.raw_peer import peer
from tests.dicom_node.web_peers import Request, number, says, uid, web_server
from tests.patience import patient
from tests.peers.certificates import authority
from tests.peers.orthanc import orthanc
from tests.peers.tls_proxy import tls_in_front_of

STUDY, FIRST, SECOND, OTHER = (Uid(f"1.2.826.0.1.3680043.8.498.9.{n}") for n in (1, 2, 3, 4))
ASKED = {"study": STUDY, "deadline_s": patient(10.0)}
HELD = {FIRST: [f"{FIRST}.{n}" for n in range(3)], SECOND: [f"{SECOND}.{n}" for n in range(2)]}


def archive_of(
    counts: tuple[str, ...], *, babbles: bool = False, page: int = 1000, knows_offset: bool = True
):
    """Answers QIDO-RS about `HELD`, at most `page` matches at a time."""

    def answer(request: Request, connection: socket.socket, over: threading.Event) -> None:
        asked = urlsplit(request.line.split(" ")[1])
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        parts = asked.path.split("/")
        found: list[dict[str, object]] = []
        if parts[-1] == "studies":
            count = {"00201208": number(5)} if "study" in counts else {}
            found = [{"0020000D": uid(STUDY), **count}]
            if babbles:
                found.append({"0020000D": uid(OTHER), "00201208": number(999)})
        elif parts[-1] == "series":
            for series, instances in HELD.items():
                known = "series" in counts or ("first series" in counts and series == FIRST)
                count = {"00201209": number(len(instances))} if known else {}
                found.append({"0020000D": uid(STUDY), "0020000E": uid(series), **count})
            if babbles:
                found.append({"0020000D": uid(OTHER), "0020000E": uid(f"{OTHER}.1")})
        else:
            found = [{"0020000E": uid(parts[-2]), "00080018": uid(one)} for one in HELD[Uid(parts[-2])]]
            if babbles:
                found += [{"0020000E": uid(OTHER), "00080018": uid(f"{OTHER}.2")}]
        start = int(query.get("offset", 0)) if knows_offset else 0
        says(body=found[start : start + page])(request, connection, over)

    return answer


@pytest.mark.parametrize("babbles", [False, True])
@pytest.mark.parametrize(
    ("counts", "by"),
    [
        (("study",), CountedBy.STUDY),
        (("series",), CountedBy.SERIES),
        (("first series",), CountedBy.LISTING),
        ((), CountedBy.LISTING),
    ],
)
def test_a_study_is_counted_by_what_the_archive_knows(
    counts: tuple[str, ...], by: CountedBy, babbles: bool
) -> None:
    with web_server(archive_of(counts, babbles=babbles)) as server:
        assert count_study(server.peer, **ASKED) == StudyCount(5, by)


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_a_list_is_asked_for_to_its_end_however_few_come_at_a_time(page: int) -> None:
    with web_server(archive_of((), page=page)) as server:
        assert count_series(server.peer, **ASKED) == SeriesCounts({FIRST: 3, SECOND: 2}, CountedBy.LISTING)


def test_a_peer_that_gives_the_same_page_again_and_again_is_asked_once_more_and_left() -> None:
    with web_server(archive_of(("series",), page=2, knows_offset=False)) as server:
        assert count_series(server.peer, **ASKED) == SeriesCounts({FIRST: 3, SECOND: 2}, CountedBy.SERIES)
    assert len(server.requests) == 2


def test_a_peer_that_invents_instances_for_ever_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.web_query._LISTED_MAX", 50)
    numbers = iter(range(10**9))

    def invents(request: Request, connection: socket.socket, over: threading.Event) -> None:
        body = [{"0020000E": uid(f"{STUDY}.{next(numbers)}")} for _ in range(20)]
        says(body=body)(request, connection, over)

    with web_server(invents) as server, pytest.raises(PeerConfused, match="more than 50"):
        count_series(server.peer, **ASKED)


def test_a_study_that_the_archive_does_not_know_has_no_count() -> None:
    with web_server(says(body=[])) as server:
        assert count_study(server.peer, **ASKED) is None
    with web_server(says("204 No Content")) as server:
        assert count_study(server.peer, **ASKED) is None


def test_a_peer_without_search_says_what_to_look_at() -> None:
    with web_server(says("404 Not Found")) as server:
        with pytest.raises(QueryRefused, match="what stands before /studies"):
            count_study(server.peer, **ASKED)
        with pytest.raises(QueryRefused, match="what stands before /studies"):
            find_instance(server.peer, series=FIRST, sop_instance=OTHER, **ASKED)


@pytest.mark.peer
def test_orthanc_counts_and_finds_what_it_was_given_behind_tls_and_a_certificate(tmp_path: Path) -> None:
    site = authority(tmp_path / "ca")
    server, ours = site.sign("orthanc"), site.sign("wetread")
    front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    front.load_cert_chain(server.certificate, server.key)
    front.verify_mode = ssl.CERT_REQUIRED
    front.load_verify_locations(site.ca)
    files = [
        write_instance(tmp_path / "in", study=str(STUDY), series=str(series), sop_instance=one)
        for series, instances in HELD.items()
        for one in instances
    ]
    with orthanc(tmp_path / "orthanc") as archive, tls_in_front_of(archive.http_port, front) as port:
        web = {"url": f"https://127.0.0.1:{port}/dicom-web", "ca_file": site.ca}
        named = {"auth": "certificate", "certificate_file": ours.certificate, "key_file": ours.key}
        there = PeerSettings.model_validate({"name": "archive", "web": {**web, **named}})
        assert count_study(there, **ASKED) is None
        assert count_series(there, **ASKED) == SeriesCounts({}, CountedBy.SERIES)

        send_many(files, peer(archive.dicom_port), calling=AETitle("WETREAD"), deadline_s=patient(20))

        assert count_study(there, **ASKED) == StudyCount(5, CountedBy.STUDY)
        assert count_series(there, **ASKED) == SeriesCounts({FIRST: 3, SECOND: 2}, CountedBy.SERIES)
        first = Uid(HELD[FIRST][0])
        assert find_instance(there, series=FIRST, sop_instance=first, **ASKED)
        assert not find_instance(there, series=SECOND, sop_instance=first, **ASKED)
        assert not find_instance(there, series=FIRST, sop_instance=OTHER, **ASKED)

        stranger = PeerSettings.model_validate({"name": "archive", "web": web})
        with pytest.raises((PeerAway, NotAdmitted)):
            count_study(stranger, **ASKED)
