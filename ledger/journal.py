"""
The log: one line for each change of state, and never a patient.

Rule 1: what is not known to be harmless is withheld. A value passes if it is a number, plain text, an
identifier of ours, or a collection of those; a data set, a person name or any other object is replaced by its
type's name.
Rule 2: keys that name a patient are withheld with all that is below them.
Rule 3: other libraries' messages quote offending values, so theirs are reduced to where they came from,
unless the library is known to speak of nothing but itself.

    from ledger.journal import log

    log.info("job.parked", job=12, because="slice spacing 7.5 mm, the model takes at most 3")
"""

import logging
import re
import sys
import types
from collections.abc import Mapping, MutableMapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any, TextIO

import structlog

from ledger.errors import WetreadError
from ledger.identifiers import AETitle, Digest, Uid

#: Everybody's logger. It asks for its settings with every line, so it may be imported before `configure`.
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# Compared without case, spaces and underscores, so DICOM keywords and our own names are met alike.
_PATIENT = re.compile(
    r"patient|person|birth|physician|accession|operator|mrn|telephone|otherid|description|comment"
    r"|headers|dataset|identifier$|^ds$"
)
# Of these the message itself is printed; Celery prints arguments of tasks, and ours are ids only.
_OUTSPOKEN = ("celery", "kombu", "redis", "alembic", "sqlalchemy", "uvicorn", "asyncio", "concurrent")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_WARNING = re.compile(r"([^\n]{1,4096}?):(\d+): (\w+): ")
_DEEPEST = 6


def configure(*, json: bool, level: str = "info", stream: TextIO | None = None) -> None:
    """Send the log to `stream` (standard error): one JSON object a line, or coloured lines for people.

    Other libraries' logs and Python's warnings go the same way, from WARNING upwards.
    """
    stream = stream or sys.stderr
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _explain_exception,
        withhold,
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[structlog.processors.add_log_level, *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        # Tests configure more than once, each with a stream of its own.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, _reduce, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            keep_exc_info=False,
            keep_stack_info=False,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(True)


def withhold(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that lets no patient through."""
    for key in list(entry):
        if _names_a_patient(key):
            entry[key] = "(withheld)"
        elif not key.startswith("_"):  # structlog's own, which are taken out again
            entry[key] = _harmless(entry[key], _DEEPEST)
    return entry


def _names_a_patient(key: object) -> bool:
    return bool(_PATIENT.search(re.sub(r"[\s_.-]", "", str(key)).lower()))


def _harmless(value: Any, depth: int) -> Any:
    """`value` as something that a renderer may print."""
    if value is None or type(value) in (bool, int, float):
        return value
    if type(value) is str:
        # A line break or an escape sequence from a peer must not be able to write a line of its own.
        return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
    if isinstance(value, Enum):
        return _harmless(value.value, depth)
    # pydicom's UID is text; its PersonName, DS and Dataset are not for us.
    if isinstance(value, Uid | AETitle | Digest | PurePath) or type(value).__module__ == "pydicom.uid":
        return _harmless(str.__str__(value) if isinstance(value, str) else str(value), depth)
    return _said(value) if isinstance(value, BaseException) else _harmless_collection(value, depth - 1)


def _harmless_collection(value: Any, depth: int) -> Any:
    name = type(value).__name__
    if depth < 0:
        return f"(withheld: {name}, too deep)"
    if type(value) in (list, tuple, set, frozenset):
        return [_harmless(item, depth) for item in value]
    if type(value) in (dict, types.MappingProxyType):
        return _harmless_mapping(value, depth)
    return f"(withheld: {name})"


def _harmless_mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    return {
        _harmless(str(key), depth) if isinstance(key, str | int) else f"(withheld: {type(key).__name__})": (
            "(withheld)" if _names_a_patient(key) else _harmless(item, depth)
        )
        for key, item in value.items()
    }


def _said(error: BaseException) -> str:
    """What an error says, if it is ours; otherwise only what kind it is."""
    name = type(error).__name__
    if isinstance(error, WetreadError):
        return f"{name}: {_harmless(str(error), 0)}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {_harmless(str(error.strerror), 0)}"
    return name


def _explain_exception(
    _logger: object, _method: str, entry: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace `exc_info` by where it happened and what kinds of errors led to it: no values."""
    info = entry.pop("exc_info", None)
    error = info if isinstance(info, BaseException) else None
    if info is True:
        error = sys.exception()
    elif isinstance(info, Sequence) and len(info) == 3:
        error = info[1]
    chain: list[str] = []
    while error is not None and len(chain) < 10:
        frames = []
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append(f"{PurePath(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        chain.append(f"{_said(error)} at {' > '.join(frames[-12:]) or 'unknown'}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if chain:
        entry["exception"] = " | after ".join(chain)
    return entry


def _reduce(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Of another library's message, keep what cannot quote a value."""
    record: logging.LogRecord = entry["_record"]
    entry["logger"] = record.name
    if record.name.partition(".")[0] in _OUTSPOKEN:
        # Celery lays its words out for a terminal: one line is enough.
        entry["event"] = " ".join(str(entry["event"]).split())
        return entry
    # Python's warnings say where they arose and of which kind they are in front of what they say.
    warned = _WARNING.match(str(entry["event"])) if record.name == "py.warnings" else None
    entry["event"] = "library.warned"
    entry["at"] = f"{PurePath(record.pathname).name}:{record.lineno}"
    if warned:
        entry["at"], entry["kind"] = f"{PurePath(warned[1]).name}:{warned[2]}", warned[3]
    return entry
