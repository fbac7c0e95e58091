"""Raw feature maps with anchors: YOLOv3, v4, v5 and v7 before anything is decoded, two to four maps.

A map gives, for each cell and each of its anchors, x, y, w, h, objectness and class scores, all before the sigmoid. It
comes as [1, A * (5 + C), h, w] (Darknet), [1, A, h, w, 5 + C] (YOLOv5 and v7) or [1, h, w, A * (5 + C)] (TensorFlow).

- `yolov3`: centre = (sigmoid(xy) + cell) * stride, size = exp(wh) * anchor. Source: Redmon and Farhadi, "YOLOv3"
  (2018), section 2.1. YOLOv4 stretches the sigmoid by `scale_x_y` (1.05 to 1.2); that is left out, which moves a centre
  by a tenth of a cell at most (half of what exceeds 1).
- `yolov5`: centre = (2 * sigmoid(xy) - 0.5 + cell) * stride, size = (2 * sigmoid(wh))^2 * anchor. Source: Jocher et
  al., "YOLOv5" (2020).

Which sizes the anchors have, no map says: they come from the options or the file's metadata, else they are the
authors' for COCO, which is an assumption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.engine import shapes_of
from engines.spec import AnchorArithmetic, Anchors, HeadOptions, InputSpec, ScoreKind
from pipeline.postprocess.heads.decoding import logit, pick, sigmoid
from pipeline.postprocess.heads.evidence import is_for_boxes, scores_of
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes

if TYPE_CHECKING:
    from engines.engine import Outputs
    from pipeline.arrays import FloatArray

YOLOV3: Anchors = (
    ((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326))
)  # fmt: skip
YOLOV3_TINY: Anchors = (((10, 14), (23, 27), (37, 58)), ((81, 82), (135, 169), (344, 319)))
YOLOV5_P6: Anchors = (
    ((19, 27), (44, 40), (38, 94)), ((96, 68), (86, 152), (180, 137)),
    ((140, 301), (303, 264), (238, 542)), ((436, 615), (739, 380), (925, 792)),
)  # fmt: skip
USUAL = {(8, 16, 32): (YOLOV3, "YOLOv3 and v5"), (16, 32): (YOLOV3_TINY, "YOLOv3-tiny"),
         (8, 16, 32, 64): (YOLOV5_P6, "YOLOv5 and v7 P6")}  # fmt: skip
"""Anchors on COCO by the strides of the maps, and whose they are. Those of YOLOv4, v4-tiny and v7 differ and must be
said: nothing in the shapes tells them from these."""
PER_CELL = 3
"""Anchors of a cell, where nobody says."""
BOX, OBJECTNESS, CLASSES = slice(0, 4), 4, 5
STRIDES = (4, 8, 16, 32, 64, 128)
MOST_OBJECTS = 0.25
"""Share of a map that may be objects: a raw map is sure of nothing nearly everywhere."""


@dataclass(frozen=True)
class FeatureMap:
    """How one output is laid out."""

    output: str
    stride: int
    anchors: int
    values: int
    """5 + classes."""
    axes: str
    """`channels first`, `anchors apart` or `channels last`."""

    def grid(self, outputs: Outputs) -> FloatArray:
        """Return a view (A, h, w, values)."""
        array: FloatArray = outputs[self.output][0]
        if self.axes == "anchors apart":
            return array
        if self.axes == "channels last":
            last: FloatArray = array.reshape(*array.shape[:2], self.anchors, self.values).transpose(2, 0, 1, 3)
            return last
        first: FloatArray = array.reshape(self.anchors, self.values, *array.shape[1:]).transpose(0, 2, 3, 1)
        return first


class AnchorMaps(Head):
    """Decodes raw feature maps."""

    name = "anchors"
    layout = "two to four raw maps [1, A * (5 + classes), h, w], [1, A, h, w, 5 + classes] or channels last (YOLOv3-v7)"
    input = InputSpec(colour="rgb", std=(255.0,) * 3, fit="letterbox-centre", pad=114)

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether all outputs are such maps, and there are anchors for each."""
        anchors = options.anchors or seen.metadata.anchors
        maps = maps_of(seen.shapes, seen.size, anchors)
        strides = tuple(each.stride for each in maps)
        if not maps or not is_for_boxes(seen.metadata) or (anchors is None and strides not in USUAL):
            return None
        scores: ScoreKind | None = options.scores or "logits"
        if seen.outputs is not None:
            scores = _scores(maps, seen.outputs, options.scores)
        if scores is None:
            return None
        arithmetic = (
            options.arithmetic or seen.metadata.arithmetic or _arithmetic(seen, maps, scores == "probabilities")
        )
        why = _why(seen, maps, anchors, arithmetic)
        anchors = anchors or USUAL[strides][0]
        return Fit(replace(options, anchors=anchors, arithmetic=arithmetic, scores=scores), why)

    def class_count(self, shapes: Shapes) -> int:
        """Return values of an anchor less box and objectness."""
        shapes_of_maps = sorted(shapes.values(), key=math.prod)
        shape, per_cell = shapes_of_maps[-1], len((self.options.anchors or YOLOV3)[0])
        if len(shape) == 5:
            return shape[-1] - CLASSES
        coarse = shapes_of_maps[0]
        channels = shape[1] if shape[1] == coarse[1] else shape[3]  # the axis that is as long in every map
        return channels // per_cell - CLASSES

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the candidates; score = objectness x class score."""
        shapes = shapes_of(outputs)
        maps = maps_of(shapes, size, self.options.anchors)
        found = [
            self._decode(each.grid(outputs), each.stride, np.array(anchors, np.float32), confidence, multi_label)
            for each, anchors in zip(maps, self.options.anchors or (), strict=True)
        ]
        boxes, scores, class_ids = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Found(boxes, scores, class_ids)

    def _decode(
        self, grid: FloatArray, stride: int, anchors: FloatArray, confidence: float, multi_label: bool
    ) -> tuple[Any, ...]:
        """Return boxes, scores and classes of one map."""
        is_raw = self.options.scores != "probabilities"
        likely = np.nonzero(grid[..., OBJECTNESS] > (logit(confidence) if is_raw else confidence))
        rows = grid[likely]
        values = sigmoid(rows) if is_raw else rows
        scores = values[:, OBJECTNESS, None] * values[:, CLASSES:]
        chosen, best, class_ids = pick(scores, confidence, multi_label=multi_label)
        anchor, y, x = (places[chosen] for places in likely)
        corner = np.stack([x, y], axis=1)
        if self.options.arithmetic == "yolov5":
            centres = (2 * values[chosen, :2] - 0.5 + corner) * stride
            sides = (2 * values[chosen, 2:4]) ** 2 * anchors[anchor]
        else:
            centres = (values[chosen, :2] + corner) * stride
            with np.errstate(over="ignore"):  # a broken model's exp() may be infinite; NMS drops what is not finite
                sides = np.exp(rows[chosen, 2:4]) * anchors[anchor]
        boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
        return boxes.astype(np.float32), best, class_ids


def maps_of(shapes: Shapes, size: tuple[int, int], anchors: Anchors | None) -> tuple[FeatureMap, ...]:
    """Return how outputs of these shapes are laid out as raw maps, the finest first; empty: they are none.

    Args:
        shapes: of all outputs.
        size: height and width of the input, multiples of every stride.
        anchors: for each map, the finest first; None: three each.
    """
    placed = [(name, shape, *place) for name, shape in shapes.items() if (place := _place(shape, size)) is not None]
    if not 2 <= len(shapes) <= 4 or len(placed) != len(shapes) or len(anchors or shapes) != len(shapes):
        return ()
    placed.sort(key=lambda each: each[2])
    maps = []
    for number, (name, shape, stride, axes) in enumerate(placed):
        per_cell = PER_CELL if anchors is None else len(anchors[number])
        channels = shape[1] * shape[4] if axes == "anchors apart" else shape[1 if axes == "channels first" else 3]
        if channels % per_cell or (axes == "anchors apart" and shape[1] != per_cell):
            return ()
        maps.append(FeatureMap(name, stride, per_cell, channels // per_cell, axes))
    alike = len({(each.values, each.axes) for each in maps}) == 1
    return (
        tuple(maps) if alike and len({each.stride for each in maps}) == len(maps) and maps[0].values > CLASSES else ()
    )


def _place(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, str] | None:
    """Return stride and order of axes of one map."""
    grids: dict[str, tuple[int, ...]] = {}
    if len(shape) == 5:
        grids = {"anchors apart": shape[2:4]}
    elif len(shape) == 4:
        grids = {"channels first": shape[2:4], "channels last": shape[1:3]}
    for axes, grid in grids.items():
        for stride in STRIDES:
            if shape[0] == 1 and tuple(side * stride for side in grid) == size:
                return stride, axes
    return None


def _why(seen: Seen, maps: tuple[FeatureMap, ...], anchors: Anchors | None, arithmetic: AnchorArithmetic) -> str:
    strides = tuple(each.stride for each in maps)
    shapes = ", ".join(str(list(seen.shapes[each.output])) for each in maps)
    whose = "" if anchors is not None else f"; anchors taken to be those of {USUAL[strides][1]} on COCO"
    rule = "YOLOv5" if arithmetic == "yolov5" else "YOLOv3 (of v4 without scale_x_y)"
    return (
        f"{len(maps)} maps {shapes}: {maps[0].anchors} anchors of {maps[0].values} values for each cell of strides "
        f"{', '.join(map(str, strides))}{whose}; the arithmetic of {rule}"
    )


def _scores(maps: tuple[FeatureMap, ...], outputs: Outputs, said: ScoreKind | None) -> ScoreKind | None:
    """Return what the scores are; None: there are too many objects for raw maps."""
    each = [each.grid(outputs)[..., OBJECTNESS:].reshape(-1, each.values - OBJECTNESS) for each in maps]
    scores = np.concatenate(each)
    kind = said or ("probabilities" if scores_of(scores) == "probabilities" else "logits")
    objects = scores[:, 0] > (0.5 if kind == "probabilities" else 0)
    return kind if objects.mean() < MOST_OBJECTS else None


def _arithmetic(seen: Seen, maps: tuple[FeatureMap, ...], has_sigmoid: bool) -> AnchorArithmetic:
    """Return what exports of that layout usually have.

    YOLOv5 and v7 keep anchors apart, and only they put sizes through a sigmoid, too; four maps are theirs.
    """
    if maps[0].axes == "anchors apart" or len(maps) == 4:
        return "yolov5"
    if has_sigmoid and seen.outputs is not None:
        sizes = np.concatenate([each.grid(seen.outputs)[..., 2:4].ravel() for each in maps])
        return "yolov5" if sizes.min() >= 0 and sizes.max() <= 1 else "yolov3"
    return "yolov3"
