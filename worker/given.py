"""
From the files of a job to what its model is given: a volume, an image, several series, or a timeline.

What its manifest asks for is looked at here, before the model is. Files that cannot be given to it are an
answer too: their headers alone, so that a report can say why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import StudyError
from ledger.identifiers import Uid
from models.contract import Given, SeriesSet
from models.manifest import Input, Manifest
from results.source import Source
from worker.elements import HeaderUnreadable
from worker.exchange import Files
from worker.load import Loaded, load_series, load_source, text_of
from worker.load_image import load_image
from worker.suitable import why_unsuitable
from worker.timeline import load_timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """What the model is given, and what its results will refer to."""

    given: Given
    source: Source  #: of the grid that findings have
    headers: Mapping[str, str]  #: of the first slice: keyword → text, several values joined by a backslash
    inputs: tuple[Uid, ...]  #: SOP Instance UIDs of all that was loaded
    cautions: tuple[str, ...] = ()  #: what every reader must know
    lengths: str = ""  #: what a reader of lengths must know besides


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """Files that the model cannot be given, and why; their headers are good enough for a report."""

    source: Source
    because: str
    inputs: tuple[Uid, ...]


class WrongInputs(StudyError):
    """The job has other inputs than the model's manifest names: rule and model do not fit each other."""


def read_given(files: Files, manifest: Manifest) -> Usable | Unusable:
    """What the files hold, as the manifest wants it.

    Raises `StudyError` where they give not even a report.
    """
    try:
        match manifest.given:
            case "image":
                return _image(files, manifest)
            case "series":
                return _series(files, manifest)
            case "timeline":
                return _timeline(files, manifest)
            case "volume":
                return _volume(files, manifest)
    except StudyError as unusable:
        source = load_source(_reference(files, manifest))
        return Unusable(source=source, because=str(unusable), inputs=_uids_of_files(files))


def _volume(files: Files, manifest: Manifest) -> Usable:
    loaded = load_series(_only(files, manifest))
    _check(manifest.input, loaded, manifest)
    return Usable(
        given=loaded.volume, source=loaded.source, headers=loaded.headers, inputs=_uids(loaded.source)
    )


def _image(files: Files, manifest: Manifest) -> Usable:
    paths = _only(files, manifest)
    if len(paths) > 1:
        raise WrongInputs(
            f"{manifest.identity} is given one image at a time, and the job has {len(paths)}: its rule "
            'needs each = "image".'
        )
    loaded = load_image(paths[0])
    because = why_unsuitable(manifest.input, loaded.headers, loaded.source, model=manifest.identity)
    if because is not None:
        raise WrongInputs(because)
    return Usable(
        given=loaded.image,
        source=loaded.source,
        headers=loaded.headers,
        inputs=_uids(loaded.source),
        cautions=loaded.cautions,
        lengths=loaded.lengths,
    )


def _series(files: Files, manifest: Manifest) -> Usable:
    wanted = {one.name: one for one in manifest.inputs}
    # One series needs no name where the model takes but one.
    named = files.named or ({manifest.input.name: files.inputs} if len(wanted) == 1 else {})
    if set(named) != set(wanted):
        have = ", ".join(sorted(named)) or "one series without a name"
        raise WrongInputs(
            f"{manifest.identity} is given {', '.join(wanted)}, and the job has {have}: the inputs of its "
            "rule need the names that the model's manifest gives them."
        )
    loaded: dict[str, Loaded] = {}
    for name in wanted:
        try:
            loaded[name] = load_series(_paths(named[name]))
        except StudyError as unusable:
            raise WrongInputs(f"Input {name}: {unusable}") from unusable
    reference = loaded[manifest.input.name]
    _check_one_study(loaded)
    for name, one in loaded.items():
        _check(wanted[name], one, manifest, about=f"input {name}: " if len(wanted) > 1 else "")
    return Usable(
        given=SeriesSet(
            volumes={name: one.volume for name, one in loaded.items()},
            headers={name: one.headers for name, one in loaded.items()},
            reference=manifest.input.name,
        ),
        source=reference.source,
        headers=reference.headers,
        inputs=tuple(uid for one in loaded.values() for uid in _uids(one.source)),
        cautions=tuple(_elsewhere(manifest.input.name, loaded)),
    )


def _timeline(files: Files, manifest: Manifest) -> Usable:
    current = load_series(_only(files, manifest))
    _check(manifest.input, current, manifest)
    timeline = load_timeline(
        current,
        [_paths(paths) for paths in files.earlier],
        suitable=lambda one: why_unsuitable(manifest.input, one.headers, one.source, model=manifest.identity),
        asked=files.earlier_asked,
    )
    return Usable(
        given=timeline.given,
        source=current.source,
        headers=current.headers,
        inputs=(*_uids(current.source), *timeline.inputs),
        cautions=timeline.cautions,
    )


def _check(wanted: Input, loaded: Loaded, manifest: Manifest, *, about: str = "") -> None:
    because = why_unsuitable(wanted, loaded.headers, loaded.source, model=manifest.identity, about=about)
    if because is not None:
        raise WrongInputs(because)


def _check_one_study(loaded: Mapping[str, Loaded]) -> None:
    studies = {str(one.source.first.StudyInstanceUID) for one in loaded.values()}
    if len(studies) > 1:
        raise WrongInputs(f"The {len(loaded)} series belong to {len(studies)} studies.")


def _elsewhere(reference: str, loaded: Mapping[str, Loaded]) -> list[str]:
    """What to say of series whose coordinates are not known to be those of the reference."""
    place = loaded[reference].volume.frame_of_reference_uid
    strangers = [name for name, one in loaded.items() if one.volume.frame_of_reference_uid != place]
    if place is None:
        strangers = [name for name in loaded if name != reference]
    if not strangers:
        return []
    return [
        f"{', '.join(strangers)} may not lie on {reference}: they are in other frames of reference, and "
        "nothing was registered."
    ]


def _only(files: Files, manifest: Manifest) -> list[Path]:
    """The files of the one series. Raises `WrongInputs` where the job has several with names."""
    if files.named:
        raise WrongInputs(
            f"{manifest.identity} is given one series, and the job has {', '.join(sorted(files.named))}."
        )
    return _paths(files.inputs)


def _reference(files: Files, manifest: Manifest) -> list[Path]:
    """The files that the report of a refusal is about."""
    if not files.named:
        return _paths(files.inputs)
    return _paths(files.named.get(manifest.input.name) or next(iter(files.named.values())))


def _paths(paths: Sequence[str]) -> list[Path]:
    return [Path(path) for path in paths]


def _uids(source: Source) -> tuple[Uid, ...]:
    """Raises `HeaderUnreadable`: no report can refer to an image that has no UID."""
    try:
        return tuple(Uid.parse(text_of(dataset, "SOPInstanceUID")) for dataset in source.datasets)
    except ValueError as broken:
        raise HeaderUnreadable(f"An image cannot be referred to: its SOP Instance UID {broken}.") from broken


def _uids_of_files(files: Files) -> tuple[Uid, ...]:
    groups = [files.inputs, *files.named.values(), *files.earlier]
    return tuple(uid for group in groups if group for uid in _uids(load_source(_paths(group))))
