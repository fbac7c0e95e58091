"""Where the windows of large pictures are: they cover all, overlap, and are even; and who sees to each source's own."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.infer.regions import Regions
from pipeline.infer.tiles import AUTO_MOST, TileOptions, windows
from pipeline.picture import Picture, Rectangle

INPUT = (416, 416)
UHD = (2160, 3840)


def covered(size: tuple[int, int], parts: tuple[Rectangle, ...]) -> Any:
    seen = np.zeros(size, np.int32)
    for left, top, width, height in parts:
        seen[top : top + height, left : left + width] += 1
    return seen


SIZES = st.tuples(st.integers(16, 1200), st.integers(16, 1200)).map(lambda size: (size[0] * 2, size[1] * 2))
CUTS = st.just("auto") | st.integers(200, 3000) | st.tuples(st.integers(1, 6), st.integers(1, 6))


@given(SIZES, CUTS, st.floats(0, 0.5), st.booleans(), st.sampled_from([(416, 416), (320, 640), (640, 640)]))
def test_windows_cover_the_picture_and_are_even_and_inside(
    size: tuple[int, int], tiles: Any, overlap: float, full_frame: bool, input_size: tuple[int, int]
) -> None:
    parts = windows(size, input_size, TileOptions(tiles, overlap, full_frame), None)
    for left, top, width, height in parts:
        assert not any(value % 2 for value in (left, top, width, height))
        assert left >= 0 <= top
        assert left + width <= size[1]
        assert top + height <= size[0]
    if full_frame:
        assert parts[0] == (0, 0, size[1], size[0])
    tiles_only = parts[1:] if full_frame and len(parts) > 1 else parts
    assert covered(size, tiles_only).min() >= 1
    if tiles == "auto":
        assert len(tiles_only) <= AUTO_MOST


def test_neighbours_share_at_least_the_overlap_that_was_asked_for() -> None:
    cuts: tuple[Any, ...] = (640, (3, 5), "auto")
    for tiles in cuts:
        parts = windows(UHD, INPUT, TileOptions(tiles, 0.25, full_frame=False))
        lefts = sorted({left for left, *_ in parts})
        side = parts[0][2]
        assert max(np.diff(lefts)) <= 0.75 * side + 2


@pytest.mark.parametrize(
    ("size", "tiles", "count", "tile"),
    [
        ((480, 640), None, 1, (640, 480)),
        ((480, 600), "auto", 1, (600, 480)),
        ((720, 1280), "auto", 1 + 4 * 2, (416, 416)),
        (UHD, (2, 2), 1 + 4, (2134, 1200)),
        (UHD, 640, 1 + 8 * 4, (640, 640)),
        ((720, 1280), (1, 3), 1 + 3, (494, 720)),
        ((720, 1280), 800, 1 + 2, (800, 720)),
        ((720, 1280), 1280, 1, (1280, 720)),
        ((720, 1280), (1, 1), 1, (1280, 720)),
    ],
)
def test_the_number_of_windows(size: tuple[int, int], tiles: Any, count: int, tile: tuple[int, int]) -> None:
    parts = windows(size, INPUT, TileOptions(tiles))
    assert (len(parts), parts[-1][2:]) == (count, tile)


def test_auto_makes_tiles_larger_where_there_would_be_too_many() -> None:
    parts = windows(UHD, INPUT, TileOptions("auto"))
    assert AUTO_MOST / 2 < len(parts) - 1 <= AUTO_MOST
    assert 416 < parts[1][2] < 900
    assert windows(UHD, (1280, 1280), TileOptions("auto"))[1][2:] == (1280, 1280)


def test_windows_stay_in_a_region() -> None:
    parts = windows((1080, 1920), INPUT, TileOptions((2, 2)), (501, 301, 700, 500))
    assert parts[0] == (500, 300, 702, 502)
    seen = covered((1080, 1920), parts)
    assert seen[300:802, 500:1202].min() >= 1
    assert seen.sum() == seen[300:802, 500:1202].sum()
    assert windows((1081, 1921), INPUT, TileOptions(), (1900, 1000, 500, 500)) == ((1900, 1000, 21, 81),)


@pytest.mark.parametrize("region", [(640, 0, 10, 10), (0, 480, 640, 1)])
def test_a_region_outside_the_picture_is_refused(region: Rectangle) -> None:
    with pytest.raises(ConfigError, match=r"lies outside the picture, which is 640x480"):
        windows((480, 640), INPUT, TileOptions(), region)


def test_too_many_tiles_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"parts of 3840x2160 pixels, at most 256: make them larger"):
        windows(UHD, INPUT, TileOptions(64))


def picture(height: int, width: int) -> Picture:
    return Picture(bgr=np.zeros((height, width, 3), np.uint8))


def test_each_source_has_its_own_windows_and_what_is_not_as_asked_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    regions = Regions(TileOptions(600), {"door": (100, 0, 800, 480)}, INPUT)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert regions.windows("door", picture(480, 640)) == ((100, 0, 540, 480),)
            assert len(regions.windows("yard", picture(1080, 1920))) == 1 + 4 * 2
    assert [record.message for record in caplog.records] == [
        "door: detect_in [100, 0, 800, 480] reaches beyond its frames of 640x480: cut off",
        "door: detect.tiles 600 is no smaller than its frames of 640x480: the whole is detected in",
    ]
    assert regions.describe() == ", 1 to 9 windows a frame"


def test_what_is_wrong_with_a_source_names_it() -> None:
    with pytest.raises(ConfigError, match=r"^door: detect_in \[700, 0, 8, 8\] .* lies outside the picture"):
        Regions(TileOptions(), {"door": (700, 0, 8, 8)}, INPUT).windows("door", picture(480, 640))
