"""
The last look before anything leaves: the files are read back and compared with what the model said.

An encoder that is right in its tests can still meet an image that its tests did not think of. A wrong volume
is worse than none, so whatever does not agree stays here, parked, with the sentence that says why.
"""

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from results.check_parametric_map import check_map
from results.check_report import check_report
from results.check_segmentation import check_segmentation
from results.expect import CheckFailed, expect
from results.findings import Findings
from results.marks import check_marks
from results.provenance import Run
from results.source import Source

__all__ = ["CheckFailed", "check_results"]


def check_results(
    findings: Findings,
    source: Source,
    run: Run,
    *,
    report: Path,
    segmentation: Path | None,
    maps: Sequence[Path] = (),
    marks: Path | None = None,
) -> None:
    """Raise `CheckFailed` unless the files say of `source` what `findings` say.

    `maps` are the parametric maps, in the order of the findings.
    """
    expect(
        not _anything(findings) or segmentation is not None,
        "the model drew something, but there is no segmentation",
    )
    seg = None if segmentation is None else _read("segmentation", segmentation)
    sr = _read("report", report)
    kept = () if source.geometry is None else findings.maps  # A map needs a place in the patient.
    expect(len(maps) == len(kept), f"{len(maps)} parametric maps, the model gave {len(kept)}")
    expect(
        (marks is not None) == bool(findings.boxes or findings.points),
        "what can be drawn on the images and the document that has it drawn do not go together",
    )
    drawn = None if marks is None else _read("marks", marks)
    pms = [_read("parametric map", path) for path in maps]
    try:
        found = {} if seg is None else check_segmentation(seg, findings, source, run)
        by_label = {one.label: pm for one, pm in zip(kept, pms, strict=True)}
        for one in kept:
            check_map(by_label[one.label], one, source, run)
        check_report(sr, findings, source, run, segmentation=seg, found=found, maps=by_label)
        if drawn is not None:
            check_marks(drawn, sr, run)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        # A missing attribute shows itself only by its absence.
        raise CheckFailed(f"a result is not whole: {type(error).__name__}: {error}") from error
    made = [sr, *(one for one in (seg, drawn) if one is not None), *pms]
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
        uids = {str(one[keyword].value) for one in made}
        expect(len(uids) == len(made), f"two results of the run have one {keyword}")


def _anything(findings: Findings) -> bool:
    return bool(findings.segments) and findings.label_map is not None and bool(findings.label_map.any())


def _read(what: str, path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path)
    except (OSError, InvalidDicomError, EOFError) as error:
        raise CheckFailed(f"the {what} cannot be read back from {path.name}: {error}") from error
