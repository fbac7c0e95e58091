"""What is taken for true of a model, in words: each with its value and the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.spec import InputSpec
from pipeline.infer.probe import COCO_CLASSES
from pipeline.postprocess.persons import PERSON

if TYPE_CHECKING:
    from engines.metadata import Metadata
    from engines.spec import Anchors, ModelSpec
    from pipeline.infer.probe import Objects
    from pipeline.postprocess.heads import Chosen
    from pipeline.postprocess.heads.head import Head

STATED = "as stated"
IN_FILE = "the file's metadata"
OPTIONS = {
    "box_order": "box order",
    "box_unit": "box unit",
    "scores": "scores",
    "anchors": "anchors",
    "arithmetic": "anchor arithmetic",
    "background": "background",
    "keypoints": "keypoints",
}
"""What the options of a head are called, in the order in which they are said."""
COCO_91 = (
    "torchvision's and TensorFlow's models count COCO's classes 1 to 90 with gaps, which 80 names do not have: "
    "`--labels coco91`"
)
MOST_OBJECTS = 300
"""In all pictures that come with the package: a good detector finds ten."""


@dataclass(frozen=True)
class Assumption:
    """One thing that is taken for true of a model."""

    what: str
    """`head`, `labels`, `colour order`, ..."""
    value: str
    why: str


def of_head(spec: ModelSpec, chosen: Chosen, metadata: Metadata) -> Iterator[Assumption]:
    """Say which head reads the outputs, and how.

    Args:
        spec: as it was before.
        chosen: the head, with complete options.
        metadata: of the file.
    """
    head = chosen.head
    yield Assumption("head", head.name, chosen.why if spec.head is None else f"{STATED}; {chosen.why}")
    for field, what in OPTIONS.items():
        value = getattr(head.options, field)
        if value is None:
            continue
        if getattr(spec.head_options, field) is not None:
            why = STATED
        elif getattr(metadata, field, None) == value:
            why = IN_FILE
        elif field in ("anchors", "arithmetic"):
            why = f"not in the file: usual for such maps; a model trained with others needs head_options.{field}"
        else:
            why = "agrees with what it gives for real pictures"
        yield Assumption(what, _anchors(value) if field == "anchors" else str(value), why)
    why = STATED if head.options.nms is not None else f"as models with the head {head.name} are"
    yield Assumption("NMS", "needed" if head.needs_nms else "none: done or needless inside the model", why)


def size_of_input(
    spec: ModelSpec,
    size: tuple[int, int],
    asked: tuple[int, int] | None,
    declared: tuple[int | None, int | None],
) -> Assumption:
    """Say how large the input is.

    Args:
        spec: as it was before.
        size: height and width.
        asked: the same, where somebody asked for a size.
        declared: the same, as the graph fixes it.
    """
    if asked is not None:
        why = "asked for"
    elif (spec.input.height, spec.input.width) == size:
        why = STATED
    else:
        why = "fixed by the file" if declared == size else IN_FILE
    return Assumption("input size", f"{size[1]}x{size[0]}", why)


def of_input(fed: InputSpec, why: str) -> Iterator[Assumption]:
    """Say how the model is fed, and why so."""
    yield Assumption("colour order", fed.colour, why)
    yield Assumption("pixels", _arithmetic(fed), why)
    padded = "" if fed.fit == "stretch" else f", padded with {fed.pad}"
    yield Assumption("fit", f"{fed.fit}{padded}", why)


def of_labels(labels: tuple[str, ...], source: str, classes: int, head: Head, found: Objects) -> Assumption:
    """Say where the names of the classes are from, and whether there are too many or too few.

    Args:
        labels: the names.
        source: where they are from, in words.
        classes: how many classes the outputs tell apart; 0: they do not say.
        head: what reads them.
        found: in the pictures that come with the package.
    """
    if not labels:
        return Assumption("labels", "none", "nobody names the classes: they are shown as numbers")
    why = source
    if classes and classes != len(labels):
        more = "the rest are shown as numbers" if classes > len(labels) else "the last names are never used"
        why += f"; warning: the outputs have {classes} classes, so {more}: is it the right list?"
    elif not classes and (highest := max(found.class_ids.tolist(), default=0)) >= len(labels):
        why += f"; warning: it finds a class {highest}, which has no name: is it the right list? {COCO_91}"
    elif not classes and head.options.background and source != IN_FILE and _may_be_coco(labels):
        why += f"; warning: the outputs do not say how many classes there are. {COCO_91}"
    return Assumption("labels", f"{len(labels)} names ({', '.join(labels[:3])}{', ...' if labels[3:] else ''})", why)


def of_objects(found: Objects, *, knows_people: bool) -> Assumption:
    """Say what was found in the pictures that come with the package."""
    shown = "the pictures that come with Frameloom, of streets and faces"
    if len(found) > MOST_OBJECTS:
        reason = f"warning: {shown} show far fewer: it is probably fed or read wrongly; state its `input`"
        return Assumption("objects found", str(len(found)), reason)
    if len(found):
        return Assumption("objects found", str(len(found)), f"in {shown}")
    if knows_people:
        reason = f"warning: it knows people and finds none in {shown}: it may be fed wrongly; state its `input`"
    else:
        reason = f"warning: nothing in {shown} is what it knows, or it is fed wrongly: try it on a picture of yours"
    return Assumption("objects found", "0", reason)


def _may_be_coco(labels: tuple[str, ...]) -> bool:
    return len(labels) == COCO_CLASSES and labels[0] == PERSON


def _arithmetic(fed: InputSpec) -> str:
    if not any(fed.mean):
        if fed.std == (1.0, 1.0, 1.0):
            return "0..255 as they are"
        if fed.std == (255.0,) * 3:
            return "0..1 (divided by 255)"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (fed.mean, fed.std))
    return f"(x - ({mean})) / ({std})"


def _anchors(anchors: Anchors) -> str:
    return "; ".join(", ".join(f"{width:g}x{height:g}" for width, height in each) for each in anchors)
