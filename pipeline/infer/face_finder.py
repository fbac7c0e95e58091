"""FaceFinder: letterbox -> engine -> head -> NMS, in an input of the picture's own shape.

A square input wastes almost half of itself on a 16:9 frame, and small faces are lost by it. So the short side is given
and the long side follows the picture, in steps: each size is an engine of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engines import graph
from engines.engine import EngineInfo, EngineOptions, Pending, open_engine, shapes_of, usual_requests
from engines.errors import UnknownHead
from engines.metadata import read_metadata
from pipeline.faces import Faces
from pipeline.infer.decisions import judge_of
from pipeline.infer.letterbox import Letterbox, Letterboxes
from pipeline.infer.sized_engines import SizedEngine, SizedEngines, declared_size
from pipeline.picture import Picture, Rectangle, cropped
from pipeline.postprocess import face_heads
from pipeline.postprocess.nms import nms

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from engines.spec import ModelSpec
    from pipeline.postprocess.face_heads.head import FaceHead

LONGEST = 3
"""Longest input, in short sides: a panorama that is longer becomes smaller instead."""
OTHER_TASKS = ("classify", "obb", "segment")
"""Of models that are no face finders, whatever their outputs look like: 15 classes and an angle are as many as a face's
numbers."""
LONG_STEPS = 2
"""Steps of the long side, in multiples of the input: of 64 pixels, where 32 would need twice as many engines."""


@dataclass(frozen=True)
class FinderOptions:
    """What counts as a face, and how closely to look."""

    short_side: int = 256
    """Short side of the model's input; rounded to the multiple that the model wants."""
    confidence: float | None = None
    """A score must be larger than this; None: what the model's authors chose."""
    iou: float | None = None
    """Of two boxes that overlap by more than this, the better one stays; None: what the model's authors chose."""
    max_faces: int = 100
    """The best of a picture."""
    doubtful: float | None = None
    """Boxes down to this score that are no faces by the other options are given as `Faces.doubtful`; None: not."""
    min_size: float = 0
    """Shorter side of the smallest box that counts, in pixels of the frame."""


def recognise(spec: ModelSpec) -> ModelSpec:
    """Complete the spec of a file that no zoo entry describes: its head, and how models with that head are fed.

    Raises:
        UnknownHead: no head fits the outputs.
    """
    if spec.head is not None:
        return spec
    if (task := read_metadata(graph.load(spec.path)).task) in OTHER_TASKS:
        raise UnknownHead(
            f"the model is no face finder: its file says that its task is {task!r}; choose one for faces, such as "
            "centerface"
        )
    size = declared_size(spec) or (320, 320)
    alone = replace(spec, input=replace(spec.input, batch=1))
    options = EngineOptions(backend="onnxruntime", precision="fp32", requests=1, input_size=size)
    engine = open_engine(alone, options)
    try:
        outputs = engine.infer(np.zeros((1, *size, 3), np.uint8))
        head = face_heads.choose(None, shapes_of(outputs), size)
    finally:
        engine.close()
    return replace(spec, head=head.name, input=head.input)


def size_for(height: int, width: int, short_side: int, multiple: int = 32) -> tuple[int, int]:
    """Return the height and width of the input for a picture of a size.

    The short side is `short_side`, to the nearest multiple; the long side follows the picture to the nearest step. By
    that the picture leaves half a step of the long side free, or becomes half a step smaller, at most.
    """
    short = max(1, round(short_side / multiple)) * multiple
    step = LONG_STEPS * multiple
    shape = min(LONGEST, max(height, width) / min(height, width))
    long = max(short, math.floor(short * shape / step + 0.5) * step)
    return (short, long) if height <= width else (long, short)


@dataclass(frozen=True)
class AtSize:
    """What reads the outputs of an engine of one size, and cuts its inputs."""

    head: FaceHead
    inputs: Letterboxes


@dataclass(frozen=True)
class Search:
    """A picture in which faces are being looked for."""

    frame: tuple[int, int]
    """Its height and width."""
    origin: tuple[int, int]
    """x and y of the part that is looked at."""
    plan: Letterbox
    sized: SizedEngine[AtSize]
    pending: Pending


class FaceFinder:
    """Finds faces in single pictures. `submit` and `collect` may be called on two threads, in the same order.

    Up to `requests` tickets may wait to be collected.
    """

    def __init__(self, spec: ModelSpec, engine: EngineOptions, options: FinderOptions | None = None) -> None:
        """Nothing is compiled before the first picture, or `prepare`.

        Args:
            spec: the model; one without a head must have gone through `recognise`.
            engine: how to run it; `input_size` is not used.
            options: what counts as a face.
        """
        self.spec, self.options = spec, options or FinderOptions()
        self.requests = usual_requests(engine)
        self._engines = SizedEngines(spec, replace(engine, requests=self.requests), self._reader, judge=judge_of(spec))

    def _reader(self, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> AtSize:
        head = face_heads.choose(self.spec.head, shapes, size)
        return AtSize(head, Letterboxes(size, self.spec.input.fit, self.spec.input.pad))

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """Return the input's height and width for a picture of a size; a file of a fixed size has only that one."""
        size = size_for(height, width, self.options.short_side, self.spec.input.multiple)
        return self._engines.only_size or size

    def prepare(self, height: int, width: int) -> None:
        """Compile for pictures of a size.

        Raises:
            BackendUnavailable: what was asked for does not exist here.
            EngineError: the model cannot be compiled or run.
            UnknownHead: its outputs cannot be read.
        """
        self._engines.at(self.size_for(height, width))

    def submit(self, picture: Picture, region: npt.ArrayLike | None = None) -> Search:
        """Start looking for faces; wait only where the engine has no room.

        Args:
            picture: its pixels may be let go at once.
            region: x1, y1, x2, y2 in frame pixels: look only there, as closely as the input for the whole picture
                allows (an input of each region's own shape would have to be compiled).

        Returns:
            What `collect` takes, exactly once.

        Raises:
            ValueError: the region lies outside the picture.
        """
        sized = self._engines.at(self.size_for(picture.height, picture.width))
        part = (0, 0, picture.width, picture.height) if region is None else _part(picture, region)
        seen = picture if region is None else cropped(picture, part)
        plans, pending = self._engines.submit(sized, lambda engine: sized.reader.inputs.start(engine, [seen]))
        return Search((picture.height, picture.width), part[:2], plans[0], sized, pending)

    def collect(self, search: Search) -> Faces:
        """Wait for the faces, in frame pixels: filtered, after NMS, clipped, best first."""
        outputs = self._engines.collect(search.sized, search.pending)
        head, size = search.sized.reader.head, search.sized.engine.input_size
        options = self.options
        confidence = head.confidence if options.confidence is None else options.confidence
        lowest = confidence if options.doubtful is None else min(confidence, options.doubtful)
        faces = head.decode(outputs, size, lowest)
        faces = faces[np.isfinite(faces.landmarks).all(axis=(1, 2))]
        if head.needs_nms:
            iou = head.iou if options.iou is None else options.iou
            faces = faces[nms(faces.boxes, faces.scores, np.zeros(len(faces)), iou)]
        shift = np.array(search.origin, np.float32)
        faces.boxes = search.plan.to_source(faces.boxes) + np.tile(shift, 2)
        faces.landmarks = search.plan.points_to_source(faces.landmarks) + shift
        faces = faces.clip(search.frame[1], search.frame[0])
        sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).min(axis=1)
        sure = (faces.scores > confidence) & (sides >= options.min_size)
        sure &= np.cumsum(sure) <= options.max_faces
        doubtful = None if options.doubtful is None else faces.boxes[~sure]
        return replace(faces[sure], doubtful=doubtful)

    def __call__(self, picture: Picture, region: npt.ArrayLike | None = None) -> Faces:
        """Find the faces of one picture."""
        return self.collect(self.submit(picture, region))

    def infos(self) -> list[EngineInfo]:
        """Return what runs the model, an entry per input size, the one used last at the end."""
        return self._engines.infos()

    def describe(self) -> str:
        """Name the model, what runs it, and the sizes it is compiled for."""
        return self._engines.describe()

    def close(self) -> None:
        """Give the engines back; after the last `collect`."""
        self._engines.close()


def _part(picture: Picture, region: npt.ArrayLike) -> Rectangle:
    """Return left, top, width and height of a region inside the picture; even where that keeps its planes."""
    grid = 1 if picture.planes is None else 2
    x1, y1, x2, y2 = np.asarray(region, np.float64).tolist()
    left, top = (max(0, math.floor(edge / grid) * grid) for edge in (x1, y1))
    right = min(picture.width, math.ceil(x2 / grid) * grid)
    bottom = min(picture.height, math.ceil(y2 / grid) * grid)
    if right <= left or bottom <= top:
        size = f"{picture.width}x{picture.height}"
        raise ValueError(f"the region {[x1, y1, x2, y2]} lies outside the picture of {size}, or is empty")
    return left, top, right - left, bottom - top
