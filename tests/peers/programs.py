"""Where the peers' programs are; what to install where one is missing."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

import pytest

#: program → what brings it
BRINGS = {
    "dcmsend": "the Debian package dcmtk",
    "storescu": "the Debian package dcmtk",
    "storescp": "the Debian package dcmtk",
    "echoscu": "the Debian package dcmtk",
    "findscu": "the Debian package dcmtk",
    "dcmqrscp": "the Debian package dcmtk",
    "dcmdump": "the Debian package dcmtk",
    "dcmconv": "the Debian package dcmtk",
    "dcmcjpeg": "the Debian package dcmtk",
    "dsrdump": "the Debian package dcmtk",
    "dsr2html": "the Debian package dcmtk",
    "dcmp2pgm": "the Debian package dcmtk",
    "dcmpschk": "the Debian package dcmtk",
    "Orthanc": "the Debian packages orthanc and orthanc-dicomweb",
    "redis-server": "the Debian package redis-server",
    "initdb": "the Debian package postgresql",
    "postgres": "the Debian package postgresql",
    "strace": "the Debian package strace",
    "chromium": "the Debian package chromium",
    "npm": "the Debian package npm",
    "java": "the Debian package default-jre-headless",
    "openssl": "the Debian package openssl",
    "prometheus": "the Debian package prometheus",
    "promtool": "the Debian package prometheus",
    "podman": "the Debian packages podman and runc",
    "busybox": "the Debian package busybox-static",
    "dciodvfy": "the Python package dicom3tools",
    "dcentvfy": "the Python package dicom3tools",
    "segimage2itkimage": "the Python package dcmqi",
    "itkimage2segimage": "the Python package dcmqi",
    "tid1500reader": "the Python package dcmqi",
}

_FROM_PYTHON_PACKAGES = {name for name, origin in BRINGS.items() if "Python package" in origin}


def find(name: str) -> Path:
    """The program `name`, never the one of the same name that a Python package put beside our interpreter.

    pynetdicom brings console scripts called storescu, storescp, echoscu …: a test that used them would test
    pynetdicom against itself. A missing program skips the test; in CI (CI=true) it fails it.
    """
    ours = Path(sysconfig.get_path("scripts"))
    if name in _FROM_PYTHON_PACKAGES:
        folders = [ours]
    else:
        folders = [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p]
        folders = [
            f
            for f in folders
            if f.resolve() != ours.resolve() and "venv" not in f.parts and f.name != "shims"
        ]
        folders += [Path("/usr/bin"), Path("/usr/sbin"), Path("/usr/local/bin")]
        # Debian keeps the PostgreSQL programs out of the path; the newest version comes first.
        folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *folders]
    for folder in folders:
        found = shutil.which(name, path=str(folder))
        if found:
            return Path(found)
    missing(f"{name} is not installed: it comes with {BRINGS.get(name, 'an unknown package')}")


def missing(what: str) -> NoReturn:
    """Skip for want of a peer; fail where nothing may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} (in CI a missing peer is a failure)", pytrace=False)
    pytest.skip(what)


def real_data(folder: str) -> Path:
    """A folder of real images beside the repository; skips where it is absent, for it may not be
    committed.
    """
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / folder
    if not path.is_dir():
        pytest.skip(f"the real images of {folder} are not part of the repository")
    return path


def interpreter() -> str:
    """The Python that runs the tests."""
    return sys.executable
