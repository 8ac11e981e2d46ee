"""
The process that makes the report of a run that was given up: `python -m worker.stand_in_process`.

It reads an order as JSON from standard input, and the header of one image; it writes one file into a folder
of its own, and answers with what that is. Foreign data may do with it what they like: it has a limit of
memory and of processor time, no credentials, and whoever asked goes on without it.
"""

import ctypes
import hashlib
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pydicom

from ledger.errors import StudyError
from ledger.identifiers import Uid
from ledger.implementation import software_version
from ledger.profile import DEFAULT
from ledger.result import Role
from results.asked import Asked
from results.findings import refused
from results.provenance import MANUFACTURER, Provenance, Run
from results.source import Source
from results.uids import unknown_device_uid
from worker.encode import check, encode
from worker.exchange import ResultFile
from worker.load import load_source

_MEMORY_BYTES = 4 << 30  # Addresses, of which numpy and highdicom reserve most.
_FILE_BYTES = 16 << 20
_PROCESSOR_S = 50
_PR_SET_NO_NEW_PRIVS = 38  # prctl(2)
#: There is nothing to show, and nothing but headers to show it on.
_REPORT_ONLY = replace(DEFAULT, kinds=frozenset({Role.REPORT}))


def main() -> None:
    """Answer one order."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_S, _PROCESSOR_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A core dump holds the patient's images.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    print(stand_in(json.loads(sys.stdin.buffer.read())).model_dump_json())  # noqa: T201


def stand_in(order: Mapping[str, Any]) -> ResultFile:
    """The report that `order` asks for, written and read back. Raises `StudyError` and `OSError`."""
    source = _source([Path(path) for path in order["paths"]])
    run = Run(
        provenance=_provenance(order),
        series=Uid.parse(str(source.first.SeriesInstanceUID)),
        inputs=tuple(Uid.parse(uid) for uid in order["inputs"]),
        at=datetime.fromtimestamp(order["at"], ZoneInfo(order["time_zone"])),
        software_version=software_version(),
    )
    asked = Asked(findings=refused(order["because"]), source=source, run=run, profile=_REPORT_ONLY)
    (files,) = encode([asked], Path(order["out"]))
    check(asked, files)
    (report,) = files
    return report


def _source(paths: Sequence[Path]) -> Source:
    """The first image whose headers can be read."""
    for path in paths[:-1]:
        try:
            return load_source([path])
        except (StudyError, OSError):
            continue
    return load_source(paths[-1:])


def _provenance(order: Mapping[str, Any]) -> Provenance:
    """What is known of a model that was not opened: what its rule calls it."""
    return Provenance(
        name=order["model"],
        version=order["version"] or "unknown",
        device_uid=unknown_device_uid(order["model"], order["version"]),
        source=MANUFACTURER,
        code_digest=None,
        # Why it was given up stands in the report, and so in its UIDs.
        settings={
            **order["settings"],
            "given up": hashlib.sha256(order["because"].encode()).hexdigest()[:16],
        },
    )


if __name__ == "__main__":
    main()
