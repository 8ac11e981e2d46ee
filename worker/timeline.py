"""An examination with the earlier ones of the same patient, each on its own grid: nothing is registered.

An earlier examination that cannot be used is left out, and the findings say so: the examination that a reader
waits for is not refused because of one from years ago. Images of another patient are another matter: then
nothing is analysed at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dicom_node.priors import another_patient, patient_of
from ledger.errors import StudyError
from ledger.identifiers import Uid
from models.contract import Earlier, Timeline
from models.days import day_of
from results.source import Source
from worker.load import Loaded, load_series, load_source


class AnotherPatient(StudyError):
    """What is here as an earlier examination may be of another patient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTimeline:
    """A timeline ready for a model."""

    given: Timeline
    inputs: tuple[Uid, ...]  #: SOP Instance UIDs of all earlier examinations, also those that are no use
    cautions: tuple[str, ...]


def load_timeline(
    current: Loaded,
    earlier: Sequence[Sequence[Path]],
    *,
    suitable: Callable[[Loaded], str | None],
    asked: int | None,
) -> LoadedTimeline:
    """The timeline that ends with `current`. `suitable` says why an earlier one cannot be used; None: it can.

    Raises `AnotherPatient`, `HeaderUnreadable` and `OSError`.
    """
    cautions: list[str] = []
    found: list[Earlier] = []
    inputs: list[Uid] = []
    now = day_of(current.headers)
    for paths in earlier:
        try:
            loaded = load_series(paths)
        except StudyError as unusable:
            inputs += _uids(load_source(paths))
            cautions.append(f"An earlier examination could not be used: {unusable}")
            continue
        inputs += _uids(loaded.source)
        because = suitable(loaded)
        when = day_of(loaded.headers)
        about = "An earlier examination" if when is None else f"The examination of {when.isoformat()}"
        if stranger := another_patient(patient_of(current.headers), patient_of(loaded.headers)):
            raise AnotherPatient(f"{about} may be of another patient: {stranger}. Nothing was analysed.")
        if when is None or (now is not None and when > now):
            because = because or "Nobody can say that it is earlier, by its date."
        if because is not None or when is None:
            cautions.append(f"{about} could not be used: {because}")
            continue
        found.append(_earlier(when, loaded))
    found.sort(key=lambda one: (one.acquired, one.study), reverse=True)
    if asked is not None and len(found) < asked:
        cautions.insert(0, f"Earlier examinations asked for: {asked} at most, here: {len(found)}.")
    return LoadedTimeline(
        given=Timeline(current=current.volume, headers=current.headers, earlier=tuple(found)),
        inputs=tuple(inputs),
        cautions=tuple(cautions),
    )


def _uids(source: Source) -> list[Uid]:
    return [Uid.parse(str(dataset.SOPInstanceUID)) for dataset in source.datasets]


def _earlier(when: date, loaded: Loaded) -> Earlier:
    source = loaded.source
    named = [(Uid.parse(str(d.SOPClassUID)), Uid.parse(str(d.SOPInstanceUID))) for d in source.datasets]
    slices = len(source.frames) if source.frames is not None else len(named)
    return Earlier(
        acquired=when,
        study=Uid.parse(str(source.first.StudyInstanceUID)),
        series=Uid.parse(str(source.first.SeriesInstanceUID)),
        # An enhanced image holds every slice.
        images=tuple(named if len(named) == slices else named[:1] * slices),
        volume=loaded.volume,
        headers=loaded.headers,
    )
