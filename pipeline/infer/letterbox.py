"""Letterbox: cut the model's input out of a frame, and map boxes back.

The picture is resized to fit and the rest is padded. Width and height have a scale each, that of the rounded size
really used, so boxes map back exactly also for odd sizes. Where the frame has YUV planes, the three planes are
resized first and only the small picture is converted to BGR: the full-size conversion never happens. An engine on a
GPU may do all of this itself; it then gets the frame as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from engines.engine import CutsFrames, Engine, Uncut
from pipeline.picture import yuv_to_bgr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.engine import Pending
    from engines.spec import Fit
    from pipeline.arrays import FloatArray, Image
    from pipeline.picture import Picture, Planes


@dataclass(frozen=True)
class Letterbox:
    """Where the frame's picture lies in the model's input; sizes are (height, width)."""

    source: tuple[int, int]
    target: tuple[int, int]
    content: tuple[int, int]
    """Size of the resized picture inside the target."""
    offset: tuple[int, int]
    """Its top and left."""

    @classmethod
    def plan(cls, source: tuple[int, int], target: tuple[int, int], fit: Fit) -> Letterbox:
        """Lay a picture of size `source` into `target`.

        Args:
            source: height and width of the frame.
            target: height and width of the model's input.
            fit: `letterbox-topleft` pads right and below, `letterbox-centre` on both sides, `stretch` not at all.
        """
        if fit == "stretch":
            return cls(source, target, target, (0, 0))
        scale = min(target[0] / source[0], target[1] / source[1])
        content = (
            min(target[0], max(1, round(source[0] * scale))),
            min(target[1], max(1, round(source[1] * scale))),
        )
        if fit == "letterbox-topleft":
            return cls(source, target, content, (0, 0))
        return cls(source, target, content, ((target[0] - content[0]) // 2, (target[1] - content[1]) // 2))

    def blank(self, pad: int) -> Image:
        """Return a target-sized picture of the padding colour, for `cut`."""
        return np.full((*self.target, 3), pad, np.uint8)

    def cut(self, picture: Picture, out: Image) -> None:
        """Resize the picture into its place in `out` (from `blank`; H x W x 3 uint8 BGR); padding is not touched."""
        (top, left), (height, width) = self.offset, self.content
        place = out[top : top + height, left : left + width]
        if picture.planes is None:
            place[:] = cv2.resize(picture.bgr, (width, height), interpolation=cv2.INTER_LINEAR)
        else:
            place[:] = _resize_planes(picture.planes, (width, height))

    def uncut(self, picture: Picture, pad: int) -> Uncut:
        """Return the whole picture with what an engine needs to do the same as `blank` and `cut`."""
        planes = picture.planes
        if planes is None:
            return Uncut((picture.bgr,), self.content, self.offset, pad)
        to_bgr = yuv_to_bgr(planes.matrix, planes.full_range)
        return Uncut((planes.y, planes.u, planes.v), self.content, self.offset, pad, to_bgr)

    def to_source(self, boxes: FloatArray) -> FloatArray:
        """Map (N, 4) xyxy boxes from the model's input to the frame; not clipped."""
        return self.points_to_source(boxes.reshape(-1, 2, 2)).reshape(-1, 4)

    def points_to_source(self, points: FloatArray) -> FloatArray:
        """Map (..., 2) points, x and y, from the model's input to the frame."""
        scale = np.array([self.source[1] / self.content[1], self.source[0] / self.content[0]], np.float32)
        shift = np.array([self.offset[1], self.offset[0]], np.float32)
        return np.asarray((points - shift) * scale, np.float32)

    def to_target(self, boxes: FloatArray) -> FloatArray:
        """Map (N, 4) xyxy boxes from the frame to the model's input."""
        scale = np.array([self.content[1] / self.source[1], self.content[0] / self.source[0]] * 2, np.float32)
        shift = np.array([self.offset[1], self.offset[0]] * 2, np.float32)
        return np.asarray(boxes * scale + shift, np.float32)


SIZES_KEPT = 16
"""Input buffers kept for pictures of different sizes; a folder of photos may have thousands."""


class Letterboxes:
    """Cuts pictures of any size for one model, into buffers that are used again."""

    def __init__(self, target: tuple[int, int], fit: Fit, pad: int) -> None:
        """See `Letterbox.plan` and `Letterbox.blank`."""
        self._target, self._fit, self._pad = target, fit, pad
        self._kept: dict[tuple[int, int], tuple[Letterbox, Image]] = {}

    def cut(self, picture: Picture) -> tuple[Letterbox, Image]:
        """Cut the model's input, H x W x 3 uint8 BGR; the array is reused for the next picture of this size."""
        plan, buffer = self._at(picture)
        plan.cut(picture, buffer)
        return plan, buffer

    def start(self, engine: Engine, pictures: Sequence[Picture]) -> tuple[list[Letterbox], Pending]:
        """Start one request on pictures of any sizes; their pixels may be let go at once.

        They are cut by the engine where it does that, else here.
        """
        if engine.cuts_frames:
            plans = [self._at(picture)[0] for picture in pictures]
            frames = [plan.uncut(picture, self._pad) for plan, picture in zip(plans, pictures, strict=True)]
            return plans, cast(CutsFrames, engine).submit_frames(frames)
        if len(pictures) == 1:
            plan, buffer = self.cut(pictures[0])
            return [plan], engine.submit(buffer[None])
        plans, batch = [], np.empty((len(pictures), *self._target, 3), np.uint8)
        for place, picture in zip(batch, pictures, strict=True):
            plan, place[:] = self.cut(picture)
            plans.append(plan)
        return plans, engine.submit(batch)

    def _at(self, picture: Picture) -> tuple[Letterbox, Image]:
        size = (picture.height, picture.width)
        if size not in self._kept:
            if len(self._kept) >= SIZES_KEPT:
                self._kept.clear()
            plan = Letterbox.plan(size, self._target, self._fit)
            self._kept[size] = plan, plan.blank(self._pad)
        return self._kept[size]


def _resize_planes(planes: Planes, size: tuple[int, int]) -> Image:
    parts = [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in (planes.y, planes.u, planes.v)]
    return np.asarray(cv2.transform(cv2.merge(parts), yuv_to_bgr(planes.matrix, planes.full_range)), dtype=np.uint8)
