"""`wetread rules`, as it is typed: rules are looked at, tried, saved and gone back to."""

import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.cli import main
from console.rule_texts import made_from, read_text, side_by_side, toml_of
from console.settings import load_site
from dicom_node.rule_book import as_tables
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.console.conftest import Wetread
from tests.dicom_node.test_rule_book import rule
from tests.ledger.site import close, receive
from tests.worker.series import Series

SETTINGS = """
[[peer]]
name = "archive"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
count = "none"

[[rule]]
name = "chest"
model = "lung_ct"
modality = "CT"
"""
OTHER = (
    '[[rule]]\nname = "chest"\nmodel = "lung_ct"\nmodality = "CT"\nat_least = 60\ndeliver_to = "archive"\n'
)

NOTIFY = """
[[notify]]
name = "ris"
kind = "hl7v2"
rules = ["chest"]
to = { url = "mllp://127.0.0.1:2575" }
"""


@pytest.fixture
def wetread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wetread:
    """Run `wetread …` in `tmp_path` and in this process."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"COLUMNS": "220", "NO_COLOR": "1", "TZ": "UTC"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "wetread.toml").write_text(SETTINGS)

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        monkeypatch.setattr(sys, "argv", ["wetread", *map(str, arguments)])
        out, errors = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(errors), pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code
        return subprocess.CompletedProcess(
            sys.argv, status if isinstance(status, int) else 0, out.getvalue(), errors.getvalue()
        )

    return run


@pytest.fixture
def ledger(tmp_path: Path, wetread: Wetread) -> Ledger:
    (tmp_path / "wetread-data").mkdir()
    opened = Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/wetread-data/ledger.sqlite"))
    yield opened
    opened.close()


def words(text: str) -> str:
    return " ".join(text.split())


def test_rules_go_round_from_the_file_to_a_version_and_back(
    wetread: Wetread, ledger: Ledger, tmp_path: Path
) -> None:
    assert "chest CT of any body part" in words(wetread("rules").stdout)
    shown = wetread("rules", "show")
    assert shown.stdout.startswith("# version 1 of the rules\n")

    changed = shown.stdout.replace('modality = ["CT"]', 'modality = ["CT"]\nat_least = 60')
    (tmp_path / "mine.toml").write_text(changed)
    saved = wetread("rules", "save", "mine.toml", "-m", "no scouts")
    assert saved.stdout == "version 2 is in force: 1 rule\n", saved.stderr
    assert [one.source for one in ledger.rule_sets()] == ["console", "file"]
    listed = words(wetread("rules", "list").stdout)
    assert "version 2" in listed
    assert "at_least at least 60" in listed

    back = wetread("rules", "rollback", 1)
    assert back.stdout == "version 3 is in force: it says what version 1 said\n"
    versions = words(wetread("rules", "versions").stdout)
    assert "back to version 1 (as version 1)" in versions
    assert "no scouts" in versions
    assert tomllib.loads(wetread("rules", "show", 3).stdout) == tomllib.loads(shown.stdout)
    (row,) = [one for one in ledger.audit_rows() if one.thing_id == "3"]
    assert (row.what, row.address) == ("rules.saved", "this machine")


def test_what_was_saved_by_another_meanwhile_is_not_overwritten(
    wetread: Wetread, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(wetread("rules", "show").stdout)
    (tmp_path / "theirs.toml").write_text(OTHER)
    assert wetread("rules", "save", "theirs.toml", "-m", "theirs").returncode == 0

    refused = wetread("rules", "save", "mine.toml", "-m", "mine", "--on", 1)
    assert refused.returncode == 1
    assert "these rules were made from version 1" in words(refused.stderr)
    assert ledger.rules_version() == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[rule]", "this is not valid TOML"),
        ("[node]\nport = 1", "there is no [[rule]] in it"),
        (
            OTHER.replace("archive", "pacs"),
            "rule 'chest' delivers to 'pacs', which is no [[peer]] here (archive)",
        ),
        (OTHER.replace("lung_ct", "lung_tc"), "which is not installed; did you mean 'lung_ct'?"),
        (OTHER + OTHER, "two [[rule]] entries are called 'chest': every rule needs its own name"),
        (
            OTHER.replace("at_least", "at_lest"),
            "did you mean 'at_least'?",
        ),
        (OTHER.replace('"CT"', '"MR"'), "is made for CT, and the rule asks for MR"),
        (
            OTHER + '[rule.priors]\npeer = "archive"\n',
            "rule 'chest' wants priors from 'archive', which is no [[peer]] with retrieve",
        ),
    ],
)
def test_a_set_that_does_not_fit_is_refused_in_the_sentences_of_the_start(
    wetread: Wetread, ledger: Ledger, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "new.toml").write_text(text)
    for command in (("check", "new.toml"), ("save", "new.toml", "-m", "x"), ("dry-run", "new.toml")):
        refused = wetread("rules", *command)
        assert refused.returncode == 1
        assert sentence in words(refused.stderr)
    assert ledger.rules_version() == 0


def test_a_table_elsewhere_that_waits_for_a_rule_is_not_left_without_it(
    wetread: Wetread, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "wetread.toml").write_text(SETTINGS + NOTIFY)
    (tmp_path / "new.toml").write_text(OTHER.replace('"chest"', '"thorax"'))

    refused = wetread("rules", "check", "new.toml")
    assert "[[notify]] 'ris' is about rule 'chest', which is no [[rule]] here" in words(refused.stderr)


def test_a_study_is_tried_on_every_rule_without_a_word_about_its_patient(
    wetread: Wetread, ledger: Ledger, tmp_path: Path
) -> None:
    receive(ledger, "1.2.3")
    (tmp_path / "new.toml").write_text(OTHER)
    told = words(wetread("rules", "test", "1.2.3", "--rules", "new.toml").stdout)
    assert "chest ✘ not taken 3 images, rule asks at least 60" in told
    assert "✔ modality CT CT" in told
    assert wetread("rules", "test", "9.9").returncode == 1


def test_a_folder_of_files_is_tried_as_if_it_had_been_sent(
    wetread: Wetread, ledger: Ledger, tmp_path: Path
) -> None:
    Series(np.zeros((5, 8, 8), np.int16), step=(0.0, 0.0, 2.0)).write(tmp_path / "dicom")
    (tmp_path / "dicom" / "note.txt").write_text("no image")
    told = words(wetread("rules", "test", "--dicom", "dicom").stdout)
    assert "CT, 5 images at 2.00 mm" in told
    assert "was not read: this is no DICOM file" in told
    assert ledger.studies() == []


def test_a_dry_run_tells_what_last_week_would_have_been(
    wetread: Wetread, ledger: Ledger, tmp_path: Path
) -> None:
    close(ledger, receive(ledger, "1.2.3"))
    (tmp_path / "new.toml").write_text(OTHER)
    told = words(wetread("rules", "dry-run", "new.toml").stdout)
    assert "1 of them would be treated otherwise, with 0 jobs in the place of 1" in told
    assert "- chest: lung_ct on series 1" in told
    assert ledger.rules_version() == 0


_PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(
    name=_PLAIN,
    pattern=_PLAIN.map(re.escape),
    settings=st.dictionaries(
        _PLAIN, st.one_of(_PLAIN, st.booleans(), st.integers(), st.floats(allow_nan=False))
    ),
    inputs=st.booleans(),
)
def test_rules_that_are_written_as_text_are_read_back_the_same(name, pattern, settings, inputs) -> None:
    several = [
        {"name": "a", "ranges": {"EchoTime": [float("-inf"), 3]}},
        {"name": "b", "contrast": True},
    ]
    asked = rule(
        name=name,
        description=pattern,
        settings=settings,
        ranges={"KVP": [80, float("inf")]},
        inputs=several if inputs else [],
    )
    text = toml_of(as_tables([asked]), version=7)
    assert made_from(text) == 7
    tables = tomllib.loads(text)["rule"]
    assert as_tables([rule(**tables[0])]) == as_tables([asked])


def test_no_rules_at_all_are_written_and_read(tmp_path: Path) -> None:
    site = load_site(None, tmp_path / "data")
    assert read_text(site, toml_of([])).rules == ()
    assert read_text(site, toml_of([])).wrong == ()


def test_what_is_alike_in_two_versions_stands_on_one_height() -> None:
    rows = side_by_side("a\nb\nc\n", "a\nB\nb2\nc\nd\n")
    assert [(row.kind, row.left, row.right) for row in rows] == [
        ("same", "a", "a"),
        ("changed", "b", "B"),
        ("new", "", "b2"),
        ("same", "c", "c"),
        ("new", "", "d"),
    ]
