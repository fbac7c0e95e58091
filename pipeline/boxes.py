"""What is done to boxes whatever they show: (N, 4) xyxy in frame pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.arrays import FloatArray

Float = TypeVar("Float", np.float32, np.float64)
BOX_DECIMALS = 2
"""Of pixels, where they are written."""


def rounded(box: Iterable[float]) -> list[float]:
    """Return a box as it is written."""
    return [round(edge, BOX_DECIMALS) for edge in box]


def centres(boxes: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """Return the (N, 2) centres of (N, 4) boxes."""
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2, boxes.dtype)


def clip_boxes(boxes: FloatArray, width: int, height: int) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Cut boxes at the frame's edges; return the (N, 4) cut ones, and (N,) which have something left inside."""
    cut = boxes.copy()
    cut[:, 0::2] = boxes[:, 0::2].clip(0, width)
    cut[:, 1::2] = boxes[:, 1::2].clip(0, height)
    return cut, (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
