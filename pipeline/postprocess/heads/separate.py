"""Boxes, scores and classes in outputs of their own, with the model's NMS done or needless: which output is which.

Names tell where they speak of boxes, scores, classes and a count; else integers are the classes. What differs between
the exporters, a batch or none, the order and unit of boxes, whether classes begin at 0, is said by the heads.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from engines.engine import shapes_of
from engines.spec import HeadOptions
from pipeline.postprocess.heads.decoding import corners
from pipeline.postprocess.heads.evidence import unit_of
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes

if TYPE_CHECKING:
    from typing import Any

    from engines.engine import Outputs
    from engines.spec import BoxUnit
    from pipeline.arrays import FloatArray

SCORES, CLASSES, COUNT = ("score", "conf", "prob"), ("class", "label", "cls", "categor"), ("num", "count")
"""What outputs are called, by a part of their names."""
LIKELY = 0.1
"""Boxes with this score show something, so their coordinates mean something."""


class Roles(NamedTuple):
    """Names of outputs."""

    boxes: str
    scores: str
    classes: str
    """Where names do not tell, this one and `scores` may have to change places."""
    named: bool
    number: str | None
    """Says how many rows count."""

    def read(self, outputs: Outputs) -> tuple[FloatArray, FloatArray, npt.NDArray[Any]]:
        """Return (N, 4) boxes, (N,) scores and (N,) classes of one picture."""
        scores, classes = outputs[self.scores], outputs[self.classes]
        if not self.named and scores.dtype.kind in "iu":
            scores, classes = classes, scores
        boxes, scores, classes = outputs[self.boxes].reshape(-1, 4), scores.reshape(-1), classes.reshape(-1)
        valid = len(boxes) if self.number is None else int(outputs[self.number].reshape(-1)[0])
        return boxes[:valid], scores[:valid], classes[:valid]

    def tell(self, outputs: Outputs) -> bool:
        """Whether names or types say which are scores and which classes."""
        kinds = [outputs[name].dtype.kind in "iu" for name in (self.scores, self.classes)]
        return self.named or sum(kinds) == 1


def roles_of(shapes: Shapes) -> Roles | None:
    """Return which output is which; None: it is not such a model."""
    boxes = [
        name for name, shape in shapes.items() if shape[-1:] == (4,) and len(shape) in (2, 3) and "raw" not in name
    ]
    if len(boxes) != 1:
        return None
    count = [name for name in shapes if _says(name, COUNT)]
    flat = [name for name, shape in shapes.items() if shape == shapes[boxes[0]][:-1] and name not in count]
    scores = [name for name in flat if _says(name, SCORES)]
    classes = [name for name in flat if _says(name, CLASSES) and name not in scores]
    if len(scores) == len(classes) == 1:
        return Roles(boxes[0], scores[0], classes[0], True, count[0] if count else None)
    if len(flat) == 2 and not scores and not classes:
        return Roles(boxes[0], flat[0], flat[1], False, count[0] if count else None)
    return None


class SeparateOutputs(Head):
    """Decodes boxes, scores and classes of outputs of their own."""

    needs_nms = False
    usual: ClassVar[HeadOptions] = HeadOptions(box_order="xyxy", box_unit="pixels", background=False)
    """What holds where neither values nor somebody says otherwise."""

    @classmethod
    @abstractmethod
    def has_layout(cls, shapes: Shapes, roles: Roles) -> bool:
        """Whether outputs of these shapes have this layout."""

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether the outputs are there; values say whether boxes are in pixels, and whether class 0 is in use."""
        roles = roles_of(seen.shapes)
        if roles is None or not cls.has_layout(seen.shapes, roles):
            return None
        unit, background = cls.usual.box_unit, cls.usual.background
        if seen.outputs is not None:
            if not roles.tell(seen.outputs):
                return None
            boxes, scores, classes = roles.read(seen.outputs)
            likely = scores > LIKELY
            unit = _unit(boxes[likely]) or unit
            background = background and not (classes[likely] == 0).any()
        filled = replace(
            options,
            box_order=options.box_order or cls.usual.box_order,
            box_unit=options.box_unit or unit,
            background=background if options.background is None else options.background,
        )
        used = {name for name in (roles.boxes, roles.scores, roles.classes, roles.number) if name is not None}
        others = "".join(f"; {name} is not used" for name in seen.shapes if name not in used)
        first = 1 if filled.background else 0
        why = (
            f"outputs {roles.boxes}, {roles.scores}, {roles.classes}{others}; boxes are {filled.box_order} in "
            f"{filled.box_unit}; the first class is {first}"
        )
        return Fit(filled, why)

    def class_count(self, shapes: Shapes) -> int:
        """Return 0: the outputs say the classes of what was found and not how many there are."""
        return 0

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return what the model found; classes that are none (the background, padding) are left out."""
        roles = roles_of(shapes_of(outputs))
        assert roles is not None
        boxes, scores, classes = roles.read(outputs)
        with np.errstate(invalid="ignore"):  # a broken model's NaN
            class_ids = classes.astype(np.int32) - int(self.options.background or False)
        chosen = np.flatnonzero((scores > confidence) & (class_ids >= 0))
        return Found(corners(boxes[chosen], self.options, size), scores[chosen].astype(np.float32), class_ids[chosen])


def _says(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name.lower() for word in words)


def _unit(boxes: FloatArray) -> BoxUnit | None:
    return unit_of(boxes) if len(boxes) else None
