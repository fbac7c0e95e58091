"""Keeping paintings steady: flicker falls, what moves is followed, what is uncovered leaves no trail."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.arrays import Image
from pipeline.postprocess.steady import Steady

HEIGHT, WIDTH = 96, 160
RANDOM = np.random.default_rng(0)


def texture(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def flickering(luma: Image, seed: int) -> Image:
    """A painting of a picture: in colour, with strokes that differ each time."""
    noise = np.random.default_rng(seed).normal(0, 12, (*luma.shape, 3))
    return np.clip(luma[..., None] * 0.7 + 40 + noise, 0, 255).astype(np.uint8)


def updated(steady: Steady, luma: Image, values: Image) -> Image:
    """Give a painting of one layer; return what is shown."""
    (shown,) = steady.update(luma, (values,))
    return shown


def squared(one: Image, other: Image) -> float:
    return float(np.square(one.astype(float) - other).mean())


def test_of_a_still_picture_flicker_falls_to_a_tenth_and_less() -> None:
    luma, steady = texture(), Steady(0.8)
    painted = [flickering(luma, seed) for seed in range(20)]
    shown = [updated(steady, luma, values) for values in painted]
    before, after = (squared(each[-1], each[-2]) for each in (painted, shown))
    assert after < before / 10


def test_the_first_painting_and_every_one_without_stability_are_shown_as_they_are() -> None:
    luma, steady = texture(), Steady(0.8)
    first = flickering(luma, 0)
    assert np.array_equal(updated(steady, luma, first), first)
    loose = Steady(0.0)
    for seed in range(3):
        values = flickering(luma, seed)
        assert np.array_equal(updated(loose, luma, values), values)
    assert loose.errors == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_a_texture_that_moves_is_followed(channels: int) -> None:
    wide = texture(width=WIDTH + 80)
    steady, previous = Steady(0.8), None
    moved, stayed = [], []
    for step in range(12):
        luma = np.ascontiguousarray(wide[:, 3 * step : 3 * step + WIDTH])
        values = flickering(luma, step)
        values = values if channels == 3 else np.ascontiguousarray(values[..., 0])
        shown = updated(steady, luma, values)
        assert shown.shape == values.shape
        if previous is not None and step > 3:
            inner = (slice(10, -10), slice(10, -14))
            followed = np.roll(previous[0], -3, axis=1)
            moved.append(squared(shown[inner], followed[inner]))
            stayed.append(squared(values[inner], np.roll(previous[1], -3, axis=1)[inner]))
        previous = (shown, values)
    assert np.mean(moved) < np.mean(stayed) / 4


def test_what_something_uncovers_has_no_trail_of_it() -> None:
    """A black square moves over a grey texture; behind it, the painting is at once that of the texture."""
    background = (texture() // 2 + 100).astype(np.uint8)
    steady = Steady(0.95)
    for step in range(12):
        luma = background.copy()
        left = 10 + 8 * step
        luma[30:66, left : left + 30] = 0
        shown = updated(steady, luma, np.repeat(luma[..., None], 3, axis=2))
    trail = (slice(34, 62), slice(left - 40, left - 2))
    ghost = abs(shown[trail].astype(int) - luma[trail][..., None])
    assert ghost.mean() < 4
    assert np.quantile(ghost, 0.99) < 25  # a trail would be 75 and more darker


def test_after_a_cut_nothing_of_the_last_scene_is_left() -> None:
    steady = Steady(0.95)
    dark, bright = (texture(seed=seed) // 4 + level for seed, level in ((1, 10), (2, 180)))
    for _ in range(4):
        updated(steady, dark, np.repeat(dark[..., None], 3, axis=2))
    painted = np.repeat(bright[..., None], 3, axis=2)
    assert np.array_equal(updated(steady, bright, painted), painted)


def test_another_size_begins_anew() -> None:
    steady = Steady(0.9)
    updated(steady, texture(), flickering(texture(), 0))
    small = texture(48, 80)
    values = flickering(small, 1)
    assert np.array_equal(updated(steady, small, values), values)
    again = flickering(texture(), 2)
    assert np.array_equal(updated(steady, small, again), again)


def test_the_warping_error_is_that_of_what_was_shown() -> None:
    luma = texture()
    errors = {}
    for stable in (0.3, 0.9):
        steady = Steady(stable)
        for seed in range(8):
            updated(steady, luma, flickering(luma, seed))
        assert steady.errors == 7
        errors[stable] = steady.warping_error
    assert 0 < errors[0.9] < errors[0.3] / 4
    still = Steady(0.9)
    for _ in range(3):
        updated(still, luma, flickering(luma, 0))
    assert still.warping_error < 1e-6


def test_a_painting_is_carried_to_a_picture_that_was_not_painted() -> None:
    wide = texture(width=WIDTH + 40)
    steady = Steady(0.0)
    first, second = (np.ascontiguousarray(wide[:, left : left + WIDTH]) for left in (0, 4))
    assert steady.carry(first) is None
    updated(steady, first, np.repeat(first[..., None], 3, axis=2))
    moved = steady.carry(second)
    assert moved is not None
    (carried,) = moved
    inner = (slice(10, -10), slice(10, -14))
    assert (
        squared(carried[inner], second[..., None].repeat(3, axis=2)[inner]) < squared(first[inner], second[inner]) / 10
    )
    assert steady.carry(255 - second) is None
    assert steady.carry(second) is None


def test_layers_of_any_size_are_moved_together() -> None:
    """Luma and chroma of half its sides, from a picture of odd height; each is what it would be alone, but cubic."""
    wide = texture(97, width=WIDTH + 80)
    together, alone = Steady(0.8), Steady(0.8)
    for step in range(6):
        luma = np.ascontiguousarray(wide[:, 3 * step : 3 * step + WIDTH])
        painted = flickering(luma, step)
        light, colour = np.ascontiguousarray(painted[..., 0]), np.ascontiguousarray(painted[::2, ::2, 1])
        shown = together.update(luma, (light, colour))
        assert np.array_equal(shown[0], updated(alone, luma, light))
        assert shown[1].shape == (49, 80)
    settled = abs(shown[1][6:-6, 6:-12].astype(int) - luma[::2, ::2][6:-6, 6:-12] * 0.7 - 40)
    loose = abs(colour[6:-6, 6:-12].astype(int) - luma[::2, ::2][6:-6, 6:-12] * 0.7 - 40)
    assert settled.mean() < 0.7 * loose.mean()


def test_another_number_of_layers_begins_anew() -> None:
    luma, steady = texture(), Steady(0.9)
    steady.update(luma, (flickering(luma, 0),))
    light, colour = flickering(luma, 1)[..., 0].copy(), flickering(luma, 1)[::2, ::2, 1].copy()
    assert all(map(np.array_equal, steady.update(luma, (light, colour)), (light, colour)))
