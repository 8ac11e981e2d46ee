"""What can be said of the container files without a container engine."""

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from console.cli import app
from console.settings import load_site

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_everything_that_an_image_copies_is_in_the_build_context(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", path.read_text(), re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, f"{source} is kept out by .dockerignore"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_pinned_checked_and_not_root(path: Path) -> None:
    text = path.read_text()
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert re.search(r":\d+\.\d+\.\d+", image), f"{image} is not pinned to a release"
    last = text.rsplit("FROM ", 1)[1]
    assert "USER 10001:10001" in last
    assert "HEALTHCHECK" in last
    assert "--require-hashes" in text


def test_only_the_worker_brings_torch() -> None:
    brings = {path.name for path in DOCKERFILES if "pip install --no-cache-dir torch" in path.read_text()}
    assert brings == {"worker.Dockerfile"}


def test_the_torch_of_the_image_is_the_torch_of_the_project() -> None:
    (version,) = re.findall(r"torch==([\d.]+)", (DOCKER / "worker.Dockerfile").read_text())
    assert f'"torch=={version}"' in (ROOT / "pyproject.toml").read_text()


def test_the_whole_has_all_its_parts(compose: dict) -> None:
    assert set(compose["services"]) == {"node", "worker", "console", "redis", "postgresql", "archive"}


def test_every_service_is_read_only_and_without_privileges(compose: dict) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_every_service_has_a_health_check(compose: dict) -> None:
    for name, service in compose["services"].items():
        if "build" in service:
            assert "HEALTHCHECK" in (DOCKER.parent / service["build"]["dockerfile"]).read_text(), name
        else:
            assert "healthcheck" in service, name


def test_ports_are_published_on_loopback_only(compose: dict) -> None:
    for service in compose["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port


def test_every_volume_network_and_secret_is_declared(compose: dict) -> None:
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        assert set(service.get("networks", [])) <= set(compose["networks"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).exists(), source


def test_every_secret_is_one_that_the_script_writes(compose: dict) -> None:
    script = (DOCKER / "secrets.sh").read_text()
    for secret in compose["secrets"].values():
        assert f">{secret['file'].removeprefix('./')}" in script


def test_the_site_of_the_containers_is_a_valid_one(tmp_path: Path) -> None:
    text = (DOCKER / "wetread.toml").read_text()
    for name, url in {
        "ledger_url": "postgresql+pg8000://wetread:secret@postgresql:5432/wetread",
        "queue_url": "redis://:secret@redis:6379/0",
    }.items():
        (tmp_path / name).write_text(url)
        text = text.replace(f"/run/secrets/{name}", str(tmp_path / name))
    (tmp_path / "wetread.toml").write_text(text)

    site = load_site(tmp_path / "wetread.toml")

    assert site.rules[0].deliver_to == ("archive",)
    assert site.peers[0].confirm == "find"
    assert str(site.ledger.url).startswith("postgresql+pg8000://wetread:secret@")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_health_check_is_a_command_that_exists_and_asks_for_no_more_than_life(path: Path) -> None:
    (check,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", path.read_text(), re.MULTILINE)
    program, *command = json.loads(check)
    assert program == "wetread"

    # No site is there: the command must know all its options, and fail only because nothing answers.
    done = CliRunner().invoke(app, [*command, "--config", str(DOCKER / "wetread.toml")])

    assert done.exit_code != 0
    assert "No such option" not in done.output
    assert command in (["echo"], ["status", "--ping"])
