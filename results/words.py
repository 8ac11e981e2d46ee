"""
What a reader reads: short, plain, and in characters that every archive can show.

Our own text is ASCII. It stands beside patient names in the character set of the source (GB18030, ISO 2022 IR
87 …), and ASCII is what all of them share.
"""

import unicodedata

from ledger.job import Outcome
from results.findings import Findings
from results.provenance import Run

#: Stands in every result. The wording is a promise of the README as well.
DISCLAIMER = "AI result, not verified. Research use, not for diagnosis."

_SPELLED = str.maketrans(
    {
        "≤": "<=",
        "≥": ">=",
        "×": "x",
        "–": "-",
        "—": "-",
        "−": "-",
        "±": "+/-",
        "µ": "u",
        "²": "2",
        "³": "3",
        "°": " deg",
        "…": "...",
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
    }
)

_ENDINGS = {
    Outcome.FOUND: "not verified",
    Outcome.NOTHING: "nothing found, not verified",
    Outcome.REFUSED: "NOT ANALYSED",
}


def plain(text: str, longest: int | None = None) -> str:
    """`text` in printable ASCII, at most `longest` characters; the unspellable becomes a question mark."""
    text = unicodedata.normalize("NFKD", text.translate(_SPELLED))
    text = "".join(c for c in text if not unicodedata.combining(c)).encode("ascii", "replace").decode()
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if longest is None or len(text) <= longest else text[: longest - 3].rstrip() + "..."


def long_string(text: str) -> str:
    """`text` as a value of LO: one value, so no backslash, at most 64 characters (PS3.5 §6.2)."""
    return plain(text.replace("\\", "/"), 64)


def series_description(run: Run, findings: Findings, what: str) -> str:
    """Series Description (0008,103E): which model, what it is, and that nobody has verified it.

    Viewers show it before anything is opened, and some open a report as a blank page: so it also says
    when there was nothing to show.
    """
    name = plain(f"{run.provenance.name} {run.provenance.version}".replace("\\", "/"), 24)
    return f"AI {name} {what} ({_ENDINGS[findings.outcome]})"
