"""`wetread models`, as it is typed."""

import hashlib
import os
import stat
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread

import pytest

from console.cli import main
from models.training.phantom_series import write_series
from models.training.phantoms import chest
from tests.console.conftest import FilledSite, Wetread
from tests.models.manifests import write_model


@pytest.fixture
def wetread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wetread:
    """Run `wetread …` in `tmp_path` and in this process: there are many commands here, and each would import
    everything anew.
    """
    monkeypatch.chdir(tmp_path)
    for name, value in {"COLUMNS": "220", "NO_COLOR": "1", "TZ": "Europe/Berlin"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdin", StringIO())  # Nobody sits there to be asked.

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


def words(text: str) -> str:
    return " ".join(text.split())


def allow(folder: Path, more: str = "") -> None:
    with (folder / "wetread.toml").open("a") as file:
        file.write(f"\n[models]\nallow_unsigned = true\n{more}\n")


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    """A model that is data, in two versions."""
    for version in ("1", "2"):
        write_model(tmp_path / f"v{version}", {"model.onnx": version}, runtime="onnx", version=version)
    return tmp_path / "v1"


def test_a_new_model_runs_as_it_is_and_is_installed(wetread: Wetread, tmp_path: Path) -> None:
    begun = wetread("models", "new", "bright")
    assert "wetread models test ./bright" in begun.stdout
    tried = wetread("models", "test", "./bright")
    assert tried.returncode == 0, tried.stderr
    assert "bright@0.1.0 on a phantom: found" in tried.stdout
    assert "Volume" in tried.stdout
    assert "MiB at most" in tried.stdout

    refused = wetread("models", "add", "bright")
    assert refused.returncode == 1
    assert "allow_unsigned = true" in refused.stderr
    allow(tmp_path)
    assert "bright@0.1.0 is installed" in wetread("models", "add", "bright").stdout
    assert "unsigned code" in wetread("models", "list").stdout
    assert wetread("models", "test", "bright").returncode == 0
    again = wetread("models", "new", "bright")
    assert again.returncode == 1
    assert "stays as it is" in again.stderr


@pytest.mark.parametrize(
    "runtime",
    ["state_dict", "onnx", "torch_export", "torchscript", "monai_bundle", "nnunet", "container", "python"],
)
def test_every_runtime_has_a_beginning_that_is_a_manifest(tmp_path: Path, runtime: str) -> None:
    from models.scaffold import begin
    from models.shelf import package_in

    assert begin("mine", runtime, tmp_path / "mine")
    assert package_in(tmp_path / "mine").manifest.runtime == runtime


@pytest.mark.parametrize(("name", "runtime"), [("My Model", "python"), ("mine", "magic")])
def test_what_cannot_be_begun_is_said(wetread: Wetread, name: str, runtime: str) -> None:
    done = wetread("models", "new", name, "--runtime", runtime)
    assert done.returncode == 1
    assert repr(name if runtime == "python" else runtime) in done.stderr


def test_a_model_that_fails_says_so_with_its_exit_code(wetread: Wetread, tmp_path: Path) -> None:
    wetread("models", "new", "bad")
    code = tmp_path / "bad" / "model.py"
    code.write_text(code.read_text().replace("drawn = ", "raise OSError('no weights')\n        drawn = "))
    done = wetread("models", "test", "./bad")
    assert done.returncode == 1
    assert "no weights" in done.stderr


def test_a_model_is_tried_on_a_folder_of_images(wetread: Wetread, tmp_path: Path) -> None:
    allow(tmp_path)
    wetread("models", "new", "bright")
    wetread("models", "add", "bright")
    write_series(chest((12, 48, 48), seed=3), tmp_path / "ct")
    done = wetread("models", "test", "bright", "--folder", "ct", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"segmentation.dcm", "report.dcm"}


def test_show_tells_what_it_is_for_and_whether_it_may_be_opened(wetread: Wetread, tmp_path: Path) -> None:
    wetread("models", "new", "bright")
    allow(tmp_path)
    wetread("models", "add", "bright")
    shown = words(wetread("models", "show", "bright").stdout)
    assert "Research. Outlines the whole body on CT." in shown
    assert "Trust unsigned code" in shown
    (tmp_path / "wetread.toml").write_text("")
    assert "Not opened model bright@0.1.0 is code (python)" in words(
        wetread("models", "show", "bright").stdout
    )


def test_verify_finds_a_changed_file_and_says_so_with_its_exit_code(wetread: Wetread, onnx: Path) -> None:
    assert wetread("models", "add", onnx).returncode == 0
    assert wetread("models", "verify").returncode == 0
    installed = onnx.parent / "wetread-data" / "models" / "ours" / "1" / "model.onnx"
    installed.write_text("2")
    done = wetread("models", "verify")
    assert done.returncode == 1
    assert "not the file that its manifest vouches for" in done.stdout
    assert wetread("models", "verify", "lung_ct").returncode == 0


def test_what_a_rule_names_is_not_removed_by_mistake(wetread: Wetread, onnx: Path) -> None:
    for folder in (onnx, onnx.parent / "v2"):
        assert wetread("models", "add", folder).returncode == 0
    (onnx.parent / "wetread.toml").write_text(
        '[[rule]]\nname = "all"\nmodel = "ours@1"\nmodality = "CT"\n[[rule]]\nname = "new"\nmodel = "ours"\n'
        'modality = "CT"\n'
    )
    kept = wetread("models", "remove", "ours@1")
    assert kept.returncode == 1
    assert "rule 'all' names ours@1" in kept.stderr
    assert wetread("models", "remove", "ours@1", "--force").returncode == 0
    last = wetread("models", "remove", "ours@2")
    assert "rule 'new' names ours" in last.stderr
    unknown = wetread("models", "remove", "ours@7")
    assert "there: ours@2" in unknown.stderr


def test_promotion_and_shadow_are_decisions_in_the_ledger(
    wetread: Wetread, site: FilledSite, onnx: Path
) -> None:
    for folder in (onnx, onnx.parent / "v2"):
        wetread("models", "add", folder)
    shadowed = wetread("models", "shadow", "ours@2", "--because", "to compare")
    assert "ours@2 runs beside ours@1" in shadowed.stdout
    assert (site.ledger.channels()["ours"].active, site.ledger.channels()["ours"].shadow) == ("1", "2")
    listed = wetread("models").stdout.splitlines()
    assert any("ours@2" in line and "shadow" in line for line in listed)
    assert "No study was analysed" in wetread("models", "difference", "ours").stdout

    kept = wetread("models", "remove", "ours@2")
    assert "has it as its shadow" in kept.stderr
    promoted = wetread("models", "promote", "ours@2")
    assert "No study was analysed" in promoted.stdout  # What was compared, before the decision.
    assert "ours in a rule means ours@2 from now on, and no longer 1" in promoted.stdout
    assert site.ledger.channels()["ours"].shadow is None
    assert "nothing runs beside" in wetread("models", "shadow", "ours", "--off").stderr
    wetread("models", "shadow", "ours@1")
    assert wetread("models", "shadow", "ours", "--off").returncode == 0
    assert wetread("models", "promote", "ours", "--newest").returncode == 0
    assert site.ledger.channels() == {}
    told = [one for one in site.ledger.history() if one.thing == "model"]
    assert [one.event for one in told] == [
        "shadowed",
        "promoted",
        "shadowed",
        "unshadowed",
        "channel_dropped",
    ]
    assert told[0].because == "to compare"
    assert told[0].detail["by"]
    trail = [(row.what, row.role, row.address) for row in reversed(site.ledger.audit_rows())]
    came = [("model.installed", "administrator", "this machine")] * 2
    assert trail == came + [(f"model.{one.event}", "administrator", "this machine") for one in told]


def test_what_comes_into_the_models_folder_and_goes_is_in_the_audit_trail(
    wetread: Wetread, site: FilledSite, onnx: Path
) -> None:
    wetread("models", "add", onnx)
    wetread("models", "add", onnx)  # It is there already, and stays.
    wetread("models", "remove", "ours@1", "--force")
    wetread("models", "remove", "ours@7")  # There is none.
    trail = [(row.what, row.thing_id, row.detail) for row in reversed(site.ledger.audit_rows())]
    assert trail == [
        ("model.installed", "ours@1", {"trust": "data only", "source": "this machine"}),
        ("model.removed", "ours@1", {"forced": True}),
    ]


@pytest.mark.parametrize("what", [("promote", "ours"), ("promote", "ours@9"), ("shadow", "ours@1")])
def test_a_decision_about_what_is_not_there_is_refused(
    wetread: Wetread, site: FilledSite, onnx: Path, what: tuple[str, str]
) -> None:
    wetread("models", "add", onnx)
    assert wetread("models", *what).returncode == 1
    assert site.ledger.channels() == {}


def test_a_signed_model_is_opened_by_who_trusts_the_key(wetread: Wetread, tmp_path: Path) -> None:
    made = wetread("models", "keygen", "hospital.pem")
    assert stat.S_IMODE((tmp_path / "hospital.pem").stat().st_mode) == 0o600
    assert "PRIVATE" not in made.stdout
    wetread("models", "new", "bright")
    assert "is signed by" in wetread("models", "sign", "bright", "--key", "hospital.pem").stdout
    assert wetread("models", "add", "bright").returncode == 1
    (tmp_path / "wetread.toml").write_text(made.stdout[made.stdout.index("[models") :])
    assert "signed by hospital" in wetread("models", "add", "bright").stdout
    assert wetread("models", "test", "bright").returncode == 0
    assert "stays as it is" in wetread("models", "keygen", "hospital.pem").stderr


def test_a_key_that_is_none_stops_the_start(wetread: Wetread, tmp_path: Path) -> None:
    (tmp_path / "wetread.toml").write_text('[models.trusted_keys]\nhospital = "abc"\n')
    done = wetread("models")
    assert done.returncode == 2
    assert "'hospital' is no public ed25519 key" in done.stderr


def test_a_licence_key_is_never_shown(wetread: Wetread, tmp_path: Path) -> None:
    write_model(tmp_path / "m", {"model.onnx": "x"}, runtime="onnx", licence_key=True, licence="on request")
    refused = wetread("models", "add", "m")
    assert "needs a licence key (on request)" in refused.stderr
    (tmp_path / "wetread.toml").write_text('[models.licence_keys]\nours = "SECRET-7"\n')
    said = [
        wetread("models", "add", "m"),
        wetread("models"),
        wetread("models", "show", "ours"),
        wetread("settings"),
        wetread("settings", "--json"),
        wetread("models", "test", "ours"),
    ]
    assert said[0].returncode == 0
    assert not any("SECRET-7" in one.stdout + one.stderr for one in said)
    (tmp_path / "wetread.toml").write_text("[models.licence_keys]\nours = 777777\n")
    assert "777777" not in wetread("models").stderr


# From the web


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server on this machine, with what lies in `published`."""
    (tmp_path / "published").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "published"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_model_from_the_web_needs_its_digest(wetread: Wetread, onnx: Path, web: str) -> None:
    path = onnx.parent / "published" / "ours.zip"
    with zipfile.ZipFile(path, "w") as file:
        for one in onnx.iterdir():
            file.write(one, one.name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    unasked = wetread("models", "add", f"{web}/ours.zip")
    assert unasked.returncode == 1
    assert f"--sha256 {digest}" in unasked.stderr
    other = wetread("models", "add", f"{web}/ours.zip", "--sha256", "0" * 64)
    assert f"has SHA-256 {digest}" in other.stderr
    assert "ours@1" not in wetread("models").stdout
    assert wetread("models", "add", f"{web}/ours.zip", "--sha256", digest).returncode == 0
    gone = wetread("models", "add", f"{web}/nothing.zip", "--sha256", digest)
    assert "answers 404" in gone.stderr


@pytest.mark.parametrize(
    "url", ["http://models.example/x.zip", "ftp://127.0.0.1/x.zip", "file:///etc/passwd"]
)
def test_models_are_fetched_by_https_only(wetread: Wetread, url: str) -> None:
    done = wetread("models", "add", url, "--sha256", "0" * 64)
    assert done.returncode == 1
    assert "by https only" in done.stderr


def test_a_download_ends_where_it_is_too_long(tmp_path: Path, web: str) -> None:
    from console.download import NotDownloaded, download

    (tmp_path / "published" / "x").write_bytes(os.urandom(4 << 20))
    with pytest.raises(NotDownloaded, match="longer than 1000 bytes"):
        download(f"{web}/x", tmp_path, None, at_most=1000)


def test_a_file_without_a_manifest_gets_the_beginning_of_one(wetread: Wetread, tmp_path: Path) -> None:
    (tmp_path / "Net-1.ts").write_bytes(b"no network")
    done = wetread("models", "add", "Net-1.ts")
    assert done.returncode == 1
    assert "is for the runtime torchscript" in done.stdout
    assert tomllib.loads((tmp_path / "net_1" / "manifest.toml").read_text())["runtime"] == "torchscript"
    assert "'licence' is missing" in wetread("models", "add", "net_1").stderr
    assert "is there already" in wetread("models", "add", "Net-1.ts").stderr


# Alarms


def test_what_nobody_vouches_for_and_what_is_broken_is_an_alarm(
    wetread: Wetread, site: FilledSite, onnx: Path
) -> None:
    folder = site.folder
    wetread("models", "new", "bright")
    allow(folder)
    wetread("models", "add", "bright")
    wetread("models", "add", onnx)
    (folder / "wetread-data" / "models" / "ours" / "1" / "manifest.toml").write_text("title = 1")
    settings = folder / "wetread.toml"
    told = wetread("status").stdout
    assert "bright@0.1.0 is code that no trusted key vouches for" in words(told)
    assert "ours@1 is installed and cannot be used" in words(told)

    settings.write_text(settings.read_text() + '[[rule]]\nname = "all"\nmodel = "bright"\nmodality = "CT"\n')
    assert "cannot be followed" not in wetread("status").stdout
    settings.write_text(settings.read_text().replace("allow_unsigned = true", ""))
    assert "rule 'all' cannot be followed: model bright@0.1.0 is code" in words(wetread("status").stdout)
    assert wetread("status").returncode == 1
