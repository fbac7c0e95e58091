"""Output layouts of detectors, one file each; `choose` finds the one that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.errors import UnknownHead
from pipeline.postprocess.heads.head import Head
from pipeline.postprocess.heads.yolox import YOLOX

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADS: tuple[Head, ...] = (YOLOX(),)


def choose(name: str | None, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> Head:
    """Return the head called `name`, or with None the one whose layout fits the outputs.

    Args:
        name: from the model's spec.
        shapes: the model's outputs.
        size: height and width of its input.

    Raises:
        UnknownHead: no head fits; the message lists the outputs seen and the layouts known.
    """
    for head in HEADS:
        if name in (None, head.name) and head.matches(shapes, size):
            return head
    seen = ", ".join(f"{output} {list(shape)}" for output, shape in shapes.items())
    known = "; ".join(f"{head.name}: {head.layout}" for head in HEADS)
    asked = "" if name is None else f"the head {name!r} was asked for, "
    raise UnknownHead(
        f"the model is no detector that can be read: {asked}for input {size[0]}x{size[1]} it gives {seen}. "
        f"Known: {known}"
    )
