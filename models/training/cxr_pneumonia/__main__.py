"""
`python -m models.training.cxr_pneumonia --data ../shared/data -o FOLDER`: films, figures, weights.

The films are split by patient. Filters of the first branch are learned once, without labels, from all films;
what is learned with labels is learned without one fold and asked about it, and those answers, and nothing
else, give calibration and figures. What is shipped is then learned from all films. A network that FOLDER
already holds is not trained again: a run that was broken off goes on.
"""

import argparse
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save, save_file

from models.builtin.cxr_pneumonia.both import Both
from models.builtin.cxr_pneumonia.deep import Deep
from models.builtin.cxr_pneumonia.frontal import Frontal
from models.builtin.cxr_pneumonia.gate import Usual
from models.training.cxr_pneumonia.descend import Descent, answers, descend
from models.training.cxr_pneumonia.films import ADULT, CHILD, Films, folds, read_films, weights
from models.training.cxr_pneumonia.fit import (
    CHUNK,
    Line,
    Recipe,
    features,
    mean_spoken,
    regress,
    shown,
    varied,
    with_filters,
)
from models.training.cxr_pneumonia.left_out import kinds, other_frames
from models.training.cxr_pneumonia.sum_up import Fitted, calibrate, lines, usual_film
from models.training.cxr_pneumonia.tell_frontal import Lessons, limit, others, teach

_ALL, _LEFT = 99, 50  #: number the networks that are no fold's
BRANCHES = ("textures", "deep", "both")
Answers = dict[str, NDArray[np.float64]]


class Training:
    """One run: the films, and what was made of them so far."""

    def __init__(self, films: Films, output: Path, recipe: Recipe, descent: Descent) -> None:
        self._films, self._output, self._recipe, self._descent = films, output, recipe, descent
        self._start = time.monotonic()
        self._net = with_filters(films, recipe)
        self._plain = torch.cat(list(shown(films)))
        variations = (varied(films, recipe.seed + number) for number in range(recipe.variants))
        self._rows = [features(self._net, one) for one in (shown(films), *variations)]
        # Variations that no regression was given.
        self._harder = torch.cat(list(varied(films, recipe.seed + recipe.variants)))
        self._harder_row = features(self._net, torch.split(self._harder, CHUNK))
        self._fold = folds(films, recipe.folds, recipe.seed)
        self._say(f"{len(films)} films, {self._rows[0].shape[1]} features of the first branch")

    def weights(self, lessons: Lessons) -> Both:
        """Figures to the standard output, weights and out-of-fold answers to the folder; the network."""
        films, recipe = self._films, self._recipe
        plain, harder = self._out_of_fold()
        for name in BRANCHES:
            self._say(lines(f"{name}, patients not trained on", films, plain[name], recipe.seed))
            self._say(lines(f"{name}, the same, disguised", films, harder[name], recipe.seed))
        np.savez(
            self._output / "out_of_fold.npz",
            fold=self._fold,
            plain=np.stack([plain[name] for name in BRANCHES]),
            disguised=np.stack([harder[name] for name in BRANCHES]),
        )
        net = self._whole(plain)
        fitted = calibrations(films, plain["both"], self._fold)
        for name, one in fitted.items():
            self._say(f"{name}: {one}")
        usual = usual_film(films.pictures, films.group, recipe.seed)
        self._say(f"gate: distance at most {usual.limit:.2f}, likeness at least {usual.likeness:.2f}")
        frontal, least = self._frontal(lessons)
        self._say(f"gate: {int((frontal.asked(films.pictures) < least).sum())} films are taken for no front")
        content = save(_tensors(net, usual, (frontal, least), fitted))
        (self._output / "weights.safetensors").write_bytes(content)
        self._say(f"weights.safetensors: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
        return net

    def left_out(self) -> None:
        """Figures of films of a kind that was not trained on, to the standard output; first of one fold whose
        films wear the frames of others.
        """
        mine, theirs = np.flatnonzero(self._fold != 0), np.flatnonzero(self._fold == 0)
        line, deep = self._line(mine), self._deep(mine, "0", 0)
        films = self._films.taken(theirs)
        for state, some in (
            ("its films", films),
            ("in other frames", other_frames(films, self._recipe.seed)),
        ):
            textures = line.logits(features(self._net, shown(some)))
            said = {"textures": textures, "deep": answers(deep, shown(some))}
            for branch, logit in self._with_both(said):
                self._say(lines(f"{branch}, one fold, {state}", some, logit, self._recipe.seed))
        for name, title, mask in kinds(self._films, self._fold):
            mine, theirs = np.flatnonzero(~mask), np.flatnonzero(mask)
            for state, said in zip(("", ", disguised"), self._asked(mine, theirs, name, _LEFT), strict=True):
                for branch, logit in self._with_both(said):
                    text = f"{branch}, {title}{state}"
                    self._say(lines(text, self._films.taken(theirs), logit, self._recipe.seed))

    def _with_both(self, said: Answers) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Also the sum of both branches, each in its own spread on these very films."""
        yield from said.items()
        part = self._recipe.deep
        yield "both", (1 - part) * _unit(said["textures"]) + part * _unit(said["deep"])

    def _line(self, mine: NDArray[np.int64]) -> Line:
        return regress([one[mine] for one in self._rows], self._films.taken(mine), self._recipe)

    def _out_of_fold(self) -> tuple[Answers, Answers]:
        """Answers about each film of networks that had not seen its patient: as it is, and disguised."""
        found = tuple({name: np.full(len(self._films), np.nan) for name in BRANCHES[:2]} for _ in range(2))
        for number in range(self._recipe.folds):
            mine, theirs = np.flatnonzero(self._fold != number), np.flatnonzero(self._fold == number)
            for kept, said in zip(found, self._asked(mine, theirs, str(number), number), strict=True):
                for name, logit in said.items():
                    kept[name][theirs] = logit
        parts = {"textures": 1 - self._recipe.deep, "deep": self._recipe.deep}
        self._shares = {name: part / self._spread(found[0][name]) for name, part in parts.items()}
        for kept in found:
            both = np.stack([kept[name] * share for name, share in self._shares.items()])
            kept["both"] = both.sum(0)
        return found[0], found[1]

    def _spread(self, logit: NDArray[np.float64]) -> float:
        often = weights(self._films, self._recipe.adults)
        return float(np.sqrt(often @ (logit - often @ logit) ** 2))

    def _asked(
        self, mine: NDArray[np.int64], theirs: NDArray[np.int64], name: str, number: int
    ) -> tuple[Answers, Answers]:
        """What both branches, trained on `mine`, say of `theirs`: as they are, and disguised."""
        line, deep = self._line(mine), self._deep(mine, name, number)
        found = []
        for row, given in ((self._rows[0], self._plain), (self._harder_row, self._harder)):
            said = answers(deep, torch.split(given[torch.from_numpy(theirs)], CHUNK))
            found.append({"textures": line.logits(row[theirs]), "deep": said})
        return found[0], found[1]

    def _deep(self, mine: NDArray[np.int64], name: str, number: int) -> Deep:
        """Trained, or read where an earlier run had come to its end."""
        path = self._output / f"deep-{name}.safetensors"
        if not path.exists():
            films = self._films.taken(mine)
            trained = descend(films, self._descent, number, lambda text: self._say(f"{path.name}: {text}"))
            _keep(trained, path)
        # Also what was just trained is read: the order of its numbers decides the last digits of a sum.
        net = Deep().eval().requires_grad_(False)
        net.load_state_dict(load_file(path))
        return net

    def _frontal(self, lessons: Lessons) -> tuple[Frontal, float]:
        """The gate's network and the least that it has to say; likewise."""
        path, films = self._output / "frontal.safetensors", self._films
        if not path.exists():
            beside = others(lessons)
            found = limit(films, lessons, beside, self._say)
            _keep(teach(films, lessons, beside), path, least=torch.tensor(found, dtype=torch.float64))
        kept = load_file(path)
        least = float(kept.pop("least"))
        net = Frontal().eval().requires_grad_(False)
        net.load_state_dict(kept)
        return net, least

    def _whole(self, plain: Answers) -> Both:
        """Both branches, trained on all films."""
        net = Both().eval().requires_grad_(False)
        net.textures.load_state_dict(self._net.state_dict())
        line = regress(self._rows, self._films, self._recipe)
        net.textures.weigh(torch.from_numpy(line.weight), torch.from_numpy(line.mean), line.offset)
        net.deep.load_state_dict(self._deep(np.arange(len(self._films)), "all", _ALL).state_dict())
        net.shares.copy_(torch.tensor([self._shares[name] for name in BRANCHES[:2]]))
        net.centre(mean_spoken(net, self._films, self._recipe))
        return net

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self._start:6.0f} s  {text}\n")
        sys.stdout.flush()


def _unit(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = logit / logit.std()
    return found


def _keep(net: torch.nn.Module, path: Path, **beside: torch.Tensor) -> None:
    save_file({**{key: one.contiguous() for key, one in net.state_dict().items()}, **beside}, path)


def calibrations(films: Films, out: NDArray[np.float64], fold: NDArray[np.int64]) -> dict[str, Fitted]:
    """By group with the frequency of pneumonia that its set has; where the age is not known, half of each.

    The view of a film is made to tell nothing of its label here too.
    """
    often, found = weights(films, 0.5), {}
    for name, group in (("children", CHILD), ("adults", ADULT)):
        here = films.group == group
        label = films.label[here]
        weight = often[here].copy()
        for one in (0, 1):
            weight[label == one] *= (label == one).sum() / weight[label == one].sum()
        found[name] = calibrate(label, out[here], weight, fold[here])
    found["either"] = calibrate(films.label, out, often * len(films), fold)
    return found


def _tensors(
    net: Both, usual: Usual, frontal: tuple[Frontal, float], fitted: dict[str, Fitted]
) -> dict[str, torch.Tensor]:
    kept = {f"net.{key}": _short(value) for key, value in net.state_dict().items()}
    for name in ("mean", "directions", "variance"):
        kept[f"usual.{name}"] = torch.from_numpy(np.asarray(getattr(usual, name), np.float32).copy())
    limits = [usual.rest, usual.limit, usual.contrast, *usual.detail, usual.likeness]
    kept["usual.limits"] = torch.tensor(limits, dtype=torch.float32)
    kept |= {f"frontal.{key}": one.contiguous() for key, one in frontal[0].state_dict().items()}
    kept["least_frontal"] = torch.tensor(frontal[1])
    for name, one in fitted.items():
        sound = name != "either" and one.error <= one.by_chance
        kept[f"calibration.{name}"] = one.tensor(calibrated=sound)
    return kept


def _short(value: torch.Tensor) -> torch.Tensor:
    """Weights of filters in 16 bits; counts, and what a layer is scaled by, as they are."""
    return (value.half() if value.is_floating_point() and value.ndim > 1 else value).contiguous()


def _films(data: Path, output: Path) -> Films:
    """Written once by a process of its own: reading DICOM is not the business of `models`."""
    path = output / "films.npz"
    if not path.exists():
        command = [sys.executable, "-m", "benchmarks.cxr_films", str(data), "-o", str(path)]
        subprocess.run(command, check=True)
    return read_films(path)


def main() -> None:
    """Films, figures, weights."""
    parser = argparse.ArgumentParser(prog="python -m models.training.cxr_pneumonia", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the two sets of films")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where weights and answers go")
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--left-out", action="store_true", help="only figures of kinds that are left out")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # The order of sums, and so the last digits, depend on their number.
    asked.output.mkdir(parents=True, exist_ok=True)
    films = _films(asked.data, asked.output)
    training = Training(films, asked.output, Recipe(seed=asked.seed), Descent(seed=asked.seed))
    if asked.left_out:
        training.left_out()
    else:
        training.weights(Lessons(seed=asked.seed))


if __name__ == "__main__":
    main()
