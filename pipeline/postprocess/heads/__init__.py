"""Output layouts of detectors, one file each; `choose` finds the one that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engines.spec import HeadOptions
from pipeline.postprocess.heads.head import Head, Seen
from pipeline.postprocess.heads.yolox import YOLOX
from pipeline.postprocess.layouts import no_head

if TYPE_CHECKING:
    from engines.engine import Candidates, Outputs
    from engines.spec import ModelSpec

HEADS: tuple[type[Head], ...] = (YOLOX,)
"""In the order in which they are asked: the ones that say most exactly what they are come first."""


class Chosen(NamedTuple):
    """The head that reads a model, and why it was taken for that."""

    head: Head
    why: str


def candidates(spec: ModelSpec) -> Candidates | None:
    """Return what of the outputs of a model is worth copying back from a GPU; None: all."""
    known = {head.name: head for head in HEADS}
    return known[spec.head](spec.head_options).candidates if spec.head in known else None


def head_of(spec: ModelSpec, outputs: Outputs, size: tuple[int, int]) -> Head:
    """Return the head of a model whose spec is complete.

    Raises:
        UnknownHead: the outputs are not what its spec says.
    """
    shapes = {name: array.shape for name, array in outputs.items()}
    return choose(spec.head, Seen(shapes, size), spec.head_options).head


def choose(name: str | None, seen: Seen, options: HeadOptions | None = None) -> Chosen:
    """Return the head called `name`, or with None the first whose layout fits what was seen.

    Raises:
        UnknownHead: no head fits; the message lists the outputs seen and the layouts known.
    """
    for head in HEADS:
        if name in (None, head.name) and (fit := head.fit(seen, options or HeadOptions())) is not None:
            return Chosen(head(fit.options), fit.why)
    raise no_head(HEADS, name, seen.shapes, seen.size, "detector")
