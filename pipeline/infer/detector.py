"""Detector: letterbox -> engine -> head -> NMS, with several requests in flight."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engines.engine import Engine, EngineOptions, Outputs, Pending, open_engine
from pipeline.errors import ConfigError
from pipeline.frame import Detections, Frame
from pipeline.infer.letterbox import Letterbox
from pipeline.postprocess import heads
from pipeline.postprocess.nms import nms
from pipeline.stage import AsyncStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.spec import ModelSpec
    from pipeline.picture import Image, Picture
    from pipeline.postprocess.heads.head import Head


SIZES_KEPT = 16
"""Input buffers kept for pictures of different sizes; a folder of photos may have thousands."""


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
        self._inputs: dict[tuple[int, int], tuple[Letterbox, Image]] = {}

    def letterbox(self, picture: Picture) -> tuple[Letterbox, Image]:
        """Cut the model's input; the array is reused for the next picture of this size."""
        size = (picture.height, picture.width)
        if size not in self._inputs:
            if len(self._inputs) >= SIZES_KEPT:
                self._inputs.clear()
            plan = Letterbox.plan(size, self.engine.input_size, self.spec.input.fit)
            self._inputs[size] = plan, plan.blank(self.spec.input.pad)
        plan, buffer = self._inputs[size]
        plan.cut(picture, buffer)
        return plan, buffer

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


class Detector(AsyncStage["tuple[Letterbox, Pending]"]):
    """The detection stage of a run."""

    name = "detect"

    def __init__(self, spec: ModelSpec, engine: EngineOptions, options: DetectorOptions) -> None:
        """Nothing is compiled before `open`.

        Raises:
            ConfigError: a class name that the model does not have.
        """
        _class_ids(options.classes, spec.labels)
        self._spec, self._engine_options, self._options = spec, engine, options

    def open(self) -> None:
        """Compile the model."""
        self.engine = open_engine(self._spec, self._engine_options)
        self._detector = PictureDetector(self._spec, self.engine, self._options)
        self.in_flight = self.engine.requests

    def submit(self, frame: Frame) -> tuple[Letterbox, Pending]:
        """Start detection in one frame."""
        plan, buffer = self._detector.letterbox(frame.picture)
        return plan, self.engine.submit(buffer[None])

    def collect(self, frame: Frame, ticket: tuple[Letterbox, Pending]) -> None:
        """Add the detections."""
        plan, pending = ticket
        frame.detections = self._detector.read(pending.result(), plan)
        frame.labels = self._detector.labels

    def describe(self) -> str | None:
        """Name the model and what ran it."""
        return f"detect: {self.engine.describe()}" if hasattr(self, "engine") else None

    def close(self) -> None:
        """Give the engine back."""
        if hasattr(self, "engine"):
            self.engine.close()


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
