"""Found: the candidates that a head reads from one picture's outputs, before they become detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray, Index, IntArray


@dataclass(frozen=True)
class Found:
    """Candidates as a struct of arrays that indexes like numpy, in any order."""

    boxes: FloatArray
    """(N, 4) float32, xyxy in pixels of the model's input, not clipped."""
    scores: FloatArray
    """(N,) float32 in 0..1."""
    class_ids: IntArray
    """(N,) int32."""
    extra: FloatArray | None = None
    """(N, E) float32: what else the model says of each, such as mask coefficients or keypoints; the head knows what."""

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Found:
        """Select by slice, boolean mask or integer array."""
        extra = None if self.extra is None else self.extra[index]
        return Found(self.boxes[index], self.scores[index], self.class_ids[index], extra)
