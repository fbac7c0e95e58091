"""Output layouts of face finders, one file each; `choose` finds the one that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.errors import UnknownHead
from pipeline.postprocess.face_heads.centerface import CenterFace
from pipeline.postprocess.face_heads.head import FaceHead
from pipeline.postprocess.face_heads.scrfd import SCRFD
from pipeline.postprocess.face_heads.yolo_face import YOLOv5Face, YOLOv8Face
from pipeline.postprocess.face_heads.yunet import YuNet

if TYPE_CHECKING:
    from collections.abc import Mapping

FACE_HEADS: tuple[FaceHead, ...] = (CenterFace(), YuNet(), SCRFD(), YOLOv5Face(), YOLOv8Face())


def choose(name: str | None, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> FaceHead:
    """Return the head called `name`, or with None the one whose layout fits the outputs.

    Args:
        name: from the model's spec.
        shapes: the model's outputs.
        size: height and width of its input.

    Raises:
        UnknownHead: no head fits; the message lists the outputs seen and the layouts known.
    """
    for head in FACE_HEADS:
        if name in (None, head.name) and head.matches(shapes, size):
            return head
    seen = ", ".join(f"{output} {list(shape)}" for output, shape in shapes.items())
    known = "; ".join(f"{head.name}: {head.layout}" for head in FACE_HEADS)
    asked = "" if name is None else f"the head {name!r} was asked for, "
    raise UnknownHead(
        f"the model is no face finder that can be read: {asked}for input {size[0]}x{size[1]} it gives {seen}. "
        f"Known: {known}"
    )
