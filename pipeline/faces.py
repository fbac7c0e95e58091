"""Faces: what was found of people's faces in one frame, as a struct of arrays that indexes like numpy.

A stage adds what it knows: the finder boxes, scores and landmarks; the encoder encodings and qualities; matching names
and similarities; the tracker track ids. What no stage has added is None.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from pipeline.arrays import FloatArray, Index, IntArray
from pipeline.boxes import clip_boxes

LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""The five points, as seen in the image: the left eye is the one at the image's left."""


@dataclass(slots=True, eq=False)
class Faces:
    """The faces of one frame, sorted by descending score."""

    boxes: FloatArray
    """(N, 4) float32, xyxy in frame pixels, inside the frame."""
    scores: FloatArray
    """(N,) float32 in 0..1: how sure the finder is, descending."""
    landmarks: FloatArray
    """(N, 5, 2) float32, x and y in frame pixels, in the order of `LANDMARKS`; may lie outside the frame."""
    qualities: FloatArray | None = None
    """(N,) float32 in 0..1: how well the face can be recognised."""
    encodings: FloatArray | None = None
    """(N, D) float32 in the embedder's own metric; NaN where a face was not encoded."""
    names: tuple[str | None, ...] | None = None
    """(N,) the person; None: unknown, or not matched."""
    similarities: FloatArray | None = None
    """(N,) float32, to the most alike person of the gallery, named or not; NaN where a face was not matched."""
    track_ids: IntArray | None = None
    """(N,) int32, unique per source."""
    liveness: FloatArray | None = None
    """(N,) float32 in 0..1: how sure it is no photo or screen; NaN where not looked at."""
    points: FloatArray | None = None
    """(N, 68, 2) float32, the 68 landmarks of iBUG 300-W in frame pixels."""
    embedder: str | None = None
    """sha256 of the encoder that `encodings` are of."""
    doubtful: FloatArray | None = None
    """(M, 4) boxes of what may be a face, too, but is none of these, for what hides people; None: not asked."""
    predicted: bool = False
    """Whether they were not found in this picture but carried over from an earlier one."""

    def __post_init__(self) -> None:
        self.boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        self.scores = np.asarray(self.scores, np.float32).reshape(-1)
        self.landmarks = np.asarray(self.landmarks, np.float32).reshape(-1, 5, 2)
        for name in PER_FACE:
            values = getattr(self, name)
            if values is not None and len(values) != len(self.boxes):
                raise ValueError(f"{len(self.boxes)} boxes but {len(values)} {name}")
        if not np.all(self.scores[:-1] >= self.scores[1:]):
            self._take(np.argsort(-self.scores, kind="stable"))

    @classmethod
    def empty(cls) -> Faces:
        """No face was found."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Faces:
        """Select by integer, slice, boolean mask or integer array; the result is sorted by score."""
        selected = replace(self)
        selected._take(np.atleast_1d(np.arange(len(self))[index]))
        selected.__post_init__()
        return selected

    def _take(self, rows: Index) -> None:
        for name in PER_FACE:
            values = getattr(self, name)
            if isinstance(values, tuple):
                setattr(self, name, tuple(values[row] for row in rows))
            elif values is not None:
                setattr(self, name, values[rows])

    def clip(self, width: int, height: int) -> Faces:
        """Cut boxes at the frame's edges; faces with nothing left inside are removed."""
        boxes, inside = clip_boxes(self.boxes, width, height)
        clipped = replace(self, boxes=boxes)
        return clipped if inside.all() else clipped[inside]


PER_FACE = tuple(each.name for each in fields(Faces) if each.name not in ("embedder", "doubtful", "predicted"))
"""What has an entry for each face."""
