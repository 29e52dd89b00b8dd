"""Entries of tables whose rows are classes (see `menus`), looked up many at once."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Number = TypeVar("Number", np.float64, np.int64)


def entries(table: NDArray[Number], classes: IntArray, candidates: IntArray) -> NDArray[Number]:
    """`table[classes, candidates]`, for which NumPy takes three times as long."""
    return np.asarray(table.reshape(-1).take(classes * table.shape[1] + candidates))


def bisect(table: NDArray[Any], rows: IntArray, values: NDArray[Any]) -> IntArray:
    """How many entries of these rows of an ascending table are up to these values."""
    width = table.shape[1]
    flat, start = table.reshape(-1), rows * width - 1
    count = np.zeros(len(rows), dtype=np.int64)
    for power in range(width.bit_length() - 1, -1, -1):
        longer = np.minimum(count + (1 << power), width)
        count = np.where(flat[start + longer] <= values, longer, count)
    return count
