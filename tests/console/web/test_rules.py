"""Rules in the browser: edited with every complaint beside its field, tried, saved by one at a time."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import requests

from console.settings import load_site
from console.web.access.visitor import Visitor
from console.web.app import create_app
from console.web.deck import Deck
from console.web.rule_form import FIELDS, shown, typed
from dicom_node.priors import Priors
from dicom_node.routing import Rule
from dicom_node.rule_book import as_tables
from ledger.account import Role
from ledger.audit import Actor
from ledger.store.ledger import Ledger
from tests.console.test_rules_cli import SETTINGS
from tests.console.web.conftest import Desk, served
from tests.dicom_node.test_rule_book import rule, save
from tests.ledger.site import close, receive, slice_of
from tests.patience import patient
from tests.worker.series import Series

_ANNA = Actor("anna", Role.ADMINISTRATOR, "192.0.2.7")
TEXT = '[[rule]]\nname = "chest"\nmodel = "lung_ct"\nmodality = ["CT"]\n'


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "wetread.toml").write_text(SETTINGS)
    (tmp_path / "data").mkdir()
    site = load_site(tmp_path / "wetread.toml", tmp_path / "data")
    with Ledger.open(site.ledger) as ledger:
        deck = Deck.of(site, tmp_path / "wetread.toml", ledger)
        desk = Desk(site, ledger, deck, create_app(deck))
        desk.visitor = Visitor(name="anna", role=Role.ADMINISTRATOR, csrf="token", address="192.0.2.7")
        with served(desk):
            yield desk
        deck.overlays.close()


def post(desk: Desk, path: str, *, files: object = None, **fields: object) -> requests.Response:
    return requests.post(
        desk.url + path, data=fields, files=files, timeout=patient(30), allow_redirects=False
    )


def page(answer: requests.Response) -> str:
    assert answer.status_code == 200, answer.text
    return unescape(re.sub(r"\s+", " ", answer.text))


def of_form(answer: str) -> dict[str, str]:
    """What the hidden fields of a draft carry."""
    return {
        name: unescape(value)
        for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer)
    }


def test_every_key_of_a_rule_has_a_field_with_a_label() -> None:
    asked = {key for key in Rule.model_fields if key != "priors"} | {
        f"priors.{key}" for key in Priors.model_fields
    }
    assert {field.key for field in FIELDS} == asked
    assert all(field.label for field in FIELDS)
    for field in FIELDS:
        if field.choices and field.key != "contrast":
            assert field.usual == Rule.model_fields[field.key].default


def test_what_a_form_shows_of_a_rule_is_the_same_rule_again() -> None:
    several = [{"name": "a", "ranges": {"EchoTime": [0, 30]}}, {"name": "b", "contrast": False}]
    for asked in (
        rule(inputs=several, frame_of_reference="any", settings={"least_mm": 4.5, "fine": True}),
        rule(attributes={"ConvolutionKernel": "B[34]0"}, ranges={"KVP": [80, float("inf")]}, contrast=False),
        rule(priors={"peer": "pacs", "number": 2, "modality": ["CT", "MR"], "wait_s": 60}, choose="thinnest"),
        rule(deliver_to=["archive", "research"], priority="stat", when="series", calling=["CT1", "CT 2"]),
    ):
        (table,) = as_tables([asked])
        fields = {key: [text] for key, text in shown(table).items()}
        assert typed(fields).unread == {}
        assert Rule.model_validate(typed(fields).table) == asked


def test_rules_are_shown_in_words_to_everybody_and_edited_by_administrators(desk: Desk) -> None:
    desk.visitor = Visitor(name="vera", role=Role.VIEWER)
    shown_ = desk.page("/rules")
    assert "CT of any body part" in shown_
    assert "/rules/draft" not in shown_
    for path in ("/rules/draft", "/rules/review", "/rules/save", "/api/v1/rules", "/api/v1/rules/dry-run"):
        assert post(desk, path, text=TEXT).status_code == 403, path


def test_a_rule_goes_from_the_form_through_review_into_force(desk: Desk) -> None:
    saved = save(desk.ledger, rule("chest"))
    close(desk.ledger, receive(desk.ledger, "1.2.3"))
    base = {"text": TEXT, "base": saved.number}
    form = page(post(desk, "/rules/draft", do="edit:0", **base))
    assert 'id="rule-at_least"' in form

    kept = page(
        post(
            desk, "/rules/draft", do="keep:0", **base,
            **{"rule.name": "chest", "rule.model": "lung_ct", "rule.modality": "ct", "rule.at_least": "60",
               "rule.deliver_to": "archive", "rule.choose": "all"},
        )
    )  # fmt: skip
    assert "at least 60" in kept
    text = unescape(re.search(r'<textarea id="whole"[^>]*>(.*?)</textarea>', post(
        desk, "/rules/draft", do="keep:0", **base,
        **{"rule.name": "chest", "rule.model": "lung_ct", "rule.modality": "ct", "rule.at_least": "60",
           "rule.deliver_to": "archive"}).text, re.DOTALL)[1])  # fmt: skip

    reviewed = page(post(desk, "/rules/review", text=text, base=1, do="dry-run"))
    assert "1 studies of the last 1 days were judged by both: 1 would be treated otherwise" in reviewed
    done = post(desk, "/rules/save", text=text, base=1, comment="no scouts")
    assert (done.status_code, done.headers["location"]) == (303, "/rules?saved=2")
    latest = desk.ledger.latest_rule_set()
    assert latest is not None
    assert latest.by == "anna"
    assert latest.rules == (
        {"name": "chest", "model": "lung_ct", "modality": ["CT"], "at_least": 60, "deliver_to": ["archive"]},
    )
    (row,) = [one for one in desk.ledger.audit_rows() if one.thing_id == "2"]
    assert (row.what, row.who, row.address) == ("rules.saved", "anna", "192.0.2.7")


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"rule.at_least": "many"}, "at_least", "(it says 'many')"),
        ({"rule.model": "lung_tc"}, "model", "did you mean 'lung_ct'?"),
        ({"rule.deliver_to": "pacs"}, "deliver_to", "delivers to 'pacs', which is no [[peer]] here"),
        ({"rule.description": "("}, "description", "is not a regular expression"),
        ({"rule.ranges": "KVP = ["}, "ranges", "Invalid"),
        ({"rule.ranges": "NoSuch = [1, 2]"}, "ranges", "is not the keyword of a DICOM attribute"),
        ({"rule.priors.peer": "archive"}, "priors-peer", "wants priors from 'archive'"),
        ({"rule.name": ""}, "name", "'name' is missing"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_what_was_typed_stays(
    desk: Desk, fields: dict[str, str], field: str, words: str
) -> None:
    given = {"rule.name": "chest", "rule.model": "lung_ct", "rule.modality": "CT", **fields}
    told = page(post(desk, "/rules/draft", text=TEXT, base=0, do="keep:0", **given))

    assert "This cannot be kept yet." in told
    wrong = re.search(rf'id="rule-{field}-wrong">(.*?)</p>', told)
    assert wrong is not None
    assert words in wrong[1]
    for typed_ in filter(None, fields.values()):
        assert typed_ in told


def test_rules_are_added_copied_moved_and_removed(desk: Desk) -> None:
    def names(do: str, text: str) -> list[str]:
        told = post(desk, "/rules/draft", text=text, base=0, do=do).text
        return re.findall(r"^name = \"(.*?)\"", of_form(told).get("text", "") or unescape(told), re.MULTILINE)

    two = TEXT + TEXT.replace("chest", "other")
    assert names("up:1", two)[:2] == ["other", "chest"]
    assert names("down:0", two)[:2] == ["other", "chest"]
    assert names("remove:0", two) == ["other"] * len(names("remove:0", two))
    assert names("copy:0", two)[:3] == ["chest", "chest 2", "other"]
    for nonsense in ("edit:9", "keep:99", "remove:x", "up:-1", "copy:٣", "fly:0"):
        assert names(nonsense, two)[:2] == ["chest", "other"], nonsense
    assert "New rule" in page(post(desk, "/rules/draft", text=two, base=0, do="add"))


def test_a_text_that_is_no_toml_is_told_and_kept(desk: Desk) -> None:
    told = page(post(desk, "/rules/draft", text="[[rule]\nname", base=3, do="text"))
    assert "this is not valid TOML" in told
    assert "[[rule] name" in told
    assert "disabled" in told


def test_what_does_not_fit_is_never_saved(desk: Desk) -> None:
    wrong = TEXT.replace("lung_ct", "no_such_model")
    answer = post(desk, "/rules/save", text=wrong, base=0, comment="x")
    assert answer.status_code == 422
    assert "which is not installed" in answer.text
    assert "Edit rules" in page(post(desk, "/rules/review", text=wrong, base=0))
    assert desk.ledger.rules_version() == 0


def test_whoever_comes_second_is_told_who_was_first(desk: Desk) -> None:
    save(desk.ledger, rule("chest"))
    save(desk.ledger, rule("theirs"))
    answer = post(desk, "/rules/save", text=TEXT, base=1, comment="mine")
    assert answer.status_code == 409
    assert "anna has saved version 2 since" in answer.text
    assert desk.ledger.rules_version() == 2


def test_versions_stand_side_by_side_and_one_goes_back(desk: Desk) -> None:
    save(desk.ledger, rule("first"))
    save(desk.ledger, rule("second", at_least=9))
    assert "version 2" in desk.page("/rules/versions")
    told = desk.page("/rules/versions/1", than="2")
    assert "diff-changed" in told
    assert "Go back to this version" in told
    carried = of_form(told)
    reviewed = post(desk, "/rules/review", **carried)
    assert "back to version 1" in reviewed.text
    assert post(desk, "/rules/save", **{**of_form(reviewed.text), "comment": "back"}).status_code == 303
    latest = desk.ledger.latest_rule_set()
    assert latest is not None
    assert (latest.number, latest.same_as, latest.rules) == (3, 1, desk.ledger.rule_set(1).rules)
    assert desk.get("/rules/versions/9").status_code == 404


def test_from_a_version_that_this_release_cannot_read_there_is_a_way_back(desk: Desk) -> None:
    save(desk.ledger, rule("good"))
    desk.ledger.save_rule_set([{"name": "later", "phase_of_moon": "full"}], base=1, by=_ANNA, comment="")
    told = desk.page("/rules")
    assert "version 2 of the rules, saved by anna, cannot be used by this release" in told
    assert "unknown key 'phase_of_moon'" in page(post(desk, "/rules/draft", **of_form(told)))
    reviewed = post(desk, "/rules/review", **of_form(desk.page("/rules/versions/1")))
    assert post(desk, "/rules/save", **of_form(reviewed.text)).status_code == 303
    assert "version 3" in desk.page("/rules")


def test_a_study_is_tried_and_nothing_of_its_patient_is_shown(desk: Desk) -> None:
    canary = {"PatientName": "CANARY^ZOE", "SeriesDescription": "CANARY", "AccessionNumber": "A-100"}
    desk.ledger.record_arrivals([slice_of("1.2.3", 1, **canary)])
    text = TEXT + 'description = "lung"\nat_least = 60\n'
    told = page(post(desk, "/rules/test", text=text, study="A-100"))

    assert "it does not match" in told
    assert "at least 60" in told
    assert "CANARY" not in told
    assert "there is no such study here" in page(post(desk, "/rules/test", text=text, study="nowhere"))
    assert "Drop DICOM files, or name a study." in page(post(desk, "/rules/test", text=text))
    values = requests.post(
        f"{desk.url}/api/v1/rules/test", json={"study": "1.2.3", "rules": [{"name": "x", "model": "lung_ct",
        "modality": "CT", "description": "lung"}]}, timeout=patient(30))  # fmt: skip
    assert values.status_code == 200
    assert "CANARY" not in values.text
    (of_rule,) = values.json()["series"][0]["rules"]
    assert [one["holds"] for one in of_rule["conditions"]] == [True, False]


def test_dropped_files_are_tried_small_and_large_and_strangers_are_told(desk: Desk, tmp_path: Path) -> None:
    small = Series(np.zeros((2, 8, 8), np.int16), step=(0.0, 0.0, 2.0)).write(tmp_path / "small")
    large = Series(np.zeros((1, 1024, 1024), np.int16), step=(0.0, 0.0, 2.0)).write(tmp_path / "large")
    named = [("files", (path.name, path.read_bytes())) for path in (*small, *large)]
    told = page(
        post(desk, "/rules/test", text=TEXT, calling="CT1", files=[*named, ("files", ("x.txt", b"no"))])
    )
    assert "File 4 was not read: this is no DICOM file (PS3.10)" in told
    assert told.count(" taken ") >= 1
    assert desk.ledger.studies() == []
    refused = page(post(desk, "/rules/test", text=TEXT, calling="\\", files=named[:1]))
    assert 'role="alert"' in refused


def test_a_name_that_is_markup_is_text_everywhere(desk: Desk) -> None:
    evil = '<script>alert("x")</script>'
    save(desk.ledger, rule(evil, description="<b>"))
    text = TEXT.replace("chest", "<script>alert(1)</script>")
    for answer in (
        desk.get("/rules"),
        desk.get("/rules/versions/1"),
        post(desk, "/rules/draft", text=text, base=0),
        post(desk, "/rules/draft", text=text, base=0, do="edit:0"),
        post(desk, "/rules/review", text=text, base=0, comment=evil),
    ):
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;" in answer.text


def test_the_api_says_checks_and_saves_the_same(desk: Desk) -> None:
    url = f"{desk.url}/api/v1/rules"
    assert desk.get("/api/v1/rules").json()["version"] == 0
    new = {"name": "chest", "model": "lung_ct", "modality": ["CT"], "ranges": {"KVP": [80, None]}}
    checked = requests.post(
        f"{url}/check", json={"rules": [{**new, "model": "x"}]}, timeout=patient(30)
    ).json()
    assert [(one["rule"], one["field"]) for one in checked["wrong"]] == [(0, "model")]
    assert requests.post(f"{url}/check", json={"rules": [new]}, timeout=patient(30)).json() == {"wrong": []}

    close(desk.ledger, receive(desk.ledger, "1.2.3"))
    told = requests.post(f"{url}/dry-run", json={"rules": []}, timeout=patient(30)).json()
    assert (told["studies"], told["changed"]) == (1, 1)

    saved = requests.post(url, json={"rules": [new], "base": 0, "comment": "by program"}, timeout=patient(30))
    assert saved.json()["rules"] == [{**new, "ranges": {"KVP": [80.0, None]}}]
    again = requests.post(url, json={"rules": [new], "base": 0, "comment": ""}, timeout=patient(30))
    assert again.status_code == 409
    wrong = requests.post(url, json={"rules": [{"name": "x"}], "base": 1, "comment": ""}, timeout=patient(30))
    assert wrong.status_code == 422
    assert [one["number"] for one in desk.get("/api/v1/rules/versions").json()["versions"]] == [1]
    assert desk.get("/api/v1/rules/versions/1").json()["comment"] == "by program"
    assert desk.get("/api/v1/rules/versions/2").status_code == 404
