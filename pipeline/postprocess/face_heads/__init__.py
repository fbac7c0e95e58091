"""Output layouts of face finders, one file each; `choose` finds the one that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.postprocess.face_heads.centerface import CenterFace
from pipeline.postprocess.face_heads.head import FaceHead
from pipeline.postprocess.face_heads.scrfd import SCRFD
from pipeline.postprocess.face_heads.yolo_face import YOLOv5Face, YOLOv8Face
from pipeline.postprocess.face_heads.yunet import YuNet
from pipeline.postprocess.layouts import choose_head

if TYPE_CHECKING:
    from collections.abc import Mapping

FACE_HEADS: tuple[FaceHead, ...] = (CenterFace(), YuNet(), SCRFD(), YOLOv5Face(), YOLOv8Face())


def choose(name: str | None, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> FaceHead:
    """Return the head that reads outputs of these shapes; see `choose_head`."""
    return choose_head(FACE_HEADS, name, shapes, size, "face finder")
