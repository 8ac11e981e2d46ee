"""The pages: what stands on them, whom they let in, and what they keep to themselves."""

import re

import pytest
import requests

from console.web.access.table import ROUTES, Permission, Role, needed, permissions
from console.web.access.visitor import Visitor
from console.web.app import NotInTheTable, create_app, routes
from ledger.identifiers import StudyId
from tests.console.web.conftest import Desk
from tests.ledger.site import claim, close, finish, new_job, queued_job, receive, slice_of

PATIENT = {"PatientName": "CANARY^ZOE", "PatientID": "MRN-4711", "AccessionNumber": "A-100"}


def arrived(desk: Desk, **headers: str) -> StudyId:
    return desk.ledger.record_arrivals([slice_of("1.2.3", 1, **{**PATIENT, **headers})])[0].study_id


def test_nobody_sees_anything_without_signing_in(desk: Desk) -> None:
    desk.visitor = None
    for method, path in routes():
        if needed(method, path) is not Permission.PUBLIC:
            answer = requests.request(method, desk.url + re.sub(r"{[^}]*}", "1", path), timeout=30)
            assert answer.status_code == 401, path


def test_an_auditor_sees_no_study(desk: Desk) -> None:
    desk.visitor = Visitor(name="otto", role=Role.AUDITOR)

    assert Permission.SEE not in permissions(Role.AUDITOR)
    assert desk.get("/studies").status_code == 403
    assert desk.get("/api/v1/studies").json() == {"detail": "your role may not do this"}


def test_the_application_refuses_a_route_that_no_line_of_the_table_is_about(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.web.access.table.ROUTES", {("GET", "/"): Permission.SEE})
    with pytest.raises(NotInTheTable, match="is not in the table"):
        create_app(desk.deck)


def test_every_line_of_the_table_is_about_a_route(desk: Desk) -> None:
    assert set(ROUTES) == set(routes())


def test_an_empty_ledger_has_a_first_page(desk: Desk) -> None:
    page = desk.page("/")
    assert "No study has arrived yet." in page
    assert "Nothing needs attention." in page


def test_an_open_study_is_seen_while_it_is_received(desk: Desk) -> None:
    arrived(desk)

    page = desk.page("/now")

    assert "A-100" in page
    assert "1 images from SCANNER" in page


def test_patients_are_hidden_until_they_are_asked_for(desk: Desk) -> None:
    study_id = arrived(desk, StudyDescription="Thorax of Zoe Canary", SeriesDescription="for Zoe")
    close(desk.ledger, study_id)
    paths = ["/", "/studies", f"/studies/{study_id}", "/why?what=A-100"]
    everywhere = [
        *paths,
        "/api/v1/now",
        "/api/v1/studies",
        f"/api/v1/studies/{study_id}",
        "/api/v1/why?what=A-100",
    ]

    for path in everywhere:
        text = desk.page(path).lower()
        assert "canary" not in text, path
        assert "4711" not in text, path

    assert desk.visitor is not None
    desk.visitor = Visitor(name="ada", role=Role.OPERATOR, patients=True)
    for path in everywhere:
        assert "CANARY^ZOE" in desk.page(path), path


def test_what_a_scanner_wrote_is_text_and_nothing_else(desk: Desk) -> None:
    desk.visitor = Visitor(name="ada", role=Role.OPERATOR, patients=True)
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
    study_id = arrived(
        desk,
        PatientName=evil,
        PatientID=evil,
        AccessionNumber=evil,
        StudyDescription=evil,
        SeriesDescription=evil,
    )

    for path in ("/", "/studies", f"/studies/{study_id}", "/now"):
        page = desk.page(path)
        assert "<script>alert" not in page
        assert "<img" not in page.replace('<img src="/static/mark.svg"', "")
        assert "&lt;script&gt;alert(1)" in page


def test_a_search_finds_the_study_and_says_where_it_stands(desk: Desk) -> None:
    job_id = queued_job(desk.ledger, "1.2.3")
    finish(desk.ledger, claim(desk.ledger, job_id))
    receive(desk.ledger, "1.2.4")

    page = desk.page("/studies", text="1.2.3")

    assert "not yet at PACS" in page
    assert 'id="study-2"' not in page


def test_a_date_that_is_none_is_named(desk: Desk) -> None:
    answer = desk.get("/api/v1/studies", since="last tuesday")

    assert answer.status_code == 422
    assert answer.json() == {"detail": "'last tuesday' is no date: write 2026-11-21"}


def test_pages_of_the_list_follow_each_other_without_a_gap(desk: Desk) -> None:
    for number in range(7):
        receive(desk.ledger, f"1.2.{number + 1}", [1])
    seen, after = [], ""
    while True:
        answer = desk.get("/api/v1/studies", limit="3", after=after).json()
        seen += [one["id"] for one in answer["studies"]]
        after = answer["next"]
        if not after:
            break
    assert sorted(seen, reverse=True) == seen
    assert len(seen) == len(set(seen)) == 7


@pytest.mark.parametrize("after", ["1", "x,1", "nan,1", "inf,1", "1,0", f"1,{10**23}"])
def test_a_place_in_the_list_that_is_none_is_refused(desk: Desk, after: str) -> None:
    assert desk.get("/api/v1/studies", after=after).status_code == 422


def test_a_parked_job_is_what_the_state_parked_finds(desk: Desk) -> None:
    study_id = receive(desk.ledger, "1.2.9")
    (job_id,) = close(desk.ledger, study_id, [new_job(desk.ledger, study_id)])
    receive(desk.ledger, "1.2.8")
    held = claim(desk.ledger, job_id)
    desk.ledger.park_job(held, "slice spacing 7.5 mm")

    (found,) = desk.get("/api/v1/studies", state="parked").json()["studies"]

    assert found["id"] == study_id
    assert found["steps"][2]["mark"] == "stopped"
    assert "slice spacing 7.5 mm" in found["where"]


def test_why_answers_an_accession_number_in_one_sentence(desk: Desk) -> None:
    close(desk.ledger, arrived(desk))

    assert "No result: no rule took any of its 1 series." in desk.page("/why", what="A-100")
    assert "the ledger knows no study and no job" in desk.page("/why", what="nothing")


def test_a_study_that_is_not_there_is_said_to_be_missing(desk: Desk) -> None:
    assert desk.get("/studies/4711").status_code == 404
    assert "there is no such study here" in desk.get("/studies/4711").text


def test_the_page_speaks_the_language_of_the_browser_until_another_is_chosen(desk: Desk) -> None:
    browser = requests.Session()
    browser.headers["Accept-Language"] = "de-DE,de;q=0.9"
    assert "keine Studie eingegangen." in browser.get(desk.url, timeout=30).text

    browser.post(f"{desk.url}/preferences", data={"language": "zh", "theme": "dark"}, timeout=30)

    page = browser.get(desk.url, timeout=30).text
    assert '<html lang="zh" data-theme="dark">' in page
    assert "尚未收到任何检查。" in page


def test_a_page_that_listens_is_told_of_news_within_a_second(desk: Desk) -> None:
    with requests.get(f"{desk.url}/live", stream=True, timeout=30) as stream:
        lines = stream.iter_lines()
        told = (line for line in lines if line.startswith(b"data"))
        assert next(told) == b"data: 0"  # A page that was cut off asks for everything again.
        receive(desk.ledger, "1.2.3")
        assert next(told) == b"data: 1"


def test_a_picture_of_a_result_that_is_not_there_is_said_to_be_missing(desk: Desk) -> None:
    assert desk.get("/studies/1/results/1/picture").status_code == 404
