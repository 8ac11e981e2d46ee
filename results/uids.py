"""
UIDs that derive from what a result is made of, so that doing it twice is doing it once.

The same model, settings and input set, received at the same time, give the same series and the same instance,
whoever computes and whenever: an archive that is sent a result again keeps one copy. And whatever else can
change a byte is part of the UID, so equal UIDs are equal bytes. Series UIDs derive too, for there are archives
that keep two copies of an instance if only its series differs.
"""

import hashlib
import json

from ledger.identifiers import Uid
from results.provenance import Run

_NAMESPACE = "wetread result 1"


def derived_uid(run: Run, role: str, level: str) -> Uid:
    """The UID that `run` gives to its `role` ("segmentation") at `level` ("series", "instance" …).

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
    number = int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:16], "big")
    number = (number & ~(0xF << 76)) | (0x8 << 76)  # version 8: made by a rule of our own
    number = (number & ~(0x3 << 62)) | (0x2 << 62)  # the RFC's variant
    return Uid.parse(f"2.25.{number}")
