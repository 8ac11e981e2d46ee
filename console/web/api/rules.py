"""Rules over the API: in force, checked, tried, saved; and every version."""

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, Field

from console.rule_checks import Complaint
from console.rule_texts import Edited, read_tables
from console.web.access.visitor import visitor_of
from console.web.deck import Deck, deck_of
from console.web.numbers import VERSION_MOST, Version
from console.web.pages.rules import WITHIN_S, asked_now, version_of
from console.web.rule_trial import on_study
from dicom_node.rule_book import as_tables
from dicom_node.rule_dry_run import dry_run
from ledger.rule_set import RuleSet, RulesMovedOn

router = APIRouter(prefix="/api/v1/rules", tags=["rules"])


class Rules(BaseModel, extra="forbid"):
    """A set of rules, each as `[[rule]]` says it in wetread.toml; null is an end of a range that is none."""

    rules: list[dict[str, Any]] = Field(max_length=1000)


class NewRules(Rules):
    """A set to be put in force."""

    # The version that was looked at; 0 where there was none.
    base: int = Field(ge=0, le=VERSION_MOST, strict=True)
    comment: str = Field(max_length=1000)


class TriedRules(BaseModel, extra="forbid"):
    """A study, and what to try on it."""

    study: str = Field(min_length=1, max_length=128)  # Its UID, or its accession number.
    rules: list[dict[str, Any]] | None = Field(default=None, max_length=1000)  # None: those in force.


@router.get("", summary="The rules in force")
def rules(request: Request) -> dict[str, Any]:
    """`version` is 0 where none was ever saved."""
    asked = asked_now(deck_of(request))
    return {"version": asked.version, "rules": _plain(as_tables(asked.rules))}


@router.post("", summary="Put rules in force, as a new version")
def save(request: Request, new: NewRules) -> dict[str, Any]:
    """409 where somebody else saved since `base`; 422 with all that is wrong where the rules do not fit."""
    deck = deck_of(request)
    edited = _fitting(deck, new.rules)
    try:
        saved = deck.ledger.save_rule_set(
            edited.tables, base=new.base, by=visitor_of(request).actor, comment=new.comment
        )
    except RulesMovedOn as error:
        raise HTTPException(409, str(error)) from None
    return _version(saved)


@router.post("/check", summary="Whether rules could be saved here")
def check(request: Request, asked: Rules) -> dict[str, Any]:
    """All that is wrong with them, rule by rule; nothing: they could."""
    return {"wrong": [_wrong(one) for one in read_tables(deck_of(request).site, asked.rules).wrong]}


@router.post("/test", summary="Every condition of every rule, for one study")
def test(request: Request, asked: TriedRules) -> dict[str, Any]:
    """What is there and what was asked, without a value that could name a patient."""
    deck = deck_of(request)
    if asked.rules is None:
        trial = on_study(deck, asked_now(deck).rules, asked.study)
    else:
        edited = read_tables(deck.site, asked.rules)
        if edited.wrong and not edited.rules:
            raise HTTPException(422, [_wrong(one) for one in edited.wrong])
        trial = on_study(deck, edited.rules, asked.study)
    return {"series": [_told(asdict(one)) for one in trial.answers]}


@router.post("/dry-run", summary="What rules would have made of the last days")
def dry(request: Request, asked: Rules, days: Annotated[float, Query(gt=0, le=90)] = 7) -> dict[str, Any]:
    """Beside the rules in force, on at most 2000 studies and for at most 10 s, the newest first."""
    deck = deck_of(request)
    edited = _fitting(deck, asked.rules)
    told = dry_run(deck.ledger, asked_now(deck).rules, edited.rules, days=days, within_s=WITHIN_S)
    before, after = told.hours_a_day
    return {**asdict(told), "hours_a_day_before": before, "hours_a_day_after": after}


@router.get("/versions", summary="Every version of the rules, the latest first")
def versions(request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> dict[str, Any]:
    """Who saved each, when and why."""
    return {"versions": [_version(one) for one in deck_of(request).ledger.rule_sets(limit)]}


@router.get("/versions/{number}", summary="One version of the rules")
def version(request: Request, number: Version) -> dict[str, Any]:
    """As it was saved."""
    return _version(version_of(deck_of(request), number))


def _fitting(deck: Deck, tables: list[dict[str, Any]]) -> Edited:
    """Raises 422 with all that is wrong."""
    edited = read_tables(deck.site, tables)
    if edited.wrong:
        raise HTTPException(422, [_wrong(one) for one in edited.wrong])
    return edited


def _wrong(one: Complaint) -> dict[str, Any]:
    return {"rule": one.rule, "field": one.field, "words": one.words}


def _version(one: RuleSet) -> dict[str, Any]:
    return {**asdict(one), "rules": _plain(list(one.rules))}


def _told(of_series: Mapping[str, Any]) -> dict[str, Any]:
    """Without the sentences of single conditions: for the history, they quote what somebody typed."""

    def bare(condition: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in condition.items() if key != "refusal"}
        return {**kept, "holds": condition["refusal"] is None}

    def ruled(one: Mapping[str, Any]) -> dict[str, Any]:
        inputs = [
            {"name": each["name"], "conditions": [*map(bare, each["conditions"])]} for each in one["inputs"]
        ]
        return {**one, "conditions": [*map(bare, one["conditions"])], "inputs": inputs}

    return {
        **of_series,
        "series": str(of_series["series"]["value"]),
        "rules": [*map(ruled, of_series["rules"])],
    }


def _plain(value: Any) -> Any:
    """What JSON can say: a setting without end is told in words."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value
