"""The card of a model, from Markdown to a page: whoever made the model wrote it, so it is a stranger's text.

HTML in it stays text, pictures are left out (they would be fetched from elsewhere), links lead to the web or
nowhere, and its headings come below those of the page.
"""

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_LONGEST = 1 << 20  # characters
_BELOW = 2  # headings of the page above those of a card
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_READER = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable("image")


def card_html(markdown: str) -> Markup:
    """The card as HTML that is safe to put into a page."""
    tokens = _READER.parse(_COMMENT.sub("", markdown[:_LONGEST]))
    for token in _all(tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + _BELOW)}"
        if token.type == "link_open":
            # markdown-it leaves no javascript:, data: and file: links; the page says nothing of itself.
            token.attrSet("rel", "noopener noreferrer")
        if token.type == "table_open":
            token.attrSet("tabindex", "0")  # It is pushed sideways on a narrow screen: by the keyboard, too.
        # Alignment would be a style in the text, which the page's policy forbids.
        if token.type in ("th_open", "td_open") and "style" in token.attrs:
            if "right" in str(token.attrs["style"]):
                token.attrSet("class", "number")
            del token.attrs["style"]
    # Every text was escaped by markdown-it, which was told to let no HTML through.
    return Markup(_READER.renderer.render(tokens, _READER.options, {}))  # noqa: S704


def _all(tokens: Sequence[Token]) -> list[Token]:
    return [one for token in tokens for one in (token, *_all(token.children or ()))]
