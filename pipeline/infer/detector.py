"""Detector: letterbox -> engine -> head -> NMS, with several requests in flight."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engines.engine import Engine, EngineOptions, Outputs, Pending, open_engine
from pipeline.errors import ConfigError
from pipeline.frame import Detections, Frame
from pipeline.infer.decisions import judge_of
from pipeline.infer.letterbox import Letterbox, Letterboxes
from pipeline.postprocess import heads
from pipeline.postprocess.nms import nms
from pipeline.stage import AsyncStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.spec import ModelSpec
    from pipeline.arrays import Image
    from pipeline.picture import Picture
    from pipeline.postprocess.heads.head import Head


@dataclass(frozen=True)
class DetectorOptions:
    """What counts as a detection."""

    confidence: float = 0.3
    """A score must be larger than this."""
    iou: float = 0.45
    """Of two boxes of one class that overlap by more than this, the better one stays."""
    classes: tuple[str, ...] = ()
    """Names of the classes to keep; empty: all."""
    class_agnostic: bool = False
    """Whether boxes of different classes suppress each other."""
    max_detections: int = 300


def recognise(spec: ModelSpec, size: tuple[int, int] | None = None) -> ModelSpec:
    """Complete the spec of a file that no zoo entry describes: its head, and how models with that head are fed.

    Raises:
        UnknownHead: no head fits the outputs.
    """
    if spec.head is not None:
        return spec
    engine = open_engine(spec, EngineOptions(backend="onnxruntime", precision="fp32", requests=1, input_size=size))
    try:
        blank = np.zeros((1, *engine.input_size, 3), np.uint8)
        head = heads.choose(None, _shapes(engine.infer(blank)), engine.input_size)
    finally:
        engine.close()
    fed = replace(head.input, height=spec.input.height, width=spec.input.width)
    return replace(spec, head=head.name, input=fed)


class PictureDetector:
    """A detector for single pictures: what the stage, the evaluation and the parity check share."""

    def __init__(self, spec: ModelSpec, engine: Engine, options: DetectorOptions) -> None:
        """Check that the model's outputs can be read.

        Raises:
            UnknownHead: no head fits them.
            ConfigError: a class name that the model does not have.
        """
        self.spec, self.engine, self.options = spec, engine, options
        blank = np.full((1, *engine.input_size, 3), spec.input.pad, np.uint8)
        shapes = _shapes(engine.infer(blank))  # also the warm-up: a first request is the slowest
        self.head: Head = heads.choose(spec.head, shapes, engine.input_size)
        self.labels = spec.labels
        self._wanted = _class_ids(options.classes, spec.labels)
        self._inputs = Letterboxes(engine.input_size, spec.input.fit, spec.input.pad)

    def letterbox(self, picture: Picture) -> tuple[Letterbox, Image]:
        """Cut the model's input; the array is reused for the next picture of this size."""
        return self._inputs.cut(picture)

    def start(self, pictures: Sequence[Picture]) -> tuple[list[Letterbox], Pending]:
        """Start one request on pictures of any sizes."""
        return self._inputs.start(self.engine, pictures)

    def read(self, outputs: Outputs, plan: Letterbox) -> Detections:
        """Turn the engine's outputs into detections in frame pixels: filter, decode, NMS, map back, clip.

        Clipped last: boxes that the frame's edge cuts overlap more once they are cut, which cost 0.1 points of AP.
        """
        found = self.head.decode(outputs, self.engine.input_size, self.options.confidence)
        if self._wanted is not None:
            found = found[np.isin(found.class_ids, self._wanted)]
        if self.head.needs_nms:
            agnostic = self.options.class_agnostic
            found = found[nms(found.boxes, found.scores, found.class_ids, self.options.iou, class_agnostic=agnostic)]
        found = found[: self.options.max_detections]
        height, width = plan.source
        return Detections(plan.to_source(found.boxes), found.scores, found.class_ids).clip(width, height)

    def __call__(self, picture: Picture) -> Detections:
        """Detect in one picture."""
        plan, buffer = self.letterbox(picture)
        return self.read(self.engine.infer(buffer[None]), plan)


class Request:
    """A request on one or more frames, whose outputs are waited for once."""

    def __init__(self, pending: Pending, frames: int) -> None:
        self._pending = pending
        self._frames = frames
        self._outputs: Outputs = {}
        self._error: BaseException | None = None
        self._collected = False

    def outputs_of(self, place: int) -> Outputs:
        """Return what the model says of one of the frames.

        Raises:
            EngineError: the request failed, for all of its frames.
        """
        if not self._collected:
            self._collected = True
            try:
                self._outputs = self._pending.result()
            except BaseException as error:
                self._error = error
        if self._error is not None:
            raise self._error
        if self._frames == 1:
            return self._outputs
        return {name: array[place : place + 1] for name, array in self._outputs.items()}


class Work(NamedTuple):
    """A frame that a model is working on."""

    detector: PictureDetector
    plan: Letterbox
    request: Request
    place: int


@dataclass(frozen=True)
class Load:
    """Which frames are detected in, and where the model is too slow for all of them."""

    every: int = 1
    """Every n-th frame of a source; the others take over what was found before."""
    bypass: bool = False
    """Whether frames of live sources that find the model busy pass without it, instead of being dropped."""
    smaller: tuple[ModelSpec, EngineOptions] | None = None
    """A faster model to change to; None: there is none."""


class Detector(AsyncStage[Work]):
    """The detection stage of a run."""

    name = "detect"

    def __init__(
        self, spec: ModelSpec, engine: EngineOptions, options: DetectorOptions, load: Load | None = None
    ) -> None:
        """Nothing is compiled before `open`.

        Raises:
            ConfigError: a class name that a model does not have.
        """
        load = load or Load()
        self._models = [(spec, engine), *([load.smaller] if load.smaller else [])]
        for each, _ in self._models:
            _class_ids(options.classes, each.labels)
        self._options = options
        self._load = load
        self.bypass = load.bypass
        self.every, self.uses_smaller = load.every, False
        self._detectors: list[PictureDetector] = []
        self._seen: Counter[str] = Counter()
        self._last: dict[str, tuple[Detections, tuple[str, ...]]] = {}

    def degrade(self, every: int | None, smaller: bool) -> None:
        """Do less from the next frame on, or again what was configured; from any thread.

        Args:
            every: detect in every n-th frame; None: as configured.
            smaller: whether to use the smaller model, where there is one.
        """
        self.every = max(self._load.every, every or 1)
        self.uses_smaller = smaller

    def open(self) -> None:
        """Compile the models."""
        for spec, options in self._models:
            options = replace(options, candidates=heads.candidates(spec.head))
            engine = open_engine(spec, options, judge_of(spec))
            self._detectors.append(PictureDetector(spec, engine, self._options))
        self.in_flight = self._detectors[0].engine.requests
        self.batch = min(detector.engine.batch for detector in self._detectors)

    def wants(self, frame: Frame) -> bool:
        """Return whether it is the frame's turn."""
        number = self._seen[frame.source]
        self._seen[frame.source] += 1
        return number % self.every == 0

    def submit(self, frame: Frame) -> Work:
        """Start detection in one frame."""
        return self.submit_together([frame])[0]

    def submit_together(self, frames: Sequence[Frame]) -> list[Work]:
        """Start detection in frames that were waiting at the same time."""
        detector = self._detectors[-1 if self.uses_smaller else 0]
        plans, pending = detector.start([frame.picture for frame in frames])
        request = Request(pending, len(frames))
        return [Work(detector, plan, request, place) for place, plan in enumerate(plans)]

    def collect(self, frame: Frame, ticket: Work) -> None:
        """Add the detections."""
        outputs = ticket.request.outputs_of(ticket.place)
        frame.detections = ticket.detector.read(outputs, ticket.plan)
        frame.labels = ticket.detector.labels
        self._last[frame.source] = frame.detections, frame.labels

    def skip(self, frame: Frame) -> None:
        """Take over what was found in the source's last frame that was detected in."""
        last, frame.labels = self._last.get(frame.source, (Detections.empty(), self._detectors[0].labels))
        frame.detections = last.clip(frame.width, frame.height)
        frame.predicted = True

    def end(self, source: str) -> None:
        """Forget what was found."""
        self._last.pop(source, None)

    def describe(self) -> str | None:
        """Name the models and what ran them."""
        engines = ", else ".join(str(detector.engine.describe()) for detector in self._detectors)
        return f"detect: {engines}" if engines else None

    def close(self) -> None:
        """Give the engines back."""
        for detector in self._detectors:
            detector.engine.close()


def _shapes(outputs: Outputs) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in outputs.items()}


def _class_ids(names: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """Return the numbers of the named classes; None for all."""
    if not names:
        return None
    for name in names:
        if name not in labels:
            near = difflib.get_close_matches(name, labels, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it knows: {', '.join(labels) or 'no names'}"
            raise ConfigError(f"detect.classes: the model has no class {name!r}; {hint}")
    return [labels.index(name) for name in names]
