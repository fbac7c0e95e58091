"""Known objects, written into the outputs of each layout; and heads' answers compared with them.

What is around the objects looks as it does in real outputs: boxes near their cells, an objectness near 0 with class
scores of any size, or class scores near 0 where there is no objectness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.spec import AnchorArithmetic, Anchors
from pipeline.postprocess.heads.found import Found

Array = npt.NDArray[Any]
Size = tuple[int, int]
FAINT = 0.005


@dataclass(frozen=True)
class Objects:
    """What is to be found."""

    rows: Array
    """Which row of the output each is in."""
    boxes: Array
    """cxcywh in pixels of the input."""
    scores: Array
    class_ids: Array

    @property
    def corners(self) -> Array:
        """xyxy."""
        return np.concatenate([self.boxes[:, :2] - self.boxes[:, 2:] / 2, self.boxes[:, :2] + self.boxes[:, 2:] / 2], 1)


def centres(size: Size, strides: tuple[int, ...] = (8, 16, 32), per_cell: int = 1) -> Array:
    """Return the middle of each row's cell; anchors change slower than cells, as in YOLOv5's output."""
    every = []
    for stride in strides:
        cells = [
            ((x + 0.5) * stride, (y + 0.5) * stride) for y in range(size[0] // stride) for x in range(size[1] // stride)
        ]
        every += cells * per_cell
    return np.array(every, np.float64)


def objects(middles: Array, classes: int, seed: int, number: int = 4) -> Objects:
    """Return objects in different rows, near their middles, with scores that all differ."""
    random = np.random.default_rng(seed)
    rows = random.choice(len(middles), number, replace=False)
    boxes = np.concatenate([middles[rows] + random.uniform(-3, 3, (number, 2)), random.uniform(8, 60, (number, 2))], 1)
    scores = 0.4 + 0.5 * random.permutation(number) / number
    return Objects(rows, boxes, scores, random.integers(0, classes, number))


def surroundings(middles: Array, seed: int) -> Array:
    """Return a box for every row, cxcywh."""
    random = np.random.default_rng(seed + 1)
    return np.concatenate([middles + random.uniform(-3, 3, middles.shape), random.uniform(4, 90, middles.shape)], 1)


def with_objectness(middles: Array, classes: int, what: Objects, seed: int) -> Array:
    """Return rows of box, objectness, class scores."""
    random = np.random.default_rng(seed + 2)
    faint = random.uniform(0, FAINT, (len(middles), 1))
    rows = np.concatenate([surroundings(middles, seed), faint, random.random((len(middles), classes))], 1)
    rows[what.rows, :4], rows[what.rows, 4], rows[what.rows, 5:] = what.boxes, 0.95, FAINT
    rows[what.rows, 5 + what.class_ids] = what.scores / 0.95
    return rows.astype(np.float32)


def without_objectness(middles: Array, classes: int, what: Objects, seed: int) -> Array:
    """Return rows of box, class scores."""
    random = np.random.default_rng(seed + 2)
    rows = np.concatenate([surroundings(middles, seed), random.uniform(0, FAINT, (len(middles), classes))], 1)
    rows[what.rows, :4] = what.boxes
    rows[what.rows, 4 + what.class_ids] = what.scores
    return rows.astype(np.float32)


def detections(what: Objects, number: int) -> Array:
    """Return rows of x1, y1, x2, y2, score, class; those that are not used are zeros."""
    rows = np.zeros((number, 6), np.float32)
    order = np.argsort(-what.scores)
    rows[: len(order)] = np.concatenate([what.corners, what.scores[:, None], what.class_ids[:, None]], 1)[order]
    return rows


def maps(
    size: Size, anchors: Anchors, strides: tuple[int, ...], classes: int, arithmetic: AnchorArithmetic, seed: int
) -> tuple[list[Array], Objects]:
    """Return raw maps (A, h, w, 5 + classes) and one object in each."""
    random = np.random.default_rng(seed)
    grids, boxes, scores, class_ids = [], [], [], []
    for number, (stride, each) in enumerate(zip(strides, anchors, strict=True)):
        height, width = size[0] // stride, size[1] // stride
        grid = random.normal(0, 1, (len(each), height, width, 5 + classes))
        grid[..., 4] -= 12
        anchor, y, x = random.integers(len(each)), random.integers(height), random.integers(width)
        inside, factor = random.uniform(0.1, 0.9, 2), random.uniform(0.3, 3, 2)
        score, class_id = 0.4 + 0.1 * number, int(random.integers(classes))
        if arithmetic == "yolov5":
            grid[anchor, y, x, :2], grid[anchor, y, x, 2:4] = logit((inside + 0.5) / 2), logit(np.sqrt(factor) / 2)
        else:
            grid[anchor, y, x, :2], grid[anchor, y, x, 2:4] = logit(inside), np.log(factor)
        grid[anchor, y, x, 4:] = -20
        grid[anchor, y, x, [4, 5 + class_id]] = logit(np.array([0.9, score / 0.9]))
        grids.append(grid.astype(np.float32))
        boxes.append([*((np.array([x, y]) + inside) * stride), *(np.array(each[anchor]) * factor)])
        scores.append(score)
        class_ids.append(class_id)
    return grids, Objects(np.arange(len(grids)), np.array(boxes), np.array(scores), np.array(class_ids))


def logit(probability: Array) -> Array:
    """Return what the sigmoid makes `probability` of."""
    return np.asarray(np.log(probability / (1 - probability)))


def check_found(found: Found, what: Objects) -> None:
    """Compare, whatever the order."""
    order, expected = np.argsort(found.scores), np.argsort(what.scores)
    np.testing.assert_allclose(found.scores[order], what.scores[expected], rtol=1e-4)
    np.testing.assert_array_equal(found.class_ids[order], what.class_ids[expected])
    np.testing.assert_allclose(found.boxes[order], what.corners[expected], rtol=1e-3, atol=0.02)
    assert [str(array.dtype) for array in (found.boxes, found.scores, found.class_ids)] == ["float32"] * 2 + ["int32"]
