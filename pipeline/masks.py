"""Masks: which pixels belong to each object, kept as a crop per object.

A mask of the whole frame takes 2 MB at 1080p, for every object; the part of it where the object can be takes a few kB.
So each is kept as that part and its place, and becomes a whole frame only for those who ask (`dense`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import Index

BoolArray = npt.NDArray[np.bool_]
CORNERS = 3
"""A polygon with fewer is none."""


class Masks:
    """One mask per object, each a crop of the frame; indexes like numpy's (N, H, W) bool."""

    dtype = np.dtype(np.bool_)

    def __init__(self, crops: Sequence[BoolArray], corners: npt.ArrayLike, size: tuple[int, int]) -> None:
        """Keep crops; nothing is copied.

        Args:
            crops: (h, w) bool each, wholly inside the frame; h or w may be 0.
            corners: (N, 2) left and top of each in the frame.
            size: height and width of the frame.
        """
        self.crops = tuple(crops)
        self.corners = np.asarray(corners, np.int32).reshape(-1, 2)
        self.size = size

    @classmethod
    def of(cls, masks: Masks | npt.ArrayLike) -> Masks:
        """Return masks as they are, or made from (N, H, W): what is not 0 belongs to the object.

        Raises:
            ValueError: an array that is not (N, H, W).
        """
        if isinstance(masks, cls):
            return masks
        dense = np.asarray(masks, np.bool_)
        if dense.ndim != 3:
            raise ValueError(f"masks must be (N, H, W), not {dense.shape}")
        places = [cv2.boundingRect(each.view(np.uint8)) for each in np.ascontiguousarray(dense)]
        crops = [
            each[top : top + height, left : left + width].copy()
            for each, (left, top, width, height) in zip(dense, places, strict=True)
        ]
        return cls(crops, [place[:2] for place in places], (dense.shape[1], dense.shape[2]))

    @classmethod
    def concatenate(cls, parts: Iterable[Masks]) -> Masks:
        """Join the masks of one frame.

        Raises:
            ValueError: there are none, or their frames differ in size.
        """
        several = list(parts)
        sizes = {part.size for part in several}
        if len(sizes) != 1:
            raise ValueError(f"masks of one frame can be joined, not of frames of {sorted(sizes) or 'no'} sizes")
        crops = [crop for part in several for crop in part.crops]
        return cls(crops, np.concatenate([part.corners for part in several]), sizes.pop())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Objects, height and width of the frame."""
        return (len(self.crops), *self.size)

    def __len__(self) -> int:
        return len(self.crops)

    @overload
    def __getitem__(self, index: int | tuple[Any, ...]) -> BoolArray: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | Sequence[bool] | npt.NDArray[Any]) -> Masks: ...
    def __getitem__(self, index: Index) -> Masks | BoolArray:
        """Select objects; one object, or a place in the frame, gives whole frames as numpy's arrays do."""
        if isinstance(index, tuple):
            return np.asarray(self.dense()[index])
        chosen = np.arange(len(self))[index]
        if chosen.ndim == 0:
            return np.asarray(self[[int(chosen)]].dense()[0])
        return Masks([self.crops[row] for row in chosen], self.corners[chosen], self.size)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Let numpy take it for `dense()`."""
        return np.asarray(self.dense(), dtype)

    def dense(self) -> BoolArray:
        """Return (N, H, W) bool."""
        whole = np.zeros(self.shape, np.bool_)
        for frame, crop, (left, top) in zip(whole, self.crops, self.corners.tolist(), strict=True):
            frame[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        return whole

    def moved(self, left: int, top: int, size: tuple[int, int]) -> Masks:
        """Return the same, as part of a frame of `size` (height, width) in which this one lies at left, top."""
        return Masks(self.crops, self.corners + np.array([left, top], np.int32), size)

    def polygons(self, tolerance: float = 1.0) -> list[list[list[float]]]:
        """Return the outlines of each object, flat x, y lists in frame pixels; holes are filled.

        Args:
            tolerance: how far an outline may leave the pixels' edges, in pixels: at 0 every step is a corner.
        """
        rows = zip(self.crops, self.corners.tolist(), strict=True)
        return [_outlines(crop, (left, top), tolerance) for crop, (left, top) in rows]


def _outlines(crop: BoolArray, corner: tuple[int, int], tolerance: float) -> list[list[float]]:
    """Trace one mask along the edges of its pixels.

    OpenCV traces through pixel centres, half a pixel too small on every side. Where each pixel is four, the parity of
    a coordinate says on which side of its pixel the outline is.
    """
    if not crop.size:
        return []
    fine = np.repeat(np.repeat(crop.view(np.uint8), 2, axis=0), 2, axis=1)
    traced, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for each in traced:
        edges = (each + 1) // 2
        simple = cv2.approxPolyDP(edges, tolerance, True)
        kept = simple if len(simple) >= CORNERS else edges
        polygons.append((kept.reshape(-1, 2) + corner).astype(float).reshape(-1).tolist())
    return polygons
