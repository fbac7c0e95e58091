"""PictureSegmenter: letterbox -> engine -> head -> a map of the frame, for one picture.

What a file is that nobody describes is found out by running it on pictures of the package: where its map is and
whether it gives logits. Names of classes are those of its entry, else of its metadata, else of a text file beside it,
else there are none. How its pictures are normalised no output tells: it is taken for what most are trained with, and
that is said. An entry file beside the model (see `engines.own_models`) says it better.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from engines import graph
from engines.errors import ModelError
from engines.metadata import Metadata, read_metadata
from engines.names_file import names_beside
from engines.spec import InputSpec
from engines.trust.pictures import cut_for
from engines.zoo import Zoo
from pipeline.infer.class_names import number_of
from pipeline.infer.letterbox import Letterbox, Letterboxes
from pipeline.infer.mask_edges import Upscaler, radius_for
from pipeline.infer.probe import PICTURES, Probe
from pipeline.infer.requests import Request
from pipeline.postprocess.segment_heads import Broken, SegmentHead, head_of
from pipeline.postprocess.soft_map import SoftMap, of_two

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engines.download import Progress
    from engines.engine import Engine, Outputs
    from engines.spec import ModelSpec
    from pipeline.arrays import FloatArray, Image
    from pipeline.picture import Picture

logger = logging.getLogger(__name__)

TASK = "segment"
IMAGENET = InputSpec(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), multiple=32)
"""RGB by the mean and deviation of ImageNet's colours: how torchvision and most others train."""
TENSORFLOW_LITE = InputSpec(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
"""RGB, -1..1: how TensorFlow's networks for segmentation are fed."""
RAW = InputSpec()
"""RGB, 0..255, for a model that normalises itself."""
BACKGROUND = "background"
FOREGROUND = "foreground"
NOTHING = ("background", "bg", "void", "unlabelled", "unlabeled", "ignore")
"""Names of classes that are no foreground, without the underscores that some write around them."""
NAMED_AT_MOST = 256


def find_segmenter(
    model: str, input_size: tuple[int, int] | None = None, progress: Progress | None = None
) -> ModelSpec:
    """Return the complete spec of a segmentation model: its head, input and labels are set.

    Args:
        model: a name of the zoo, or the path of a file.
        input_size: height and width, where they should differ from the model's own.
        progress: called while a file is downloaded.

    Raises:
        ModelError: it is nowhere, damaged, for something else, leaves its size open, or has more or fewer classes than
            names.
        UnknownHead: its outputs hold no map of classes.
    """
    return recognise(Zoo.load().spec(model, task=TASK, progress=progress), input_size)


def recognise(spec: ModelSpec, size: tuple[int, int] | None = None) -> ModelSpec:
    """Complete the spec of a segmentation model; one that states head, scores and labels is returned as it is.

    Args:
        spec: what is known.
        size: height and width of the input; None: the model's own.

    Raises:
        ModelError, UnknownHead: as of `find_segmenter`.
    """
    if spec.head is not None and spec.labels and (spec.head != "mask" or spec.head_options.scores is not None):
        options = replace(spec.head_options, background=False)
        return replace(spec, labels=_with_background(spec), head_options=options)
    model = graph.load(spec.path)
    metadata = read_metadata(model)
    spec = replace(spec, input=_input(spec, metadata, graph.declared_size(model), size))
    spec = replace(spec, labels=_with_background(replace(spec, labels=spec.labels or metadata.labels)))
    probe = Probe(spec, size)
    outputs = probe.outputs(spec.input)
    head = _head(spec, outputs, probe.size)
    labels = labels_of(spec, head, _largest_class(head, outputs))
    options = replace(spec.head_options, scores=head.scores, background=False)
    return replace(spec, head=head.kind, head_options=options, labels=labels)


def _input(
    spec: ModelSpec, metadata: Metadata, declared: tuple[int | None, int | None], size: tuple[int, int] | None
) -> InputSpec:
    """Return how a model is fed: as stated, else as is usual, which is said.

    `InputSpec` cannot say which of its fields were stated: they all were if one differs from the defaults.
    """
    given = spec.input
    sides = zip(declared, (given.height, given.width), strict=True)
    is_open = any(known is None and stated is None for known, stated in sides)
    if is_open and size is None and metadata.size is None:
        raise ModelError(
            f"{spec.name} leaves its input size open; say which height and width its pictures are to have, such as "
            "--set segment.input_size=[360,640] (`frameloom eval segment`: --input-size)"
        )
    if replace(given, height=None, width=None, batch=None) != InputSpec():
        return given
    usual, words = IMAGENET, "RGB, normalised by ImageNet's mean and deviation"
    if metadata.raw_pixels:
        return replace(RAW, height=given.height, width=given.width, batch=given.batch)
    if spec.path.suffix == ".tflite":
        usual, words = TENSORFLOW_LITE, "RGB, from -1 to 1"
    logger.warning(
        "nothing says how %s is fed: pictures are given to it as %s, as is usual; where that is wrong, say `input` in "
        "an entry file beside it",
        spec.path.name,
        words,
    )
    return replace(
        usual, height=given.height, width=given.width, batch=given.batch, multiple=metadata.stride or usual.multiple
    )


def _with_background(spec: ModelSpec) -> tuple[str, ...]:
    """Return the labels with one for class 0 in front, where the spec says that they begin with class 1."""
    return (BACKGROUND, *spec.labels) if spec.head_options.background and spec.labels else spec.labels


def _head(spec: ModelSpec, outputs: Sequence[Outputs], size: tuple[int, int]) -> SegmentHead:
    named = len(spec.labels) or None
    return head_of(outputs, size, kind=spec.head, classes=named, scores=spec.head_options.scores)


def _largest_class(head: SegmentHead, outputs: Sequence[Outputs]) -> int:
    if head.kind != "class-map":
        return 0
    return max(int(np.max(each[head.output])) for each in outputs)


def labels_of(spec: ModelSpec, head: SegmentHead, largest: int = 0) -> tuple[str, ...]:
    """Return the names of a model's classes, one for each.

    Args:
        spec: of the model, whose labels count where there are any.
        head: how it is read.
        largest: the largest number that a class map had.

    Raises:
        ModelError: there are more or fewer names than classes.
    """
    count, labels = head.classes, spec.labels
    if not labels and (beside := names_beside(spec.path, count or 0)) is not None:
        labels = beside.names
    if head.kind == "mask":
        if len(labels) < 2:
            return (BACKGROUND, *(labels or (FOREGROUND,)))
    elif not labels:
        return tuple(f"class {number}" for number in range(count or NAMED_AT_MOST))
    if count is not None and len(labels) != count:
        missing = f"; is {BACKGROUND!r} missing, in front?" if len(labels) == count - 1 else ""
        raise ModelError(
            f"{spec.name} tells {count} classes apart, but there are {len(labels)} names for them ({_short(labels)})"
            f"{missing or '; name each class once, in the order of their numbers'}"
        )
    if largest >= len(labels):
        raise ModelError(
            f"{spec.name} gives class {largest}, but there are {len(labels)} names, for 0 to {len(labels) - 1} "
            f"({_short(labels)}); name each class once, in the order of their numbers"
        )
    return labels


def _short(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) <= 4 else f"{labels[0]}, {labels[1]}, ..., {labels[-1]}"


def foreground_of(names: Sequence[str], labels: Sequence[str]) -> frozenset[int]:
    """Return the numbers of the classes that are foreground.

    Args:
        names: of these classes; empty: all but background. Where no class has a name, class 0 counts as background.
        labels: names of all.

    Raises:
        ConfigError: the model has no such class.
    """
    if names:
        return frozenset(number_of(name, labels, "segment.classes") for name in names)
    nothing = {number for number, label in enumerate(labels) if label.strip("_ ").lower() in NOTHING}
    if labels and labels[0] == "class 0":
        nothing.add(0)
    return frozenset(range(len(labels))) - nothing


class Looked(NamedTuple):
    """A picture that the model is looking at."""

    plan: Letterbox
    request: Request
    place: int
    """Of the picture among those of the request."""


class PictureSegmenter:
    """A segmentation model for single pictures: what the stage and the evaluation share."""

    def __init__(self, spec: ModelSpec, engine: Engine, threshold: float = 0.5, classes: tuple[str, ...] = ()) -> None:
        """Check that the model's outputs can be read.

        Args:
            spec: of the model, usually from `find_segmenter`.
            engine: that runs it.
            threshold: probability from which a pixel is foreground, of models of one class beside the background.
            classes: names of those that are foreground; empty: all but the background.

        Raises:
            UnknownHead: the outputs hold no map of classes.
            ModelError: there are more or fewer names than classes.
            ConfigError: a class that the model does not have.
        """
        self.spec, self.engine = spec, engine
        outputs = [engine.infer(each[None]) for each in cut_for(spec, engine.input_size)[:PICTURES]]  # also the warm-up
        self.head = _head(spec, outputs, engine.input_size)
        self.labels = labels_of(spec, self.head)
        self.foreground = foreground_of(classes, self.labels)
        self.batch = engine.batch
        """How many pictures a request should hold where so many wait."""
        self.broken = 0
        """Pictures so far whose outputs were no numbers."""
        self._odds = threshold / (1 - threshold)
        self._inputs = Letterboxes(engine.input_size, spec.input.fit, spec.input.pad)
        self._radius = radius_for(self._readable(outputs))
        self._upscalers = {edges: self.upscaler(edges=edges) for edges in (False, True)}

    def _readable(self, outputs: Sequence[Outputs]) -> Iterator[SoftMap]:
        for each in outputs:
            with contextlib.suppress(Broken):
                yield self.head.read(each)

    def upscaler(self, *, edges: bool) -> Upscaler:
        """Return what makes maps as large as the frame, for one thread."""
        return Upscaler(edges=edges, radius=self._radius)

    def start(self, picture: Picture) -> Looked:
        """Start to look at one picture; its pixels may be let go at once."""
        return self.start_together([picture])[0]

    def start_together(self, pictures: Sequence[Picture]) -> list[Looked]:
        """Start one request on pictures of any sizes."""
        plans, pending = self._inputs.start(self.engine, pictures)
        request = Request(pending, len(pictures))
        return [Looked(plan, request, place) for place, plan in enumerate(plans)]

    def read(self, looked: Looked) -> SoftMap | None:
        """Wait for what the model says and return it, of the picture without its padding; None: no numbers.

        Raises:
            EngineError: the request failed.
        """
        try:
            soft = self.head.read(looked.request.outputs_of(looked.place))
        except Broken:
            self._say_broken()
            return None
        if self.head.classes == 2 and self._odds != 1:
            soft = _at_odds(soft, self._odds)
        if max(soft.ids) >= len(self.labels):
            soft = _without(soft, len(self.labels))
        return SoftMap(soft.ids, _content(soft.values, looked.plan))

    def _say_broken(self) -> None:
        self.broken += 1
        if self.broken == 1:
            logger.warning(
                "%s gives values that are no numbers (NaN or infinite) with %s: such pictures get no map; choose "
                "another engine.precision (fp32), and compare with `frameloom engines verify`",
                self.spec.name,
                self.engine.describe(),
            )

    def segment(self, picture: Picture, *, edges: bool = False) -> Image:
        """Return (H, W) uint8, the number of each pixel's class; 0 where the model gives no numbers.

        Args:
            picture: of any size.
            edges: whether the edges of masks follow those of the picture, as they do in a run by default.
        """
        soft = self.read(self.start(picture))
        if soft is None:
            return np.zeros((picture.height, picture.width), np.uint8)
        return self._upscalers[edges](soft, picture, self.foreground)[0]

    def close(self) -> None:
        """Give the engine back."""
        self.engine.close()


def _at_odds(soft: SoftMap, odds: float) -> SoftMap:
    """Move probabilities of two classes so that the threshold, given as odds of the first, comes to be a half."""
    first, second = soft.values
    return of_two(soft.ids, np.asarray(first / (first + odds * second), np.float32))


def _without(soft: SoftMap, classes: int) -> SoftMap:
    """Let what has a number that is no class's be class 0."""
    kept = tuple(sorted({0, *(each for each in soft.ids if each < classes)}))
    values = soft.of(kept).copy()
    values[0] += 1 - values.sum(axis=0)
    return SoftMap(kept, values)


def _content(values: FloatArray, plan: Letterbox) -> FloatArray:
    """Cut the part that shows the picture out of (K, h, w) over the model's whole input, to parts of a pixel."""
    if plan.content == plan.target:
        return values
    scale = [values.shape[axis + 1] / plan.target[axis] for axis in (0, 1)]
    start = [plan.offset[axis] * scale[axis] for axis in (0, 1)]
    sides = [plan.content[axis] * scale[axis] for axis in (0, 1)]
    whole = [max(1, round(side)) for side in sides]
    if all(float(each).is_integer() for each in (*start, *sides)):
        top, left = (int(each) for each in start)
        return np.ascontiguousarray(values[:, top : top + whole[0], left : left + whole[1]])
    step = [side / count for side, count in zip(sides, whole, strict=True)]
    matrix = np.array([[step[1], 0, start[1] + step[1] / 2 - 0.5], [0, step[0], start[0] + step[0] / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (whole[1], whole[0])
    each = [cv2.warpAffine(plane, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE) for plane in values]
    return np.asarray(each, np.float32)
