"""How long tests wait for what must come: one place, for machines that are slower than ours.

A limit in a test is written as what a quiet machine needs, with room to spare; `patient` makes of it what a
machine may take that has a sixth of that speed because it does other work. Nobody waits so long who is not
about to fail. Where the product's own limits have nothing to do with what a test claims, they take the same.
"""

import os

#: A machine slower still sets its own.
SLOWER = float(os.environ.get("WETREAD_TESTS_SLOWER", "8"))


def patient(limit: float) -> float:
    """`limit`, in whatever unit of time, on the slowest machine that these tests are to pass on."""
    return limit * SLOWER
