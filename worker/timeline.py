"""An examination with the earlier ones of the same patient, each on its own grid: nothing is registered.

An earlier examination that cannot be used is left out, and the findings say so: the examination that a reader
waits for is not refused because of one from years ago. Images of another patient are another matter: then
nothing is analysed at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dicom_node.priors import another_patient, patient_of
from ledger.errors import StudyError
from ledger.identifiers import Uid
from models.contract import Earlier, Timeline
from results.source import Source
from worker.load import Loaded, load_series, load_source

#: When it was imaged: the first of these that is a date (PS3.3 §C.7.6.1, §C.7.3.1, §C.7.2.1).
_DATES = ("AcquisitionDate", "SeriesDate", "StudyDate")


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
    now = acquired(current.headers)
    for paths in earlier:
        try:
            loaded = load_series(paths)
        except StudyError as unusable:
            inputs += _uids(load_source(paths))
            cautions.append(f"An earlier examination could not be used: {unusable}")
            continue
        inputs += _uids(loaded.source)
        because = suitable(loaded)
        when = acquired(loaded.headers)
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


def acquired(headers: Mapping[str, str]) -> date | None:
    """The day on which these images were made; None where no date can be read."""
    for keyword in _DATES:
        text = headers.get(keyword, "").strip()
        if len(text) == 8 and text.isdigit():
            try:
                return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
            except ValueError:
                continue
    return None


def _uids(source: Source) -> list[Uid]:
    return [Uid.parse(str(dataset.SOPInstanceUID)) for dataset in source.datasets]


def _earlier(when: date, loaded: Loaded) -> Earlier:
    return Earlier(
        acquired=when,
        study=Uid.parse(str(loaded.source.first.StudyInstanceUID)),
        volume=loaded.volume,
        headers=loaded.headers,
    )
