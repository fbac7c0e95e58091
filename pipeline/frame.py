"""The data that flows: a Frame, and the Detections that a detector adds to it (`pipeline.faces` has its Faces).

Boxes are xyxy in frame pixels everywhere inside (edges, not pixel centres: a box that covers the whole frame is
0, 0, width, height). Formats with other conventions are converted where they enter or leave.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import FloatArray, Image, Index, IntArray
from pipeline.boxes import clip_boxes
from pipeline.faces import Faces
from pipeline.masks import Masks
from pipeline.picture import Picture, Planes
from pipeline.segmentation import SegmentationMap
from pipeline.zones import ZoneState

if TYPE_CHECKING:
    from collections.abc import Iterable


UNTRACKED = -1
"""Stands for the number of a track that has none yet."""


@dataclass(slots=True, eq=False)
class Detections:
    """What was detected in one frame, as a struct of arrays that indexes like numpy.

    Always sorted by descending score; `clip` keeps boxes inside the frame. A stage adds what it knows: the model masks
    and keypoints, the tracker track ids and velocities, a recognised face a name. Source: the idea of one struct that
    all tools share is supervision's.
    """

    boxes: FloatArray
    """(N, 4) float32, xyxy in frame pixels."""
    scores: FloatArray
    """(N,) float32 in 0..1, descending."""
    class_ids: IntArray
    """(N,) int32, an index into the model's labels."""
    track_ids: IntArray | None = None
    """(N,) int32, unique per source; `UNTRACKED` where an object has no number yet; None where nothing tracks."""
    masks: Masks | None = None
    """N, each a crop of the frame; (N, H, W) bool is taken, too. None where the model gives no masks."""
    keypoints: FloatArray | None = None
    """(N, K, 3) float32: x and y in frame pixels, which may lie outside, and score; None where there are none."""
    velocities: FloatArray | None = None
    """(N, 2) float32, x and y in pixels per second of media time; NaN where not known; None where nothing tracks."""
    speeds_m_s: FloatArray | None = None
    """(N,) float32, metres per second on the ground; NaN where not known; None where the source has no `ground`."""
    names: tuple[str | None, ...] | None = None
    """(N,) who it is, from a face seen on it; None: nobody known, or nobody recognises."""

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32)
        if boxes.size and boxes.shape[-1:] != (4,):
            raise ValueError(f"boxes must be (N, 4), not {boxes.shape}")
        self.boxes = boxes.reshape(-1, 4)
        self.scores = np.asarray(self.scores, np.float32).reshape(-1)
        self.class_ids = np.asarray(self.class_ids, np.int32).reshape(-1)
        self.track_ids = None if self.track_ids is None else np.asarray(self.track_ids, np.int32).reshape(-1)
        self.masks = None if self.masks is None else Masks.of(self.masks)
        self.keypoints = None if self.keypoints is None else np.asarray(self.keypoints, np.float32)
        if self.keypoints is not None and (self.keypoints.ndim != 3 or self.keypoints.shape[2] != 3):
            raise ValueError(f"keypoints must be (N, K, 3), not {self.keypoints.shape}")
        for name in PER_DETECTION:
            values = getattr(self, name)
            if values is not None and len(values) != len(self.boxes):
                raise ValueError(f"{len(self.boxes)} boxes but {len(values)} {name}")
        if not np.all(self.scores[:-1] >= self.scores[1:]):  # also where one is NaN: those come last
            self._take(np.argsort(-self.scores, kind="stable"))

    def _take(self, rows: npt.NDArray[np.intp]) -> None:
        for name in PER_DETECTION:
            values = getattr(self, name)
            if isinstance(values, tuple):
                setattr(self, name, tuple(values[row] for row in rows))
            elif values is not None:
                setattr(self, name, values[rows])

    @classmethod
    def empty(cls) -> Detections:
        """Nothing was found."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))

    @classmethod
    def concatenate(cls, parts: Iterable[Detections]) -> Detections:
        """Join several, sorted again by score. What not every part has (track ids, masks, keypoints) is left out."""
        filled = [part for part in parts if len(part)]
        if not filled:
            return cls.empty()
        return cls(*(_joined([getattr(part, name) for part in filled]) for name in PER_DETECTION))

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Detections:
        """Select by integer, slice, boolean mask or integer array; the result is sorted by score."""
        selected = copy(self)
        selected._take(np.atleast_1d(np.arange(len(self))[index]))
        selected.__post_init__()
        return selected

    def clip(self, width: int, height: int) -> Detections:
        """Cut boxes at the frame's edges; those with nothing left inside are removed. Masks are inside already."""
        boxes, inside = clip_boxes(self.boxes, width, height)
        clipped = replace(self, boxes=boxes)
        return clipped if inside.all() else clipped[inside]

    def to_supervision(self) -> Any:
        """Return the same as `supervision.Detections`: masks as whole frames, keypoints in its `data`.

        Raises:
            ImportError: the `supervision` package is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError("to_supervision() needs the package 'supervision': pip install supervision") from error
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.class_ids.astype(int),
            tracker_id=None if self.track_ids is None else self.track_ids.astype(int),
            mask=None if self.masks is None else self.masks.dense(),
            data={} if self.keypoints is None else {"keypoints": self.keypoints},
        )


PER_DETECTION = tuple(each.name for each in fields(Detections))
"""What has an entry for each object."""


def _joined(parts: list[Any]) -> Any:
    """Join one field of several; None where a part lacks it."""
    if any(part is None for part in parts):
        return None
    if isinstance(parts[0], Masks):
        return Masks.concatenate(parts)
    if isinstance(parts[0], tuple):
        return tuple(chain.from_iterable(parts))
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Span:
    """One stage's work on one frame: monotonic seconds from start to end."""

    stage: str
    start: float
    end: float


@dataclass(slots=True, eq=False)
class Frame:
    """One captured picture and what the stages found in it."""

    source: str
    """Name of the source, unique in a run."""
    index: int
    """0-based, as captured; keeps rising over reconnects."""
    pts: float
    """Media time in seconds."""
    captured_at: float
    """Monotonic seconds when the last byte arrived."""
    picture: Picture
    """The pixels as captured."""
    wall_time: float | None = None
    """UTC seconds when the camera took it; None for files."""
    file: Path | None = None
    """The image file, for sources of images."""
    detections: Detections | None = None
    """None where detection is off."""
    labels: tuple[str, ...] = ()
    """Names of `detections.class_ids`."""
    possible: Detections | None = None
    """All that may be there, as detected: `detections` and weaker ones, for what hides people; None: not asked."""
    faces: Faces | None = None
    """None where nothing looks for faces."""
    segmentation: SegmentationMap | None = None
    """None where nothing segments, or no map is there yet."""
    zones: tuple[ZoneState, ...] = ()
    """Of its source, as of this frame."""
    hidden: FloatArray | None = None
    """(N, 4) float32 xyxy: which parts of `picture` were made unrecognisable; None where nothing is to be."""
    rendered: Picture | None = None
    """What stages have made of `picture`: stylized, another background, annotated; None: nothing yet."""
    events: list[dict[str, Any]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    free_since: float = 0.0
    """Monotonic seconds when the last station was done with it: since then it waits for the next."""
    predicted: bool = False
    """Whether `detections` were not found in this picture but carried over from an earlier one."""

    @property
    def image(self) -> Image:
        """H x W x 3 uint8 BGR as captured, read-only: copy before drawing."""
        return self.picture.bgr

    @property
    def planes(self) -> Planes | None:
        """The decoder's YUV 4:2:0 planes, where it gave some."""
        return self.picture.planes

    @property
    def width(self) -> int:
        """Columns."""
        return self.picture.width

    @property
    def height(self) -> int:
        """Rows."""
        return self.picture.height

    @property
    def output(self) -> Picture:
        """What is shown and recorded, and what the next stage draws on: `rendered`, or else `picture`."""
        return self.rendered if self.rendered is not None else self.picture

    def label(self, class_id: int) -> str:
        """Name of a class, or its number where the model has no names."""
        return self.labels[class_id] if 0 <= class_id < len(self.labels) else str(class_id)
