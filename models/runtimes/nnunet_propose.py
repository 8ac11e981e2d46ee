"""
What a folder of nnU-Net says of itself, for who adds it: a manifest to complete, and what is missing from
it.

Only `plans.json` and `dataset.json` are read; checkpoints are not opened. Folders of TotalSegmentator are
known by their names, with their labels, codes and licence; those of others are as good as their names for
labels.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from models.runtimes.nnunet_plans import NotPlans, channel_names, label_names
from models.structures import STRUCTURES, key_of
from models.totalsegmentator import Task, number_of, task_of

_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_LARGEST_JSON = 64 << 20


def propose(folder: Path) -> dict[str, Any]:
    """`manifest`: the fields that can be told; `missing`: sentences on what is to be filled in or checked."""
    parts = sorted(
        (path.parent.relative_to(folder) for path in folder.rglob("plans.json") if not path.is_symlink()),
        key=lambda path: (number_of(str(path)) or 0, str(path)),
    )
    if not parts:
        return {
            "manifest": {"runtime": "nnunet", "options": {}},
            "missing": ["There is no plans.json: a folder of nnU-Net v2 has one beside dataset.json."],
        }
    found = {number: task for part in parts if (task := _task(part, number := number_of(str(part))))}
    tasks = {task.name: task for task in found.values()}
    if len(tasks) == 1 and len(found) == len(parts):
        (task,) = tasks.values()
        return _of_totalsegmentator(folder, parts, task)
    missing = []
    if len(tasks) > 1:
        missing.append(
            f"These are folders of several tasks of TotalSegmentator ({', '.join(sorted(tasks))}): add each "
            f"task as a model of its own."
        )
    return _of_anyone(folder, parts, missing)


def _task(part: Path, number: int | None) -> Task | None:
    return None if number is None else task_of(number)


def _of_totalsegmentator(folder: Path, parts: list[Path], task: Task) -> dict[str, Any]:
    by_number = {number_of(str(part)): part for part in parts}
    missing: list[str] = []
    whole = [number for number in by_number if number in task.whole]
    options: dict[str, Any] = {"task": task.name, "mirror": False, "orientation": "RAS"}
    if len(whole) > 1 or (whole and len(by_number) > 1):
        missing.append(
            f"Data set {', '.join(map(str, sorted(filter(None, whole))))} draws the whole of {task.name} "
            f"by itself: keep either it or the others."
        )
    if len(parts) > 1:
        options["parts"] = _options_of_parts(task, by_number)
    absent = [str(number) for number in task.parts if number not in by_number]
    if absent and not whole:
        missing.append(
            f"Task {task.name} has {len(task.parts)} parts; data set {', '.join(absent)} is not here, so "
            f"what it draws will be missing from results."
        )
    if task.crop:
        missing.append(
            f"TotalSegmentator runs {task.name} only around {', '.join(task.crop[:4])}, with "
            f"{task.crop_margin_mm} mm to spare; here it sees the whole series and can draw elsewhere. Check "
            f"this on your own images, or route series of that region only."
        )
    if task.licence_key:
        missing.append(
            f"Task {task.name} may be used only with a licence key of TotalSegmentator: "
            f"declare it in [models.licence_keys]."
        )
    drawn = _drawn_values(task, by_number, whole=bool(whole))
    segments = [
        {"number": n, "value": value, "structure": key}
        for n, (value, key) in enumerate(drawn.items(), start=1)
    ]
    resolution = f" at {task.whole[whole[0]]} mm" if whole and whole[0] is not None else ""
    manifest: dict[str, Any] = {
        "runtime": "nnunet",
        "name": f"totalsegmentator_{task.name.lower()}",
        "title": f"TotalSegmentator {task.name.replace('_', ' ')}{resolution}",
        "licence": task.licence,
        "licence_key": task.licence_key,
        "tasks": ["segmentation"],
        "given": "volume",
        "inputs": [{"modality": list(task.modality)}],
        "segments": segments,
        "options": options,
    }
    return {"manifest": manifest, "missing": missing + _missing_files(folder, parts)}


def _options_of_parts(task: Task, by_number: dict[int | None, Path]) -> list[dict[str, Any]]:
    first, options = 0, []
    for number, labels in task.parts.items():
        if number in by_number:
            options.append({"folder": by_number[number].as_posix(), "first": first, "keep": len(labels)})
        first += len(labels)
    return options


def _drawn_values(task: Task, by_number: dict[int | None, Path], *, whole: bool) -> dict[int, str]:
    """Value of the label map → key of the structure, of the parts that are here."""
    values: dict[int, str] = {}
    first = 0
    alone = len(by_number) == 1 and not whole
    for number, labels in task.parts.items():
        if whole or number in by_number:
            for n, label in enumerate(labels, start=1):
                key = key_of(label, "totalsegmentator")
                assert key is not None, f"tests see to it that {label} is in the table"
                values[n if alone else first + n] = key
        first += len(labels)
    return values


def _of_anyone(folder: Path, parts: list[Path], missing: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    manifest: dict[str, Any] = {"runtime": "nnunet", "tasks": ["segmentation"], "options": options}
    if len(parts) > 1:
        options["parts"] = [{"folder": part.as_posix(), "first": 0} for part in parts]
        missing.append(
            "There are several folders: say in [[options.parts]] from which value on (first) each one "
            "counts, or remove all but one."
        )
    try:
        content = (folder / parts[0] / "dataset.json").read_bytes()[:_LARGEST_JSON]
        channels, labels = channel_names(content), label_names(content)
    except (OSError, NotPlans) as error:
        return {"manifest": manifest, "missing": [*missing, f"dataset.json cannot be used: {error}"]}
    segments: list[dict[str, Any]] = []
    unknown = []
    for n, (label, value) in enumerate(labels.items(), start=1):
        segment: dict[str, Any] = {"number": n, "label": label}
        if isinstance(value, tuple):
            segment["region"] = list(value)
        elif value != n:
            segment["value"] = value
        if (key := key_of(label)) is not None:
            segment |= {"structure": key, "label": STRUCTURES[key].label}
        else:
            unknown.append(label)
        segments.append(segment)
    manifest["segments"] = segments
    modality = _modality(channels)
    manifest["given"] = "volume" if len(channels) == 1 else "series"
    manifest["inputs"] = [{"name": name, "modality": modality} for name in channels]
    if not modality:
        missing.append(f"Which modality are the channels {', '.join(channels)}?")
    if unknown:
        missing.append(
            f"No structure is called {', '.join(unknown)}: give these segments a structure, or a category "
            f"and a kind of their own."
        )
    missing += [
        "Which way did the training images lie? nnU-Net does not turn images: say orientation in [options] "
        '("RAS" for NIfTI as nibabel reorients it); without it series are given as they were acquired.',
        "Name, version, licence, intended use, limits and known accuracy are yours to say.",
    ]
    return {"manifest": manifest, "missing": missing + _missing_files(folder, parts)}


def _modality(channels: tuple[str, ...]) -> list[str]:
    named = " ".join(channels).lower()
    if "ct" in named.replace("_", " ").split():
        return ["CT"]
    return ["MR"] if any(word in named for word in ("mr", "t1", "t2", "flair", "adc", "dwi")) else []


def _missing_files(folder: Path, parts: list[Path]) -> list[str]:
    sentences = []
    for part in parts:
        at = PurePosixPath(part.as_posix())
        if not (folder / part / "dataset.json").is_file():
            sentences.append(f"{at}/dataset.json is not there.")
        if not any(path.name in _CHECKPOINTS for path in (folder / part).glob("fold_*/*.pth")):
            sentences.append(f"{at} has no fold_X/checkpoint_final.pth.")
    return sentences
