"""How two masks are compared."""

import numpy as np
from numpy.typing import NDArray


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Twice the overlap over the sum: 1 is the same."""
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))
