"""What tests of more than one part of the house use."""

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture
def journal_as_before() -> Iterator[None]:
    """What the test configures of the journal is undone: else later tests would write where nobody reads."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()
