"""The DETR family: a fixed number of queries, each an object or nothing, so there is no NMS.

Three exports are usual. D-FINE, DEIM, RT-DETR and their like give labels, boxes and scores, boxes in pixels of the size
that a second input says. Others give the network's own logits and boxes, cxcywh as fractions. Ultralytics gives both in
one output. Class scores are a sigmoid each, in the original DETR a softmax whose last class is "no object".
Sources: Carion et al., "End-to-End Object Detection with Transformers" (2020); Zhao et al., "DETRs Beat YOLOs on
Real-time Object Detection" (2023).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.engine import shapes_of
from engines.spec import HeadOptions, InputSpec
from pipeline.arrays import FloatArray
from pipeline.postprocess.cells import count
from pipeline.postprocess.heads.decoding import corners, logit, pick, sigmoid
from pipeline.postprocess.heads.evidence import has_sizes, scores_of, unit_of
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes
from pipeline.postprocess.heads.separate import Roles, SeparateOutputs

if TYPE_CHECKING:
    from engines.engine import Outputs

INPUT = InputSpec(colour="rgb", std=(255.0,) * 3, fit="stretch")
MOST_QUERIES = 1000
"""300 are usual, 100 in the original, 900 in DINO; detectors with cells or anchors have thousands of rows."""
STRIDES = (8, 16, 32)


class DETR(SeparateOutputs):
    """Reads labels, boxes and scores."""

    name = "detr"
    layout = "labels [1, queries], boxes [1, queries, 4] and scores [1, queries]"
    input = INPUT

    @classmethod
    def has_layout(cls, shapes: Shapes, roles: Roles) -> bool:
        """Whether every row counts, of which there are as many as queries."""
        shape = shapes[roles.boxes]
        return len(shape) == 3 and shape[0] == 1 and shape[1] <= MOST_QUERIES and roles.number is None


class DETRRaw(Head):
    """Decodes logits and boxes."""

    name = "detr-raw"
    layout = "class logits [1, queries, classes] and boxes [1, queries, 4] as fractions, cxcywh"
    input = INPUT
    needs_nms = False

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there are few rows and two outputs of them; `background` says that the last class is "no object"."""
        names = _logits_and_boxes(seen.shapes)
        if names is None:
            return None
        queries, columns = seen.shapes[names[0]][1:]
        background, kind = options.background, options.scores
        if background is None and seen.metadata.labels:
            background = columns == len(seen.metadata.labels) + 1
        if seen.outputs is not None:
            logits, boxes = (seen.outputs[name][0] for name in names)
            background = _ends_with_no_object(logits) if background is None else background
            kind = kind or scores_of(logits[:, : columns - background])
            is_ssd = kind == "probabilities" and np.allclose(logits.sum(axis=1), 1, atol=1e-2)
            if kind is None or is_ssd or (options.box_unit is None and unit_of(boxes) != "fractions"):
                return None
        filled = replace(
            options,
            box_order=options.box_order or "cxcywh",
            box_unit=options.box_unit or "fractions",
            scores=kind or "logits",
            background=bool(background),
        )
        how = "softmax, its last class is 'no object'" if background else "sigmoid"
        scores = "probabilities" if filled.scores == "probabilities" else f"logits ({how})"
        return Fit(filled, f"{queries} queries: {names[0]} are {columns} {scores}, {names[1]} are boxes")

    def class_count(self, shapes: Shapes) -> int:
        """Return columns, less the one for "no object"."""
        names = _logits_and_boxes(shapes)
        assert names is not None
        return shapes[names[0]][2] - int(self.options.background or False)

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the queries that found something."""
        names = _logits_and_boxes(shapes_of(outputs))
        assert names is not None
        values, boxes = (outputs[name][0] for name in names)
        if self.options.scores == "probabilities":
            scores = values
        elif self.options.background:
            scores = _softmax(values)[:, :-1]
        else:
            likely = values.max(axis=1, initial=-np.inf) > logit(confidence)
            scores, boxes = sigmoid(values[likely]), boxes[likely]
        rows, best, class_ids = pick(scores, confidence, multi_label=multi_label)
        return Found(corners(boxes[rows], self.options, size), best, class_ids)


class UltralyticsRTDETR(Head):
    """Decodes RT-DETR as Ultralytics exports it."""

    name = "rtdetr"
    layout = "one output [1, queries, 4 + classes]: boxes as fractions, cxcywh, and class scores"
    input = INPUT
    needs_nms = False

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there is one output with few rows, of no cells; values must be fractions and probabilities."""
        if len(seen.shapes) != 1:
            return None
        shape = next(iter(seen.shapes.values()))
        cells = sum(count(seen.size, stride) for stride in STRIDES)
        if (
            len(shape) != 3
            or shape[0] != 1
            or shape[1] > MOST_QUERIES
            or shape[2] < 5
            or shape[1] in (cells, 3 * cells)
        ):
            return None
        if seen.outputs is not None:
            rows = next(iter(seen.outputs.values()))[0]
            fractions = unit_of(rows[:, :4]) == "fractions" and has_sizes(rows[:, :4])
            if not fractions or scores_of(rows[:, 4:]) != "probabilities":
                return None
        filled = replace(options, box_order=options.box_order or "cxcywh", box_unit=options.box_unit or "fractions")
        why = f"one output {list(shape)}: {shape[1]} queries of a box as fractions and {shape[2] - 4} class scores"
        return Fit(filled, why, certain=seen.outputs is not None)

    def class_count(self, shapes: Shapes) -> int:
        """Return columns less the box."""
        return next(iter(shapes.values()))[2] - 4

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the queries that found something."""
        queries = next(iter(outputs.values()))[0]
        rows, best, class_ids = pick(queries[:, 4:], confidence, multi_label=multi_label)
        return Found(corners(queries[rows, :4], self.options, size), best, class_ids)


def _logits_and_boxes(shapes: Shapes) -> tuple[str, str] | None:
    """Return the names of both; other outputs (of inner layers) are left aside where those two have usual names."""
    named = [name for name in shapes if "logits" in name or "boxes" in name]
    pair = list(shapes) if len(shapes) == 2 else named
    if len(pair) != 2:
        return None
    first, second = pair
    logits, boxes = (second, first) if shapes[first][-1:] == (4,) and "logits" not in first else (first, second)
    rows = shapes[boxes][:-1]
    fits = len(shapes[logits]) == 3 and rows[:1] == (1,) and rows == shapes[logits][:-1] and rows[1] <= MOST_QUERIES
    return (logits, boxes) if fits and shapes[boxes][-1] == 4 else None


def _ends_with_no_object(logits: FloatArray) -> bool:
    """Whether the last class is the likeliest in most queries, and likely: no picture has an object for each."""
    if logits.shape[1] == 1 or scores_of(logits) == "probabilities":
        return False
    last = logits.argmax(axis=1) == logits.shape[1] - 1
    return bool((last & (logits[:, -1] > 0)).mean() > 0.5)


def _softmax(logits: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):  # a broken model's infinity
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
