"""
What a reader reads: short, plain, and in characters that every archive can show.

Our own text is ASCII. It stands beside patient names in the character set of the source (GB18030, ISO 2022 IR
87 …), and ASCII is what all of them share.
"""

import unicodedata

from ledger.job import Outcome
from ledger.profile import EXPLAINING, LO_LONGEST, SHORTENED_TO
from results.asked import Asked
from results.findings import HeatMap

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


def series_description(asked: Asked, what: str, status: str = "") -> str:
    """Series Description (0008,103E): which model, what it is, and that nobody has verified it.

    Viewers show it before anything is opened, and some open a report as a blank page: so it also says
    when there was nothing to show. A site's template says the words; where they are too many the name of
    the model is shortened, then its version, then `what`.
    """
    provenance = asked.run.provenance
    template = asked.profile.series_description
    words = {
        "model": _one_value(provenance.name),
        "version": _one_value(provenance.version),
        "what": _one_value(what),
        "status": status or _ENDINGS[asked.findings.outcome],
    }
    for key in ("model", "version", "what"):
        beyond = len(template.format(**words)) - LO_LONGEST
        if beyond > 0:
            words[key] = plain(words[key], max(SHORTENED_TO, len(words[key]) - beyond))
    return template.format(**words)


def map_description(asked: Asked, one: HeatMap, what: str = "") -> str:
    """The same of an object that shows a map, as `what`, which stands first because a long label is cut; that
    of an explanation is not diagnostic.
    """
    if one.explains:
        return series_description(asked, f"{what} {one.label}".lstrip(), EXPLAINING)
    return series_description(asked, f"{what or 'map'} {one.label}")


def _one_value(text: str) -> str:
    return plain(text.replace("\\", "/"))
