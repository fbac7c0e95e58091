"""Trails: where tracked objects were, for so many seconds of media time, in bounded memory; and zones and lines."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.arrays import FloatArray
from pipeline.config.result_settings import RenderSettings
from pipeline.frame import UNTRACKED, Detections, Frame
from pipeline.picture import Picture, bgr_to_planes
from pipeline.render.renderer import Renderer
from pipeline.render.text import Typeface
from pipeline.render.theme import VIVID, class_colour
from pipeline.render.trails import MOST_POINTS, MOST_TRACKS, Trails
from pipeline.render.zones import arrow, zone_text
from pipeline.zones import ZoneState
from tests.pipeline.videos import grey_picture

BARE = RenderSettings(boxes=False, labels=False, hud=False)


def box(x: float, y: float) -> FloatArray:
    """A box that stands at x, y."""
    return np.array([[x - 5, y - 20, x + 5, y]], np.float32)


def follow(trails: Trails, time_s: float, x: float, y: float = 50, track: int = 1, source: str = "a") -> None:
    trails.follow(source, time_s, np.array([track]), box(x, y), step=4)


def test_a_trail_is_where_the_middle_of_the_lower_edge_was() -> None:
    trails = Trails(10)
    for number in range(6):
        follow(trails, number / 10, 10 * number, 50)
    assert trails.of("a", 1).tolist() == [[0, 50], [10, 50], [20, 50], [30, 50], [40, 50], [50, 50]]


def test_a_trail_is_as_long_as_was_asked_for_whatever_the_frame_rate() -> None:
    for fps in (5, 25, 100):
        trails = Trails(2.0)
        for number in range(10 * fps):
            follow(trails, number / fps, 100 * number / fps)  # 100 pixels a second
        points = trails.of("a", 1)
        assert points[-1, 0] - points[0, 0] == pytest.approx(200, abs=25)


def test_what_stands_still_has_no_trail_and_takes_no_memory() -> None:
    trails = Trails(60)
    for number in range(1500):
        follow(trails, number / 25, 100 + number % 2)
    assert len(trails.of("a", 1)) <= 2


def test_memory_is_bounded() -> None:
    trails = Trails(60)
    for number in range(5000):
        follow(trails, number / 100, 50 * number)
    assert len(trails.of("a", 1)) == MOST_POINTS
    many = np.arange(1, 2 * MOST_TRACKS, dtype=np.int32)
    trails.follow("b", 0.0, many, np.tile(box(5, 5), (len(many), 1)), 4)
    kept = [track for track in many.tolist() if len(trails.of("b", track))]
    assert len(kept) == MOST_TRACKS
    for number in range(20_000):  # a day of people who pass
        follow(trails, number * 0.5, 10, track=number, source="c")
    assert len(trails._sources["c"].points) <= 122


def test_each_source_has_trails_of_its_own_and_is_forgotten_at_its_end() -> None:
    trails = Trails(10)
    for number in range(3):
        follow(trails, number / 10, 10 * number, source="a")
        follow(trails, number / 10, 100 + 10 * number, source="b")
    assert trails.of("a", 1)[:, 0].tolist() == [0, 10, 20]
    assert trails.of("b", 1)[:, 0].tolist() == [100, 110, 120]
    trails.end("a")
    assert not len(trails.of("a", 1))
    assert len(trails.of("b", 1)) == 3


def test_a_clock_that_jumps_back_begins_all_trails_anew() -> None:
    trails = Trails(10)
    for number in range(5):
        follow(trails, 100 + number / 10, 10 * number)
    follow(trails, 3.0, 500)
    assert trails.of("a", 1).tolist() == [[500, 50]]


def test_objects_without_a_number_have_no_trail() -> None:
    trails = Trails(10)
    for number in range(5):
        follow(trails, number / 10, 10 * number, track=UNTRACKED)
    assert not len(trails.of("a", UNTRACKED))


def test_a_box_that_trembles_leaves_a_smooth_trail() -> None:
    trails = Trails(10)
    for number in range(20):
        follow(trails, number / 10, 10 * number, 50 + 4 * (-1) ** number)
    assert np.ptp(trails.of("a", 1)[1:-1, 1]) <= 1


def both(size: tuple[int, int] = (400, 200)) -> tuple[Picture, Picture]:
    image = grey_picture(*size, 90)
    return Picture(bgr=image), Picture(planes=bgr_to_planes(image))


def walk(renderer: Renderer, picture: Picture, frames: int = 20, track: int | None = 7) -> Frame:
    """Let one object walk 10 pixels a frame from 50, 100 to the right."""
    for number in range(frames):
        ids = None if track is None else np.array([track])
        found = Detections(box(50 + 10 * number, 100), np.array([0.9]), np.array([0]), track_ids=ids)
        one = Frame("a", number, number / 10, 0.0, picture, detections=found)
        renderer.process(one)
    return one


def test_a_trail_is_drawn_in_the_colour_of_its_object_and_thinner_where_it_is_old() -> None:
    for picture in both():
        drawn = walk(
            Renderer(RenderSettings(**{**BARE.model_dump(), "thickness": 3, "trail_s": 1.5})), picture
        ).rendered
        assert drawn is not None
        rows = np.abs(drawn.bgr[80:120].astype(int) - 90).max(axis=2) > 60
        at = {column: int(rows[:, column].sum()) for column in (60, 115, 220)}
        assert at[60] == 0  # longer ago than 1.5 s
        assert 0 < at[115] < at[220]
        assert np.abs(drawn.bgr[100, 220].astype(int) - class_colour(0)).max() <= 20


@pytest.mark.parametrize("trail_s", [0.0, 1.5])
def test_trails_need_tracks_and_can_be_switched_off(trail_s: float) -> None:
    for picture in both():
        track = None if trail_s else 7
        drawn = walk(Renderer(BARE.model_copy(update={"trail_s": trail_s})), picture, track=track).rendered
        assert drawn is not None
        assert np.array_equal(drawn.bgr, picture.bgr)


def test_the_end_of_a_source_forgets_its_trails() -> None:
    renderer = Renderer(BARE)
    walk(renderer, both()[0])
    assert len(renderer._trails.of("a", 7))
    renderer.end("a")
    assert not len(renderer._trails.of("a", 7))


# ---- zones and lines


SQUARE = np.array([(100, 40), (300, 40), (300, 160), (100, 160)], np.float32)


def zoned(picture: Picture, *zones: ZoneState, **options: object) -> Picture:
    one = Frame("a", 0, 0.0, 0.0, picture, zones=zones)
    Renderer(RenderSettings(**{"hud": False, "thickness": 2, **options})).process(one)  # type: ignore[arg-type]
    assert one.rendered is not None
    return one.rendered


def test_a_zone_has_an_outline_and_a_light_tint() -> None:
    for picture in both():
        drawn = zoned(picture, ZoneState("x", SQUARE), labels=False).bgr.astype(int)
        assert np.abs(drawn[100, 300] - VIVID.zone).max() <= 30
        tint = drawn[100, 200] - 90
        assert 8 <= np.abs(tint).max() <= 40
        assert np.abs(drawn[100, 350] - 90).max() <= 1
        assert np.abs(drawn[20, 200] - 90).max() <= 1


def test_an_alarm_is_in_another_colour() -> None:
    for picture in both():
        drawn = zoned(picture, ZoneState("x", SQUARE, alarm=True), labels=False).bgr.astype(int)
        assert np.abs(drawn[100, 300] - VIVID.alarm).max() <= 30
        assert drawn[100, 200, 2] > drawn[100, 200, 0] + 15


def test_the_name_and_counts_of_a_zone_are_written_at_its_upper_corner() -> None:
    state = ZoneState("entrance", SQUARE, inside={"person": 3, "car": 0, "dog": 1})
    assert zone_text(state) == "entrance  3 person, 1 dog"
    assert zone_text(ZoneState("entrance", SQUARE)) == "entrance  0"
    for picture in both():
        with_text, without = zoned(picture, state).bgr, zoned(picture, state, labels=False).bgr
        rows, columns = np.nonzero(np.any(with_text != without, axis=2))
        height, width = Typeface().patch("entrance  3 person, 1 dog", 10).shape
        assert (rows.min(), rows.max()) == pytest.approx((40 - height, 40), abs=2)
        assert (columns.min(), columns.max()) == pytest.approx((100, 100 + width + 4), abs=4)


def test_zones_can_be_switched_off() -> None:
    for picture in both():
        assert np.array_equal(zoned(picture, ZoneState("x", SQUARE), zones=False).bgr, picture.bgr)


@pytest.mark.parametrize(
    ("start", "end", "right"),
    [
        ((0, 0), (100, 0), (50, 20)),
        ((100, 0), (0, 0), (50, -20)),
        ((0, 0), (0, 100), (-20, 50)),
        ((0, 9), (0, 9), None),
    ],
)
def test_the_arrow_of_a_line_points_to_its_right_seen_from_the_first_end(
    start: tuple[float, float], end: tuple[float, float], right: tuple[float, float] | None
) -> None:
    shaft, head = arrow(np.array([start, end], np.float32), 20)
    assert np.isfinite(np.concatenate([shaft, head])).all()
    if right is not None:
        assert shaft[1] == pytest.approx(np.array(right))
        assert head[1] == pytest.approx(np.array(right))
        assert np.linalg.norm(head[0] - head[1]) < 15


def test_a_line_has_its_arrow_and_both_counts() -> None:
    state = ZoneState(
        "door",
        np.array([(200, 20), (200, 180)], np.float32),
        is_line=True,
        entered={"person": 3, "dog": 1},
        left={"dog": 2},
    )
    assert zone_text(state) == "door  in 4  out 2"
    for picture in both():
        changed = np.abs(zoned(picture, state, labels=False).bgr.astype(int) - 90).max(axis=2) > 40
        assert changed[30:170, 200].all()
        assert changed[100, 193:200].all()  # down the picture, right is where x falls
        assert not changed[100, 206:].any()


@pytest.mark.parametrize(
    "points",
    [[(-500, -500), (900, -500), (900, 900)], [(1e9, 1e9), (-1e9, 0), (5, 5)], [(900, 900), (950, 900), (900, 950)]],
)
def test_zones_beyond_the_picture_do_no_harm(points: list[tuple[float, float]]) -> None:
    for picture in both():
        drawn = zoned(picture, ZoneState("x", np.array(points, np.float32)))
        assert (drawn.width, drawn.height) == (400, 200)


def test_planes_and_bgr_show_the_same_zones_and_trails() -> None:
    shown = []
    for picture in both():
        renderer = Renderer(RenderSettings(hud=False))
        walk(renderer, picture)
        one = walk(renderer, picture)
        one.zones = (ZoneState("x", SQUARE), ZoneState("y", SQUARE[:2] + 30, is_line=True, alarm=True))
        renderer.process(one)
        assert one.rendered is not None
        shown.append(one.rendered.bgr.astype(int))
    assert np.abs(shown[0] - shown[1]).mean() < 2.5


def test_the_captured_picture_is_not_written_to_by_any_of_it() -> None:
    for picture in both():
        before = picture.bgr.copy()
        zoned(picture, ZoneState("x", SQUARE), ZoneState("y", SQUARE[:2], is_line=True))
        walk(Renderer(), picture)
        assert np.array_equal(picture.bgr, before)
