"""Segment: the stage that says of every pixel what it belongs to, with several requests in flight.

In frames that are not segmented, since only every n-th is, or the model is busy, the last map moves with the picture.
Where it cannot (a first picture, a cut, a gap), a frame is segmented whosever turn it is.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from engines.engine import EngineOptions, open_engine
from pipeline.infer.mask_motion import Memory, Step, Steps
from pipeline.infer.picture_segmenter import Looked, PictureSegmenter, foreground_of
from pipeline.segmentation import SegmentationMap
from pipeline.stage import AsyncStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.spec import ModelSpec
    from pipeline.config.look_settings import SegmentSettings
    from pipeline.frame import Frame
    from pipeline.infer.mask_edges import Upscaler
    from pipeline.postprocess.soft_map import SoftMap


class Segment(AsyncStage[Looked]):
    """The segmentation stage of a run."""

    name = "segment"

    def __init__(
        self, spec: ModelSpec, engine: EngineOptions, settings: SegmentSettings, *, bypass: bool = False
    ) -> None:
        """Nothing is compiled before `open`.

        Args:
            spec: of the model, from `find_segmenter`.
            engine: how to run it.
            settings: which frames, which classes, and how maps are finished.
            bypass: whether frames of live sources that find the model busy pass with the last map moved along.

        Raises:
            ConfigError: a class that the model does not have.
        """
        foreground_of(settings.classes, spec.labels)
        self._spec, self._options, self._settings = spec, engine, settings
        self.bypass = bypass
        self.every = settings.every
        self._segmenter: PictureSegmenter | None = None
        self._upscaler: Upscaler | None = None
        self._pictures = self._segmented = 0
        # of the submitting thread
        self._steps: dict[str, Steps] = {}
        self._since: Counter[str] = Counter()
        # from there to the collecting one: the step to each frame
        self._taken: dict[tuple[str, int], Step | None] = {}
        # of the collecting thread
        self._memories: dict[str, Memory] = {}
        self._without: set[str] = set()

    def degrade(self, every: int | None) -> None:
        """Segment fewer frames from the next on, or again as many as configured; from any thread.

        Args:
            every: segment every n-th frame; None: as configured.
        """
        self.every = max(self._settings.every, every or 1)

    def open(self) -> None:
        """Compile the model."""
        engine = open_engine(self._spec, self._options)
        try:
            self._segmenter = PictureSegmenter(
                self._spec, engine, self._settings.threshold, tuple(self._settings.classes)
            )
        except BaseException:
            engine.close()
            raise
        self._upscaler = self._segmenter.upscaler(edges=self._settings.edges)
        self.in_flight = engine.requests
        self.batch = self._segmenter.batch

    def wants(self, frame: Frame) -> bool:
        """Return whether it is the frame's turn, or there is nothing that could be moved to it."""
        self._pictures += 1
        if frame.file is not None:  # images are no film
            return True
        source, every = frame.source, self.every
        step = None
        if every > 1 or self.bypass or self._settings.smooth_s > 0:
            step = self._steps.setdefault(source, Steps()).to(frame.picture, frame.pts)
            self._taken[source, frame.index] = step
        else:
            self._steps.pop(source, None)  # a step must not begin at a picture before the last
        is_due = step is None or source in self._without or self._since[source] + 1 >= every
        self._since[source] = 0 if is_due else self._since[source] + 1
        return is_due

    def submit(self, frame: Frame) -> Looked:
        """Start to look at one frame."""
        return self.submit_together([frame])[0]

    def submit_together(self, frames: Sequence[Frame]) -> Sequence[Looked]:
        """Start to look at frames that were waiting at the same time."""
        assert self._segmenter is not None
        self._segmented += len(frames)
        return self._segmenter.start_together([frame.picture for frame in frames])

    def collect(self, frame: Frame, ticket: Looked) -> None:
        """Add the map; where the model gave no numbers, the last one moved along."""
        assert self._segmenter is not None
        soft = self._segmenter.read(ticket)
        if frame.file is not None:
            self._add(frame, soft)
            return
        memory, last = self._moved(frame)
        if soft is None:
            self._add(frame, last, predicted=True)
            return
        self._add(frame, memory.renew(soft, frame.pts, self._settings.smooth_s))

    def skip(self, frame: Frame) -> None:
        """Add the last map, moved along."""
        self._add(frame, self._moved(frame)[1], predicted=True)

    def _moved(self, frame: Frame) -> tuple[Memory, SoftMap | None]:
        memory = self._memories.setdefault(frame.source, Memory())
        return memory, memory.move(self._taken.pop((frame.source, frame.index), None))

    def _add(self, frame: Frame, soft: SoftMap | None, *, predicted: bool = False) -> None:
        if soft is None:
            self._without.add(frame.source)  # the next one is looked at, whosever turn it is
            return
        self._without.discard(frame.source)
        assert self._segmenter is not None
        assert self._upscaler is not None
        classes, alpha = self._upscaler(soft, frame.picture, self._segmenter.foreground)
        frame.segmentation = SegmentationMap(classes, alpha, self._segmenter.labels, predicted)

    def end(self, source: str) -> None:
        """Forget the source's last picture and map."""
        self._steps.pop(source, None)
        self._memories.pop(source, None)
        self._since.pop(source, None)
        self._without.discard(source)

    def describe(self) -> str | None:
        """Name the model, what ran it, and how many pictures it saw."""
        if self._segmenter is None:
            return None
        some = f", {self._segmented} of {self._pictures} frames segmented" if self._segmented < self._pictures else ""
        broken = self._segmenter.broken
        warning = f", {broken} pictures with values that are no numbers" if broken else ""
        return f"segment: {self._segmenter.engine.describe()}{some}{warning}"

    def close(self) -> None:
        """Give the engine back."""
        if self._segmenter is not None:
            self._segmenter.close()
