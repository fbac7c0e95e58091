"""Output layouts of detectors, one file each; `choose` finds the one that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engines.engine import shapes_of
from engines.errors import UnknownHead
from engines.spec import HeadOptions
from pipeline.postprocess.heads.anchors import AnchorMaps
from pipeline.postprocess.heads.detr import DETR, DETRRaw, UltralyticsRTDETR
from pipeline.postprocess.heads.end_to_end import EndToEnd
from pipeline.postprocess.heads.faster_rcnn import FasterRCNN
from pipeline.postprocess.heads.head import Head, Seen
from pipeline.postprocess.heads.nanodet import NanoDet
from pipeline.postprocess.heads.refusal import TASKS, UNREAD, looks_like
from pipeline.postprocess.heads.ssd import SSD, DetectionOutput, EfficientNMS, TensorFlowSSD
from pipeline.postprocess.heads.yolo_pose import EndToEndPose, YOLOv8Pose
from pipeline.postprocess.heads.yolo_seg import EndToEndSeg, YOLOv5Seg, YOLOv8Seg
from pipeline.postprocess.heads.yolov5 import YOLOv5
from pipeline.postprocess.heads.yolov8 import YOLOv8
from pipeline.postprocess.heads.yolox import YOLOX

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines.engine import Candidates, Outputs
    from engines.spec import ModelSpec

HEADS: tuple[type[Head], ...] = (
    YOLOv8Seg,
    YOLOv5Seg,
    EndToEndSeg,
    YOLOv8Pose,
    EndToEndPose,
    TensorFlowSSD,
    EfficientNMS,
    DETR,
    FasterRCNN,
    DetectionOutput,
    DETRRaw,
    SSD,
    NanoDet,
    YOLOX,
    EndToEnd,
    YOLOv5,
    YOLOv8,
    AnchorMaps,
    UltralyticsRTDETR,
)
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
    shapes = shapes_of(outputs)
    return choose(spec.head, Seen(shapes, size), spec.head_options).head


def choose(name: str | None, seen: Seen, options: HeadOptions | None = None) -> Chosen:
    """Return the head called `name`, or with None the first whose layout fits what was seen.

    Raises:
        UnknownHead: no head fits; the message says what the model seems to be, or else lists the layouts known.
    """
    return choose_by(name, lambda head: seen, options)


def choose_by(name: str | None, see: Callable[[type[Head] | None], Seen], options: HeadOptions | None = None) -> Chosen:
    """Do the same, where what is seen depends on how the model is fed, and that on the head.

    `see` is given a head, or None for what is said of a model that no head reads.
    """
    uncertain: Chosen | None = None
    if name is None and (unfed := see(None)).metadata.task in TASKS:
        raise _refused(None, unfed)
    for head in HEADS:
        if name not in (None, head.name):
            continue
        seen = see(head)
        if (fit := head.fit(seen, options or HeadOptions())) is not None:
            chosen = Chosen(head(fit.options, seen.size), fit.why)
            if fit.certain:
                return chosen
            uncertain = uncertain or chosen
    if uncertain is None:
        raise _refused(name, see(None))
    return uncertain


def _refused(name: str | None, seen: Seen) -> UnknownHead:
    given = ", ".join(f"{output} {list(shape)}" for output, shape in seen.shapes.items()) or "nothing"
    given = f"for input {seen.size[0]}x{seen.size[1]} it gives {given}"
    known = {head.name: head for head in HEADS}
    if name in known:
        return UnknownHead(
            f"the model cannot be read by the head {name!r} that was asked for: {given}. It reads: {known[name].layout}"
        )
    listed = f"Known: {', '.join(known)}"
    if name is not None:
        return UnknownHead(f"there is no head {name!r}. {listed}")
    if (guess := looks_like(seen, given)) is not None:
        return UnknownHead(guess)
    return UnknownHead(
        f"{UNREAD}: {given}. {listed}; where it is one of these, name it as `head` in an entry file beside the model"
    )
