"""View: a rate that is never exceeded, whatever the timestamps do, and a part of the picture to the pixel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.capture.source import Damaged, Source, SourceInfo, SourceState
from pipeline.capture.view import Cropped, Throttled, view_of
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.picture import Picture, Planes, Rectangle, bgr_to_planes, cropped

PIXELS = np.zeros((4, 4, 3), np.uint8)


class Given(Source):
    """Gives pictures with these timestamps; None is a damaged one."""

    def __init__(self, times: Sequence[float | None], picture: Picture | None = None, sized: bool = True) -> None:
        self.picture = picture or Picture(bgr=PIXELS)
        width, height = (self.picture.width, self.picture.height) if sized else (None, None)
        self.info = SourceInfo("cam", "given", False, width, height, 30.0, len(times))
        self.times = times
        self.calls: list[str] = []

    def open(self) -> None:
        self.calls.append("open")

    def frames(self) -> Iterator[Frame | Damaged]:
        self.report(SourceState("cam", "streaming"))
        for index, pts in enumerate(self.times):
            if pts is None:
                yield Damaged("cam", 0.0)
            else:
                yield Frame("cam", index, pts, 0.0, self.picture)

    def remark(self) -> str:
        return "half of it"

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")

    @property
    def abandoned(self) -> int:
        return 7


def taken(times: Sequence[float | None], max_fps: float) -> list[float]:
    return [item.pts for item in Throttled(Given(times), max_fps).frames() if isinstance(item, Frame)]


def regular(fps: float, seconds: float) -> list[float]:
    return [number / fps for number in range(round(fps * seconds))]


# ---------------------------------------------------------------------- how many


@pytest.mark.parametrize(("fps", "max_fps", "every"), [(30, 10, 3), (60, 30, 2), (25, 5, 5), (30, 30, 1), (50, 1, 50)])
def test_of_a_regular_stream_every_nth_picture_is_taken(fps: float, max_fps: float, every: int) -> None:
    numbers = [round(pts * fps) for pts in taken(regular(fps, 20), max_fps)]
    steps = [later - earlier for earlier, later in itertools.pairwise(numbers)]
    assert 0.75 * every <= steps[0] <= every  # the first one may use the slack there is
    assert set(steps[1:]) == {every}


@settings(deadline=None)
@given(fps=st.floats(1, 240), share=st.floats(0.01, 1))
def test_of_a_regular_stream_just_the_rate_that_was_asked_for_is_taken(fps: float, share: float) -> None:
    max_fps = fps * share
    seconds = 30 / max_fps
    assert len(taken(regular(fps, seconds), max_fps)) == pytest.approx(30, abs=2)


def test_a_slower_stream_is_taken_whole() -> None:
    assert taken(regular(5, 20), 30.0) == regular(5, 20)


@settings(deadline=None)
@given(jitter=st.lists(st.floats(-0.12, 0.12), min_size=50, max_size=50))
def test_uneven_timestamps_of_a_stream_at_the_cap_lose_nothing(jitter: list[float]) -> None:
    times = [(number + each) / 30 for number, each in enumerate(jitter)]
    assert taken(times, 30.0) == times


def test_ntsc_rates_are_taken_whole_at_their_rounded_cap() -> None:
    times = [math.floor(number * 1001 / 30) / 1000 for number in range(3000)]  # 29.97 fps in whole milliseconds
    assert taken(times, 30.0) == times


def test_a_pause_is_not_made_up_for_by_a_burst() -> None:
    times = [0.0, 0.5, 60.0, *(60 + number / 100 for number in range(1, 101))]
    late = [pts for pts in taken(times, 2.0) if pts >= 60]
    assert late == pytest.approx([60.0, 60.5, 61.0], abs=0.13)


def test_a_clock_that_jumps_back_does_not_silence_a_source() -> None:
    times = [*regular(30, 5), *regular(30, 5)]
    found = taken(times, 10.0)
    assert found == [*regular(30, 5)[::3], *regular(30, 5)[::3]]


gaps = st.one_of(st.floats(1e-4, 0.2), st.floats(1e-4, 0.01), st.floats(0.2, 30))


@settings(deadline=None)
@given(steps=st.lists(gaps, min_size=1, max_size=300), max_fps=st.floats(0.5, 60))
def test_no_stretch_of_time_holds_more_than_the_cap_allows(steps: list[float], max_fps: float) -> None:
    found = taken(list(itertools.accumulate(steps)), max_fps)
    for first, begin in enumerate(found):
        for count, end in enumerate(found[first:], 1):
            assert count <= (end - begin) * max_fps + 2.25 + 1e-6  # a late one, an early one, and the two ends


@settings(deadline=None)
@given(steps=st.lists(gaps, min_size=1, max_size=300), max_fps=st.floats(0.5, 60))
def test_a_picture_is_left_out_only_where_another_was_taken_less_than_an_interval_before(
    steps: list[float], max_fps: float
) -> None:
    times = list(itertools.accumulate(steps))
    found = taken(times, max_fps)
    assert found[0] == times[0]
    for pts in set(times) - set(found):
        assert pts - max(each for each in found if each < pts) < 1 / max_fps + 1e-6


def test_a_second_of_a_burst_never_exceeds_the_cap_by_more_than_two() -> None:
    times = [number / 1000 for number in range(5000)]
    found = taken(times, 10.0)
    for begin in times[:4000:50]:
        assert sum(begin <= pts < begin + 1 for pts in found) <= 12
    assert len(found) == pytest.approx(50, abs=1)


def test_frames_are_numbered_without_gaps_and_damaged_ones_keep_their_number() -> None:
    times: list[float | None] = [*regular(30, 1), None, *[1 + pts for pts in regular(30, 1)]]
    items = list(Throttled(Given(times), 10.0).frames())
    numbers = [item.index if isinstance(item, Frame) else None for item in items]
    assert numbers == [*range(10), None, *range(11, 21)]


# ---------------------------------------------------------------------- which part


def planes_of(height: int, width: int) -> Planes:
    data = np.random.default_rng(7).integers(0, 256, (height * 3 // 2, width), dtype=np.uint8)
    return Planes(data, "bt709", full_range=True)


even_boxes = st.tuples(*[st.integers(0, 8).map(lambda n: 2 * n)] * 2, *[st.integers(1, 8).map(lambda n: 2 * n)] * 2)
boxes = st.tuples(*[st.integers(0, 16)] * 2, *[st.integers(1, 16)] * 2)


@settings(deadline=None)
@given(box=even_boxes)
def test_planes_stay_planes_where_all_four_numbers_are_even(box: Rectangle) -> None:
    left, top, width, height = box
    whole = planes_of(34, 32)
    part = cropped(Picture(planes=whole), box).planes
    assert part is not None
    assert (part.width, part.height, part.matrix, part.full_range) == (width, height, "bt709", True)
    rows, columns = slice(top, top + height), slice(left, left + width)
    half_rows, half_columns = slice(top // 2, (top + height) // 2), slice(left // 2, (left + width) // 2)
    np.testing.assert_array_equal(part.y, whole.y[rows, columns])
    np.testing.assert_array_equal(part.u, whole.u[half_rows, half_columns])
    np.testing.assert_array_equal(part.v, whole.v[half_rows, half_columns])


@settings(deadline=None)
@given(box=even_boxes)
def test_the_colours_of_cropped_planes_are_those_of_the_whole_picture(box: Rectangle) -> None:
    left, top, width, height = box
    noise = np.random.default_rng(7).integers(0, 256, (34, 32, 3), dtype=np.uint8)
    whole = Picture(planes=bgr_to_planes(noise))
    part = cropped(whole, box)
    np.testing.assert_array_equal(part.bgr, whole.bgr[top : top + height, left : left + width])


@settings(deadline=None)
@given(box=boxes, is_planar=st.booleans())
def test_any_part_has_the_pixels_that_slicing_has(box: Rectangle, is_planar: bool) -> None:
    left, top, width, height = box
    noise = np.random.default_rng(7).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    whole = Picture(planes=bgr_to_planes(noise)) if is_planar else Picture(bgr=noise)
    part = cropped(whole, box)
    assert (part.planes is not None) == (is_planar and all(side % 2 == 0 for side in box))
    assert (part.width, part.height) == (width, height)
    np.testing.assert_array_equal(part.bgr, whole.bgr[top : top + height, left : left + width])
    assert part.bgr.flags.c_contiguous
    assert not part.bgr.flags.writeable


def test_a_part_has_its_own_memory() -> None:
    for picture in (Picture(planes=planes_of(32, 32)), Picture(bgr=np.zeros((32, 32, 3), np.uint8))):
        part = cropped(picture, (2, 2, 4, 4))
        assert not np.shares_memory(part.bgr, picture.bgr)


@pytest.mark.parametrize("box", [(0, 0, 5, 4), (0, 0, 4, 5), (1, 0, 4, 4), (0, 1, 4, 4), (4, 4, 1, 1), (100, 0, 2, 2)])
@pytest.mark.parametrize("sized", [True, False], ids=["size known", "size unknown"])
def test_a_part_beyond_the_picture_is_refused_as_soon_as_the_size_is_known(box: Rectangle, sized: bool) -> None:
    source = Cropped(Given([0.0], sized=sized), box)
    text = rf"cam: crop \[{', '.join(map(str, box))}\] .* reaches beyond the picture, which is 4 x 4"
    if sized:
        with pytest.raises(SourceError, match=text):
            source.open()
    else:
        source.open()
        with pytest.raises(SourceError, match=text):
            list(source.frames())


def test_a_part_is_announced_with_its_own_size() -> None:
    source = Cropped(Given([0.0, 1.0]), (1, 0, 3, 2))
    assert (source.info.width, source.info.height) == (3, 2)
    source.open()
    assert (source.info.width, source.info.height, source.info.frames) == (3, 2, 2)
    assert [(item.width, item.height) for item in source.frames() if isinstance(item, Frame)] == [(3, 2)] * 2


# ---------------------------------------------------------------------- around a source


def test_a_view_passes_on_everything_else() -> None:
    inner = Given([0.0, 0.01, None, 1.0])
    source = view_of(inner, 10.0, (0, 0, 2, 2))
    states: list[SourceState] = []
    source.report = states.append
    source.open()
    items = list(source.frames())
    source.stop()
    source.close()
    assert inner.calls == ["open", "stop", "close"]
    assert [each.state for each in states] == ["streaming"]
    assert [type(item) for item in items] == [Frame, Damaged, Frame]
    assert source.remark() == "half of it"
    assert source.abandoned == 7


def test_without_wishes_there_is_no_view() -> None:
    source = Given([])
    assert view_of(source, None, None) is source
