"""The grid cells that detectors without anchors predict from: where each is, and how large."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pipeline.arrays import FloatArray


@lru_cache(maxsize=64)
def cells(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Lay out the cells of an input, stride by stride, row by row; cached, so do not write to the arrays.

    Args:
        size: height and width of the model's input.
        strides: side of a cell in pixels, for each level.

    Returns:
        (cells, 2) x and y of each cell in units of its stride, and (cells, 1) strides.
    """
    corners, sides = [], []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        corners.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        sides.append(np.full((x.size, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(sides).astype(np.float32)


def count(size: tuple[int, int], stride: int) -> int:
    """Return how many cells of one stride an input of `size` (height, width) has."""
    return (size[0] // stride) * (size[1] // stride)
