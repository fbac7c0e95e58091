"""Which pictures are worth detecting in: noise and light are no motion, things that move are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.arrays import Image
from pipeline.infer.motion import MotionGate, MotionOptions, small
from pipeline.picture import Picture, Planes

WIDTH, HEIGHT, FPS = 640, 360, 25
SCENE = cv2.resize(
    np.random.default_rng(0).integers(40, 180, (HEIGHT // 20, WIDTH // 20)).astype(np.uint8), (WIDTH, HEIGHT)
)
Change = Callable[[Any, int], Any]


def planes(luma: Any) -> Picture:
    data = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    data[:HEIGHT] = luma
    return Picture(planes=Planes(data))


def wanted(frames: int, change: Change, options: MotionOptions | None = None, *, noise: float = 5) -> Sequence[int]:
    """Frames of a still scene that are wanted, each changed; as they would be detected in."""
    gate, random, chosen = MotionGate(options or MotionOptions(keep_alive_s=None)), np.random.default_rng(1), []
    for index in range(frames):
        luma = change(SCENE.copy(), index) + random.normal(0, noise, SCENE.shape)
        if gate.wants("cam", planes(luma.clip(0, 255).astype(np.uint8)), index / FPS):
            chosen.append(index)
            gate.detected("cam", index / FPS)
    return chosen


def still(luma: Image, index: int) -> Image:
    return luma


BEGIN = list(range(FPS + 1))
"""The first frame counts as motion, which holds for a second."""


@pytest.mark.parametrize("noise", [0, 5, 15, 25])
def test_noise_is_no_motion(noise: float) -> None:
    assert wanted(80, still, noise=noise) == BEGIN


def test_light_that_changes_slowly_or_flickers_is_no_motion() -> None:
    assert wanted(150, lambda luma, i: luma * (1 + 0.1 * i / 150)) == BEGIN
    assert wanted(80, lambda luma, i: luma * (1 + 0.05 * (i % 2))) == BEGIN


def walk(luma: Image, index: int) -> Image:
    if 50 <= index < 75:
        luma[150:200, 100 + 6 * index : 120 + 6 * index] = 230
    return luma


def test_what_moves_is_wanted_from_its_first_frame_to_some_time_after_its_last() -> None:
    chosen = wanted(200, walk)
    assert chosen[: FPS + 1] == BEGIN
    assert chosen[FPS + 1 :] == list(range(50, chosen[-1] + 1))
    assert 75 + FPS <= chosen[-1] < 75 + 6 * FPS


def test_the_area_decides_what_is_too_small() -> None:
    assert wanted(90, walk, MotionOptions(area=0.05, keep_alive_s=None)) == BEGIN


def test_what_goes_on_may_be_smaller_than_what_begins() -> None:
    def shrinks(luma: Image, index: int) -> Image:
        if index >= 40:
            side = 40 if index < 44 else 26  # 1600 and 676 of the 230,400 pixels
            luma[100 : 100 + side, 5 * index : 5 * index + side] = 240
        return luma

    options = MotionOptions(area=0.005, hold_s=0.2, keep_alive_s=None)
    large = wanted(90, shrinks, options)
    assert {*range(41, 80)} <= set(large)
    assert set(wanted(90, lambda luma, i: shrinks(luma, i) if i >= 44 else luma, options)).isdisjoint(range(44, 47))


def test_nobody_is_left_alone_for_longer_than_keep_alive() -> None:
    chosen = wanted(120, still, MotionOptions(hold_s=0.0, keep_alive_s=1.0))
    assert chosen == [0, 25, 50, 75, 100]


def test_a_cut_to_another_still_scene_is_looked_at_and_then_let_be() -> None:
    other = SCENE[::-1, ::-1]
    chosen = wanted(150, lambda luma, i: other if i >= 60 else luma)
    assert chosen[len(BEGIN) :] == list(range(60, 60 + FPS + 1))


def test_a_camera_that_turns_moves() -> None:
    assert wanted(60, lambda luma, i: np.roll(luma, 3 * i, axis=1)) == list(range(60))


def test_sources_are_apart_and_begin_anew_after_their_end_a_jump_back_or_another_size() -> None:
    gate = MotionGate(MotionOptions(hold_s=0.0, keep_alive_s=None))
    picture = planes(SCENE)
    assert gate.wants("a", picture, 0.0)
    assert not gate.wants("a", picture, 0.1)
    assert gate.wants("b", planes(SCENE[::-1]), 0.0)
    assert not gate.wants("a", picture, 0.2)
    assert gate.wants("a", picture, 0.0)  # a file that begins again
    assert gate.wants("a", Picture(bgr=np.zeros((90, 90, 3), np.uint8)), 0.1)
    gate.end("b")
    gate.end("never seen")
    assert gate.wants("b", picture, 0.1)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (37, 641), (1080, 1920), (4320, 7680)])
def test_pictures_of_any_size_become_small(size: tuple[int, int]) -> None:
    cells = small(Picture(bgr=np.full((*size, 3), 9, np.uint8)))
    assert 1 <= cells.shape[0] <= size[0]
    assert 1 <= cells.shape[1] <= 160
    assert (cells == 9).all()
    gate = MotionGate(MotionOptions())
    for time_s in (0.0, 0.1):
        gate.wants("a", Picture(bgr=np.zeros((*size, 3), np.uint8)), time_s)
