"""Rules: what is in force, editing it, trying it, its versions, and the way back.

What is being edited travels with the page; only saving writes, and only what was judged to fit this site.
"""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from console.rule_checks import complaints
from console.rule_pages import asked_by, takes
from console.rule_texts import side_by_side, toml_of
from console.web.access.visitor import visitor_of
from console.web.deck import Deck, deck_of
from console.web.numbers import VERSION_MOST, Version
from console.web.rendering import render
from console.web.rule_draft import Draft, draft
from console.web.rule_form import FIELDS, LABELS
from console.web.rule_trial import on_files, on_study
from dicom_node.routing import Rule
from dicom_node.rule_book import InForce, RulesUnreadable, as_tables, rules_of
from dicom_node.rule_dry_run import DryRun, dry_run
from ledger.rule_set import RuleSet, RulesMovedOn, RuleTable
from ledger.store.database import NotInLedger

router = APIRouter()
WITHIN_S = 10.0  # A dry run for which somebody looks at a page.
_PICKED = 30
_VERSIONS = 100


class Sent(BaseModel):
    """The form of a draft."""

    text: str = ""
    base: int = Field(default=0, ge=0)
    comment: str = ""
    same_as: int = Field(default=0, ge=0)
    do: str = ""


Form_ = Annotated[Sent, Form()]


def asked_now(deck: Deck) -> InForce:
    """The rules in force: the latest version, or those of the site where there is none. Raises
    `RulesUnreadable`.
    """
    latest = deck.ledger.latest_rule_set()
    return InForce(deck.site.rules) if latest is None else InForce(rules_of(latest), latest.number)


def as_written(deck: Deck) -> tuple[int, Sequence[RuleTable]]:
    """The number of the version in force and its rules as data, whether this release can use them or not."""
    latest = deck.ledger.latest_rule_set()
    return (0, as_tables(deck.site.rules)) if latest is None else (latest.number, latest.rules)


def version_of(deck: Deck, number: int) -> RuleSet:
    """One version. Raises 404."""
    try:
        return deck.ledger.rule_set(number)
    except NotInLedger as error:
        raise HTTPException(404, str(error)) from None


async def fields_of(request: Request) -> dict[str, list[str]]:
    """What the form of one rule says: key of the field → texts."""
    form = await request.form()
    return {
        key.removeprefix("rule."): [one for one in form.getlist(key) if isinstance(one, str)]
        for key in form
        if key.startswith("rule.")
    }


@router.get("/rules")
def rules(request: Request, saved: int = 0) -> HTMLResponse:
    """The rules in force, in words, and the tester."""
    deck = deck_of(request)
    number, tables = as_written(deck)
    try:
        asked = asked_now(deck).rules
        wrong = [one.words for one in complaints(deck.site, asked)]
    except RulesUnreadable as error:
        asked, wrong = (), [str(error)]
    return render(
        request,
        "rules.html",
        number=number,
        edition=deck.ledger.latest_rule_set(),
        labels=LABELS,
        saved=saved,
        lines=[(rule, *_words(rule)) for rule in asked],
        text=toml_of(tables),
        studies=deck.ledger.studies(limit=_PICKED),
        wrong=wrong,
    )


@router.post("/rules/draft")
def drafting(
    request: Request, sent: Form_, fields: Annotated[dict[str, list[str]], Depends(fields_of)]
) -> HTMLResponse:
    """The draft after one step."""
    edited = draft(deck_of(request).site, sent.text, sent.base, do=sent.do, fields=fields)
    return _draft_page(request, edited, do=sent.do)


@router.post("/rules/review")
def review(request: Request, sent: Form_) -> HTMLResponse:
    """What would change, beside what is in force; with "dry-run", tried on the last days."""
    deck = deck_of(request)
    edited = draft(deck.site, sent.text, sent.base)
    if edited.wrong:
        return _draft_page(request, edited)
    told = None
    if sent.do == "dry-run":
        told = dry_run(deck.ledger, asked_now(deck).rules, edited.rules, within_s=WITHIN_S)
    return _review_page(request, edited, sent, told=told)


@router.post("/rules/save")
def save(request: Request, sent: Form_) -> Response:
    """Put the draft in force. Where it does not fit, or somebody was first, the page says so instead."""
    deck = deck_of(request)
    edited = draft(deck.site, sent.text, sent.base)
    if edited.wrong:
        return _draft_page(request, edited, status=422)
    try:
        saved = deck.ledger.save_rule_set(
            as_tables(edited.rules),
            base=sent.base,
            by=visitor_of(request).actor,
            comment=sent.comment.strip()[:1000],
            same_as=sent.same_as or None,
        )
    except RulesMovedOn as error:
        return _review_page(request, edited, sent, said=str(error), status=409)
    return RedirectResponse(f"/rules?saved={saved.number}", status_code=303)


@router.post("/rules/test")
def trying(
    request: Request,
    text: Annotated[str, Form()],
    study: Annotated[str, Form(max_length=128)] = "",
    calling: Annotated[str, Form(max_length=64)] = "",
    files: Annotated[list[UploadFile] | None, File()] = None,
) -> HTMLResponse:
    """Every condition of every rule, on a study or on files."""
    deck = deck_of(request)
    edited = draft(deck.site, text, 0)
    given = [file for file in files or () if file.filename]
    found, said = None, ""
    try:
        if not edited.rules and edited.wrong:  # What does not fit may be tried; what cannot be read cannot.
            said = edited.wrong[0].words
        elif given:
            found = on_files(deck, edited.rules, given, calling)
        elif study.strip():
            found = on_study(deck, edited.rules, study.strip())
        else:
            said = "nothing"
    except HTTPException as error:
        said = str(error.detail)
    return render(
        request,
        "rules_test.html",
        found=found,
        labels=LABELS,
        said=said,
        text=text,
        study=study,
        calling=calling,
        studies=deck.ledger.studies(limit=_PICKED),
    )


@router.get("/rules/versions")
def versions(request: Request) -> HTMLResponse:
    """Every version, the latest first."""
    return render(request, "rules_versions.html", versions=deck_of(request).ledger.rule_sets(_VERSIONS))


@router.get("/rules/versions/{number}")
def version(
    request: Request,
    number: Version,
    than: Annotated[int, Query(ge=0, le=VERSION_MOST)] = 0,
) -> HTMLResponse:
    """One version beside another one: the one before it, unless `than` names another."""
    deck = deck_of(request)
    one = version_of(deck, number)
    other = version_of(deck, than) if than else version_of(deck, number - 1) if number > 1 else None
    text = toml_of(one.rules)
    return render(
        request,
        "rules_version.html",
        edition=one,
        other=other,
        latest=deck.ledger.rules_version(),
        text=text,
        beside=side_by_side(toml_of(other.rules) if other else "", text),
    )


def _draft_page(request: Request, edited: Draft, *, do: str = "", status: int = 200) -> HTMLResponse:
    deck = deck_of(request)
    return render(
        request,
        "rules_draft.html",
        status=status,
        draft=edited,
        lines=[(one, *_words(one.rule)) for one in edited.lines],
        fields=FIELDS,
        labels=LABELS,
        models=_models(deck),
        peers=[peer.name for peer in deck.site.peers if peer.send],
        givers=[peer.name for peer in deck.site.peers if peer.retrieve != "none"],
        as_text=do == "text",
        studies=deck.ledger.studies(limit=_PICKED),
    )


def _words(rule: Rule | None) -> tuple[tuple[str, str] | None, list[tuple[str, str]]]:
    return (None, []) if rule is None else (takes(rule), asked_by(rule))


def _models(deck: Deck) -> list[tuple[str, str]]:
    """What may be written as the model of a rule, and what it is."""
    from models.registry import installed  # noqa: PLC0415  It reads every manifest.

    found: dict[str, str] = {}
    for manifest in installed(deck.site.models_settings()):
        found.setdefault(manifest.name, manifest.title)
        found[manifest.identity] = manifest.title
    return sorted(found.items())


def _review_page(
    request: Request,
    edited: Draft,
    sent: Sent,
    *,
    told: DryRun | None = None,
    said: str = "",
    status: int = 200,
) -> HTMLResponse:
    number, tables = as_written(deck_of(request))
    return render(
        request,
        "rules_review.html",
        status=status,
        draft=edited,
        number=number,
        beside=side_by_side(toml_of(tables), toml_of(as_tables(edited.rules))),
        told=told,
        said=said,
        comment=sent.comment,
        same_as=sent.same_as,
    )
