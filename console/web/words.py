"""The console's languages: English in the templates, the others in one file of words each.

What the ledger holds (reasons, what peers and models said) stays as it was written: it is evidence.
"""

import json
from collections.abc import Mapping
from pathlib import Path

_FOLDER = Path(__file__).parent / "languages"

#: Code (RFC 5646) → how its speakers call it.
LANGUAGES: Mapping[str, str] = {"en": "English", "de": "Deutsch", "fr": "Français", "zh": "中文"}


class Words:
    """Every catalogue, read once."""

    def __init__(self) -> None:
        self._catalogues: dict[str, Mapping[str, str]] = {"en": {}}
        for code in LANGUAGES:
            if code != "en":
                self._catalogues[code] = json.loads((_FOLDER / f"{code}.json").read_text(encoding="utf-8"))

    def said(self, language: str, text: str, **values: object) -> str:
        """`text` in `language`, with `{name}` replaced by `values`; in English where nobody translated it."""
        found = self._catalogues[language].get(text, text)
        return found.format(**values) if values else found

    def knows(self, language: str, text: str) -> bool:
        """Whether there is a translation."""
        return language == "en" or text in self._catalogues[language]

    def catalogue(self, language: str) -> Mapping[str, str]:
        """English text → translation."""
        return self._catalogues[language]


def wanted(header: str, *, chosen: str = "") -> str:
    """The language to answer in: the one that was `chosen`, else the first of an Accept-Language `header`
    (RFC 9110 §12.5.4) that there is, else English.
    """
    if chosen in LANGUAGES:
        return chosen
    ranked = []
    for position, item in enumerate(header[:512].split(",")):
        tag, _, weight = item.strip().partition(";q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        code = tag.partition("-")[0].lower()
        if code in LANGUAGES and quality > 0:
            ranked.append((-quality, position, code))
    return min(ranked)[2] if ranked else "en"
