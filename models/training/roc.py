"""How well a score tells two kinds apart."""

import numpy as np
from numpy.typing import NDArray


def auc(
    label: NDArray[np.generic], score: NDArray[np.floating], weight: NDArray[np.float64] | None = None
) -> float:
    """Area under the ROC curve, ties counted half; `label` is 1 or 0, and each counts by its `weight`."""
    order = np.unique(score, return_inverse=True)[1]
    each = np.ones(len(label)) if weight is None else weight
    ill, well = (np.bincount(order, each * (label == one), order.max() + 1) for one in (1, 0))
    return float((ill * (np.cumsum(well) - well / 2)).sum() / (ill.sum() * well.sum()))
