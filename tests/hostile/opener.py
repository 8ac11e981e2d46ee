"""Opens one model after another, each in a process of its own, and prints what became of it, as JSON lines.

python -m tests.hostile.opener DEADLINE_S < lines of [folder, whether the site trusts unsigned code]
"""

import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path

import monai.networks.nets  # noqa: F401  # so that what is measured is what the attack takes
import onnxruntime  # noqa: F401
import torch

from ledger.errors import WetreadError
from models.contract import Context
from models.registry import find_in, open_found
from models.runtimes import nnunet, onnx, python, state_dict, torch_export, torchscript  # noqa: F401
from models.settings import ModelsSettings
from tests.models.making import blobs, volume_of


def attempt(folder: str, trusting: bool) -> dict[str, object]:
    """What the worker's child would do with it: find, open, load, and run once."""
    settings = ModelsSettings(allow_unsigned=trusting)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        model = open_found(find_in(Path(folder), settings), settings)
        model.load("cpu")
        model.run(volume_of(blobs((8, 8, 8))), Context())
        said, kind = "", "ran"
    except WetreadError as refused:
        said, kind = str(refused), type(refused).__name__
    except BaseException as error:
        said, kind = f"{type(error).__name__}: {error}"[:500], "crash"
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    return {"kind": kind, "said": said, "grown_mib": grown_kib / 1024}


def apart(folder: str, trusting: bool, deadline_s: float) -> dict[str, object]:
    """The same in a process of its own, killed at the deadline."""
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, json.dumps(attempt(folder, trusting)).encode()[:60_000])
        os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], deadline_s)
    if not ready:
        os.kill(child, signal.SIGKILL)
    content = b""
    while piece := os.read(reading, 1 << 16):
        content += piece
    os.close(reading)
    os.waitpid(child, 0)
    seconds = time.monotonic() - began
    lost = {"kind": "lost", "said": "it was killed or died", "grown_mib": 0.0}
    return (json.loads(content) if content else lost) | {"seconds": seconds}


def main() -> None:
    torch.set_num_threads(1)
    deadline_s = float(sys.argv[1])
    for line in sys.stdin:
        folder, trusting = json.loads(line)
        print(json.dumps({"folder": folder} | apart(folder, trusting, deadline_s)), flush=True)


if __name__ == "__main__":
    main()
