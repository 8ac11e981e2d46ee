"""
Do the networks find and outline nodules better than `nodule_ct` alone? On the generator they never saw.

    python -m models.training.nodule_fpr -o FOLDER        the filter, about an hour on one core
    python -m models.training.nodule_seg -o FOLDER        the outline
    python -m benchmarks.nodule_networks FOLDER           both, on chests and scenes of the second generator

Each chest gives its candidates, each way of scoring them a list of marks (`benchmarks.froc`). Intervals are
of 95 %, bootstrapped over chests, and for outlines over nodules. The candidates are kept in FOLDER/second:
remove it to have them made anew.
"""

import argparse
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.froc import AT, LEAST_MM, Marks, Scores, apart, counts, cpm, interval, marks_of, sensitivity
from models.builtin.nodule_ct.drawing import draw
from models.builtin.nodule_ct.model import NoduleSettings
from models.builtin.nodule_ct.rules import score_of
from models.training.nodule_candidates import NONE, Look, Patient, look_at
from models.training.nodule_fpr import logit, read_filter
from models.training.nodule_nets import Filter, Outline, asked
from models.training.nodule_patches import nodule_patches
from models.training.nodule_seg import outline, outlined, read_outline
from models.training.roc import auc

_FIRST_SEED, _SCENE_SEED = 5000, 900
_LEAST = (0.02, 0.1, 0.5)  # probabilities of the network below which a mark is left out
_SETTINGS = NoduleSettings()


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A chest and what rules and network say of each of its candidates, as logits."""

    patient: Patient
    points: Scores  #: of equal points the larger spot comes first, as in the model
    said: Scores
    both: Scores

    def found(self, least: float | None) -> tuple[int, int]:
        """(nodules, false marks) that are reported with the settings of the model as they come, when marks of
        which the network says less than `least` are left out; None: the network is not asked.
        """
        looks = self.patient.looks
        marks = [
            one
            for one in apart(self.patient, self.points.tolist())
            if self.points[one] >= logit(_SETTINGS.least_score)
            and looks[one].features.diameter_mm >= _SETTINGS.least_mm
            and (least is None or self.said[one] >= logit(least))
        ]
        told = [looks[one].nodule for one in marks[: _SETTINGS.most]]
        return len({one for one in told if counts(self.patient, one)}), told.count(NONE)


def ask(patient: Patient, network: Filter, weight: torch.Tensor) -> Asked:
    """Both, of every candidate."""
    points = [logit(score_of(one.features)) + 1e-7 * one.features.volume_mm3 for one in patient.looks]
    cubes = torch.from_numpy(np.stack([one.cube for one in patient.looks]))
    said = asked(network, cubes)[:, 0].double().numpy()
    return Asked(
        patient, np.array(points), said, float(weight[0]) * np.array(points) + float(weight[1]) * said
    )


def froc(answers: Sequence[Asked]) -> Iterator[str]:
    """Lines of figures; differences are from the rules, on the same resampled chests."""
    chests = len(answers)
    found = {
        "rules": [marks_of(one.patient, one.points.tolist()) for one in answers],
        "network": [marks_of(one.patient, one.said.tolist()) for one in answers],
        "together": [marks_of(one.patient, one.both.tolist()) for one in answers],
    }
    rules = found["rules"]
    many = sum(len(one.nodules) for one in rules)
    yield f"{many} nodules of {LEAST_MM:g} mm or more in {chests} chests of the second generator"
    figures: list[tuple[str, Callable[[Sequence[Marks]], float]]] = [
        *((f"sensitivity at {rate:g}", partial(sensitivity, false_a_scan=rate)) for rate in AT),
        ("CPM", cpm),
    ]
    for (name, marks), (what, figure) in product(found.items(), figures):
        low, high = interval(partial(_of, figure, marks), chests)
        line = f"{name:9} {what:16} {figure(marks):.3f} ({low:.3f} to {high:.3f})"
        if name != "rules":
            low, high = interval(partial(_between, figure, marks, rules), chests)
            line += f", {figure(marks) - figure(rules):+.3f} ({low:+.3f} to {high:+.3f}) from the rules"
        yield line
    for least in (None, *_LEAST):
        told = np.array([one.found(least) for one in answers])
        low, high = interval(partial(_mean, told[:, 1]), chests)
        asked_for = "no network" if least is None else f"network at least {least:g}"
        yield (
            f"as reported, {asked_for}: {told[:, 0].sum()} nodules, "
            f"{told[:, 1].mean():.2f} ({low:.2f} to {high:.2f}) false marks a scan"
        )


def _of(figure: Callable[[Sequence[Marks]], float], marks: Sequence[Marks], at: NDArray[np.intp]) -> float:
    return figure([marks[i] for i in at])


def _between(
    figure: Callable[[Sequence[Marks]], float],
    marks: Sequence[Marks],
    rules: Sequence[Marks],
    at: NDArray[np.intp],
) -> float:
    return _of(figure, marks, at) - _of(figure, rules, at)


def _mean(values: NDArray[np.float64], at: NDArray[np.intp]) -> float:
    return float(values[at].mean())


@dataclass(frozen=True, slots=True)
class Drawn:
    """One nodule, outlined twice."""

    chest: int
    kind: str
    diameter_mm: float
    dice: tuple[float, float]  #: of `nodule_ct` and of the network
    volume: tuple[float, float]  #: over the true one, of the voxels


def drawn(patients: Sequence[Patient], network: Outline) -> list[Drawn]:
    """Every nodule that counts and has a candidate; of several that with the highest score of the rules."""
    found = []
    for patient in patients:
        best: dict[int, Look] = {}
        for look in patient.looks:
            if look.around is None or not counts(patient, look.nodule):
                continue
            other = best.get(look.nodule)
            if other is None or score_of(look.features) > score_of(other.features):
                best[look.nodule] = look
        for index, look in best.items():
            around = look.around
            assert around is not None
            own = np.zeros(around.hu.shape, np.bool_)
            if (classical := draw(around.spot, around.hu, around.source_mm)) is not None:
                own[classical.box] = classical.mask
            learned = outline(network, around.spot, around.hu, around.source_mm)
            truth = patient.nodules[index]
            both = [
                (
                    2 * int((mask & around.truth).sum()) / max(1, int(mask.sum() + around.truth.sum())),
                    int(mask.sum()) / max(1, int(around.truth.sum())),
                )
                for mask in (own, learned)
            ]
            found.append(
                Drawn(
                    patient.seed,
                    truth.kind,
                    truth.diameter_mm,
                    (both[0][0], both[1][0]),
                    (both[0][1], both[1][1]),
                )
            )
    return found


def outlines(found: Sequence[Drawn]) -> Iterator[str]:
    """Lines of figures: Dice, and the volume over the true one."""
    groups: list[tuple[str, list[Drawn]]] = [("all", list(found))]
    groups += [
        (f"{low:g} to {high:g} mm", [one for one in found if low <= one.diameter_mm < high])
        for low, high in ((4, 8), (8, 15), (15, 31))
    ]
    groups += [(kind, [one for one in found if one.kind == kind]) for kind in sorted({o.kind for o in found})]
    for name, some in groups:
        if not some:
            continue
        dice, volume = np.array([one.dice for one in some]), np.array([one.volume for one in some])
        low, high = interval(partial(_mean, dice[:, 1] - dice[:, 0]), len(some))
        spread = np.percentile(volume, (25, 50, 75), axis=0)
        yield (
            f"{name:14} n {len(some):3}  Dice of nodule_ct {dice[:, 0].mean():.3f}, of the network "
            f"{dice[:, 1].mean():.3f}, {(dice[:, 1] - dice[:, 0]).mean():+.3f} ({low:+.3f} to {high:+.3f}); "
            f"volume over the true one {spread[1, 0]:.2f} ({spread[0, 0]:.2f} to {spread[2, 0]:.2f}), "
            f"of the network {spread[1, 1]:.2f} ({spread[0, 1]:.2f} to {spread[2, 1]:.2f})"
        )


def scenes(network: Filter, outliner: Outline, count: int) -> Iterator[str]:
    """Lines of figures on cubes of the second generator; `nodule_ct` has no word on them."""
    cubes = nodule_patches(_SCENE_SEED, count, variant="second")
    said = asked(network, cubes.hu)[:, 0].numpy()
    yield f"{count} scenes: area under the curve of the network {auc(cubes.nodule.numpy(), said):.3f}"
    cut = outlined(_SCENE_SEED + 50, count, variant="second")
    chance = asked(outliner, torch.from_numpy(cut.hu))[:, 0].numpy() > 0
    shared = (chance & cut.nodule).sum((1, 2, 3))
    dice = 2 * shared / np.maximum(1, chance.sum((1, 2, 3)) + cut.nodule.sum((1, 2, 3)))
    low, middle, high = np.percentile(dice, (5, 50, 95))
    yield f"{count} scenes: Dice of the network {middle:.3f}, {low:.3f} to {high:.3f} for nine of ten"


def second(folder: Path, count: int) -> list[Patient]:
    """The chests of the second generator, kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in range(_FIRST_SEED, _FIRST_SEED + count):
        path = folder / f"{seed}.pickle"
        if not path.exists():
            made = look_at(seed, variant="second", surroundings=True)
            path.with_suffix(".part").write_bytes(pickle.dumps(made))
            path.with_suffix(".part").rename(path)
        patient: Patient = pickle.loads(path.read_bytes())
        found.append(patient)
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with nodule_fpr.safetensors and nodule_seg.safetensors")
    parser.add_argument("--chests", type=int, default=16)
    parser.add_argument("--scenes", type=int, default=512)
    asked_for = parser.parse_args()
    torch.set_num_threads(1)
    network, weight = read_filter(asked_for.folder / "nodule_fpr.safetensors")
    outliner = read_outline(asked_for.folder / "nodule_seg.safetensors")
    patients = second(asked_for.folder / "second", asked_for.chests)
    for line in (
        *froc([ask(one, network, weight) for one in patients]),
        *outlines(drawn(patients, outliner)),
        *scenes(network, outliner, asked_for.scenes),
    ):
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
