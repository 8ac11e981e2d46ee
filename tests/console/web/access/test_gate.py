"""The gate: by what name it is called, from where, with which headers it answers, and what it takes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from pydantic import ValidationError
from starlette.datastructures import Headers

from console.web.access.throttle import Rate
from console.web.access.whereabouts import address_of, is_called, origins
from console.web.settings import ConsoleSettings
from ledger.account import Role
from ledger.identifiers import Uid
from tests.console.web.access.house import ROOT, House, house
from tests.ledger.site import receive, slice_of
from tests.patience import patient
from tests.peers.crowd import closed, silent

LOCAL = ConsoleSettings()
PROXIED = ConsoleSettings(public_url="https://wetread.hospital.example", proxies=["127.0.0.1"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house")) as made:
        yield made


@pytest.mark.parametrize(
    ("host", "settings", "known"),
    [
        ("127.0.0.1:11181", LOCAL, True),
        ("localhost", LOCAL, True),
        ("[::1]:11181", LOCAL, True),
        ("evil.example:11181", LOCAL, False),
        ("127.0.0.1.evil.example", LOCAL, False),
        ("192.0.2.7", LOCAL, False),
        ("", LOCAL, False),
        ("[", LOCAL, False),
        ("wetread.hospital.example", PROXIED, True),
        ("WETREAD.hospital.example:443", PROXIED, True),
        ("127.0.0.1:11181", PROXIED, True),
        ("evil.example", PROXIED, False),
    ],
)
def test_the_console_answers_to_its_own_names_alone(
    host: str, settings: ConsoleSettings, known: bool
) -> None:
    assert is_called(host, settings) is known


def test_a_page_of_the_internet_cannot_call_this_machine_by_a_name_of_its_own(site: House) -> None:
    answer = requests.get(f"{site.url}/sign-in", headers={"Host": "evil.example"}, timeout=patient(10))
    assert answer.status_code == 421
    assert "public_url" in answer.text


def test_the_origin_of_our_pages_is_what_the_browser_calls_them() -> None:
    assert origins("127.0.0.1:11181", LOCAL) == {"http://127.0.0.1:11181"}
    assert origins("wetread.hospital.example", PROXIED) == {
        "http://wetread.hospital.example",
        "https://wetread.hospital.example",
    }


@pytest.mark.parametrize(
    ("peer", "said", "address"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),  # Nobody's word for who he is …
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),  # … but a proxy of ours.
        ("127.0.0.1", "10.0.0.1, 198.51.100.1, 127.0.0.1", "198.51.100.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", " , ,", "127.0.0.1"),
    ],
)
def test_an_address_is_believed_from_our_own_proxies_alone(peer: str, said: str, address: str) -> None:
    assert address_of(peer, Headers({"x-forwarded-for": said}), PROXIED) == address
    assert address_of(peer, Headers({"x-forwarded-for": said}), LOCAL) == peer


def test_what_a_browser_says_above_the_line_of_a_proxy_is_not_believed() -> None:
    lines = [(b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-for", b"198.51.100.1")]
    assert address_of("127.0.0.1", Headers(raw=lines), PROXIED) == "198.51.100.1"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://wetread.example:443/", "https://wetread.example"),
        ("HTTPS://Wetread.example", "https://wetread.example"),
        ("https://wetread.example:8443", "https://wetread.example:8443"),
        ("http://[fd00::1]:80", "http://[fd00::1]"),
    ],
)
def test_the_public_address_is_kept_as_browsers_write_an_origin(url: str, origin: str) -> None:
    settings = ConsoleSettings(public_url=url)
    assert settings.public_url == origin
    assert settings.is_secure == origin.startswith("https")


@pytest.mark.parametrize(
    "url", ["https://u:p@host", "https://host#x", "https://a b", "https://host/console", "host", "ftp://host"]
)
def test_a_public_address_that_no_browser_would_call_an_origin_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="public_url has to be"):
        ConsoleSettings(public_url=url)


@pytest.mark.parametrize("path", ["/sign-in", "/studies", "/nothing", "/api/v1/studies", "/healthz"])
@pytest.mark.parametrize("who", [None, Role.ADMINISTRATOR])
def test_every_answer_has_the_headers_errors_too(site: House, path: str, who: Role | None) -> None:
    answer = site.browser(who).get(path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    expected = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "same-origin",
        "cache-control": "no-store",
        "cross-origin-opener-policy": "same-origin",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert "server" not in answer.headers


def test_files_of_our_own_may_be_kept_by_the_browser(site: House) -> None:
    answer = site.browser().get("/static/console.css")
    assert answer.status_code == 200
    assert "no-store" not in answer.headers.get("cache-control", "")


def test_over_tls_the_browser_is_told_to_stay_there(tmp_path: Path) -> None:
    with house(tmp_path, public_url="https://wetread.hospital.example") as site:
        browser = site.browser()
        answer = browser.get("/sign-in")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        origin = "https://wetread.hospital.example"
        refused = browser.ask("POST", "/sign-in", origin=origin, data={"name": "x", "password": "y"})
        assert refused.status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "wetread.hospital.example"])
def test_passwords_do_not_cross_a_network_as_they_are(host: str) -> None:
    with pytest.raises(ValidationError, match="passwords would cross the network"):
        ConsoleSettings(host=host)
    assert ConsoleSettings(host=host, public_url="https://wetread.hospital.example")


def test_strangers_cannot_send_much(site: House) -> None:
    big = "x" * 70_000
    assert site.browser().post("/sign-in", name="viewer", password=big).status_code == 413

    def without_end() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 4096

    headers = {"Origin": site.url, "Content-Type": "application/x-www-form-urlencoded"}
    try:
        answer = requests.post(
            f"{site.url}/sign-in", data=without_end(), headers=headers, timeout=patient(10)
        )
        assert answer.status_code in (400, 413)
    except requests.ConnectionError:
        pass  # Cut off is an answer, too.
    assert site.browser().get("/sign-in").status_code == 200


def test_guessing_tokens_is_slowed_down(site: House) -> None:
    before = site.gate._guesses.rate
    site.gate._guesses.rate = Rate(2, 60.0)
    try:
        headers = {"Authorization": "Bearer wetread_guess"}
        told = [site.browser().get("/api/v1/studies", headers=dict(headers)).status_code for _ in range(4)]
        assert told == [401, 401, 429, 429]
        good = {"Authorization": f"Bearer {site.token(Role.VIEWER)}"}
        assert site.browser().get("/api/v1/studies", headers=good).status_code == 200
    finally:
        site.gate._guesses.rate = before


def test_a_page_that_asks_by_itself_keeps_nobody_signed_in(
    site: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.store.sessions._SEEN_EVERY_S", 0.0)
    browser = site.browser(Role.VIEWER)

    def seen_at() -> float:
        (mine,) = [
            one
            for one in site.ledger.sessions_of(site.accounts[Role.VIEWER], idle_s=600)
            if one.id == browser.session
        ]
        return mine.seen_at

    before = seen_at()
    assert browser.get("/now", headers={"Wetread-Live": "1", "HX-Request": "true"}).status_code == 200
    assert seen_at() == before
    assert browser.get("/studies").status_code == 200
    assert seen_at() > before


def test_a_part_of_a_page_has_the_whole_page_go_to_sign_in(site: House) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": f"{site.url}/studies/4?x=1"}
    answer = site.browser().get("/now", headers=headers)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/sign-in?back=%2Fstudies%2F4")


def test_a_page_that_listens_hears_when_its_session_ends(
    site: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.web.access.gate._LOOK_AGAIN_S", 0.0)
    browser = site.browser(Role.VIEWER)
    with browser.get("/live", stream=True) as stream:
        lines = stream.iter_lines()
        assert next(lines) == b"retry: 2000"
        assert browser.session is not None
        site.ledger.end_session(browser.session, of=site.accounts[Role.VIEWER], by=ROOT)
        receive(site.ledger, "1.2.840.1")
        told = list(lines)
    assert b"event: ended" in told
    assert told[-1] in (b"", b"data: 0")


def test_names_are_shown_in_the_session_that_asked_and_in_no_other(site: House) -> None:
    canary = {"PatientName": "CANARY^ZOE", "PatientID": "MRN-4711"}
    site.ledger.record_arrivals([slice_of("1.2.840.2", 1, **canary)])
    mine, other = site.browser(Role.VIEWER), site.browser(Role.VIEWER)
    assert "CANARY" not in mine.get("/studies").text
    answer = mine.post("/account/names", show="true", back="/studies")
    assert answer.headers["location"] == "/studies"
    assert "CANARY" in mine.get("/studies").text
    assert "CANARY" not in other.get("/studies").text
    assert site.ledger.audit_rows(limit=1)[0].what == "names.shown"
    mine.post("/account/names", show="false", back="/studies")
    assert "CANARY" not in mine.get("/studies").text


def test_a_role_may_see_names_without_asking(tmp_path: Path) -> None:
    with house(tmp_path, names_for=["operator"]) as site:
        canary = {"PatientName": "CANARY^ZOE", "PatientID": "MRN-4711"}
        site.ledger.record_arrivals([slice_of("1.2.840.2", 1, **canary)])
        assert "CANARY" in site.browser(Role.OPERATOR).get("/studies").text
        assert "CANARY" not in site.browser(Role.VIEWER).get("/studies").text


def test_a_token_sees_patients_only_where_it_says_so(site: House) -> None:
    canary = {"PatientName": "CANARY^ZOE", "PatientID": "MRN-4711"}
    site.ledger.record_arrivals([slice_of("1.2.840.2", 1, **canary)])
    for only, seen in ((None, False), (["see"], False), (["see", "patients"], True)):
        headers = {"Authorization": f"Bearer {site.token(Role.VIEWER, only=only)}"}
        answer = site.browser().get("/api/v1/studies", headers=headers)
        assert answer.status_code == 200
        assert ("CANARY" in answer.text) is seen
        images = site.browser().get("/dicom-web/studies", headers=headers)
        assert images.status_code == (200 if seen else 403)
        assert ("CANARY" in images.text) is seen


@pytest.mark.parametrize("only", [None, ["see"]])
def test_a_token_that_may_not_see_patients_cannot_guess_them_by_searching(site: House, only) -> None:
    site.ledger.record_arrivals([slice_of("1.2.840.2", 1, PatientName="CANARY^ZOE", PatientID="MRN-4711")])

    def found(text: str, only: list[str] | None) -> int:
        headers = {"Authorization": f"Bearer {site.token(Role.VIEWER, only=only)}"}
        answer = site.browser().get("/api/v1/studies", params={"text": text}, headers=headers)
        return len(answer.json()["studies"])

    assert [found(text, only) for text in ("CANARY", "MRN-47", "1.2.840.2")] == [0, 0, 1]
    assert found("CANARY", ["see", "patients"]) == 1


def test_what_is_fetched_is_written_for_each_session_and_for_a_program(site: House) -> None:
    site.ledger.record_arrivals([slice_of("1.2.840.77", 1)])
    study = site.ledger.study_by_uid(Uid("1.2.840.77"))
    assert study is not None
    one, another = site.browser(Role.OPERATOR), site.browser(Role.OPERATOR)
    token = {"Authorization": f"Bearer {site.token(Role.OPERATOR, only=['patients'])}"}
    for _ in range(2):
        for browser in (one, another):
            assert browser.get("/dicom-web/studies/1.2.840.77/series").status_code == 200
        assert site.browser().get("/dicom-web/studies/1.2.840.77/series", headers=dict(token)).ok
    rows = site.ledger.audit_rows(what="study.viewed")
    assert [row.who for row in rows if row.thing_id == str(study.id)] == ["operator"] * 3


def test_a_session_that_hides_names_may_look_for_one(site: House) -> None:
    site.ledger.record_arrivals([slice_of("1.2.840.2", 1, PatientName="CANARY^ZOE", PatientID="MRN-4711")])
    found = site.browser(Role.VIEWER).post("/studies", text="CANARY^ZOE").text
    assert 'href="/studies/' in found


def test_one_machines_silent_connections_keep_nobody_out(tmp_path: Path) -> None:
    with house(tmp_path, connections=8, connections_per_address=4, head_s=patient(60)) as site:
        port = int(site.url.rsplit(":", 1)[1])
        with silent(port, *["127.0.9.9"] * 12) as strangers:
            assert [closed(each) for each in strangers[4:]] == [True] * 8
            assert requests.get(f"{site.url}/healthz", timeout=patient(20)).status_code == 200
        with silent(port, *(f"127.0.9.{n}" for n in range(1, 9))):
            assert requests.get(f"{site.url}/healthz", timeout=patient(20)).status_code == 200
