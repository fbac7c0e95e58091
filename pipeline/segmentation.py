"""SegmentationMap: what each pixel of a frame belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Image

SHARE_DECIMALS = 4


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationMap:
    """Classes and foreground of a whole frame, in its own size."""

    class_ids: Image
    """(H, W) uint8, an index into `labels`."""
    alpha: Image
    """(H, W) uint8: how surely a pixel is foreground, 255 = it is; soft where an edge runs through a pixel."""
    labels: tuple[str, ...]
    """Names of the classes; `background`, where there is one, is class 0."""
    predicted: bool = False
    """Whether it was not made from this picture but moved here from an earlier one."""

    def shares(self) -> dict[str, float]:
        """Return the part of the picture that each class takes, of those that are there, the largest first."""
        counts = np.bincount(self.class_ids.reshape(-1), minlength=len(self.labels))
        order = np.argsort(-counts, kind="stable")
        total = self.class_ids.size
        return {self.labels[row]: round(int(counts[row]) / total, SHARE_DECIMALS) for row in order if counts[row]}
