"""YOLOv8, 9, 11, 12 and what is exported like them: one output [1, 4 + classes, N], or transposed [1, N, 4 + classes].

Each of N cells has a box, decoded, and its class scores; there is no objectness. Boxes are centre and size in pixels of
the input unless values or options say something else. Source: Jocher et al., "Ultralytics YOLOv8" (2023).

Which of the two axes counts the cells is told by the size of the input, or else by their lengths: see `rows`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.spec import HeadOptions, InputSpec
from pipeline.postprocess.heads.decoding import corners, logit, pick, sigmoid, with_usual
from pipeline.postprocess.heads.evidence import has_objectness, is_for_boxes, scores_of, with_boxes
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes
from pipeline.postprocess.heads.rows import in_words, is_transposed, levels_of, only, planes_of, rows_of, values_of

if TYPE_CHECKING:
    from engines.engine import Outputs
    from pipeline.arrays import FloatArray

BOX = 4


class YOLOv8(Head):
    """Decodes boxes and class scores without an objectness."""

    name = "yolov8"
    layout = "one output [1, 4 + classes, N] or [1, N, 4 + classes], boxes decoded (YOLOv8, 9, 11, 12)"
    input = InputSpec(colour="rgb", std=(255.0,) * 3, fit="letterbox-centre", pad=114)

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there is one output of boxes and class scores, and no objectness among them."""
        shape = only(seen.shapes)
        if shape is None or min(shape[1:]) <= BOX or not is_for_boxes(seen.metadata):
            return None
        sides = shape[1], shape[2]
        transposed = is_transposed(sides, seen.size)
        if _named_the_other_way(sides, seen):
            return None
        found: HeadOptions | None = options
        if seen.outputs is not None:
            planes = planes_of(rows_of(seen.outputs), seen.size)
            told = len(seen.metadata.labels) == len(planes) - BOX
            if transposed and not told and len(planes) > BOX + 1 and has_objectness(planes[BOX:].T):
                return None
            found = _by_values(planes, options)
        return None if found is None else _fit(shape, seen.size, with_usual(found))

    def class_count(self, shapes: Shapes) -> int:
        """Return values per cell less the box."""
        shape = only(shapes)
        return 0 if shape is None else values_of((shape[1], shape[2]), self.size) - BOX

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the candidates: those with no class above `confidence` are left out before anything else is done."""
        planes = planes_of(rows_of(outputs), size)
        logits = self.options.scores == "logits"
        least = logit(confidence) if logits else confidence
        likely = planes[:, np.flatnonzero(planes[BOX:].max(axis=0) > least)].T
        scores = sigmoid(likely[:, BOX:]) if logits else likely[:, BOX:]
        chosen, best, class_ids = pick(scores, confidence, multi_label=multi_label)
        return Found(corners(likely[chosen, :BOX], self.options, size), best, class_ids)


def _named_the_other_way(sides: tuple[int, int], seen: Seen) -> bool:
    """Whether the file names as many classes as there would be if the other axis counted the cells.

    Neither is then as long as there are cells, and a run, which knows no more than shapes, would misread it.
    """
    values, names = values_of(sides, seen.size), len(seen.metadata.labels)
    return bool(names) and names != values - BOX and names == sum(sides) - values - BOX


def _by_values(planes: FloatArray, options: HeadOptions) -> HeadOptions | None:
    kind = options.scores or scores_of(planes[BOX:].T)
    return None if kind is None else with_boxes(planes[:BOX].T, replace(options, scores=kind))


def _fit(shape: tuple[int, ...], size: tuple[int, int], options: HeadOptions) -> Fit:
    values = values_of((shape[1], shape[2]), size)
    number, classes = sum(shape[1:]) - values, values - BOX
    words = f"one output {list(shape)}: box and {classes} class scores for each of"
    if strides := levels_of(number, size):
        return Fit(options, f"{words} the {number} {in_words(strides)}")
    return Fit(options, f"{words} {number} candidates", certain=False)
