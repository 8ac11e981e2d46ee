"""`make hostile`: tries promises P7, P8, P9, P14 and P15 against real processes, and prints what became of
them.

Leaves with 0 where all of them were kept, and with 1 where one was broken. `--quick` takes about a minute and
shortens the node's timers; without it everything is tried against the settings that are shipped.
"""

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.hostile import bombing, disk, models, protocol, strangers
from tests.hostile.verdict import Verdict, broken, circumstances, table


def attempts(*, quick: bool, seed: int) -> dict[str, Callable[[Path], Verdict]]:
    """What is tried, in the order of the promises; each gets an empty folder."""
    few = 3 if quick else 1
    return {
        "P7": lambda folder: disk.try_disks(folder, instances=20 if quick else 100),
        "P8": lambda folder: protocol.try_protocol(
            folder, protocol.quick() if quick else protocol.full(), seed
        ),
        "P9": lambda folder: bombing.try_bombs(folder, every=few),
        "P14": lambda folder: strangers.try_strangers(folder, every=few),
        "P15": lambda folder: models.try_models(folder, every=few),
    }


def main() -> int:
    """Try what was asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute, with shorter timers")
    parser.add_argument("--seed", type=int, help="the same fuzzed PDUs again")
    parser.add_argument(
        "--only", nargs="+", choices=["P7", "P8", "P9", "P14", "P15"], help="some of the promises"
    )
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else secrets.randbelow(1 << 32)
    print(circumstances(seed), "· quick" if asked.quick else "· full", flush=True)
    verdicts = []
    for promise, attempt in attempts(quick=asked.quick, seed=seed).items():
        if asked.only and promise not in asked.only:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="wetread-hostile-") as folder:
            verdicts.append(attempt(Path(folder)))
        print(f"\n{table(verdicts[-1:])}\n    ({time.monotonic() - began:.0f} s)", flush=True)
    wrong = broken(verdicts)
    print("\nbroken:\n" + wrong if wrong else "\nall kept")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
