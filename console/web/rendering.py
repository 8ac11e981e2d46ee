"""From values to a page: the templates, and what they may call.

Everything is escaped; what a scanner or a PACS wrote is text and nothing else.
"""

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from console.tables import duration, size
from console.viewer.installed import HOW, is_installed
from console.viewer.page import can_be_opened, viewer_link
from console.web.access.table import Permission
from console.web.access.visitor import Visitor
from console.web.deck import Deck, deck_of
from console.web.words import LANGUAGES, wanted
from ledger.implementation import software_version

THEMES = ("auto", "light", "dark")
LOOK = "wetread-look"  #: cookie with language and theme; no secret
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

_TEMPLATES.globals.update(viewer_link=viewer_link, can_be_opened=can_be_opened)

#: What htmx is told in the page's head: nothing inline, nothing evaluated.
_HTMX = json.dumps({"includeIndicatorStyles": False, "allowEval": False, "selfRequestsOnly": True})

#: (address, name, what it needs): the bar at the top.
PAGES = (
    ("/", "Now", Permission.SEE),
    ("/studies", "Studies", Permission.SEE),
    ("/why", "Why no result?", Permission.SEE),
    ("/queue", "Queue", Permission.SEE),
    ("/models", "Models", Permission.SEE),
    ("/rules", "Rules", Permission.SEE),
    ("/peers", "Peers", Permission.SEE),
    ("/feedback", "Feedback", Permission.SEE),
    ("/audit", "Audit trail", Permission.AUDIT),
    ("/accounts", "Accounts", Permission.ACCOUNTS),
    ("/settings", "Settings", Permission.CONFIGURE),
)


def look_of(request: Request) -> tuple[str, str]:
    """Language and theme: as chosen, else as the browser asks."""
    language, _, theme = request.cookies.get(LOOK, "").partition(".")
    spoken = wanted(request.headers.get("accept-language", ""), chosen=language)
    return spoken, theme if theme in THEMES else "auto"


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """The page, in the visitor's language."""
    deck = deck_of(request)
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    language, theme = look_of(request)
    say = partial(deck.words.said, language)
    html = _TEMPLATES.get_template(template).render(
        _=say,
        language=language,
        languages=LANGUAGES,
        theme=theme,
        themes=THEMES,
        site_name=deck.site.site.name,
        version=software_version(),
        path=request.url.path,
        visitor=visitor,
        pages=[page for page in PAGES if visitor is not None and visitor.may(page[2])],
        csrf=partial(_csrf, visitor),
        time=partial(_time, zone=deck.site.site.time_zone),
        date=_date,
        duration=duration,
        size=size,
        htmx=_HTMX,
        viewer=_viewer_ready(deck, visitor),
        configures=visitor is not None and visitor.may(Permission.CONFIGURE),
        steers=visitor is not None and visitor.may(Permission.STEER),
        judges=visitor is not None and visitor.may(Permission.JUDGE),
        **values,
    )
    return HTMLResponse(html, status)


def problem(request: Request, status: int, words: str) -> HTMLResponse:
    """A page, or a line in a page, that says what is wrong."""
    template = "_problem.html" if request.headers.get("hx-request") else "problem.html"
    return render(request, template, status=status, code=status, words=words)


def _viewer_ready(deck: Deck, visitor: Visitor | None) -> str:
    """Of the viewer: "here"; "" for who may not look at images; else how it gets here."""
    if visitor is None or not visitor.may(Permission.PATIENTS):
        return ""
    return "here" if is_installed(deck.site.data) else HOW


def _csrf(visitor: Visitor | None) -> Markup:
    """The hidden field of a form."""
    token = visitor.csrf if visitor is not None else ""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(token)


def _time(at: float | None, how: str = "moment", *, zone: str) -> Markup:
    """A moment, told in the site's zone until the browser tells it in the viewer's. `how` is "moment", or
    "ago" for what is watched.
    """
    if at is None:
        return Markup("")
    when = datetime.fromtimestamp(at, UTC)
    shown = when.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")
    stamp = when.isoformat(timespec="milliseconds")
    return Markup('<time datetime="{}" data-how="{}">{}</time>').format(stamp, how, shown)


def _date(text: str) -> Markup:
    """A DICOM date (yyyymmdd) as people write it everywhere."""
    plain = text.strip()
    if len(plain) == 8 and plain.isdigit():
        plain = f"{plain[:4]}-{plain[4:6]}-{plain[6:]}"
    return escape(plain)
