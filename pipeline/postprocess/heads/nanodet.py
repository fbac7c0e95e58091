"""NanoDet-Plus: one output [1, cells, classes + 4 x 8], rows in the order of strides 8, 16, 32, 64, row by row.

A row holds class scores, already 0..1, and for each side of the box a distribution over distances of 0 to 7 strides
from the cell's corner: its mean, after a softmax, is the distance. An edge that is not a multiple of a stride ends in a
cell of its own. Source: Li et al., "Generalized Focal Loss" (2020), section 3.2; RangiLyu's NanoDet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.spec import HeadOptions, InputSpec
from pipeline.arrays import FloatArray
from pipeline.postprocess.cells import cells
from pipeline.postprocess.heads.decoding import pick
from pipeline.postprocess.heads.evidence import scores_of
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes

if TYPE_CHECKING:
    from engines.engine import Outputs

STRIDES = (8, 16, 32, 64)
BINS = 8
"""Distances 0..7, as all published models have them."""


class NanoDet(Head):
    """Decodes NanoDet-Plus."""

    name = "nanodet"
    layout = "one output [1, cells of strides 8, 16, 32, 64, classes + 32]"
    input = InputSpec(colour="bgr", mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395), fit="stretch")

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there is one output with a row per cell; values must be probabilities, then any."""
        if len(seen.shapes) != 1:
            return None
        shape = next(iter(seen.shapes.values()))
        classes = shape[-1] - 4 * BINS
        if len(shape) != 3 or shape[0] != 1 or shape[1] != len(_cells(seen.size)[0]) or classes < 1:
            return None
        if seen.outputs is not None and not _by_values(next(iter(seen.outputs.values()))[0], classes):
            return None
        why = f"one output {list(shape)}: {classes} class scores and 4 x {BINS} values for each of the {shape[1]} cells"
        return Fit(replace(options, scores="probabilities"), why)

    def class_count(self, shapes: Shapes) -> int:
        """Return columns less the distances."""
        return next(iter(shapes.values()))[2] - 4 * BINS

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the candidates; distances are computed for those alone."""
        rows = next(iter(outputs.values()))[0]
        places, scores, class_ids = pick(rows[:, : -4 * BINS], confidence, multi_label=multi_label)
        corners, strides = _cells(size)
        distances = _means(rows[places, -4 * BINS :].reshape(-1, 4, BINS)) * [-1, -1, 1, 1]
        boxes = (np.tile(corners[places], 2) + distances) * strides[places]
        return Found(boxes.astype(np.float32), scores, class_ids)


def _by_values(rows: FloatArray, classes: int) -> bool:
    """Whether class scores are probabilities and what distances come from is not: boxes as fractions look alike."""
    return scores_of(rows[:, :classes]) == "probabilities" and scores_of(rows[:, classes:]) != "probabilities"


def _cells(size: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    levels = [cells((_up(size[0], stride), _up(size[1], stride)), (stride,)) for stride in STRIDES]
    return np.concatenate([each[0] for each in levels]), np.concatenate([each[1] for each in levels])


def _up(length: int, stride: int) -> int:
    return -(-length // stride) * stride


def _means(logits: FloatArray) -> FloatArray:
    """Return the mean of each distribution over 0, 1, 2, ... along the last axis."""
    with np.errstate(invalid="ignore"):  # a broken model's infinity
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray((powers * np.arange(logits.shape[-1], dtype=np.float32)).sum(axis=-1) / powers.sum(axis=-1))
