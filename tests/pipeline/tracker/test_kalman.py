"""The filter of all tracks at once does what a textbook filter does for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.postprocess.tracker import kalman

BOXES = np.array([[10.0, 20, 50, 120], [300, 40, 420, 90], [5, 5, 26, 37]])
IDENTITY = np.eye(4)


class Textbook:
    """One track with matrices: x' = F x, P' = F P F^T + Q; K = P H^T (H P H^T + R)^-1."""

    def __init__(self, box: Any) -> None:
        place = kalman.centred(box[None])[0]
        size = np.sqrt(place[2] * place[3])
        self.x = np.concatenate([place, np.zeros(4)])
        self.p = np.diag([(kalman.MEASUREMENT * size) ** 2] * 4 + [(kalman.FIRST_SPEED * size) ** 2] * 4)

    def predict(self, dt: float) -> None:
        size = np.sqrt(self.x[2] * self.x[3])
        f = np.block([[IDENTITY, dt * IDENTITY], [0 * IDENTITY, IDENTITY]])
        white = np.kron(np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]), IDENTITY)
        self.x, self.p = f @ self.x, f @ self.p @ f.T + (kalman.ACCELERATION * size) ** 2 * white

    def correct(self, box: Any) -> None:
        place = kalman.centred(box[None])[0]
        r = IDENTITY * (kalman.MEASUREMENT**2 * place[2] * place[3])
        h = np.hstack([IDENTITY, 0 * IDENTITY])
        gain = self.p @ h.T @ np.linalg.inv(h @ self.p @ h.T + r)
        self.x, self.p = self.x + gain @ (place - h @ self.x), (np.eye(8) - gain @ h) @ self.p


def test_all_tracks_at_once_are_filtered_like_each_by_the_textbook() -> None:
    rng = np.random.default_rng(1)
    motion, plain = kalman.begin(BOXES), [Textbook(box) for box in BOXES]
    for _ in range(40):
        after_s = rng.uniform(0, 0.5, len(BOXES))
        seen = BOXES + rng.normal(0, 1, BOXES.shape)
        motion = kalman.correct(kalman.predict(motion, after_s), seen)
        for one, dt, box in zip(plain, after_s, seen, strict=True):
            one.predict(float(dt))
            one.correct(box)
    for row, one in enumerate(plain):
        assert motion.place[row] == pytest.approx(one.x[:4], rel=1e-9)
        assert motion.speed[row] == pytest.approx(one.x[4:], rel=1e-6, abs=1e-9)
        variances = [motion.place_variance[row], motion.covariance[row], motion.speed_variance[row]]
        textbook = [one.p.diagonal()[:4], one.p[:4, 4:].diagonal(), one.p.diagonal()[4:]]
        assert np.array(variances) == pytest.approx(np.array(textbook), rel=1e-6)


@given(
    parts=st.lists(st.floats(0.001, 1), min_size=1, max_size=10),
    speed=st.floats(-300, 300),
)
def test_many_short_steps_are_one_long_step(parts: list[float], speed: float) -> None:
    motion = kalman.begin(BOXES)
    motion.speed[:, :2] = speed  # sizes stay: noise goes by them
    long, short = kalman.predict(motion, np.full(3, sum(parts))), motion
    for part in parts:
        short = kalman.predict(short, np.full(3, part))
    for one, other in zip(long.arrays, short.arrays, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@given(dt=st.floats(0, 3600), width=st.floats(1e-3, 1e6), height=st.floats(1e-3, 1e6))
def test_nothing_becomes_infinite_or_negative(dt: float, width: float, height: float) -> None:
    boxes = np.array([[0, 0, width, height]])
    motion = kalman.begin(boxes)
    for _ in range(3):
        motion = kalman.correct(kalman.predict(motion, np.array([dt])), boxes)
    assert all(np.isfinite(array).all() for array in motion.arrays)
    assert (motion.place_variance > 0).all()
    assert (motion.speed_variance > 0).all()


def test_a_camera_that_turns_and_zooms_takes_the_motion_along() -> None:
    motion = kalman.begin(np.array([[90.0, 40, 110, 60]]))
    motion.speed[:] = [10, 0, 1, 0]
    turned = kalman.warp(motion, np.array([[0.0, -2, 7], [2, 0, 8]]))  # a quarter turn, twice as large
    assert turned.place[0] == pytest.approx([-100 + 7, 200 + 8, 40, 40])
    assert turned.speed[0] == pytest.approx([0, 20, 2, 0])
    assert turned.place_variance[0] == pytest.approx(4 * motion.place_variance[0])
