"""Output layouts of detectors, one file each; `choose` finds the one that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.postprocess.heads.head import Head
from pipeline.postprocess.heads.yolox import YOLOX
from pipeline.postprocess.layouts import choose_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.engine import Candidates

HEADS: tuple[Head, ...] = (YOLOX(),)


def candidates(name: str | None) -> Candidates | None:
    """Return what of the outputs of a model with this head is worth copying back from a GPU; None: all."""
    return next((head.candidates for head in HEADS if head.name == name), None)


def choose(name: str | None, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> Head:
    """Return the head that reads outputs of these shapes; see `choose_head`."""
    return choose_head(HEADS, name, shapes, size, "detector")
