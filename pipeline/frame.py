"""The data that flows: a Frame, and the Detections that a detector adds to it (`pipeline.faces` has its Faces).

Boxes are xyxy in frame pixels everywhere inside (edges, not pixel centres: a box that covers the whole frame is
0, 0, width, height). Formats with other conventions are converted where they enter or leave.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import FloatArray, Image, Index, IntArray
from pipeline.boxes import clip_boxes
from pipeline.faces import Faces
from pipeline.masks import Masks
from pipeline.picture import Picture, Planes

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(slots=True, eq=False)
class Detections:
    """What was detected in one frame, as a struct of arrays that indexes like numpy.

    Always sorted by descending score; `clip` keeps boxes inside the frame. Source: the idea of one struct that all
    tools share is supervision's.
    """

    boxes: FloatArray
    """(N, 4) float32, xyxy in frame pixels."""
    scores: FloatArray
    """(N,) float32 in 0..1, descending."""
    class_ids: IntArray
    """(N,) int32, an index into the model's labels."""
    track_ids: IntArray | None = None
    """(N,) int32, unique per source; None where nothing tracks."""
    masks: Masks | None = None
    """N, each a crop of the frame; (N, H, W) bool is taken, too. None where the model gives no masks."""
    keypoints: FloatArray | None = None
    """(N, K, 3) float32: x and y in frame pixels, which may lie outside, and score; None where there are none."""

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
        for name in ("scores", "class_ids", "track_ids", "masks", "keypoints"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.boxes):
                raise ValueError(f"{len(self.boxes)} boxes but {len(values)} {name}")
        if not np.all(self.scores[:-1] >= self.scores[1:]):  # also where one is NaN: those come last
            self._reorder(np.argsort(-self.scores, kind="stable"))

    def _reorder(self, order: npt.NDArray[np.intp]) -> None:
        self.boxes, self.scores, self.class_ids = self.boxes[order], self.scores[order], self.class_ids[order]
        self.track_ids = None if self.track_ids is None else self.track_ids[order]
        self.masks = None if self.masks is None else self.masks[order]
        self.keypoints = None if self.keypoints is None else self.keypoints[order]

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
        tracks = [part.track_ids for part in filled if part.track_ids is not None]
        masks = [part.masks for part in filled if part.masks is not None]
        keypoints = [part.keypoints for part in filled if part.keypoints is not None]
        return cls(
            np.concatenate([part.boxes for part in filled]),
            np.concatenate([part.scores for part in filled]),
            np.concatenate([part.class_ids for part in filled]),
            np.concatenate(tracks) if len(tracks) == len(filled) else None,
            Masks.concatenate(masks) if len(masks) == len(filled) else None,
            np.concatenate(keypoints) if len(keypoints) == len(filled) else None,
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Detections:
        """Select by integer, slice, boolean mask or integer array; the result is sorted by score."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        return Detections(
            self.boxes[rows],
            self.scores[rows],
            self.class_ids[rows],
            None if self.track_ids is None else self.track_ids[rows],
            None if self.masks is None else self.masks[rows],
            None if self.keypoints is None else self.keypoints[rows],
        )

    def clip(self, width: int, height: int) -> Detections:
        """Cut boxes at the frame's edges; those with nothing left inside are removed. Masks are inside already."""
        boxes, inside = clip_boxes(self.boxes, width, height)
        clipped = Detections(boxes, self.scores, self.class_ids, self.track_ids, self.masks, self.keypoints)
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
    faces: Faces | None = None
    """None where nothing looks for faces."""
    rendered: Picture | None = None
    """The annotated picture, where rendering is on."""
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
        """What is shown and recorded: the annotated picture, or the captured one."""
        return self.rendered if self.rendered is not None else self.picture

    def label(self, class_id: int) -> str:
        """Name of a class, or its number where the model has no names."""
        return self.labels[class_id] if 0 <= class_id < len(self.labels) else str(class_id)
