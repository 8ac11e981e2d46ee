"""Every runtime does every task as the library does that its network was made with."""

import importlib
import os
from pathlib import Path

import pytest

from ledger.job import Outcome
from models.contract import Context
from models.registry import RUNTIMES
from tests.models.making import package_of
from tests.models.matrix import ROWS, WRITERS, Row, given, seeded

DEVICE = os.environ.get("WETREAD_TEST_DEVICE", "cpu")


@pytest.mark.parametrize(("ending", "runtime"), WRITERS, ids=[ending for ending, _ in WRITERS])
@pytest.mark.parametrize("row", ROWS, ids=[row.task for row in ROWS])
def test_a_runtime_says_what_the_library_says(tmp_path: Path, row: Row, ending: str, runtime: str) -> None:
    net = seeded(row.make)
    more = WRITERS[ending, runtime](row, net, tmp_path)
    package = package_of(tmp_path, runtime, row.task, options=row.options | more)
    model = getattr(importlib.import_module(f"models.runtimes.{runtime}"), RUNTIMES[runtime][0])(package)
    model.load(DEVICE)
    findings = model.run(given(), Context())
    model.unload()
    assert findings.outcome is Outcome.FOUND
    assert row.distance(findings, net, given()) <= row.tolerance
