"""The docs are tested: what they name exists, and what exists is named."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def test_every_file_that_the_journey_names_exists() -> None:
    named = re.findall(
        r"`((?:ledger|dicom_node|models|results|worker|console)/[\w./<>-]+)`",
        (DOCS / "journey.md").read_text(),
    )
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_journey_passes_through_every_package() -> None:
    journey = (DOCS / "journey.md").read_text()
    for package in ("ledger", "dicom_node", "models", "results", "worker", "console"):
        assert f"`{package}/" in journey


def test_every_class_of_the_vocabulary_exists() -> None:
    named = re.findall(r"\| `([\w.]+)` \|$", (DOCS / "vocabulary.md").read_text(), re.MULTILINE)
    assert len(named) > 15
    for dotted in named:
        module, name = dotted.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), name), dotted


def test_the_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "page",
    [
        "states.md",
        "operating/settings.md",
        "operating/commands.md",
        "operating/errors.md",
        "models/manifest.md",
    ],
)
def test_every_heading_of_the_generated_pages_has_a_text(page: str) -> None:
    headings = re.findall(r"^(#+) (.+)\n\n(?:(#+) )?", (DOCS / page).read_text(), re.MULTILINE)
    # A heading may be followed at once by one below it, never by one of its own kind.
    assert [text for level, text, following in headings if following and len(following) <= len(level)] == []


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} → {target}")
    assert broken == []


def test_every_make_target_that_the_pages_name_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for target in re.findall(r"`make ([a-z]+)`", page.read_text()):
            assert target in targets, f"{page.name} names make {target}"


def test_the_pages_say_that_this_is_no_medical_device() -> None:
    for page in ("README.md", "SECURITY.md"):
        assert "not a medical device" in (ROOT / page).read_text()
