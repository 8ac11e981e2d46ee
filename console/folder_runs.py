"""Which files of a folder make one run of a model: by what its manifest says that it is given.

A model of volumes runs once for every series, one of images once for every image. One of several series runs
once for every study that has them all, told apart by the manifest's own conditions; one of timelines once for
every patient, on the latest study with the earlier ones.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from console.folder import FolderSeries
from dicom_node.not_images import why_never
from dicom_node.priors import another_patient, patient_of
from dicom_node.series_facts import SeriesFacts, thinnest_first
from dicom_node.several import RuleInput, fill
from models.contract import BrokenModel
from models.manifest import Input, Manifest
from worker.exchange import Files


@dataclass(frozen=True, slots=True)
class FolderRun:
    """One run: what it is called, and the files that it is given."""

    title: str
    folder: str  #: where its results go, where there are several runs
    images: int
    files: Files
    reference: tuple[Path, ...]  #: the files that results are drawn on


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A series that no run takes, and why."""

    title: str
    because: str


def runs_of(manifest: Manifest, series: Sequence[FolderSeries]) -> tuple[list[FolderRun], list[NotTaken]]:
    """The runs of a model on these series, in their order, and what is left. Raises `BrokenModel`."""
    match manifest.given:
        case "image":
            return _each(manifest, series, _images)
        case "series" if len(manifest.inputs) > 1:
            return _together(manifest, series)
        case "timeline":
            return _timelines(manifest, series)
    return _each(manifest, series, _whole)


def _unfit(manifest: Manifest, series: SeriesFacts) -> str | None:
    wanted = tuple(dict.fromkeys(modality for one in manifest.inputs for modality in one.modality))
    if series.modality not in wanted:
        return f"modality is {series.modality or 'not given'}, {manifest.name} takes {' or '.join(wanted)}"
    return why_never(series)


def _each(
    manifest: Manifest,
    series: Sequence[FolderSeries],
    runs: Callable[[FolderSeries], list[FolderRun]],
) -> tuple[list[FolderRun], list[NotTaken]]:
    made: list[FolderRun] = []
    left: list[NotTaken] = []
    for one in series:
        because = _unfit(manifest, one.facts)
        if because is None:
            made += runs(one)
        else:
            left.append(NotTaken(one.title, because))
    return made, left


def _whole(one: FolderSeries) -> list[FolderRun]:
    return [FolderRun(one.title, _folder(one), one.facts.images, Files(inputs=_texts(one.paths)), one.paths)]


def _images(one: FolderSeries) -> list[FolderRun]:
    several = len(one.paths) > 1
    return [
        FolderRun(
            f"{one.title}, image {number}" if several else one.title,
            f"{_folder(one)}-image-{number}" if several else _folder(one),
            1,
            Files(inputs=_texts((path,))),
            (path,),
        )
        for number, path in enumerate(one.paths, start=1)
    ]


def _together(manifest: Manifest, series: Sequence[FolderSeries]) -> tuple[list[FolderRun], list[NotTaken]]:
    inputs = [_as_rule(manifest, one) for one in manifest.inputs]
    made: list[FolderRun] = []
    left: list[NotTaken] = []
    for study in _by(series, lambda one: one.study):
        filled = fill(
            inputs,
            [one.facts for one in study],
            refusal=lambda facts: _unfit(manifest, facts),
            one_frame=True,
        )
        by_name = {name: one for one in study if (name := filled.taken.get(one.facts.series_id)) is not None}
        left += [
            NotTaken(one.title, filled.because[one.facts.series_id])
            for one in study
            if one.facts.series_id in filled.because
        ]
        if not by_name:
            continue
        ordered = {one.name: by_name[one.name] for one in manifest.inputs}
        made.append(
            FolderRun(
                " + ".join(f"{name} ({one.title})" for name, one in ordered.items()),
                _folder(ordered[manifest.input.name]),
                sum(one.facts.images for one in ordered.values()),
                Files(named={name: _texts(one.paths) for name, one in ordered.items()}),
                ordered[manifest.input.name].paths,
            )
        )
    return made, left


def _timelines(manifest: Manifest, series: Sequence[FolderSeries]) -> tuple[list[FolderRun], list[NotTaken]]:
    fits: list[FolderSeries] = []
    left: list[NotTaken] = []
    for one in series:
        because = _unfit(manifest, one.facts)
        if because is None:
            fits.append(one)
        else:
            left.append(NotTaken(one.title, because))
    made = []
    for patient in _patients(fits):
        best = []
        for study in _by(patient, lambda one: one.study):
            chosen = min(study, key=lambda one: thinnest_first(one.facts))
            best.append(chosen)
            left += [NotTaken(one.title, "another series was chosen") for one in study if one is not chosen]
        best.sort(key=lambda one: (one.facts.headers.get("StudyDate", ""), one.study), reverse=True)
        current, earlier = best[0], best[1:]
        made.append(
            FolderRun(
                f"{current.title}, with {len(earlier)} earlier",
                _folder(current),
                sum(one.facts.images for one in best),
                Files(
                    inputs=_texts(current.paths),
                    earlier=tuple(_texts(one.paths) for one in earlier),
                    earlier_asked=len(earlier),
                ),
                current.paths,
            )
        )
    return made, left


def _as_rule(manifest: Manifest, one: Input) -> RuleInput:
    """A manifest's input as a rule would ask for it. Body parts are left to the loader, which is milder."""
    try:
        return RuleInput(
            name=one.name,
            modality=frozenset(one.modality),
            description=one.description,
            attributes=one.attributes,
            contrast=one.contrast,
            at_least=one.minimum_slices,
            spacing_max_mm=one.spacing_max_mm,
        )
    except ValidationError as error:
        raise BrokenModel(f"the manifest of {manifest.identity}, input {one.name}: {error}") from error


def _by(series: Sequence[FolderSeries], key: Callable[[FolderSeries], str]) -> list[list[FolderSeries]]:
    groups: dict[str, list[FolderSeries]] = defaultdict(list)
    for one in series:
        groups[key(one)].append(one)
    return list(groups.values())


def _patients(series: Sequence[FolderSeries]) -> list[list[FolderSeries]]:
    """The series of each patient; a study whose patient may be another one stands alone."""
    groups: list[list[FolderSeries]] = []
    for study in _by(series, lambda one: one.study):
        mine = patient_of(study[0].facts.headers)
        for group in groups:
            if another_patient(mine, patient_of(group[0].facts.headers)) is None:
                group.extend(study)
                break
        else:
            groups.append([*study])
    return groups


def _folder(one: FolderSeries) -> str:
    return f"series-{one.number}"


def _texts(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)
