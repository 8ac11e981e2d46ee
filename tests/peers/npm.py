"""Programs that come as npm packages: unpacked once below `.cache`, and believed by their digest."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.patience import patient
from tests.peers.alone import alone
from tests.peers.programs import find, missing

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "npm"


def package(name: str, version: str, sha512: str) -> Path:
    """The folder of the package `name` in `version`, whose archive has the digest `sha512` (base64)."""
    target = CACHE / f"{name.replace('/', '-').lstrip('@')}-{version}"
    with alone(CACHE):
        if not target.is_dir():
            _fetch(name, version, sha512, target)
    return target


def _fetch(name: str, version: str, sha512: str, target: Path) -> None:
    work = target.with_name(f"{target.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    fetched = subprocess.run(
        [find("npm"), "pack", f"{name}@{version}", "--silent"],
        cwd=work, capture_output=True, text=True, timeout=patient(300), check=False,
    )  # fmt: skip
    archives = list(work.glob("*.tgz"))
    if not archives:
        missing(f"the npm package {name} {version} cannot be had: {fetched.stderr.strip()[-300:]}")
    digest = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
    assert digest == sha512, f"the archive of {name} {version} is not the one that is known"
    with tarfile.open(archives[0]) as archive:
        archive.extractall(work, filter="data")
    (work / "package").rename(target)
    shutil.rmtree(work)
