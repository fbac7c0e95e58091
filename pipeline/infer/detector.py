"""Detector: the detection stage of a run, with several requests in flight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from engines.engine import EngineOptions, open_engine
from pipeline.frame import Detections, Frame
from pipeline.infer.decisions import judge_of
from pipeline.infer.letterbox import Letterbox
from pipeline.infer.motion import MotionGate, MotionOptions
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector, class_ids
from pipeline.infer.regions import Regions
from pipeline.infer.requests import Request
from pipeline.infer.tiled_detector import Search, TiledDetector
from pipeline.infer.tiles import TileOptions
from pipeline.picture import Rectangle
from pipeline.postprocess import heads
from pipeline.postprocess.between import Between, Way
from pipeline.stage import AsyncStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.spec import ModelSpec

MOST_POSSIBLE = 1000
"""Boxes of a frame that are kept where doubtful ones are, too."""
TILED_FRAMES = 2
"""Frames in flight where a frame is many requests: while the last of one run, the first of the next are begun."""


class Work(NamedTuple):
    """A frame that a model is working on."""

    detector: PictureDetector
    plan: Letterbox
    request: Request
    place: int

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's."""
        return self.detector.labels

    def detections(self) -> Detections:
        """Wait for what was found.

        Raises:
            EngineError: the request failed.
        """
        return self.detector.read(self.request.outputs_of(self.place), self.plan)


@dataclass(frozen=True)
class Load:
    """Which frames are detected in, and where the model is too slow for all of them."""

    every: int = 1
    """Every n-th frame of a source; the others take over what was found before."""
    bypass: bool = False
    """Whether frames of live sources that find the model busy pass without it, instead of being dropped."""
    smaller: tuple[ModelSpec, EngineOptions] | None = None
    """A faster model to change to; None: there is none."""
    motion: MotionOptions | None = None
    """Leave frames out while nothing moves; None: do not look."""
    between: Way = "hold"
    """What the boxes do in frames that are not detected in."""


@dataclass(frozen=True)
class Where:
    """Which parts of the frames are detected in."""

    tiles: TileOptions = field(default_factory=TileOptions)
    regions: Mapping[str, Rectangle] = field(default_factory=dict)
    """Of sources by name; the others are looked at as a whole."""

    @property
    def is_whole(self) -> bool:
        """Whether every frame is one picture to the model."""
        return self.tiles.tiles is None and not self.regions


class Detector(AsyncStage[Work | Search]):
    """The detection stage of a run."""

    name = "detect"

    def __init__(
        self,
        spec: ModelSpec,
        engine: EngineOptions,
        options: DetectorOptions,
        load: Load | None = None,
        where: Where | None = None,
        *,
        doubtful: float | None = None,
    ) -> None:
        """Nothing is compiled before `open`.

        Args:
            spec: the model.
            engine: how to run it.
            options: what counts as a detection.
            load: which frames are detected in.
            where: in which parts of them.
            doubtful: score from which boxes that do not count are kept, too, in `frame.possible`; None: none are.

        Raises:
            ConfigError: a class that a model does not have.
        """
        load = load or Load()
        self._models = [(spec, engine), *([load.smaller] if load.smaller else [])]
        for each, _ in self._models:
            class_ids(options.classes, each)
        self._options, self._doubtful = options, doubtful
        self._load, self._where = load, where or Where()
        self.bypass = load.bypass
        self.every, self.uses_smaller = load.every, False
        self._detectors: list[PictureDetector] = []
        self._regions: Regions | None = None
        self._motion = None if load.motion is None else MotionGate(load.motion)
        self._seen: Counter[str] = Counter()
        self._detected = 0
        self._between: dict[str, Between] = {}
        self._labels: dict[str, tuple[str, ...]] = {}

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
        looked_for = self._options
        if self._doubtful is not None:
            lower, most = min(self._doubtful, looked_for.confidence), max(MOST_POSSIBLE, looked_for.max_detections)
            looked_for = replace(looked_for, confidence=lower, max_detections=most)
        for spec, options in self._models:
            options = replace(options, candidates=heads.candidates(spec))
            engine = open_engine(spec, options, judge_of(spec))
            self._detectors.append(PictureDetector(spec, engine, looked_for))
        self.in_flight = self._detectors[0].engine.requests
        self.batch = min(detector.batch for detector in self._detectors)
        if not self._where.is_whole:
            size = self._detectors[0].engine.input_size  # a smaller model gets no smaller tiles: it would get more
            self._regions = Regions(self._where.tiles, self._where.regions, size)
        if self._where.tiles.tiles is not None:
            self.in_flight, self.batch = TILED_FRAMES, 1

    def wants(self, frame: Frame) -> bool:
        """Return whether it is the frame's turn, and something moves where that is asked for."""
        number = self._seen[frame.source]
        self._seen[frame.source] += 1
        is_due = number % self.every == 0
        if self._motion is None or frame.file is not None:  # images are no film
            return is_due
        return self._motion.wants(frame.source, frame.picture, frame.pts) and is_due

    def submit(self, frame: Frame) -> Work | Search:
        """Start detection in one frame."""
        return self.submit_together([frame])[0]

    def submit_together(self, frames: Sequence[Frame]) -> Sequence[Work | Search]:
        """Start detection in frames that were waiting at the same time."""
        self._detected += len(frames)
        if self._motion is not None:
            for frame in frames:
                self._motion.detected(frame.source, frame.pts)
        detector = self._detectors[-1 if self.uses_smaller else 0]
        pictures = [frame.picture for frame in frames]
        if self._regions is not None:
            places = [self._regions.windows(frame.source, frame.picture) for frame in frames]
            return TiledDetector(detector).start(pictures, places)
        plans, pending = detector.start(pictures)
        request = Request(pending, len(frames))
        return [Work(detector, plan, request, place) for place, plan in enumerate(plans)]

    def collect(self, frame: Frame, ticket: Work | Search) -> None:
        """Add the detections."""
        frame.detections, frame.labels = ticket.detections(), ticket.labels
        if self._doubtful is not None:
            frame.possible = frame.detections
            counting = frame.detections.scores > self._options.confidence
            frame.detections = frame.detections[counting][: self._options.max_detections]
        if self._labels.get(frame.source) != frame.labels:  # another model's numbers mean other things
            self._labels[frame.source], self._between[frame.source] = frame.labels, Between(self._load.between)
        self._between[frame.source].found(frame.detections, frame.pts)

    def skip(self, frame: Frame) -> None:
        """Take over what was found in the source's frames that were detected in."""
        frame.labels = self._labels.get(frame.source, self._detectors[0].labels)
        last = self._between.get(frame.source)
        frame.detections = last.at(frame.pts, frame.width, frame.height) if last else Detections.empty()
        frame.predicted = True

    def end(self, source: str) -> None:
        """Forget what was found."""
        self._between.pop(source, None)
        self._labels.pop(source, None)
        if self._motion is not None:
            self._motion.end(source)

    def describe(self) -> str | None:
        """Name the models and what ran them."""
        engines = ", else ".join(str(detector.engine.describe()) for detector in self._detectors)
        parts = "" if self._regions is None else self._regions.describe()
        moving = "" if self._motion is None else f", {self._detected} of {self._seen.total()} frames detected in"
        broken = sum(detector.broken for detector in self._detectors)
        warning = f", {broken} pictures with values that are no numbers" if broken else ""
        return f"detect: {engines}{parts}{moving}{warning}" if engines else None

    def close(self) -> None:
        """Give the engines back."""
        for detector in self._detectors:
            detector.engine.close()
