"""Flow: how a picture has moved since the last one, and values of the last picture moved along with it.

Dense optical flow by DIS in its fastest setting, on the luma of pictures made small: 160 x 90 take 0.6 ms, with patches
less dense 0.27, and what it moves is soft anyhow. It is computed backward, from each pixel of the current picture to
where that was in the previous one: so each pixel of the result is looked up, and none is left empty. Source: Kroeger et
al., "Fast Optical Flow using Dense Inverse Search" (2016); the check of both directions: Sundaram et al., "Dense Point
Trajectories by GPU-accelerated Large Displacement Optical Flow" (2010), equation 5.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import FloatArray, Image
from pipeline.shrink import shrunk

if TYPE_CHECKING:
    from pipeline.masks import BoolArray
    from pipeline.picture import Picture

WIDTH = 160
"""Pixels of a small picture's longer side. Of a person who walks through 640 x 360 that is some 20 x 60."""
FINEST_SCALE = 1
"""Flow is refined down to halves of that. By itself the fastest setting stops at quarters, in 0.12 ms, but there it has
only one scale left: of 5 pixels it found 3.6, of 10 3.5, and so 4.9 and 9.2."""
STRIDE = 4
"""Pixels between patches, at the finest scale: the usual half of their width. 6 takes less than half the time."""
NEW_SCENE = 18.0
"""Mean difference in grey levels that is left when the last picture has been moved: beyond it there was a cut. In 2700
pictures of ten clips nine cuts leave 28 to 77, and nothing else more than 11 (as they are, cuts differ by 33 to 84,
other pictures by up to 21)."""
LEAST_SIDE = 16
"""Smaller pictures have no flow: DIS wants some patches of 8 x 8."""
ABSOLUTE, RELATIVE = 0.5, 0.01
"""Squared pixels, and part of the squared motion, by which two directions may differ (Sundaram et al.)."""


def small_luma(picture: Picture, width: int = WIDTH) -> Image:
    """Return a picture's luma, (h, w) uint8 with a longer side of `width` pixels, or as it is where that is less.

    Green stands for luma where there are no planes.
    """
    luma = picture.bgr[:, :, 1] if picture.planes is None else picture.planes.y
    scale = min(1.0, width / max(luma.shape))
    return shrunk(luma, (max(1, round(luma.shape[0] * scale)), max(1, round(luma.shape[1] * scale))))


def backward_flow(previous: Image, current: Image, stride: int = STRIDE) -> FloatArray:
    """Return (h, w, 2) float32: x and y from each pixel of `current` to its place in `previous`, in pixels.

    Args:
        previous: (h, w) uint8 luma.
        current: the same, later.
        stride: pixels between patches; 8 at most, as wide as they are.
    """
    if min(current.shape) < LEAST_SIDE:
        return np.zeros((*current.shape, 2), np.float32)
    return np.asarray(_dis(stride).calc(current, previous, np.zeros((*current.shape, 2), np.float32)), np.float32)


def _dis(stride: int) -> Any:
    """A new one for each call, which costs 0.01 ms: it keeps buffers that two threads must not share."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dis.setFinestScale(FINEST_SCALE)
    dis.setPatchStride(stride)
    return dis


def is_consistent(forward: FloatArray, backward: FloatArray) -> BoolArray:
    """Return (h, w) bool: where the way back and then forward leads to where it began, so the flow can be trusted.

    What has come into sight, or from behind something, has no counterpart, and fails.

    Args:
        forward: (h, w, 2) from the previous to the current picture: `backward_flow(current, previous)`.
        backward: (h, w, 2) from the current to the previous one.
    """
    returned = warp(forward, backward)
    off = _squared(returned + backward)
    moved = _squared(returned) + _squared(backward)
    height, width = backward.shape[:2]
    x, y = cv2.split(backward + _grid(height, width))
    inside = (np.abs(x - (width - 1) / 2) <= width / 2) & (np.abs(y - (height - 1) / 2) <= height / 2)
    return np.asarray((off <= RELATIVE * moved + ABSOLUTE) & inside)


def _squared(flow: FloatArray) -> FloatArray:
    """Return the (h, w) squared length; a sum over the last axis takes thirty times as long."""
    result: FloatArray = flow[..., 0] ** 2 + flow[..., 1] ** 2
    return result


def warp(values: npt.NDArray[Any], flow: FloatArray, size: tuple[int, int] | None = None) -> npt.NDArray[Any]:
    """Move values of the previous picture to where they are in the current one; those from outside repeat the edge.

    Args:
        values: (H, W) or (H, W, C) uint8 or float32, of the previous picture, of any size.
        flow: (h, w, 2) backward flow, of any size; it is scaled.
        size: height and width of the result; None: those of `values`.
    """
    height, width = size or values.shape[:2]
    places = places_of(flow, (height, width))
    if (height, width) != values.shape[:2]:
        scale = np.array([values.shape[1] / width, values.shape[0] / height], np.float32)
        places = (places + 0.5) * scale - 0.5
    return look_up(values, places)


def look_up(values: npt.NDArray[Any], places: FloatArray) -> npt.NDArray[Any]:
    """Return what (H, W) or (H, W, C) values are at (h, w, 2) places, in between linearly; outside the edge repeats."""
    nothing: Any = None  # OpenCV takes it for "both axes are in the first", its stub does not
    return np.asarray(cv2.remap(values, places, nothing, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def places_of(flow: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Return (H, W, 2) float32: x and y in the previous picture of each pixel of the current one, for `cv2.remap`.

    Args:
        flow: (h, w, 2) backward flow, in pixels of its own size.
        size: height and width of both pictures.
    """
    height, width = size
    if flow.shape[:2] != size:
        across, down = width / flow.shape[1], height / flow.shape[0]
        factors: Any = (across, down, 0, 0)  # for each channel, which OpenCV's stub does not know
        scaled = cv2.multiply(flow, factors)  # NumPy takes five times as long
        flow = np.asarray(cv2.resize(scaled, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    return np.asarray(cv2.add(flow, _grid(height, width)), np.float32)


@lru_cache(maxsize=16)
def _grid(height: int, width: int) -> FloatArray:
    grid = np.empty((height, width, 2), np.float32)
    grid[..., 0], grid[..., 1] = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    grid.flags.writeable = False
    return grid


def is_new_scene(moved: Image, current: Image) -> bool:
    """Return whether there was a cut: the last picture (h, w, uint8 luma) is unlike this one though it was moved."""
    return bool(cv2.norm(moved, current, cv2.NORM_L1) > NEW_SCENE * current.size)
