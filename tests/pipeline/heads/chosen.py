"""Choosing a head as a run does: once by the values of a picture, then by shapes and the options found."""

from __future__ import annotations

from engines.metadata import Metadata
from engines.spec import HeadOptions
from pipeline.postprocess import heads
from pipeline.postprocess.heads.head import Head, Seen
from tests.pipeline.heads.encoded import Array, Size


def chosen(
    outputs: dict[str, Array],
    size: Size,
    name: str | None = None,
    metadata: Metadata | None = None,
    options: HeadOptions | None = None,
) -> Head:
    """Return the head that a run reads later pictures with."""
    shapes = {output: array.shape for output, array in outputs.items()}
    first = heads.choose(name, Seen(shapes, size, outputs, metadata or Metadata()), options).head
    later = heads.choose(first.name, Seen(shapes, size), first.options).head
    assert later.options == first.options
    return later
