"""Masks: crops that behave as the (N, H, W) array they stand for, and where logits end up in the frame."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engines.spec import Fit
from pipeline.infer.letterbox import Letterbox
from pipeline.infer.masks import masks_in_frame
from pipeline.masks import Masks

Array = npt.NDArray[Any]
DENSE = hnp.arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 11)))


@given(DENSE)
def test_masks_stand_for_the_array_that_they_were_made_from(dense: Array) -> None:
    masks = Masks.of(dense)
    assert masks.shape == dense.shape
    assert len(masks) == len(dense)
    assert np.array_equal(masks.dense(), dense)
    assert np.array_equal(np.asarray(masks), dense)
    assert np.asarray(masks, np.float32).dtype == np.float32
    assert Masks.of(masks) is masks
    assert sum(crop.size for crop in masks.crops) <= dense.size


@pytest.mark.parametrize(
    "index",
    [slice(1, 3), slice(None, None, -1), [True, False, True, False], np.zeros(4, bool), [3, 0], [1, 1, -1], []],
)
def test_several_are_chosen_as_numpy_chooses_them_and_stay_crops(index: Any) -> None:
    dense = np.random.default_rng(0).random((4, 6, 5)) > 0.5
    chosen = Masks.of(dense)[index]
    assert isinstance(chosen, Masks)
    assert np.array_equal(chosen.dense(), dense[index if len(np.shape(index)) == 0 else np.arange(4)[index]])


def test_one_object_or_a_place_in_the_frame_is_given_as_numpy_gives_it() -> None:
    dense = np.random.default_rng(0).random((4, 6, 5)) > 0.5
    masks = Masks.of(dense)
    assert np.array_equal(masks[-1], dense[-1])
    assert np.array_equal(masks[:, 2, 1:3], dense[:, 2, 1:3])
    assert [each.shape for each in masks] == [(6, 5)] * 4  # type: ignore[attr-defined]
    with pytest.raises(IndexError):
        masks[4]


def test_masks_of_one_frame_are_joined_and_others_refused() -> None:
    dense = np.random.default_rng(0).random((3, 6, 5)) > 0.5
    parts = [Masks.of(dense[:1]), Masks.of(dense[1:1]), Masks.of(dense[1:])]
    assert np.array_equal(Masks.concatenate(parts).dense(), dense)
    with pytest.raises(ValueError, match=r"sizes"):
        Masks.concatenate([Masks.of(dense), Masks.of(np.zeros((1, 4, 4)))])
    with pytest.raises(ValueError, match="no sizes"):
        Masks.concatenate([])
    with pytest.raises(ValueError, match=r"\(N, H, W\), not \(4, 4\)"):
        Masks.of(np.zeros((4, 4)))


def test_masks_of_a_part_of_a_frame_move_into_it() -> None:
    dense = np.random.default_rng(0).random((2, 6, 5)) > 0.5
    whole = Masks.of(dense).moved(7, 3, (20, 30)).dense()
    assert np.array_equal(whole[:, 3:9, 7:12], dense)
    assert whole.sum() == dense.sum()


@given(DENSE)
def test_exact_outlines_drawn_again_are_the_mask_without_its_holes(dense: Array) -> None:
    for mask, polygons in zip(dense, Masks.of(dense).polygons(0), strict=True):
        outer, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), outer, -1, 1, -1)
        assert np.array_equal(_inside(polygons, mask.shape), filled.astype(bool))


def _inside(polygons: list[list[float]], shape: tuple[int, ...]) -> Array:
    """Return which pixels have their centres inside: an even number of edges to the left is outside."""
    x, y = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        crossings = np.zeros(shape, int)
        points = np.array(polygon).reshape(-1, 2)
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y1 != y2:
                at = x1 + (y - y1) / (y2 - y1) * (x2 - x1)
                crossings += ((y1 > y) != (y2 > y)) & (at < x)
        inside |= crossings % 2 == 1
    return inside


def test_an_outline_follows_the_edges_of_pixels_and_few_corners_do_for_a_curve() -> None:
    dense = np.zeros((2, 300, 400), np.uint8)
    dense[0, 20:30, 50:90] = 1
    cv2.circle(dense[1], (200, 150), 100, 1, -1)
    (square,), (circle,) = Masks.of(dense).polygons()
    assert sorted(zip(square[::2], square[1::2], strict=True)) == [(50, 20), (50, 30), (90, 20), (90, 30)]
    assert 2 * 12 < len(circle) < 2 * 100
    again = _inside([circle], (300, 400))
    assert (again & dense[1].astype(bool)).sum() / (again | dense[1].astype(bool)).sum() > 0.98


# --- from logits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["letterbox-centre", "letterbox-topleft", "stretch"])
@pytest.mark.parametrize("source", [(270, 480), (479, 271), (40, 50)])
def test_a_shape_in_the_logits_is_where_it_was_in_the_frame(fit: Fit, source: tuple[int, int]) -> None:
    plan = Letterbox.plan(source, (160, 192), fit)
    centre, radius = np.array([source[1] * 0.55, source[0] * 0.4]), 0.25 * min(source)
    y, x = np.mgrid[:40, :48]
    places = plan.points_to_source(np.stack([x + 0.5, y + 0.5], axis=-1).astype(np.float32) * 4)
    logits = (radius - np.linalg.norm(places - centre, axis=-1)).astype(np.float32)
    box = np.array([[*(centre - radius), *(centre + radius)]], np.float32)
    found = masks_in_frame(logits[None], box, plan).dense()[0]
    y, x = np.mgrid[: source[0], : source[1]]
    truth = np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) < radius
    assert (found & truth).sum() / (found | truth).sum() > 0.97


def test_an_object_is_nowhere_outside_its_box() -> None:
    plan = Letterbox.plan((100, 100), (64, 64), "stretch")
    boxes = np.array([[10.4, 20.6, 30.5, 40.4], [0, 0, 100, 100], [50, 50, 50.2, 90], [99.8, 0, 100, 100]], np.float32)
    masks = masks_in_frame(np.ones((4, 16, 16), np.float32), boxes, plan)
    assert [crop.shape for crop in masks.crops] == [(19, 20), (100, 100), (40, 0), (100, 0)]
    assert [int(each.sum()) for each in masks.dense()] == [19 * 20, 10_000, 0, 0]
    assert masks.corners.tolist()[0] == [10, 21]


def test_no_objects_have_no_masks() -> None:
    plan = Letterbox.plan((100, 120), (64, 64), "stretch")
    masks = masks_in_frame(np.empty((0, 16, 16), np.float32), np.empty((0, 4), np.float32), plan)
    assert masks.shape == (0, 100, 120)
    assert masks.polygons() == []
