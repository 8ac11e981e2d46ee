"""
The last look before anything leaves: the files are read back and compared with what the model said.

An encoder that is right in its tests can still meet an image that its tests did not think of. A wrong volume
is worse than none, so whatever does not agree stays here, parked, with the sentence that says why.
"""

from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from results.check_report import check_report
from results.check_segmentation import check_segmentation
from results.expect import CheckFailed, expect
from results.findings import Findings
from results.provenance import Run
from results.source import Source

__all__ = ["CheckFailed", "check_results"]


def check_results(
    findings: Findings, source: Source, run: Run, *, report: Path, segmentation: Path | None
) -> None:
    """Raise `CheckFailed` unless the files say of `source` what `findings` say."""
    expect(
        not _anything(findings) or segmentation is not None,
        "the model drew something, but there is no segmentation",
    )
    seg = None if segmentation is None else _read("segmentation", segmentation)
    sr = _read("report", report)
    try:
        found = {} if seg is None else check_segmentation(seg, findings, source, run)
        check_report(sr, findings, source, run, segmentation=seg, found=found)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        # A missing attribute shows itself only by its absence.
        raise CheckFailed(f"a result is not whole: {type(error).__name__}: {error}") from error
    if seg is not None:
        expect(seg.SeriesInstanceUID != sr.SeriesInstanceUID, "segmentation and report are in one series")
        expect(seg.SOPInstanceUID != sr.SOPInstanceUID, "segmentation and report have one SOP Instance UID")


def _anything(findings: Findings) -> bool:
    return bool(findings.segments) and findings.label_map is not None and bool(findings.label_map.any())


def _read(what: str, path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path)
    except (OSError, InvalidDicomError, EOFError) as error:
        raise CheckFailed(f"the {what} cannot be read back from {path.name}: {error}") from error
