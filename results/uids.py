"""
UIDs that derive from what a result is made of, so that doing it twice is doing it once.

The same model, settings and input set, received at the same time, give the same series and the same
instance, whoever computes and whenever: an archive that is sent a result again keeps one copy. And whatever
else can change a byte is part of the UID, so equal UIDs are equal bytes. Series UIDs derive too, for there
are archives that keep two copies of an instance if only its series differs.

A finding's Tracking UID is another matter: it says that two results speak of the same thing.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Literal

from ledger.identifiers import Uid
from ledger.result import Role
from results.findings import Box, Segment
from results.provenance import Run

_NAMESPACE = "wetread result 1"


def derived_uid(run: Run, role: str, level: str, variant: str = "") -> Uid:
    """The UID that `run` gives to its `role` ("segmentation") at `level` ("series", "instance" …).

    `variant` says what else changes its bytes: the form that a destination wants, what it refers to.

    2.25 and an integer of 128 bits (PS3.5 §B.2), of which RFC 9562 fixes six: it is a UUID of version 8.
    The run's time is part of it, and is a fact about its inputs; so is the version of Wetread, for another
    encoder may write other bytes.
    """
    provenance = run.provenance
    parts = [
        _NAMESPACE,
        role,
        level,
        provenance.identity,
        str(provenance.weights_digest or "no weights"),
        str(provenance.code_digest),
        json.dumps(dict(provenance.settings), sort_keys=True, default=str),
        run.software_version,
        run.at.isoformat(),
        *sorted(str(uid) for uid in run.inputs),
    ]
    if provenance.trust:  # It stands in the result.
        parts.append(f"trust {provenance.trust}")
    if role == Role.REPORT and run.predecessor is not None:
        parts.append(f"after {run.predecessor.sop_instance}")
    if run.shortfall is not None:  # It stands in the result.
        parts.append(f"{run.shortfall.here} of {run.shortfall.expected}")
    if variant:
        parts.append(f"as {variant}")
    if run.again:  # On a GPU the same may come out differently, and equal UIDs are equal bytes.
        parts.append(f"again {run.again}")
    return _uid(parts)


def rejection_uid(
    level: str, *, title: str, report: Uid, rejected: Iterable[Uid], software_version: str
) -> Uid:
    """The UID at `level` of the note that rejects `rejected` in favour of `report`, titled by a code value.

    The same note has the same UIDs, to whichever archive it goes and whoever makes it.
    """
    names = sorted(str(uid) for uid in rejected)
    return _uid([_NAMESPACE, Role.REJECTION_NOTE, level, title, str(report), software_version, *names])


FindingKind = Literal["segment", "box", "point", "verdict", "map", "grade", "recommendation"]


def tracking_uid(run: Run, label: str | None, kind: FindingKind = "segment") -> Uid:
    """The name of the finding called `label`, or of the series as a whole, in every object about this series.

    It derives from series (or lone image), model and label alone: the same before and after a late image.
    Not so the name of a box: "Nodule 2" is the second of those that were found, and with more images another
    one may be that.
    """
    subject = "series" if label is None else f"{kind} {label}"
    parts = [_NAMESPACE, "tracking", str(run.series), run.provenance.identity, subject]
    if run.image is not None:  # Two views in one series are two runs, and speak of two things.
        parts.append(str(run.image))
    if kind == "box" and label is not None:
        parts += sorted(str(uid) for uid in run.inputs)
    return _uid(parts)


def segment_tracking_uid(run: Run, segment: Segment) -> Uid:
    """The same of a segment, or the earlier one's where the model matched the two."""
    return segment.tracked_as or tracking_uid(run, segment.label)


def box_tracking_uid(run: Run, box: Box) -> Uid:
    """The same of a box."""
    return box.tracked_as or tracking_uid(run, box.label, "box")


def earlier_tracking_uid(series: Uid, model: str, label: str) -> Uid:
    """What the segment `label` is called in the result of `model` (`name@version`) about an earlier `series`.

    For a model that matched a segment with one of that examination: `Segment.tracked_as`.
    """
    return _uid([_NAMESPACE, "tracking", str(series), model, f"segment {label}"])


def older_report_uid(report: Uid, sop_class: Uid, level: str) -> Uid:
    """The UID at `level` ("series", "instance") of `report` in the form of an older `sop_class`."""
    return _uid([_NAMESPACE, "older report", level, str(report), str(sop_class)])


def unknown_device_uid(model: str, version: str) -> Uid:
    """The Device UID of a model of which nothing is known but what a rule calls it: it was not opened."""
    return _uid(["wetread unopened model 1", model, version])


def line_uid(study: str, rule: str, subject: str) -> Uid:
    """The name of all that `rule` ever says about one thing in `study`: what is said later replaces it."""
    return _uid(["wetread line 1", study, rule, subject])


def beside_uid(line: Uid) -> Uid:
    """The name of what is said beside `line` and replaces nothing of it: that a later run was given up."""
    return _uid(["wetread line 1", "given up", str(line)])


def in_place_uid(of: Sequence[Uid], level: str) -> Uid:
    """The UID at `level` of what goes in place of the first of `of`, made with the others."""
    return _uid([_NAMESPACE, "in place", level, *map(str, of)])


def _uid(parts: Sequence[str]) -> Uid:
    number = int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:16], "big")
    number = (number & ~(0xF << 76)) | (0x8 << 76)  # version 8: made by a rule of our own
    number = (number & ~(0x3 << 62)) | (0x2 << 62)  # the RFC's variant
    return Uid.parse(f"2.25.{number}")
