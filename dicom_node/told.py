"""A process that is told its settings when it starts: JSON on standard input, never an argument, which every
user of the machine can read.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ledger.errors import SiteError

Told = TypeVar("Told", bound=BaseModel)


def run_told(settings: type[Told], serve: Callable[[Told], None]) -> int:
    """Have `serve` serve with what is told; the exit status of the process.

    2, with sentences on standard error, where the site has to change something first.
    """
    try:
        serve(settings.model_validate_json(sys.stdin.read()))
    except ValidationError as error:
        # Only places and rules: a value may be a password.
        for wrong in error.errors(include_url=False, include_input=False):
            print(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}", file=sys.stderr)  # noqa: T201
        return 2
    except SiteError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return 0
