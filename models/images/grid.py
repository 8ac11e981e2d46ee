"""A single image on a coarser grid, and masks back on its own."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Plane: TypeAlias = NDArray[np.float32]  #: (row, column), or (row, column, 3)
Mask: TypeAlias = NDArray[np.bool_]  #: (row, column)


def reduced(image: Plane, factor: int) -> Plane:
    """Means over squares of `factor` x `factor` pixels; rows and columns that do not fill one are left
    out.
    """
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    cut = image[: rows * factor, : columns * factor]
    blocks = cut.reshape(rows, factor, columns, factor, *image.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64), np.float32)


def enlarged(mask: NDArray[Any], factor: int, shape: tuple[int, int]) -> NDArray[Any]:
    """What `reduced` left, on the image's own grid of `shape`: each pixel has the value of its square, and
    the rows and columns that filled none that of the nearest.
    """
    rows = np.minimum(np.arange(shape[0]) // factor, mask.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // factor, mask.shape[1] - 1)
    return np.asarray(mask[rows[:, None], columns[None, :]])
