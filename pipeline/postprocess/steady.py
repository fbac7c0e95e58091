"""Steady: what was painted of the last picture, moved along with the picture, keeps the next painting from flickering.

A style network sees each picture by itself, and paints another stroke for a bit of noise. So the last result is moved
by optical flow to where things are now, and most of it is kept, where that can be trusted: where the flow forward and
back agree, and where the picture itself, moved the same way, looks as it does now. What comes into sight, a cut, or a
wrong flow gets what was painted anew. Sources: Ruder et al., "Artistic Style Transfer for Videos" (2016), section 4;
the check of both directions is in `flow`.

Where things move, less is kept: each move is a resampling that softens, and flicker is seen less there. Measured on
a walking crowd and a talking face, against painting each picture by itself: see docs/stylization.md. Colour is
moved at half the size of light and linearly: of 480 x 360 it takes 5.9 ms of CPU where three channels alike took 7.6,
of 368 x 360 in a square picture 6.5 where they took 10.6, and nothing is less steady.
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
        self._layers: tuple[Image, ...] = ()
        self.errors = 0
        """Pictures of which there is a warping error."""
        self._error_sum = 0.0

    def update(self, luma: Image, layers: tuple[Image, ...]) -> tuple[Image, ...]:
        """Return what to show of a new painting.

        Args:
            luma: (h, w) uint8, the picture made small.
            layers: (H, W) or (H, W, C) uint8 each, what was painted; the first has the strokes, and others, which may
                be smaller, only colour.
        """
        shown = layers if self._stable == 0 else self._blended(luma, layers)
        self._luma, self._layers = luma, shown
        return shown

    def carry(self, luma: Image) -> tuple[Image, ...] | None:
        """Return the last painting moved to a picture of which there is none; None: there is nothing to move."""
        last, layers = self._luma, self._layers
        if last is None or last.shape != luma.shape:
            self.forget()
            return None
        back = backward_flow(last, luma)
        if is_new_scene(warp(last, back), luma):
            self.forget()
            return None
        self._luma, self._layers = luma, _moved(layers, back)
        return self._layers

    def _blended(self, luma: Image, layers: tuple[Image, ...]) -> tuple[Image, ...]:
        last, kept = self._luma, self._layers
        if last is None or last.shape != luma.shape or [each.shape for each in kept] != [each.shape for each in layers]:
            return layers
        back = backward_flow(last, luma)
        moved_luma = warp(last, back)
        if is_new_scene(moved_luma, luma):
            return layers
        trusted = trust(moved_luma, luma, backward_flow(luma, last), back)
        part = self._stable * trusted * stillness(back, layers[0].shape[1] / luma.shape[1])
        moved = [_within(*each) for each in zip(_moved(kept, back), layers, strict=True)]
        shown = tuple(_mixed(*each, part) for each in zip(moved, layers, strict=True))
        self._note_error(shown[0], moved[0], trusted)
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

        Source: Lai et al., "Learning Blind Video Temporal Consistency" (2018), equation 6; here of the first layer.
        """
        return self._error_sum / self.errors if self.errors else 0.0

    def forget(self) -> None:
        """Know nothing again, but for the warping error so far."""
        self._luma, self._layers = None, ()


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
    return np.asarray(cv2.min(cv2.max(moved, lowest), highest), np.uint8)


def _moved(layers: tuple[Image, ...], back: FloatArray) -> tuple[Image, ...]:
    """Move layers by a flow, the first with cubic interpolation: linear leaves a fifth less of fine strokes.

    Of the others, which the eye sees less sharply, linear is enough, and takes a third of the time.
    """
    ways = [cv2.INTER_CUBIC] + [cv2.INTER_LINEAR] * (len(layers) - 1)
    places = {size: places_of(back, size) for size in {(each.shape[0], each.shape[1]) for each in layers}}
    none: Any = None  # which OpenCV takes, whatever its stubs say
    return tuple(
        np.asarray(cv2.remap(each, places[each.shape[:2]], none, way, borderMode=cv2.BORDER_REPLICATE), np.uint8)
        for each, way in zip(layers, ways, strict=True)
    )


def _mixed(moved: Image, layer: Image, part: FloatArray) -> Image:
    weight = cv2.resize(part, (layer.shape[1], layer.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.blendLinear(moved, layer, weight, 1 - weight), np.uint8)
