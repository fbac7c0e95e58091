"""Detector: the detection stage of a run, with several requests in flight."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from engines.engine import EngineOptions, Outputs, Pending, open_engine
from pipeline.frame import Detections, Frame
from pipeline.infer.decisions import judge_of
from pipeline.infer.letterbox import Letterbox
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector, class_ids
from pipeline.postprocess import heads
from pipeline.stage import AsyncStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.spec import ModelSpec


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
            class_ids(options.classes, each.labels)
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
            options = replace(options, candidates=heads.candidates(spec))
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
