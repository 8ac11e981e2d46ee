"""
nnU-Net's own package, below `.cache`, believed by the digests of `requirements.txt`.

It is no dependency of ours (what it brings is in `docs/models/nnunet.md`); only a child whose path leads
there imports it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.patience import patient
from tests.peers.alone import alone

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CACHE = ROOT / ".cache" / "nnunet"


def libraries() -> Path:
    """The folder that nnU-Net's package and what it needs lie in, installed at the first call."""
    wanted = (HERE / "requirements.txt").read_bytes() + sys.version.encode()
    target = CACHE / f"libraries-{hashlib.sha256(wanted).hexdigest()[:12]}"
    if target.is_dir():
        return target
    with alone(CACHE):
        if not target.is_dir():
            work = target.with_suffix(".part")
            shutil.rmtree(work, ignore_errors=True)
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes",
                 "--target", str(work), "-r", str(HERE / "requirements.txt")],
                check=True, timeout=patient(600),
            )  # fmt: skip
            work.rename(target)
    return target


def run_beside_nnunet(program: str, *arguments: str) -> str:
    """What the module `program` of this folder prints where nnU-Net's package can be imported."""
    path = os.pathsep.join([str(ROOT), str(libraries())])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.models.nnunet.{program}", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=patient(600), check=False,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def reference_folders() -> Path:
    """The folders of `cases` with nnU-Net's answers, made once for each state of these files."""
    state = b"".join(
        (HERE / name).read_bytes()
        for name in ("cases.py", "folders.py", "make_reference.py", "requirements.txt")
    )
    target = CACHE / f"reference-{hashlib.sha256(state).hexdigest()[:12]}"
    libraries()  # Before the lock, which is not taken twice.
    with alone(CACHE):
        if not target.is_dir():
            work = target.with_suffix(".part")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            run_beside_nnunet("make_reference", str(work))
            work.rename(target)
    return target
