"""Steady: what was painted of the last picture, moved along with the picture, keeps the next painting from flickering.

A style network sees each picture by itself, and paints another stroke for a bit of noise. So the last result is moved
by optical flow to where things are now, and most of it is kept, where that can be trusted: where the flow forward and
back agree, and where the picture itself, moved the same way, looks as it does now. What comes into sight, a cut, or a
wrong flow gets what was painted anew. Sources: Ruder et al., "Artistic Style Transfer for Videos" (2016), section 4;
the check of both directions is in `flow`.

Where things move, less is kept: each move is a resampling that softens, and flicker is seen less there. Measured on
a walking crowd and a talking face, against painting each picture by itself: see docs/stylization.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from pipeline.postprocess.flow import backward_flow, is_consistent, is_new_scene, places_of, warp

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray, Image

FLOW_WIDTH = 192
"""Pixels of the longer side of the pictures whose flow is computed: with 160 a walker at 100 pixels' height is followed
less well (10 % more flicker), with 320 it costs twice as much."""
SAME, OTHER = 10.0, 30.0
"""Grey levels by which a pixel may differ from where it came from: up to the first it counts fully, from the second on
not at all. Half of that loses half of the effect in noisy video, for nothing that can be seen."""
MOVING, MOVING_PART = 2.0, 0.6
"""Pixels of a painting by which something moves from picture to picture, and which part is kept there of what is kept
where nothing moves. With 1 instead of 0.6 a moving face has a third of its fine strokes left, with 0.6 over half."""
AROUND = 9
"""Pixels a side around each, among whose values in the new painting those of the old one must be. What a network paints
depends on what is near: without this, strokes that belonged to a passer-by stay on the wall behind, and fade."""
SAMPLED = 4
"""The warping error is that of every so many-th pixel, in both directions."""


class Steady:
    """Keeps the paintings of one source steady."""

    def __init__(self, stable: float) -> None:
        """Know nothing.

        Args:
            stable: part of what is kept where nothing moves, 0..1.
        """
        self._stable = stable
        self._luma: Image | None = None
        self._values: Image | None = None
        self.errors = 0
        """Pictures of which there is a warping error."""
        self._error_sum = 0.0

    def update(self, luma: Image, values: Image) -> Image:
        """Return what to show of a new painting.

        Args:
            luma: (h, w) uint8, the picture made small.
            values: (H, W) or (H, W, C) uint8, what was painted; luma first, or any channels.
        """
        shown = values if self._stable == 0 else self._blended(luma, values)
        self._luma, self._values = luma, shown
        return shown

    def carry(self, luma: Image) -> Image | None:
        """Return the last painting moved to a picture of which there is none; None: there is nothing to move."""
        last, values = self._luma, self._values
        if last is None or values is None or last.shape != luma.shape:
            self.forget()
            return None
        back = backward_flow(last, luma)
        if is_new_scene(warp(last, back), luma):
            self.forget()
            return None
        self._luma, self._values = luma, _moved(values, back)
        return self._values

    def _blended(self, luma: Image, values: Image) -> Image:
        last, kept = self._luma, self._values
        if last is None or kept is None or last.shape != luma.shape or kept.shape != values.shape:
            return values
        back = backward_flow(last, luma)
        moved_luma = warp(last, back)
        if is_new_scene(moved_luma, luma):
            return values
        forward = backward_flow(luma, last)
        trusted = trust(moved_luma, luma, forward, back)
        height, width = values.shape[:2]
        still = stillness(back, width / luma.shape[1])
        small = self._stable * trusted * still
        weight = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        moved = _within(_moved(kept, back), values)
        shown = np.asarray(cv2.blendLinear(moved, values, weight, 1 - weight), np.uint8)
        shown = shown.reshape(values.shape)
        self._note_error(shown, moved, trusted)
        return shown

    def _note_error(self, shown: Image, moved: Image, trusted: FloatArray) -> None:
        first = (..., 0) if shown.ndim == 3 else ...
        now, before = (each[::SAMPLED, ::SAMPLED][first].astype(np.float32) for each in (shown, moved))
        mask = cv2.resize(trusted, (now.shape[1], now.shape[0]), interpolation=cv2.INTER_NEAREST) > 0.5
        if mask.any():
            self.errors += 1
            self._error_sum += float(np.square((now - before)[mask] / 255).mean())

    @property
    def warping_error(self) -> float:
        """Mean squared difference of each result to the last one, moved, where the flow can be trusted; 1: all.

        Source: Lai et al., "Learning Blind Video Temporal Consistency" (2018), equation 6; here of the first channel.
        """
        return self._error_sum / self.errors if self.errors else 0.0

    def forget(self) -> None:
        """Know nothing again, but for the warping error so far."""
        self._luma = self._values = None


def trust(moved: Image, luma: Image, forward: FloatArray, back: FloatArray) -> FloatArray:
    """Return (h, w) float32, 0..1: how far what the flow says of each pixel can be trusted.

    Args:
        moved: (h, w) uint8, the last luma moved by `back`.
        luma: of this picture.
        forward: (h, w, 2), from the last picture to this one.
        back: the same from this one to the last.
    """
    off = cv2.blur(cv2.absdiff(moved, luma), (3, 3)).astype(np.float32)
    alike = np.clip((OTHER - off) / (OTHER - SAME), 0, 1)
    return np.asarray(cv2.blur(alike * is_consistent(forward, back), (3, 3)), np.float32)


def stillness(back: FloatArray, scale: float) -> FloatArray:
    """Return (h, w) float32: 1 where nothing moves, down to `MOVING_PART`.

    Args:
        back: (h, w, 2) flow.
        scale: pixels of a painting to one of it.
    """
    speed = cv2.magnitude(back[..., 0], back[..., 1])
    part = np.minimum(speed, MOVING / scale) * (scale / MOVING)
    return np.asarray(1 - (1 - MOVING_PART) * part, np.float32)


def _within(moved: Image, values: Image) -> Image:
    """Limit what was moved to what the new painting has around each pixel, channel by channel.

    Source: Karis, "High Quality Temporal Supersampling" (SIGGRAPH 2014), neighbourhood clamping.
    """
    around = np.ones((AROUND, AROUND), np.uint8)
    lowest, highest = cv2.erode(values, around), cv2.dilate(values, around)
    return np.asarray(cv2.min(cv2.max(moved, lowest), highest), np.uint8).reshape(values.shape)


def _moved(values: Image, back: FloatArray) -> Image:
    """Move values by a flow, with cubic interpolation: linear leaves a fifth less of fine strokes."""
    places = places_of(back, (values.shape[0], values.shape[1]))
    none: Any = None  # which OpenCV takes, whatever its stubs say
    moved = cv2.remap(values, places, none, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8).reshape(values.shape)
