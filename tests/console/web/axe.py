"""axe-core, which finds what people with a screen reader, a keyboard or weak eyes cannot use."""

from functools import cache

from playwright.sync_api import Page

from tests.peers.npm import package

_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
_RULES = "['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']"


@cache
def axe() -> str:
    """Its source."""
    return (package("axe-core", "4.14.1", _SHA512) / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page, source: str) -> list[tuple[str, list[str]]]:
    """What it finds on the page: the rule, and where it is broken."""
    page.evaluate(source)  # By the debugger, which no content security policy stops.
    found = page.evaluate(f"axe.run({{runOnly: {_RULES}}})")
    return [(one["id"], [node["html"][:150] for node in one["nodes"][:3]]) for one in found["violations"]]
