"""Is it true? What the archive received, read again and compared: with the ledger's own account, and, where
the images were a phantom, with the right answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from console.demo_archive import received
from console.demo_follow import Snapshot
from console.demo_scanner import Sendable
from console.reading import Reading, read_report
from console.tables import Value
from ledger.errors import WetreadError
from ledger.result import Role
from models.training.phantoms import LungTruth, Phantom
from results.picture import overlay

#: Code of a quantity → how far it may be from the truth: (part of the value, absolute).
TOLERANCE: dict[str, tuple[float, float]] = {
    "118565006": (0.03, 0.0),  # volume, mL
    "112031": (0.0, 15.0),  # mean, HU
    "LAA950": (0.0, 1.0),  # percentage points
    "PERC15": (0.0, 10.0),  # HU
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found in the archive; `complaints` is empty where everything is true."""

    study: str
    values: tuple[Value, ...]
    truths: Mapping[Value, float]  #: the right answers, where the images were a phantom
    sentences: tuple[str, ...]
    picture: Path | None
    words: str
    complaints: tuple[str, ...]


def prove(
    end: Snapshot, archive: Path, phantom: Phantom | None, images: Sequence[Sendable], picture: Path
) -> Proof:
    """Read again what lies in the folder `archive`; the overlay is drawn to `picture` from the archive's
    SEG.
    """
    kept = received(archive)
    by_role: dict[Role, list[Path]] = {Role.SEGMENTATION: [], Role.REPORT: []}
    complaints = []
    for result in (one for one in end.results if one.role in by_role):
        if (path := kept.get(str(result.sop_instance))) is None:
            complaints.append(f"the archive never received the {result.role}")
        else:
            by_role[result.role].append(path)
    expected = by_role if phantom is not None else (Role.REPORT,)  # Not every model draws.
    complaints += [f"there is no {role}" for role in expected if not by_role[role]]
    readings: list[Reading] = [read_report(path) for path in by_role[Role.REPORT]]
    values = tuple(value for reading in readings for value in reading.values)
    truths: dict[Value, float] = {}
    if phantom is not None:
        truths = _truths(values, phantom)
        complaints += _against_the_truth(truths)
    elif readings and not any(reading.values or reading.sentences for reading in readings):
        complaints.append("the report says nothing")
    drawn = _draw(by_role[Role.SEGMENTATION], images, picture, complaints)
    truth = ", and each of them is true" if truths else ""
    return Proof(
        study=str(end.studies[0].study),
        values=values,
        truths=truths,
        sentences=tuple(dict.fromkeys(sentence for reading in readings for sentence in reading.sentences)),
        picture=drawn,
        words=f"{len(kept)} objects in the archive, {len(values)} values in their report{truth}",
        complaints=tuple(complaints),
    )


def _draw(
    segmentations: Sequence[Path], images: Sequence[Sendable], picture: Path, complaints: list[str]
) -> Path | None:
    if not segmentations:
        return None
    series = {str(item.SeriesInstanceUID) for item in dcmread(segmentations[0]).ReferencedSeriesSequence}
    source = [image.path for image in images if image.series in series]
    try:
        picture.write_bytes(overlay(source, segmentations[0]))
    except WetreadError as error:
        complaints.append(f"the picture could not be drawn: {error}")
        return None
    return picture


def _truths(values: Sequence[Value], phantom: Phantom) -> dict[Value, float]:
    """The right answer to each value of a lung."""
    lungs = {"right": phantom.right, "left": phantom.left}
    return {
        value: _answers(truth)[value.code]
        for value in values
        for side, truth in lungs.items()
        if truth is not None and side in value.about.lower() and value.code in TOLERANCE
    }


def _against_the_truth(truths: Mapping[Value, float]) -> Iterator[str]:
    if len(truths) != 2 * len(TOLERANCE):
        yield f"the report has {len(truths)} values of the lungs, not {2 * len(TOLERANCE)}"
    for value, truth in truths.items():
        relative, absolute = TOLERANCE[value.code]
        if abs(value.value - truth) > absolute + relative * abs(truth):
            yield f"{value.name} of {value.about} is {value.value:.1f}, but {truth:.1f} is true"


def _answers(truth: LungTruth) -> dict[str, float]:
    return {
        "118565006": truth.volume_ml,
        "112031": truth.mean_hu,
        "LAA950": truth.laa950_percent,
        "PERC15": truth.perc15_hu,
    }
