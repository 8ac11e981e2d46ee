"""What every refusal of a model is: a sentence for the reader of a report."""

from ledger.job import Outcome
from results.findings import Findings

#: Words of programmers, which no reader of a report should meet.
_NOT_FOR_READERS = (
    "traceback", "exception", "nonetype", "ndarray", "numpy", "torch", "assert", "object at", "error:",
    "index", "tuple", "dtype", "divide", "nan",
)  # fmt: skip


def plain(findings: Findings) -> None:
    """A refusal that a radiologist can read, and nothing besides."""
    assert findings.outcome is Outcome.REFUSED, f"{findings.outcome}: {findings.because}"
    because = findings.because
    assert because.endswith("."), because
    assert because[0].isupper() or because[0].isdigit(), because
    assert because.isascii(), because
    assert "\n" not in because
    assert not [word for word in _NOT_FOR_READERS if word in because.lower()], because
    assert findings.label_map is None
