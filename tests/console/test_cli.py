"""What an administrator types, and what comes back."""

import re

import pytest
from typer.main import get_command

from console.cli import app
from tests.console.conftest import FilledSite, Wetread

COMMANDS = sorted(get_command(app).commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(wetread: Wetread, command: str) -> None:
    done = wetread(command, "--help")

    assert done.returncode == 0
    assert "Usage: " in done.stdout
    assert len(re.findall(r"\w+", done.stdout)) > 15


def test_the_commands_that_the_product_promises_are_there() -> None:
    promised = {
        "serve",
        "node",
        "worker",
        "run",
        "demo",
        "init",
        "status",
        "show",
        "retry",
        "cancel",
        "models",
        "echo",
    }
    assert promised <= set(COMMANDS)


def test_wetread_says_its_version(wetread: Wetread) -> None:
    assert re.fullmatch(r"wetread \S+\n", wetread("--version").stdout)


def test_a_misspelt_key_stops_every_command_with_code_2(wetread: Wetread, site: FilledSite) -> None:
    (site.folder / "wetread.toml").write_text("[node]\nprot = 1\n")

    for command in (
        ["serve"],
        ["status"],
        ["show", "1"],
        ["node"],
        ["worker"],
        ["echo", "PACS"],
        ["settings"],
    ):
        done = wetread(*command)
        assert done.returncode == 2, command
        assert "unknown key 'prot' in [node]: did you mean 'port'?" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_unknown_model_in_a_rule_stops_the_start(wetread: Wetread, site: FilledSite) -> None:
    (site.folder / "wetread.toml").write_text(
        '[[rule]]\nname = "chest"\nmodel = "lung_tc"\nmodality = "CT"\n'
    )
    done = wetread("serve")

    assert done.returncode == 2
    assert (
        "rule 'chest' names the model 'lung_tc', which is not installed; did you mean 'lung_ct'?"
        in done.stderr
    )


def test_init_writes_a_file_that_the_other_commands_read(wetread: Wetread, tmp_path) -> None:
    assert wetread("init").returncode == 0
    assert wetread("init").returncode == 1

    shown = wetread("settings")
    assert shown.returncode == 0
    assert str(tmp_path / "wetread.toml") in shown.stdout
    assert re.search(r"ae_title +\"WETREAD\" +wetread.toml", shown.stdout)
    assert re.search(r"maximum_associations +25 +default", shown.stdout)


def test_settings_do_not_show_passwords(wetread: Wetread, tmp_path) -> None:
    (tmp_path / "wetread.toml").write_text(
        '[ledger]\nurl = "postgresql+pg8000://me:pass-1@db:5432/x"\n[queue]\nurl = "redis://:pass-2@q:6379/0"\n'
    )
    for form in ([], ["--json"]):
        shown = wetread("settings", *form).stdout
        assert "db:5432/x" in shown
        assert "pass-" not in shown


def test_looking_where_nothing_is_creates_nothing(wetread: Wetread, tmp_path) -> None:
    done = wetread("status")

    assert done.returncode == 1
    assert "there is no ledger at" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_worker_of_its_own_asks_for_a_queue(wetread: Wetread, site: FilledSite) -> None:
    done = wetread("worker")

    assert done.returncode == 2
    assert "give [queue] url" in done.stderr


def test_models_are_listed_with_their_cards(wetread: Wetread) -> None:
    assert "lung_ct@" in wetread("models").stdout
    assert "lung" in wetread("models", "show", "lung_ct").stdout.lower()

    unknown = wetread("models", "show", "lung_tc")
    assert unknown.returncode == 1
    assert "did you mean 'lung_ct'?" in unknown.stderr


def test_a_peer_that_does_not_answer_is_explained(wetread: Wetread, site: FilledSite) -> None:
    done = wetread("echo", "PACS")
    assert done.returncode == 1
    assert "PACS (PACS at 127.0.0.1:1) does not hear us" in done.stderr

    unknown = wetread("echo", "PASC")
    assert unknown.returncode == 2
    assert "did you mean 'PACS'?" in unknown.stderr


def test_status_does_not_wait_for_torch(wetread: Wetread, site: FilledSite, monkeypatch) -> None:
    """Half a second on an idle machine: whoever asks loads nothing that computes, draws or encodes."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    done = wetread("status")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "ledger.store.ledger" in loaded
    assert not loaded & {"torch", "scipy", "highdicom", "PIL", "celery"}


def test_looking_needs_neither_torch_nor_pydicom(site: FilledSite) -> None:
    import os
    import subprocess
    import sys

    from tests.console.conftest import ROOT

    code = (
        "import sys; from console.cli import app; app(['status'], standalone_mode=False); "
        "print(sorted({'torch', 'highdicom', 'pydicom', 'pynetdicom', 'celery', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=site.folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_keeps_the_brackets_of_tables(wetread: Wetread) -> None:
    assert "Name of a [[peer]]; without it, our own node." in wetread("echo", "--help").stdout
    assert "Needs a queue ([queue] url or --queue)" in wetread("worker", "--help").stdout
    assert "instead of [site] data" in wetread("serve", "--help").stdout
