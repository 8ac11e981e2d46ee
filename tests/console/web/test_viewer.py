"""The viewer behind the console's door: who may see it, what browsers keep of it, and what it is told."""

import gzip
import json

import pytest
import requests

from console.viewer.installed import install, place_of
from console.web.access.table import Role
from console.web.access.visitor import Visitor
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
