"""Drawing: on a copy, the same on planes and BGR, boxes anywhere, stable colours, an honest frame rate."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest

from pipeline.config.result_settings import RenderSettings
from pipeline.faces import Faces
from pipeline.frame import Detections, Frame
from pipeline.masks import Masks
from pipeline.picture import Matrix, Picture, bgr_to_planes, planes_to_bgr
from pipeline.render.canvas import bgr_to_yuv, canvas_of
from pipeline.render.hud import Pace
from pipeline.render.objects import TINT
from pipeline.render.renderer import Renderer, face_text
from pipeline.render.text import Typeface
from pipeline.render.theme import VIVID, class_colour
from tests.pipeline.videos import grey_picture, noise_planes

KNOWN, UNKNOWN, LANDMARK = VIVID.known, VIVID.unknown, VIVID.landmark


def frame(picture: Picture, boxes: object = ((10, 40, 60, 90),), class_ids: object = (0,), **fields: object) -> Frame:
    count = len(boxes)  # type: ignore[arg-type]
    detections = Detections(np.array(boxes, np.float32), np.linspace(0.9, 0.5, count), np.array(class_ids))  # type: ignore[arg-type]
    return Frame("a", 0, 0.0, 0.0, picture, detections=detections, labels=("person",), **fields)  # type: ignore[arg-type]


def render(one: Frame, **options: object) -> Picture:
    ticks = itertools.count(0, 0.04)
    Renderer(RenderSettings(**options), clock=lambda: next(ticks)).process(one)  # type: ignore[arg-type]
    assert one.rendered is not None
    return one.rendered


def both(level: int = 90, size: tuple[int, int] = (200, 160)) -> tuple[Picture, Picture]:
    image = grey_picture(*size, level)
    return Picture(bgr=image), Picture(planes=bgr_to_planes(image))


def test_the_captured_picture_is_never_written_to() -> None:
    planes = noise_planes(200, 160)
    pictures = [Picture(planes=planes), Picture(bgr=planes_to_bgr(planes))]
    for picture in pictures:
        before = picture.planes.data.copy() if picture.planes else picture.bgr.copy()
        drawn = render(frame(picture))
        after = picture.planes.data if picture.planes else picture.bgr
        assert np.array_equal(before, after)
        assert not np.array_equal(drawn.bgr, picture.bgr)
        assert (drawn.planes is None) == (picture.planes is None)


@pytest.mark.parametrize("class_id", [0, 1, 2, 17, 79])
def test_planes_and_bgr_show_the_same(class_id: int) -> None:
    on_bgr, on_planes = (render(frame(picture, class_ids=(class_id,)), thickness=4).bgr for picture in both())
    assert np.abs(on_bgr.astype(int) - on_planes).mean() < 2.5
    colour = np.array(class_colour(class_id))
    for drawn in (on_bgr, on_planes):
        assert np.abs(drawn[65, 10].astype(int) - colour).max() <= 12
    for row, column in ((65, 35), (120, 150), (65, 80)):  # inside the box and away from it nothing has changed
        assert np.abs(on_planes[row, column].astype(int) - 90).max() <= 1


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full", [False, True])
def test_colours_on_planes_are_what_a_player_will_show(matrix: Matrix, full: bool) -> None:
    data = bgr_to_planes(grey_picture(64, 48, 90)).data
    for class_id in range(12):
        canvas = canvas_of(Picture(planes=type(noise_planes(2, 2))(data.copy(), matrix, full)))
        canvas.rectangle((0, 0), (63, 47), class_colour(class_id), -1)
        shown = canvas.picture().bgr[24, 32].tolist()
        assert shown == pytest.approx(class_colour(class_id), abs=6)
        assert all(0 <= level <= 255 for level in bgr_to_yuv(class_colour(class_id), matrix, full))


ODD_BOXES = [
    (0, 0, 200, 160),
    (-50, -50, 20, 20),
    (190, 150, 400, 300),
    (-1e9, -1e9, 1e9, 1e9),
    (300, 300, 400, 400),
    (50, 50, 50, 50),
    (50.4, 50.4, 50.6, 50.6),
    (60, 60, 40, 40),
]


@pytest.mark.parametrize("box", ODD_BOXES)
def test_boxes_at_the_edge_and_beyond_do_no_harm(box: tuple[float, ...]) -> None:
    for picture in both():
        drawn = render(frame(picture, (box,)))
        assert (drawn.width, drawn.height) == (200, 160)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_box_that_is_no_number_is_left_out_and_the_others_drawn(value: float) -> None:
    for picture in both():
        drawn = render(frame(picture, ((10, value, 60, 90), (100, 60, 150, 120)), (0, 0)), thickness=2)
        assert np.abs(drawn.bgr[90, 100].astype(int) - class_colour(0)).max() <= 25
        assert np.abs(drawn.bgr[70, 10].astype(int) - 90).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (8, 300), (300, 8), (64, 48)])
def test_any_size_of_picture_can_be_drawn_on(size: tuple[int, int]) -> None:
    picture = Picture(bgr=grey_picture(*size, 90))
    drawn = render(frame(picture, ((0, 0, size[0], size[1]),)))
    assert (drawn.width, drawn.height) == size
    render(frame(Picture(planes=bgr_to_planes(grey_picture(*size, 90)))))


def test_a_class_keeps_its_colour_and_neighbours_differ() -> None:
    colours = [class_colour(class_id) for class_id in range(80)]
    assert colours == [class_colour(class_id) for class_id in range(80)]
    assert len(set(colours)) == 80
    for first, second in itertools.pairwise(colours):
        assert np.abs(np.array(first) - second).max() > 100


def tag_pixels(picture: Picture, **fields: object) -> int:
    plain = frame(picture)
    without, with_label = render(plain, hud=False, labels=False), render(frame(picture, **fields), hud=False)
    return int(np.any(without.bgr != with_label.bgr, axis=2)[:40].sum())


def test_a_label_is_written_above_the_box_and_can_be_switched_off() -> None:
    for picture in both():
        assert tag_pixels(picture) > 200
        assert np.array_equal(render(frame(picture), hud=False, labels=False, boxes=False).bgr, picture.bgr)


@pytest.mark.parametrize("box", [(20, 0, 120, 100), (0, 0, 200, 160), (-40, -60, 240, 220), (150, 2, 199, 60)])
def test_a_box_without_room_above_has_its_label_in_the_picture_and_not_on_its_head(box: tuple[int, ...]) -> None:
    for picture in both():
        drawn = render(frame(picture, (box,)), hud=False, boxes=False)
        rows = np.nonzero(np.any(np.abs(drawn.bgr.astype(int) - 90) > 2, axis=(1, 2)))[0]
        assert 10 < rows.max() - rows.min() < 20
        assert rows.min() >= box[1] + (box[3] - box[1]) // 5


def test_the_display_shows_name_rate_and_latency_and_can_be_switched_off() -> None:
    picture = both()[0]
    off = render(Frame("a", 0, 0.0, 0.0, picture), hud=False)
    on = render(Frame("a", 0, 0.0, 0.0, picture))
    assert np.array_equal(off.bgr, picture.bgr)
    assert not np.array_equal(on.bgr[:20], picture.bgr[:20])


@pytest.mark.parametrize("jitter", [0.0, 0.9])
def test_the_rate_shown_is_frames_by_time_also_when_they_come_in_pairs(jitter: float) -> None:
    pace, now = Pace(), 0.0
    pace.update(now, now)
    assert pace.fps == 0
    shown = []
    for index in range(400):
        now += 0.04 * (1 + jitter * (-1) ** index)
        pace.update(now, now - 0.02)
        shown.append(pace.fps)
    assert np.mean(shown[100:]) == pytest.approx(25, rel=0.02)
    assert pace.latency_ms == pytest.approx(20, rel=0.01)


def test_the_figures_shown_change_four_times_a_second_and_are_then_those_of_the_moment() -> None:
    pace, shown = Pace(), []
    for number in range(101):
        pace.update(number / 50, number / 50 - 0.001 * number)
        shown.append(pace.text("a"))
    assert len(set(shown)) == 8  # one in 13 frames
    assert shown[91] == shown[100] == "a  50 fps  82 ms"  # 91, smoothed


def test_each_source_has_a_rate_of_its_own_and_is_forgotten_at_its_end() -> None:
    now = itertools.count(0.0, 0.04)
    renderer = Renderer(RenderSettings(), clock=lambda: next(now))
    for index in range(10):
        for name in ("a", "b"):
            renderer.process(Frame(name, index, 0.0, 0.0, both()[0]))
    assert [round(pace.fps, 1) for pace in renderer._paces.values()] == [12.5, 12.5]
    renderer.end("a")
    assert list(renderer._paces) == ["b"]


# ---- masks and keypoints


def masked(picture: Picture, *places: tuple[slice, slice], **fields: object) -> Frame:
    """A frame with a mask of 200 x 160 for each place."""
    one = frame(picture, [(10, 40, 60, 90)] * len(places), range(len(places)), **fields)
    assert one.detections is not None
    dense = np.zeros((len(places), 160, 200), bool)
    for mask, place in zip(dense, places, strict=True):
        mask[place] = True
    one.detections.masks = Masks.of(dense)
    return one


def test_a_mask_is_a_tint_of_its_class_through_which_the_picture_shows() -> None:
    tints = []
    for picture in both():
        drawn = render(masked(picture, (slice(51, 80), slice(21, 50))), boxes=False, labels=False, hud=False).bgr
        between = 90 + (np.array(class_colour(0)) - 90) * TINT
        assert np.abs(drawn[55:76, 25:46].astype(int) - between).max() <= 6
        outside = np.ones((160, 200), bool)
        outside[50:81, 20:51] = False  # chroma has half the resolution
        assert np.abs(drawn[outside].astype(int) - 90).max() <= 1
        tints.append(drawn)
    assert np.abs(tints[0].astype(int) - tints[1])[52:79, 22:49].max() <= 4


def test_the_mask_of_the_better_object_is_drawn_on_top() -> None:
    for picture in both():
        one = masked(picture, (slice(50, 80), slice(20, 50)), (slice(50, 80), slice(20, 90)))
        drawn = render(one, boxes=False, labels=False, hud=False).bgr.astype(int)
        assert np.abs(drawn[65, 30] - class_colour(0)).sum() < np.abs(drawn[65, 30] - class_colour(1)).sum()
        assert np.abs(drawn[65, 70] - class_colour(1)).sum() < np.abs(drawn[65, 70] - class_colour(0)).sum()


@pytest.mark.parametrize("corner", [(-15, -20), (-15, 150), (190, -3), (195, 155), (500, 10), (10, -500), (31, 27)])
def test_a_tint_beyond_the_edges_is_cut(corner: tuple[int, int]) -> None:
    left, top = corner
    shown = np.zeros((160, 200), bool)
    shown[max(0, top) : max(0, top + 30), max(0, left) : max(0, left + 40)] = True
    for picture in both():
        canvas = canvas_of(picture)
        canvas.tint(corner, np.ones((30, 40), bool), (0, 0, 255), 1.0)
        drawn = canvas.picture().bgr
        changed = np.abs(drawn.astype(int) - 90).max(axis=2) > 40
        near_edge = cv2.morphologyEx(shown.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        bleeds = near_edge & (picture.planes is not None)  # chroma has half the resolution
        assert np.array_equal(changed[~bleeds], shown[~bleeds])


def test_masks_can_be_switched_off_and_objects_without_pixels_do_no_harm() -> None:
    for picture in both():
        one = masked(picture, (slice(50, 80), slice(20, 50)))
        plain = render(frame(picture), hud=False)
        assert np.array_equal(render(one, masks=False, hud=False).bgr, plain.bgr)
        nothing = masked(picture, (slice(0, 0), slice(0, 0)))
        assert np.array_equal(render(nothing, hud=False).bgr, plain.bgr)


def posed(picture: Picture, points: object, **fields: object) -> Frame:
    one = frame(picture, **fields)
    assert one.detections is not None
    one.detections.keypoints = np.asarray(points, np.float32)[None]
    return one


def person() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """17 keypoints, all unsure, but for the left leg from 100,60 down to 100,140."""
    points = np.zeros((17, 3), np.float32)
    points[[11, 13, 15]] = (100, 60, 0.9), (100, 100, 0.9), (100, 140, 0.9)
    return points


def test_the_keypoints_of_a_person_are_joined_by_limbs_and_unsure_ones_are_not_drawn() -> None:
    for picture in both():
        drawn = render(posed(picture, person()), boxes=False, labels=False, hud=False, thickness=2).bgr.astype(int)
        assert np.abs(drawn[62:140:4, 100] - class_colour(0)).max() <= 12
        changed = np.abs(drawn - 90).max(axis=2) > 4
        rows, columns = np.nonzero(changed)
        assert (rows.min(), rows.max()) == pytest.approx((58, 142), abs=1)
        assert (columns.min(), columns.max()) == pytest.approx((98, 102), abs=1)


def test_other_keypoints_are_points_without_limbs() -> None:
    for picture in both():
        points = [(100, 60, 0.9), (100, 100, 0.9), (100, 140, 0.4)]
        drawn = render(posed(picture, points), boxes=False, labels=False, hud=False, thickness=2).bgr.astype(int)
        for row, shown in ((60, True), (80, False), (100, True), (120, False), (140, False)):
            assert (np.abs(drawn[row, 100] - class_colour(0)).max() <= 12) == shown


def test_limbs_of_frames_that_were_not_looked_at_are_thin() -> None:
    picture = both()[0]
    whole, carried = (
        render(posed(picture, person(), predicted=predicted), boxes=False, labels=False, hud=False, thickness=6).bgr
        for predicted in (False, True)
    )
    widths = [int((np.abs(each[80].astype(int) - 90) > 60).any(axis=1).sum()) for each in (whole, carried)]
    assert widths[0] in (6, 7)
    assert widths[1] == 1


@pytest.mark.parametrize("far", [-1e3, 1e6, 1e12, 1e30, math.nan, math.inf])
def test_keypoints_beyond_the_frame_do_no_harm_and_can_be_switched_off(far: float) -> None:
    for picture in both():
        points = person()
        points[13, 0] = far
        render(posed(picture, points))
        plain = render(frame(picture), hud=False)
        assert np.array_equal(render(posed(picture, points), keypoints=False, hud=False).bgr, plain.bgr)


# ---- faces

SQUARE = (20, 60, 80, 120)
LEFT_EYE = (35, 80)


def faced(picture: Picture, name: str | None = None, similarity: float = math.nan, **fields: object) -> Frame:
    """A frame with one face."""
    points = np.array([[LEFT_EYE, (65, 80), (50, 95), (38, 108), (62, 108)]], np.float32)
    found = Faces(
        np.array([SQUARE]), np.array([0.9]), points, names=(name,), similarities=np.array([similarity], np.float32)
    )
    return Frame("a", 0, 0.0, 0.0, picture, faces=found, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "similarity", "colour"), [("ann", 0.8, KNOWN), (None, 0.3, UNKNOWN), (None, math.nan, UNKNOWN)]
)
def test_a_face_has_a_box_in_the_colour_of_known_or_unknown(
    name: str | None, similarity: float, colour: tuple[int, int, int]
) -> None:
    for picture in both():
        drawn = render(faced(picture, name, similarity), thickness=4, hud=False).bgr
        for row, column in ((90, 20), (90, 79), (119, 50)):
            assert np.abs(drawn[row, column].astype(int) - colour).max() <= 12
        for row, column in ((90, 50), (90, 100), (150, 50), LEFT_EYE[::-1]):
            assert np.abs(drawn[row, column].astype(int) - 90).max() <= 1


def label_of(picture: Picture, name: str | None, similarity: float, predicted: bool = False) -> tuple[int, int]:
    """Return the width of the label above a face, and how many of its pixels are much brighter than most."""
    one = faced(picture, name, similarity)
    assert one.faces is not None
    one.faces.predicted = predicted
    drawn = render(one, hud=False, boxes=False).bgr
    changed = np.any(np.abs(drawn.astype(int) - 90) > 2, axis=2)
    columns = np.nonzero(changed.any(axis=0))[0]
    rows = np.nonzero(changed.any(axis=1))[0]
    assert columns.min() in (19, 20)
    assert rows.max() < 60
    assert rows.min() > 40
    patch = drawn[rows.min() : rows.max() + 1, columns.min() + 6 : columns.max() + 1].mean(axis=2)
    return int(columns.max()) + 1 - 20, int((patch > np.median(patch) + 100).sum())


@pytest.mark.parametrize(
    ("name", "similarity", "text"),
    [
        ("ann", 0.756, "ann 0.76"),
        ("Zoë Ångström", 0.5, "Zoë Ångström 0.50"),
        ("王小明", 0.5, "王小明 0.50"),
        (None, 0.3, "unknown"),
        (None, math.nan, "face"),
    ],
)
def test_the_label_of_a_face_is_its_name_with_the_similarity_or_unknown_or_face(
    name: str | None, similarity: float, text: str
) -> None:
    assert face_text(name, similarity) == text
    typeface, size, bar = Typeface(), 10, 4
    for picture in both():
        width, ink = label_of(picture, name, similarity)
        assert abs(width - (typeface.patch(text, size).shape[1] + bar)) <= 1
        assert ink > 10
        carried_over, _ = label_of(picture, name, similarity, predicted=True)
        assert abs(carried_over - (typeface.patch(f"~{text}", size).shape[1] + bar)) <= 1


def test_a_face_of_a_finder_alone_is_called_face() -> None:
    plain = faced(both()[0])
    assert plain.faces is not None
    plain.faces.names = plain.faces.similarities = None
    labelled = faced(both()[0])
    assert np.array_equal(render(plain, hud=False).bgr, render(labelled, hud=False).bgr)


def test_landmarks_are_drawn_only_on_request() -> None:
    for picture in both():
        without = render(faced(picture), thickness=2, hud=False).bgr
        with_points = render(faced(picture), thickness=2, hud=False, landmarks=True).bgr
        for column, row in (LEFT_EYE, (65, 80), (50, 95), (38, 108), (62, 108)):
            assert np.abs(with_points[row, column].astype(int) - LANDMARK).max() <= 12
            assert np.abs(without[row, column].astype(int) - 90).max() <= 1
        changed = np.any(np.abs(with_points.astype(int) - without) > 4, axis=2)
        assert 5 * 13 <= changed.sum() <= 5 * 49  # discs of 5 pixels across; chroma bleeds by one


@pytest.mark.parametrize("far", [-1e3, 1e6, 1e12, 1e30])
def test_landmarks_and_faces_beyond_the_frame_do_no_harm(far: float) -> None:
    for picture in both():
        one = faced(picture)
        assert one.faces is not None
        one.faces.boxes[:, 2:] = far
        one.faces.landmarks[0, 0] = far
        drawn = render(one, landmarks=True)
        assert (drawn.width, drawn.height) == (200, 160)


def test_the_better_face_is_drawn_on_top_and_all_faces_on_detections() -> None:
    picture = both()[0]
    boxes = np.array([SQUARE, (20, 60, 140, 150)])
    found = Faces(boxes, np.array([0.9, 0.5]), np.zeros((2, 5, 2), np.float32), names=("ann", None))
    found.similarities = np.array([0.9, 0.1], np.float32)
    one = frame(picture, (SQUARE,))
    one.faces = found
    drawn = render(one, labels=False, thickness=4, hud=False).bgr
    assert drawn[90, 20].tolist() == list(KNOWN)
    assert drawn[120, 140].tolist() == list(UNKNOWN)


def test_boxes_and_labels_of_faces_can_be_switched_off() -> None:
    for picture in both():
        drawn = render(faced(picture, "ann", 0.9), hud=False, boxes=False, labels=False)
        assert np.array_equal(drawn.bgr, picture.bgr)
