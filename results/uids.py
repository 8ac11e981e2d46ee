"""
UIDs that derive from what a result is made of, so that doing it twice is doing it once.

The same model, settings and input set give the same series and the same instance, whoever computes and
whenever: an archive that is sent a result again keeps one copy. Series UIDs derive too, for there are
archives that keep two copies of an instance if only its series differs.
"""

import hashlib
import json

from ledger.identifiers import Uid
from results.provenance import Run

_NAMESPACE = "wetread result 1"


def derived_uid(run: Run, role: str, level: str) -> Uid:
    """The UID that `run` gives to its `role` ("segmentation") at `level` ("series", "instance" …).

    2.25 and an integer of 128 bits (PS3.5 §B.2), of which RFC 9562 fixes six: it is a UUID of version 8.
    Neither the run's time nor the version of Wetread is part of it: a rerun replaces, it does not double.
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
        *sorted(str(uid) for uid in run.inputs),
    ]
    number = int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:16], "big")
    number = (number & ~(0xF << 76)) | (0x8 << 76)  # version 8: made by a rule of our own
    number = (number & ~(0x3 << 62)) | (0x2 << 62)  # the RFC's variant
    return Uid.parse(f"2.25.{number}")
