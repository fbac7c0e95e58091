"""Blur: the stage that makes people unrecognisable, before a picture can leave the program.

It comes after all that needs to see people (detection, faces, your own stages) and before all that shows them: it
puts a copy of the picture, in which places are hidden, in the place of `frame.picture`. So window, recording, clips,
thumbnails, published streams and Python's loop get nothing else; nobody after it holds the original.

It fails closed: `hidden_regions` says how. An image, which has no time, is hidden whole where nobody has looked at it.
Where anything goes wrong, the error ends the run, as in every stage: no picture passes that was not hidden.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.boxes import clip_boxes
from pipeline.frame import Frame
from pipeline.render.hidden_regions import HiddenRegions, SceneChange, Seen
from pipeline.render.hiding import hide
from pipeline.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.arrays import FloatArray, IntArray
    from pipeline.config.result_settings import BlurSettings

HEAD = 0.25
"""Part of a face box's height that is hidden above it: finders' boxes end at the forehead."""
PERSON = "person"
WHOLE_S = 10.0
"""After so long in which nothing could be shown, the log says why."""

logger = logging.getLogger(__name__)


@dataclass
class _Source:
    """What is kept for one source."""

    regions: dict[str, HiddenRegions]
    """Of each kind that is hidden: faces, persons."""
    scene_change: SceneChange = field(default_factory=SceneChange)
    size: tuple[int, int] | None = None
    shown_at: float | None = None
    """Media time of the last picture that was not hidden whole."""
    has_warned: bool = False


class Blur(Stage):
    """Hides faces, persons or both in `frame.picture`, and says in `frame.hidden` where."""

    name = "blur"

    def __init__(self, settings: BlurSettings) -> None:
        self._settings = settings
        self._kinds = ("faces", "persons") if settings.what == "both" else (settings.what,)
        self._sources: dict[str, _Source] = {}
        self._frames = self._whole = 0

    def process(self, frame: Frame) -> None:
        """Put the hidden picture in the place of the original."""
        regions = self._regions(frame)
        self._frames += 1
        self._whole += regions is None
        if regions is None:
            regions = np.array([[0, 0, frame.width, frame.height]], np.float32)
        frame.hidden = regions
        if not len(regions):
            return
        if frame.rendered is not None:  # a stage of the user's has drawn
            same = (frame.rendered.width, frame.rendered.height) == (frame.width, frame.height)
            frame.rendered = hide(frame.rendered, regions, self._settings.how) if same else None
        frame.picture = hide(frame.picture, regions, self._settings.how)

    def _regions(self, frame: Frame) -> FloatArray | None:
        """Return (N, 4) places to hide; None: the whole picture."""
        found = {kind: self._seen(frame, kind) for kind in self._kinds}
        if frame.file is not None:
            looked = [None if seen is None else seen.boxes[~seen.spared] for seen in found.values()]
        else:
            looked = self._followed(frame, found)
        parts: list[FloatArray] = []
        for kind, places in zip(found, looked, strict=True):
            if places is None:
                return None
            parts.append(grown(places, self._settings.grow, HEAD if kind == "faces" else 0.0))
        return _inside(np.concatenate(parts), frame.width, frame.height)

    def _followed(self, frame: Frame, found: dict[str, Seen | None]) -> list[FloatArray | None]:
        if frame.source not in self._sources:
            self._sources[frame.source] = _Source({kind: HiddenRegions(self._settings.hold_s) for kind in found})
        source = self._sources[frame.source]
        if source.size not in (None, (frame.width, frame.height)):
            source.scene_change = SceneChange()
            for each in source.regions.values():
                each.forget()
        source.size = (frame.width, frame.height)
        if source.scene_change(frame.picture):
            for each in source.regions.values():
                each.scene_changed()
        places = [source.regions[kind].update(frame.pts, seen) for kind, seen in found.items()]
        self._explain(frame, source, is_whole=any(each is None for each in places))
        return places

    def _explain(self, frame: Frame, source: _Source, *, is_whole: bool) -> None:
        """Say once for each source why nothing is to be seen, where that goes on."""
        if not is_whole or source.shown_at is None or frame.pts < source.shown_at:
            source.shown_at = frame.pts
        elif frame.pts - source.shown_at > WHOLE_S and not source.has_warned:
            source.has_warned = True
            logger.warning(
                "%s: nothing was shown for %.0f s: too few of its pictures were looked at (blur.hold_s %g); "
                "more time to hold, or less to do for the machine, would help",
                frame.source,
                frame.pts - source.shown_at,
                self._settings.hold_s,
            )

    def _seen(self, frame: Frame, kind: str) -> Seen | None:
        """Return what was found in this very picture; None: nobody has looked at it."""
        return self._faces(frame) if kind == "faces" else self._persons(frame)

    def _faces(self, frame: Frame) -> Seen | None:
        faces = frame.faces
        if faces is None or faces.predicted:
            return None
        found = self._of(faces.boxes, faces.names, faces.track_ids)
        if faces.doubtful is None or not len(faces.doubtful):
            return found
        count = len(faces.doubtful)
        return Seen(
            np.concatenate([found.boxes, faces.doubtful]),
            np.concatenate([found.spared, np.zeros(count, np.bool_)]),
            np.concatenate([found.tracks, np.full(count, -1)]),
        )

    def _persons(self, frame: Frame) -> Seen | None:
        detections = frame.detections
        if detections is None or frame.predicted:
            return None
        found = detections[np.array([frame.label(each) == PERSON for each in detections.class_ids.tolist()], np.bool_)]
        return self._of(found.boxes, found.names, found.track_ids)

    def _of(self, boxes: FloatArray, names: Sequence[str | None] | None, track_ids: IntArray | None) -> Seen:
        spared = [False] * len(boxes) if names is None else list(self._spared(names))
        tracks = np.full(len(boxes), -1) if track_ids is None else track_ids.astype(np.int64)
        return Seen(boxes, np.array(spared, np.bool_), tracks)

    def _spared(self, names: Sequence[str | None]) -> Iterator[bool]:
        for name in names:
            yield name is not None and (self._settings.spare == "known" or name in self._settings.spare)

    def end(self, source: str) -> None:
        """Forget the source."""
        self._sources.pop(source, None)

    def describe(self) -> str | None:
        """Say in how many pictures nothing was left to be seen."""
        if not self._frames:
            return None
        return f"blur: {' and '.join(self._kinds)} hidden; the whole picture in {self._whole} of {self._frames} frames"


def grown(boxes: FloatArray, part: float, above: float = 0.0) -> FloatArray:
    """Make (N, 4) boxes larger by a part of their size, half of it at each side, and by `above` at the top."""
    size = boxes[:, 2:] - boxes[:, :2]
    larger = np.concatenate([boxes[:, :2] - size * (part / 2), boxes[:, 2:] + size * (part / 2)], axis=1)
    larger[:, 1] -= size[:, 1] * above
    return larger.astype(np.float32)


def _inside(regions: FloatArray, width: int, height: int) -> FloatArray:
    """Cut regions at the picture's edges, and leave out what lies outside."""
    cut, inside = clip_boxes(regions, width, height)
    return cut[inside]
