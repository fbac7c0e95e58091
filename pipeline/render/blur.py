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
from pipeline.frame import UNTRACKED, Frame
from pipeline.postprocess.persons import PERSON
from pipeline.render.hidden_regions import HiddenRegions, SceneChange, Seen
from pipeline.render.hiding import hide
from pipeline.render.sights import Sights
from pipeline.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.arrays import FloatArray, IntArray
    from pipeline.config.result_settings import BlurSettings
    from pipeline.frame import Detections
    from pipeline.render.hidden_regions import BoolArray

HEAD = 0.25
"""Part of a face box's height that is hidden above it: finders' boxes end at the forehead."""
WHOLE_S = 10.0
"""After so long in which nothing could be shown, the log says why."""

logger = logging.getLogger(__name__)


@dataclass
class _Source:
    """What is kept for one source."""

    regions: dict[str, HiddenRegions]
    """Of each kind that is hidden: faces, persons."""
    sights: Sights
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
        source = None if frame.file is not None else self._source_of(frame)
        found = {kind: self._seen(frame, kind, source) for kind in self._kinds}
        if source is None:
            looked = [None if seen is None else seen.boxes[~seen.spared] for seen in found.values()]
        else:
            looked = [source.regions[kind].update(frame.pts, seen) for kind, seen in found.items()]
            self._explain(frame, source, is_whole=any(each is None for each in looked))
        parts: list[FloatArray] = []
        for kind, places in zip(found, looked, strict=True):
            if places is None:
                return None
            parts.append(grown(places, self._settings.grow, HEAD if kind == "faces" else 0.0))
        return _inside(np.concatenate(parts), frame.width, frame.height)

    def _source_of(self, frame: Frame) -> _Source:
        """Return what is kept for a frame's source; of another scene, little is."""
        hold_s = self._settings.hold_s
        if frame.source not in self._sources:
            regions = {kind: HiddenRegions(hold_s) for kind in self._kinds}
            self._sources[frame.source] = _Source(regions, Sights(hold_s))
        source = self._sources[frame.source]
        if source.size not in (None, (frame.width, frame.height)):
            source.scene_change = SceneChange()
            source.sights.forget()
            for each in source.regions.values():
                each.forget()
        source.size = (frame.width, frame.height)
        if source.scene_change(frame.picture):
            source.sights.forget()
            for each in source.regions.values():
                each.scene_changed()
        return source

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

    def _seen(self, frame: Frame, kind: str, source: _Source | None) -> Seen | None:
        """Return what was found in this very picture; None: nobody has looked at it."""
        return self._faces(frame) if kind == "faces" else self._persons(frame, source)

    def _faces(self, frame: Frame) -> Seen | None:
        faces = frame.faces
        if faces is None or faces.predicted:
            return None
        spared = self._spared(faces.names or (None,) * len(faces))
        return _seen_at(faces.boxes, faces.track_ids, spared, faces.doubtful)

    def _persons(self, frame: Frame, source: _Source | None) -> Seen | None:
        """Return the persons; of an image, names are those of faces in that very image."""
        if frame.detections is None or frame.predicted:
            return None
        persons = _persons_of(frame, frame.detections)
        names = persons.names or (None,) * len(persons)
        seen = _seen_at(persons.boxes, persons.track_ids, self._spared(names), _weak(frame, persons))
        if source is None:
            return seen
        source.sights.see(frame.faces, seen, frame.pts)
        for row in np.flatnonzero(seen.spared).tolist():
            seen.spared[row] = source.sights.confirm(int(seen.tracks[row]), names[row] or "", frame.pts)
        return seen

    def _spared(self, names: Sequence[str | None]) -> BoolArray:
        spare = self._settings.spare
        return np.array([name is not None and (spare == "known" or name in spare) for name in names], np.bool_)

    def end(self, source: str) -> None:
        """Forget the source."""
        self._sources.pop(source, None)

    def describe(self) -> str | None:
        """Say in how many pictures nothing was left to be seen."""
        if not self._frames:
            return None
        return f"blur: {' and '.join(self._kinds)} hidden; the whole picture in {self._whole} of {self._frames} frames"


def _seen_at(boxes: FloatArray, track_ids: IntArray | None, spared: BoolArray, doubtful: FloatArray | None) -> Seen:
    """Return what was found; what is doubtful comes last, is on no track and never spared."""
    more = np.empty((0, 4), np.float32) if doubtful is None else doubtful
    tracks = np.full(len(boxes), UNTRACKED) if track_ids is None else track_ids
    return Seen(
        np.concatenate([boxes, more]),
        np.concatenate([spared, np.zeros(len(more), np.bool_)]),
        np.concatenate([tracks, np.full(len(more), UNTRACKED)]).astype(np.int64),
    )


def _persons_of(frame: Frame, detections: Detections) -> Detections:
    return detections[np.array([frame.label(each) == PERSON for each in detections.class_ids.tolist()], np.bool_)]


def _weak(frame: Frame, persons: Detections) -> FloatArray | None:
    """Return the (N, 4) boxes of what may be persons, too, but is none of those that are shown."""
    if frame.possible is None:
        return None
    shown = set(map(tuple, persons.boxes.tolist()))
    boxes = _persons_of(frame, frame.possible).boxes
    return boxes[np.array([tuple(box) not in shown for box in boxes.tolist()], np.bool_)]


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
