"""Masks made as large as the frame: the guided filter against a plain one, and what it does to edges."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.arrays import FloatArray, Image
from pipeline.infer.mask_edges import MIDDLE, MOST_RADIUS, Upscaler, guided, radius_for
from pipeline.picture import Picture, bgr_to_planes
from pipeline.postprocess.soft_map import SoftMap, blend

Array = npt.NDArray[np.float64]


def plain_guided_filter(guide: Image, values: FloatArray, radius: int, smoothness: float) -> Array:
    """Algorithm 1 of He, Sun and Tang, "Guided Image Filtering" (2010), pixel by pixel, in double precision."""
    height, width = guide.shape
    light = np.pad(guide.astype(np.float64), radius, mode="symmetric")
    value = np.pad(values.astype(np.float64), radius, mode="symmetric")
    a, b = np.empty((height, width)), np.empty((height, width))
    side = 2 * radius + 1
    for y in range(height):
        for x in range(width):
            lights, inside = light[y : y + side, x : x + side], value[y : y + side, x : x + side]
            covariance = (lights * inside).mean() - lights.mean() * inside.mean()
            a[y, x] = covariance / (lights.var() + smoothness)
            b[y, x] = inside.mean() - a[y, x] * lights.mean()
    result = np.empty((height, width))
    a, b = (np.pad(each, radius, mode="symmetric") for each in (a, b))
    for y in range(height):
        for x in range(width):
            means = [each[y : y + side, x : x + side].mean() for each in (a, b)]
            result[y, x] = means[0] * guide[y, x] + means[1]
    return result


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("smoothness", [1.0, 30.0, 1000.0])
def test_the_filter_is_the_one_of_the_paper(radius: int, smoothness: float) -> None:
    random = np.random.default_rng(radius)
    guide = random.integers(0, 256, (14, 19)).astype(np.uint8)
    values = random.random((2, 14, 19)).astype(np.float32)
    a, b = guided(guide, values, radius, smoothness)
    for number in range(2):
        expected = plain_guided_filter(guide, values[number], radius, smoothness)
        np.testing.assert_allclose(a[number] * guide + b[number], expected, atol=2e-4)


def half_and_half(edge: int, levels: tuple[int, int] = (60, 180), size: tuple[int, int] = (180, 320)) -> Picture:
    bgr = np.full((*size, 3), levels[0], np.uint8)
    bgr[:, edge:] = levels[1]
    return Picture(bgr=bgr)


def soft_edge(place: float, width: float, size: tuple[int, int] = (36, 64)) -> SoftMap:
    """Foreground right of `place`, in parts of the width, with an edge so many pixels wide."""
    across = (np.arange(size[1]) + 0.5) / size[1]
    values = np.clip((across - place) * size[1] / width + 0.5, 0, 1).astype(np.float32)
    plane = np.broadcast_to(values, size)
    return SoftMap((1, 0), np.stack([plane, 1 - plane]))


def edge_of(classes: Image) -> float:
    return float((classes == 0).sum(axis=1).mean())


def test_an_edge_moves_to_that_of_the_picture() -> None:
    soft, picture = soft_edge(0.52, 6), half_and_half(160)
    plain, _ = Upscaler(edges=False)(soft, picture, {1})
    sharp, alpha = Upscaler(edges=True, radius=3)(soft, picture, {1})
    assert abs(edge_of(plain) - 160) > 5
    assert abs(edge_of(sharp) - 160) <= 1
    assert alpha[:, :120].max() <= 12, "no halo on flat areas"
    assert alpha[:, 200:].min() >= 243, "no halo on flat areas"


def test_planes_and_bgr_give_the_same_edge() -> None:
    soft, picture = soft_edge(0.52, 6), half_and_half(160)
    same = Picture(planes=bgr_to_planes(picture.bgr))
    first, second = (Upscaler(edges=True, radius=3)(soft, each, {1}) for each in (picture, same))
    assert (first[0] == second[0]).mean() > 0.99


def test_where_the_picture_has_no_edge_the_mask_keeps_its_own() -> None:
    soft, flat = soft_edge(0.4, 2), half_and_half(160, (90, 90))
    _, plain = Upscaler(edges=False)(soft, flat, {1})
    classes, alpha = Upscaler(edges=True, radius=1)(soft, flat, {1})
    assert abs(edge_of(classes) - 0.4 * 320) <= 1
    assert np.abs(alpha.astype(int) - plain).mean() < 4


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 3, 5])
@pytest.mark.parametrize("foreground", [set(), {1}, {1, 3}, {0, 1, 2, 3, 4}])
def test_alpha_says_the_same_as_the_classes(edges: bool, classes: int, foreground: set[int]) -> None:
    random = np.random.default_rng(classes)
    scores = cv2.GaussianBlur(random.normal(size=(20, 30, classes)) * 12, (5, 5), 0).reshape(20, 30, classes)
    powers = np.exp(scores).transpose(2, 0, 1)
    soft = SoftMap(tuple(range(classes)), np.asarray(powers / powers.sum(axis=0), np.float32))
    picture = Picture(bgr=random.integers(0, 256, (61, 95, 3)).astype(np.uint8))
    found, alpha = Upscaler(edges=edges)(soft, picture, foreground)
    assert found.shape == alpha.shape == (61, 95)
    assert found.dtype == alpha.dtype == np.uint8
    np.testing.assert_array_equal(alpha >= MIDDLE, np.isin(found, list(foreground)))
    assert set(np.unique(found)) <= set(soft.ids)


def test_a_map_as_large_as_the_frame_is_taken_as_it_is() -> None:
    soft = soft_edge(0.5, 2, (40, 60))
    found, _ = Upscaler(edges=False)(soft, Picture(bgr=np.zeros((40, 60, 3), np.uint8)), {1})
    np.testing.assert_array_equal(found, soft.values[0] > 0.5)


def test_sizes_may_change_from_picture_to_picture() -> None:
    upscale = Upscaler()
    for size in ((90, 160), (45, 80), (91, 163), (90, 160)):
        found, _ = upscale(soft_edge(0.5, 2), half_and_half(size[1] // 2, size=size), {1})
        assert found.shape == size
        assert abs(edge_of(found) - size[1] / 2) <= 2


@pytest.mark.parametrize(("width", "radius"), [(1, 1), (6, 2), (12, 4), (60, MOST_RADIUS)])
def test_the_radius_follows_the_width_of_edges(width: float, radius: int) -> None:
    assert abs(radius_for([soft_edge(0.5, width)]) - radius) <= 1


def test_the_radius_of_maps_without_edges_is_the_usual_one() -> None:
    assert radius_for([]) == radius_for([SoftMap((0,), np.ones((1, 8, 8), np.float32))])


def test_blending_maps_with_other_classes_keeps_sums_of_1() -> None:
    first = SoftMap((0, 3), np.array([[[0.75]], [[0.25]]], np.float32))
    second = SoftMap((5, 0), np.array([[[0.5]], [[0.5]]], np.float32))
    mixed = blend(first, second, 0.5)
    assert dict(zip(mixed.ids, mixed.values[:, 0, 0].tolist(), strict=True)) == {0: 0.625, 3: 0.125, 5: 0.25}
