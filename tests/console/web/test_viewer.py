"""The viewer behind the console's door: who may see it, what browsers keep of it, and what it is told."""

import gzip
import json

import pytest
import requests

from console.viewer.installed import install, place_of
from console.web.access.lifetimes import ABSOLUTE_S
from console.web.access.table import Role
from console.web.access.visitor import Visitor
from console.web.looks import Looks
from ledger.identifiers import Uid
from tests.console.viewer.archives import VERSION, tgz, whole
from tests.console.web.conftest import Desk
from tests.ledger.site import receive
from tests.patience import patient

APP = "/viewer/app.bundle.0123456789abcdef.js"


@pytest.fixture
def installed(desk: Desk) -> Desk:
    archive = desk.site.data / "ohif.tgz"
    install(desk.site.data, source=archive, version=VERSION, sha512=tgz(archive, whole()))
    return desk


def as_(desk: Desk, role: Role | None) -> Desk:
    desk.visitor = None if role is None else Visitor(name="ada", role=role, csrf="token")
    return desk


@pytest.mark.parametrize("path", ["/viewer/viewer", "/viewer/app-config.js", APP, "/dicom-web/studies"])
def test_nobody_sees_viewer_or_images_without_signing_in(installed: Desk, path: str) -> None:
    assert as_(installed, None).get(path).status_code == 401
    for role in (Role.AUDITOR, Role.SERVICE):
        assert as_(installed, role).get(path).status_code == 403
    for role in (Role.VIEWER, Role.OPERATOR, Role.ADMINISTRATOR):
        assert as_(installed, role).get(path).status_code == 200


def test_only_who_steers_may_store(installed: Desk) -> None:
    def store(role: Role) -> int:
        as_(installed, role)
        headers = {"Content-Type": "application/dicom", "Accept": "application/dicom+json"}
        url = f"{installed.url}/dicom-web/studies"
        return requests.post(url, data=b"no DICOM", headers=headers, timeout=patient(30)).status_code

    assert store(Role.VIEWER) == 403
    assert store(Role.AUDITOR) == 403
    assert store(Role.OPERATOR) in (409, 503)  # It is let in, and refused for what it is.


def test_without_a_viewer_a_sentence_says_how_one_gets_here(desk: Desk) -> None:
    answer = desk.get("/viewer/viewer", StudyInstanceUIDs="1.2.3")
    assert answer.status_code == 404
    assert "no viewer is installed here; an administrator does it with: wetread viewer install" in answer.text


def test_a_damaged_viewer_is_a_sentence(installed: Desk) -> None:
    (place_of(installed.site.data) / "current").write_text("gone")
    answer = installed.get("/viewer/viewer")
    assert answer.status_code == 503
    assert "`wetread viewer install` again" in answer.text


def test_files_are_packed_kept_for_ever_where_their_name_says_so_and_asked_for_once(installed: Desk) -> None:
    url = installed.url + APP
    packed = requests.get(url, headers={"Accept-Encoding": "gzip"}, timeout=patient(30), stream=True)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert packed.headers["Vary"] == "Accept-Encoding"
    raw = gzip.decompress(packed.raw.read())
    plain = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=patient(30))
    assert plain.content == raw
    assert "Content-Encoding" not in plain.headers
    again = requests.get(url, headers={"If-None-Match": plain.headers["ETag"]}, timeout=patient(30))
    assert (again.status_code, again.content) == (304, b"")
    assert installed.get("/viewer/app.bundle.css").headers["Cache-Control"] == "private, no-cache"


def test_the_page_runs_its_own_files_only_and_asks_us_only(installed: Desk) -> None:
    answer = installed.get("/viewer/viewer", StudyInstanceUIDs="1.2.3")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'unsafe-eval';" in policy
    assert "connect-src 'self' blob: data:;" in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert "<script>" not in answer.text
    told = installed.page("/viewer/app-config.js")
    config = json.loads(told.partition("window.config = ")[2].rstrip(";\n"))
    (source,) = config["dataSources"]
    assert {source["configuration"][root] for root in ("qidoRoot", "wadoRoot", "wadoUriRoot")} == {
        "/dicom-web"
    }
    assert config["routerBasename"] == "/viewer"
    assert not config["showStudyList"]
    assert installed.get("/viewer/").headers["Location"] == "/studies"


def test_who_opened_a_study_is_in_the_audit_trail_by_our_own_number(installed: Desk) -> None:
    study = receive(installed.ledger, "1.2.3")
    installed.get("/viewer/viewer", StudyInstanceUIDs="1.2.3,9.9.9,not-a-uid")
    installed.get(APP)
    (row,) = installed.ledger.audit_rows(what="study.viewed")
    assert (row.who, row.thing_id) == ("ada", str(study))
    assert "1.2.3" not in json.dumps(dict(row.detail))


@pytest.mark.parametrize(
    "address",
    [
        "studyinstanceuids=1.2.3",
        "StudyInstanceUIDs=9.9&StudyInstanceUIDs=1.2.3",
        "StudyInstanceUIDs=9.9&studyInstanceUIDs=1.2.3",
        f"StudyInstanceUIDs={',' * 20}1.2.3",
        "StudyInstanceUIDs=%201.2.3",
    ],
)
def test_however_the_address_names_a_study_its_opening_is_written(installed: Desk, address: str) -> None:
    study = receive(installed.ledger, "1.2.3")
    assert installed.get(f"/viewer/viewer?{address}").status_code == 200
    assert viewed(installed) == [str(study)]


def test_more_studies_than_are_written_are_not_opened(installed: Desk) -> None:
    many = ",".join(f"1.2.{n}" for n in range(21))
    assert installed.get("/viewer/viewer", StudyInstanceUIDs=many).status_code == 422


def viewed(desk: Desk) -> list[str]:
    return [row.thing_id for row in desk.ledger.audit_rows(what="study.viewed")]


@pytest.mark.parametrize(
    "path",
    [
        "studies/1.2.3",
        "studies/1.2.3%20/series",
        "studies/1.2.3/series/1.2.3.1/metadata",
        "studies?StudyInstanceUID=1.2.3",
        "instances?0020000D=9.9%5C1.2.3",
    ],
)
def test_who_fetches_of_a_study_without_its_page_is_written_once(desk: Desk, path: str) -> None:
    study = receive(desk.ledger, "1.2.3")
    for _ in range(3):
        desk.get(f"/dicom-web/{path}")
    assert viewed(desk) == [str(study)]
    assert desk.ledger.audit_rows(what="names") == []
    desk.visitor = Visitor(name="ben", role=Role.OPERATOR)
    desk.get(f"/dicom-web/{path}")
    assert viewed(desk) == [str(study)] * 2


def test_the_page_has_written_what_its_images_would(installed: Desk) -> None:
    study = receive(installed.ledger, "1.2.3")
    installed.get("/viewer/viewer", StudyInstanceUIDs="1.2.3")
    installed.get("/dicom-web/studies/1.2.3/series")
    assert viewed(installed) == [str(study)]


def test_a_study_that_came_after_it_was_asked_for_is_written(desk: Desk) -> None:
    desk.get("/dicom-web/studies/1.2.3/series")
    study = receive(desk.ledger, "1.2.3")
    desk.get("/dicom-web/studies/1.2.3/series")
    assert viewed(desk) == [str(study)]


@pytest.mark.parametrize(
    "path", ["studies", "series", "studies?StudyInstanceUID=*", "studies?PatientName=A*"]
)
def test_a_list_of_studies_tells_names_and_is_written_once(desk: Desk, path: str) -> None:
    receive(desk.ledger, "1.2.3")
    for _ in range(2):
        assert desk.get(f"/dicom-web/{path}").status_code == 200
    (row,) = desk.ledger.audit_rows(what="names.shown")
    assert (row.who, dict(row.detail)) == ("ada", {"list": "/dicom-web"})


def test_where_names_are_shown_a_list_is_nothing_new(desk: Desk) -> None:
    desk.visitor = Visitor(name="ada", role=Role.OPERATOR, patients=True)
    assert desk.get("/dicom-web/studies").status_code == 200
    assert desk.ledger.audit_rows(what="names.shown") == []


def test_what_is_remembered_of_looks_is_bounded_and_lasts_no_longer_than_a_session(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.web.looks._KNOWN_MAX", 1)
    now, ada = [0.0], Visitor(name="ada", role=Role.OPERATOR)
    looks = Looks(desk.ledger, clock=lambda: now[0])
    first, second = (str(receive(desk.ledger, uid)) for uid in ("1.2.3", "1.2.4"))
    looks.fetches(ada, [Uid("1.2.3"), Uid("1.2.4")])
    looks.fetches(ada, [Uid("1.2.4")])
    assert viewed(desk) == [second, first]
    looks.fetches(ada, [Uid("1.2.3")])  # Forgotten: once more, and never too seldom.
    assert viewed(desk) == [first, second, first]
    now[0] = ABSOLUTE_S
    looks.fetches(ada, [Uid("1.2.3")])
    assert viewed(desk) == [first, first, second, first]


def test_answers_with_images_are_data_for_this_page_only_and_name_the_console(installed: Desk) -> None:
    receive(installed.ledger, "1.2.3")
    answer = requests.get(
        f"{installed.url}/dicom-web/studies",
        headers={"Accept": "application/dicom+json"},
        timeout=patient(30),
    )
    assert answer.headers["Content-Security-Policy"].endswith("sandbox")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json()[0]["00081190"]["Value"] == [f"{installed.url}/dicom-web/studies/1.2.3"]
