"""P15: no model that was made to do harm runs anything, and each is refused with a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.hostile.corpus import attacks
from tests.hostile.verdict import REPOSITORY, Verdict, all_of, at_most, none_of

DEADLINE_S = 20.0
LARGEST_MIB = 150.0


def try_models(folder: Path, *, every: int = 1) -> Verdict:
    """Open the models of the corpus as a worker would; `every`: only each so-manieth."""
    canary = folder / "canary"
    canary.mkdir()
    corpus = folder / "corpus"
    corpus.mkdir()
    made = list(attacks(corpus, canary))[::every]
    opened = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.hostile.opener", str(DEADLINE_S)],
        input="\n".join(json.dumps([str(attack.folder), attack.trusting]) for attack in made),
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    answers = [json.loads(line) for line in opened.stdout.splitlines() if line.startswith("{")]
    of = {Path(one["folder"]).name: one for one in answers}
    names = [attack.folder.name for attack in made]
    unanswered = [name for name in names if name not in of]
    refused = {"BrokenModel", "NotTrusted", "UnknownModel"}
    not_refused = [f"{name}: {of[name]['kind']}: {of[name]['said']}" for name in names
                   if name in of and of[name]["kind"] not in refused]  # fmt: skip
    no_sentence = [f"{name}: {one['said']}" for name, one in of.items() if not _is_sentence(one["said"])]
    worst = max(answers, key=lambda one: one["grown_mib"])
    slowest = max(answers, key=lambda one: one["seconds"])
    return Verdict(
        promise="P15",
        done=f"{len(made)} hostile models opened: pickles, archives, ONNX, links, code, manifests",
        measures=(
            none_of("models that ran something", sorted(path.name for path in canary.iterdir()), len(made)),
            all_of("answered", unanswered + ([opened.stderr[-500:]] if unanswered else []), len(made)),
            all_of("refused", not_refused, len(made)),
            all_of("with a sentence", no_sentence, len(made)),
            at_most("memory while refusing", LARGEST_MIB, worst["grown_mib"], "MiB", why=worst["folder"]),
            at_most("time to refuse", DEADLINE_S / 2, slowest["seconds"], "s", why=slowest["folder"]),
        ),
    )


def _is_sentence(said: str) -> bool:
    """Short, of words, and of whose fault it is: no traceback and no address of an object."""
    return 20 < len(said) < 1500 and "Traceback" not in said and " object at 0x" not in said and " " in said
