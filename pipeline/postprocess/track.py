"""Track: the stage that gives detections their numbers, one tracker per source.

It comes right after detection, which hands on weak boxes too (`track.low_confidence`): they continue a track that would
end otherwise, and whatever they do not continue is removed here. In frames that were not detected in, the tracks say
where things are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.frame import Detections, Frame
from pipeline.postprocess.tracker import Tracker, TrackerOptions
from pipeline.stage import Stage

if TYPE_CHECKING:
    from pipeline.postprocess.between import Way


class Track(Stage):
    """The tracking stage of a run."""

    name = "track"

    def __init__(self, options: TrackerOptions, between: Way = "predict") -> None:
        """Nothing is followed yet.

        Args:
            options: of all trackers; boxes of less than `options.high` are only shown where they continue a track.
            between: what boxes do in frames that were not detected in.
        """
        self._options, self._between = options, between
        self._trackers: dict[str, Tracker] = {}
        self._labels: dict[str, tuple[str, ...]] = {}

    def open(self) -> None:
        """Compile the encoder of looks, where there is one."""
        if self._options.appearance is not None:
            self._options.appearance.open()

    def process(self, frame: Frame) -> None:
        """Number the detections; images have nothing to do with each other."""
        if frame.detections is None:
            return
        if frame.file is not None:
            frame.detections = frame.detections[frame.detections.scores > self._options.high]
        elif frame.predicted:
            frame.detections = self._carried_over(frame)
        else:
            frame.detections = self._tracker_of(frame).update(frame.detections, frame.pts, frame.picture)

    def _tracker_of(self, frame: Frame) -> Tracker:
        """Return the source's tracker; where another model has taken over, its classes have other ids."""
        tracker = self._trackers.setdefault(frame.source, Tracker(self._options))
        before = self._labels.setdefault(frame.source, frame.labels)
        if before != frame.labels:
            tracker.rename({old: frame.labels.index(name) for old, name in enumerate(before) if name in frame.labels})
            self._labels[frame.source] = frame.labels
        return tracker

    def _carried_over(self, frame: Frame) -> Detections:
        if frame.source not in self._trackers:
            return Detections.empty()
        tracker = self._tracker_of(frame)
        tracker.pass_by(frame.pts)
        if self._between == "hold":
            return tracker.last.clip(frame.width, frame.height)
        return tracker.predict(frame.pts, frame.width, frame.height)

    def end(self, source: str) -> None:
        """Forget the source."""
        self._trackers.pop(source, None)
        self._labels.pop(source, None)

    def close(self) -> None:
        """Give the encoder of looks back."""
        if self._options.appearance is not None:
            self._options.appearance.close()
