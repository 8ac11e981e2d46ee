"""What is paused, as conditions: whoever asks what is due asks them as well."""

from sqlalchemy import ColumnElement, exists, func, literal, or_

from ledger.pause import SEPARATORS, PauseKind
from ledger.schema import pause


def is_paused(kind: PauseKind, name: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether `name` is paused: itself, or by what its name begins with."""
    held = pause.c.name == name
    if between := SEPARATORS[kind]:
        # Not LIKE: names have underscores, which stand for anything there.
        whole = pause.c.name.op("||")(between)
        held = or_(held, func.substr(name, 1, func.length(whole)) == whole)
    return exists().where(pause.c.kind == literal(kind.value), held)
