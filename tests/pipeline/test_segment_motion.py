"""Flow from picture to picture, and maps that move with it or are averaged: on pictures whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.arrays import FloatArray, Image
from pipeline.infer.mask_motion import GAP_S, Memory, Step, Steps
from pipeline.picture import Picture, bgr_to_planes
from pipeline.postprocess.flow import (
    backward_flow,
    is_consistent,
    small_luma,
    warp,
)
from pipeline.postprocess.soft_map import SoftMap
from pipeline.shrink import shrunk

SIZE = (180, 320)
RADIUS = 40


def texture(seed: int, size: tuple[int, int] = SIZE, level: int = 120) -> Image:
    """Return shades of all sizes, as pictures have them."""
    noise = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    shades = [cv2.GaussianBlur(noise, (0, 0), sigma) for sigma in (2, 6, 18)]
    return np.asarray(np.clip(level + sum(25 * each / each.std() for each in shades), 0, 255), np.uint8)


BEHIND, BODY = texture(1), texture(2, level=150)


def disk(across: float, down: float, size: tuple[int, int] = SIZE, radius: float = RADIUS) -> FloatArray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.asarray(np.clip(radius - np.hypot(x - across, y - down) + 0.5, 0, 1), np.float32)


def scene(across: int, down: int = 90) -> Picture:
    """A textured disk before a textured wall."""
    moved = np.roll(BODY, (down - 90, across - 160), axis=(0, 1))
    alpha = disk(across, down)
    luma = np.asarray(alpha * moved + (1 - alpha) * BEHIND, np.uint8)
    return Picture(planes=bgr_to_planes(np.dstack([luma] * 3)))


def soft_disk(across: float, down: float = 90) -> SoftMap:
    """What a model would say, at a quarter of the size."""
    plane = cv2.resize(disk(across, down), (SIZE[1] // 4, SIZE[0] // 4), interpolation=cv2.INTER_AREA)
    return SoftMap((1, 0), np.stack([plane, 1 - plane]))


def iou(first: SoftMap, second: SoftMap) -> float:
    a, b = first.values[0] > 0.5, second.values[0] > 0.5
    return float((a & b).sum() / (a | b).sum())


def test_flow_leads_back_to_where_things_were() -> None:
    first, second = texture(3, (90, 160)), np.roll(texture(3, (90, 160)), (2, -3), axis=(0, 1))
    flow = backward_flow(first, second)[15:-15, 15:-15]
    assert np.median(flow.reshape(-1, 2), axis=0) == pytest.approx([3, -2], abs=0.1)
    assert np.abs(flow - [3, -2]).mean() < 0.3
    moved = warp(first, backward_flow(first, second))
    assert np.abs(moved.astype(int) - second)[15:-15, 15:-15].mean() < 4


def test_a_flow_moves_pictures_of_any_size() -> None:
    flow = np.zeros((45, 80, 2), np.float32)
    flow[..., 0], flow[..., 1] = 2, -1
    large = texture(4)
    expected = np.roll(large, (4, -8), axis=(0, 1))
    for values in (large, np.dstack([large] * 3), large.astype(np.float32)):
        moved = warp(values, flow)
        assert moved.shape == values.shape
        assert moved.dtype == values.dtype
        found = moved if moved.ndim == 2 else moved[..., 0]
        np.testing.assert_allclose(found[8:, :-12], expected[8:, :-12], atol=1)
    smaller = warp(large, flow, (90, 160))
    assert smaller.shape == (90, 160)
    assert np.abs(smaller[4:, :-6].astype(int) - cv2.resize(expected, (160, 90))[4:, :-6]).mean() < 3


def test_what_comes_into_sight_is_not_consistent() -> None:
    first, second = (small_luma(scene(across)) for across in (148, 160))
    consistent = is_consistent(backward_flow(second, first), backward_flow(first, second))
    shown = shrunk((np.minimum(disk(148, 90), 1 - disk(160, 90)) * 255).astype(np.uint8), consistent.shape) > 200
    body = shrunk((disk(160, 90, radius=25) * 255).astype(np.uint8), consistent.shape) > 200
    assert consistent[body].mean() > 0.95
    assert consistent[shown].mean() < 0.5
    assert consistent[:, -30:].mean() > 0.95


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (15, 15), (17, 16), (700, 31)])
def test_pictures_of_any_size_have_a_flow(size: tuple[int, int]) -> None:
    steps = Steps()
    assert steps.to(Picture(bgr=np.zeros((*size, 3), np.uint8)), 0) is None
    step = steps.to(Picture(bgr=np.full((*size, 3), 3, np.uint8)), 0.04)
    assert step is not None
    assert not step.flow.any()
    assert np.all((step.trust > 0.8) & (step.trust < 1))


def test_what_stands_has_no_flow_and_what_moves_has() -> None:
    steps = Steps()
    steps.to(scene(100), 0)
    step = steps.to(scene(104), 0.04)
    assert step is not None
    assert step.flow.shape == (90, 160, 2)
    assert np.abs(step.flow[:, 90:]).mean() < 0.01, "the wall, far from the disk"
    assert np.median(step.flow[35:55, 42:62, 0]) == pytest.approx(-2, abs=0.3), "inside the disk, in half its size"


def test_a_moved_map_stays_on_what_moves() -> None:
    steps, memory = Steps(), Memory()
    steps.to(scene(100), 0)
    memory.renew(soft_disk(100), 0, 0)
    for number in (1, 2, 3):
        moved = memory.move(steps.to(scene(100 + 5 * number), number / 25))
    assert moved is not None
    assert iou(moved, soft_disk(115)) > 0.78
    assert iou(soft_disk(100), soft_disk(115)) < 0.65, "without being moved"
    np.testing.assert_allclose(moved.values.sum(axis=0), 1, atol=1e-5)


def test_a_map_follows_a_camera_that_turns() -> None:
    steps, memory = Steps(), Memory()
    steps.to(scene(160), 0)
    memory.renew(soft_disk(160), 0, 0)
    for number in range(1, 6):
        turned = Picture(bgr=np.roll(scene(160).bgr, (2 * number, 6 * number), axis=(0, 1)))
        moved = memory.move(steps.to(turned, number / 25))
    assert moved is not None
    assert iou(moved, soft_disk(190, 100)) > 0.93


def test_nothing_is_moved_over_a_cut_a_gap_a_jump_back_or_another_size() -> None:
    other = Picture(bgr=np.dstack([255 - texture(9, level=60)] * 3))
    larger = Picture(bgr=np.zeros((360, 640, 3), np.uint8))
    for picture, time_s in ((other, 0.04), (scene(100), GAP_S + 0.1), (scene(100), -0.1), (larger, 0.04)):
        steps, memory = Steps(), Memory()
        assert steps.to(scene(100), 0) is None
        memory.renew(soft_disk(100), 0, 0.1)
        assert memory.move(steps.to(picture, time_s)) is None
        assert memory.move(steps.to(picture, time_s + 0.04)) is None, "it is forgotten"


def still(trust: float = 1.0) -> Step:
    return Step(np.zeros((45, 80, 2), np.float32), np.full((45, 80), trust, np.float32))


maps = some.integers(0, 10_000).map(
    lambda seed: SoftMap((1, 0), np.stack([each := np.random.default_rng(seed).random((9, 16), np.float32), 1 - each]))
)


@settings(max_examples=30, deadline=None)
@given(first=maps, second=maps, step_s=some.floats(0, 2), smooth_s=some.floats(0.01, 2), trust=some.floats(0, 1))
def test_an_average_lies_between_what_was_and_what_is(
    first: SoftMap, second: SoftMap, step_s: float, smooth_s: float, trust: float
) -> None:
    memory = Memory()
    memory.renew(first, 0, smooth_s)
    memory.move(still(trust))
    mixed = memory.renew(second, step_s, smooth_s)
    low, high = np.minimum(first.values, second.values), np.maximum(first.values, second.values)
    assert (mixed.values >= low - 1e-5).all()
    assert (mixed.values <= high + 1e-5).all()
    np.testing.assert_allclose(mixed.values.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("pictures", [1, 5, 20])
def test_the_average_depends_on_time_not_on_the_number_of_pictures(pictures: int) -> None:
    nothing, everything = (SoftMap((1, 0), np.full((2, 4, 4), level, np.float32)) for level in (0, 1))
    memory = Memory()
    memory.renew(nothing, 0, 0.2)
    for number in range(1, pictures + 1):
        memory.move(still())
        mixed = memory.renew(everything, 0.2 * number / pictures, 0.2)
    assert float(mixed.values[0, 0, 0]) == pytest.approx(1 - np.exp(-1), abs=1e-4)


def test_what_stays_the_same_is_left_the_same_and_what_changed_does_not_lag() -> None:
    memory, soft = Memory(), soft_disk(160)
    memory.renew(soft, 0, 1)
    memory.move(still())
    np.testing.assert_allclose(memory.renew(soft, 0.04, 1).values, soft.values, atol=1e-6)
    memory.move(still(trust=0))
    np.testing.assert_allclose(memory.renew(soft_disk(60), 0.08, 1).values, soft_disk(60).values, atol=1e-6)


def test_noise_in_maps_of_a_still_picture_is_less() -> None:
    random, memory, steps = np.random.default_rng(0), Memory(), Steps()
    plain, smoothed = [], []
    for number in range(20):
        noisy = (soft_disk(160).values[0] + random.normal(0, 0.1, (45, 80))).clip(0, 1).astype(np.float32)
        soft = SoftMap((1, 0), np.stack([noisy, 1 - noisy]))
        memory.move(steps.to(scene(160), number / 25))
        plain.append(soft.values[0])
        smoothed.append(memory.renew(soft, number / 25, 0.1).values[0])
    flicker = [np.abs(np.diff(each[5:], axis=0)).mean() for each in (np.array(plain), np.array(smoothed))]
    assert flicker[1] < 0.5 * flicker[0]
