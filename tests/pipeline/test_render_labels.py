"""Labels: where they go, what is in them, and that they can be read in every theme."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.arrays import Image
from pipeline.config.result_settings import RenderSettings
from pipeline.faces import Faces
from pipeline.frame import UNTRACKED, Detections, Frame
from pipeline.picture import Matrix, Picture, Planes, bgr_to_planes, planes_to_bgr
from pipeline.render.canvas import canvas_of
from pipeline.render.labels import Placement
from pipeline.render.renderer import Renderer
from pipeline.render.text import Typeface
from pipeline.render.theme import THEMES, ThemeName
from tests.pipeline.videos import grey_picture

Box = tuple[int, int, int, int]


def overlap(first: Box, second: Box) -> int:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0, width) * max(0, height)


def placed(
    boxes: list[Box], size: tuple[int, int], label: tuple[int, int], faces: list[Box] | None = None
) -> list[Box]:
    placement = Placement(size, 4)
    placement.avoid(faces or [])
    corners = [placement.place(box, *label) for box in boxes]
    return [(left, top, left + label[0], top + label[1]) for left, top in corners]


def test_a_label_is_above_its_box_where_there_is_room() -> None:
    assert placed([(100, 100, 200, 200)], (400, 300), (80, 20)) == [(100, 80, 180, 100)]


def test_of_two_at_one_place_the_second_goes_elsewhere() -> None:
    first, second, third = placed([(100, 100, 200, 200)] * 3, (400, 300), (80, 20))
    assert first == (100, 80, 180, 100)
    assert second == (100, 200, 180, 220)
    assert not overlap(third, first)
    assert not overlap(third, second)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [5, 20])
def test_labels_do_not_overlap_where_there_is_room(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.integers((0, 0), (1700, 900), (count, 2)).tolist()
    boxes = [
        (x, y, x + w, y + h)
        for (x, y), (w, h) in zip(corners, random.integers(40, 200, (count, 2)).tolist(), strict=True)
    ]
    labels = placed(boxes, (1920, 1080), (130, 24))
    assert not any(overlap(*pair) for pair in itertools.combinations(labels, 2))


def test_twelve_people_close_together_have_labels_side_by_side() -> None:
    boxes = [(200 + 30 * number, 200 + 7 * (number % 3), 260 + 30 * number, 400) for number in range(12)]
    labels = placed(boxes, (1280, 720), (110, 20))
    assert sum(overlap(*pair) > 0 for pair in itertools.combinations(labels, 2)) == 0


def test_a_label_does_not_cover_another_ones_face() -> None:
    face = (90, 60, 190, 101)
    ((left, top, right, bottom),) = placed([(100, 100, 200, 200)], (400, 300), (80, 20), [face])
    assert not overlap((left, top, right, bottom), face)
    assert (left, top) == (100, 200)


def test_the_edge_of_a_face_is_not_the_face() -> None:
    assert placed([(101, 101, 200, 200)], (400, 300), (80, 20), [(101, 101, 200, 200)]) == [(100, 80, 180, 100)]


def test_where_nothing_is_free_least_is_covered() -> None:
    everywhere = [(0, 0, 100, 60)]
    (label,) = placed([(20, 20, 60, 50)], (100, 60), (40, 16), everywhere)
    assert 0 <= label[0] < label[2] <= 100
    assert 0 <= label[1] < label[3] <= 60


coordinates = st.integers(-300, 700)


@settings(max_examples=150, deadline=None)
@given(
    boxes=st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=30),
    width=st.integers(1, 400),
    height=st.integers(1, 300),
    label=st.tuples(st.integers(1, 60), st.integers(1, 15)),
)
def test_a_label_is_always_inside_the_picture_if_it_fits(
    boxes: list[Box], width: int, height: int, label: tuple[int, int]
) -> None:
    for left, top, right, bottom in placed(boxes, (width, height), (2 * label[0], 2 * label[1])):
        assert left % 2 == top % 2 == 0
        assert left >= 0
        assert top >= 0
        assert right <= max(width, 2 * label[0])
        assert bottom <= max(height, 2 * label[1])


# ---- what is written


def texts(detections: Detections, speeds: bool = False, predicted: bool = False) -> list[str]:
    renderer = Renderer(RenderSettings(speeds=speeds))
    picture = Picture(bgr=grey_picture(64, 48, 90))
    one = Frame("a", 0, 0.0, 0.0, picture, detections=detections, labels=("person", "car"), predicted=predicted)
    return renderer._texts(one, detections)


def three(**fields: object) -> Detections:
    return Detections(np.tile((10, 10, 30, 40), (3, 1)), np.array([0.874, 0.6, 0.5]), np.array([0, 1, 7]), **fields)  # type: ignore[arg-type]


def test_a_label_has_class_track_and_score() -> None:
    assert texts(three()) == ["person 0.87", "car 0.60", "7 0.50"]
    tracks = np.array([12, UNTRACKED, 3])
    assert texts(three(track_ids=tracks)) == ["person #12 0.87", "car 0.60", "7 #3 0.50"]
    assert texts(three(track_ids=tracks), predicted=True)[0] == "~person #12 0.87"


def test_a_person_who_is_known_is_called_by_name_without_the_score_of_the_class() -> None:
    named = three(track_ids=np.array([12, 5, 3]), names=("Ольга", None, None))
    assert texts(named) == ["Ольга #12", "car #5 0.60", "7 #3 0.50"]


def test_speeds_are_in_metres_where_the_ground_is_known_and_else_in_pixels() -> None:
    velocities = np.array([[30, 40], [np.nan, np.nan], [0, 7]], np.float32)
    moving = three(velocities=velocities)
    assert texts(moving) == texts(three())
    assert texts(moving, speeds=True) == ["person 0.87 50 px/s", "car 0.60", "7 0.50 7 px/s"]
    moving.speeds_m_s = np.array([1.44, np.nan, np.nan], np.float32)
    assert texts(moving, speeds=True) == ["person 0.87 1.4 m/s", "car 0.60", "7 0.50 7 px/s"]


def test_nothing_is_written_about_a_box_outside_the_picture() -> None:
    picture = Picture(bgr=grey_picture(200, 160, 90))
    outside = Detections(np.array([[300, 300, 400, 400]]), np.array([0.9]), np.array([0]))
    one = Frame("a", 0, 0.0, 0.0, picture, detections=outside)
    Renderer(RenderSettings(hud=False)).process(one)
    assert one.rendered is not None
    assert np.array_equal(one.rendered.bgr, picture.bgr)


def test_labels_of_a_person_and_the_face_of_that_person_are_apart() -> None:
    canvas = Picture(bgr=grey_picture(640, 480, 90))
    faces = Faces(np.array([[220, 100, 290, 180]]), np.array([0.9]), np.zeros((1, 5, 2), np.float32), names=("José",))
    faces.similarities = np.array([0.8], np.float32)
    person = Detections(np.array([[200, 100, 320, 400]]), np.array([0.9]), np.array([0]))
    both = Frame("a", 0, 0.0, 0.0, canvas, detections=person, faces=faces, labels=("person",))
    alone = [
        Frame("a", 0, 0.0, 0.0, canvas, detections=person, labels=("person",)),
        Frame("a", 0, 0.0, 0.0, canvas, faces=faces),
    ]
    inks = []
    for one in (both, *alone):
        Renderer(RenderSettings(hud=False, boxes=False)).process(one)
        assert one.rendered is not None
        inks.append(int((one.rendered.bgr.min(axis=2) > 200).sum()))
    assert inks[0] == inks[1] + inks[2]  # not a pixel of either is covered by the other


# ---- colours


def luminance(bgr: Image) -> float:
    """Relative luminance. Source: WCAG 2.2, definition of relative luminance."""
    blue, green, red = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in bgr / 255)
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)


def contrast(first: Image, second: Image) -> float:
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_contrast_formula_is_that_of_wcag() -> None:
    assert contrast(np.array([0, 0, 0]), np.array([255, 255, 255])) == pytest.approx(21)
    assert contrast(np.array([0x77] * 3), np.array([255, 255, 255])) == pytest.approx(4.48, abs=0.01)


def pictures() -> list[Picture]:
    """One in BGR, and one for each way that planes are to be read; coloured, which must not shine through."""
    image = np.zeros((160, 200, 3), np.uint8)
    image[:] = (200, 60, 220)
    data = bgr_to_planes(image).data
    ways: list[tuple[Matrix, bool]] = [("bt601", False), ("bt709", False), ("bt601", True), ("bt709", True)]
    return [Picture(bgr=image), *(Picture(planes=Planes(data.copy(), *way)) for way in ways)]


@pytest.mark.parametrize("theme", get_args(ThemeName))
@pytest.mark.parametrize("class_id", range(80))
def test_the_text_of_every_class_can_be_read_in_every_theme(theme: ThemeName, class_id: int) -> None:
    for picture in pictures():
        found = Detections(np.array([[20, 60, 180, 140]]), np.array([0.9]), np.array([class_id]))
        one = Frame("a", 0, 0.0, 0.0, picture, detections=found, labels=("person",) * 80)
        Renderer(RenderSettings(theme=theme, hud=False, boxes=False, font_scale=1.0)).process(one)
        assert one.rendered is not None
        height, width = Typeface().patch("person 0.90", 25).shape
        patch = one.rendered.bgr[60 - height : 60, 26:][:, : width - 4].reshape(-1, 3)
        order = np.argsort(patch.sum(axis=1))
        paper, ink = patch[order[len(order) // 2]], patch[order[-20]]
        assert contrast(paper, ink) >= 4.5
        assert contrast(paper, ink) >= 12  # it is white on black


@pytest.mark.parametrize("theme", get_args(ThemeName))
def test_an_outline_is_seen_on_black_white_or_grey(theme: ThemeName) -> None:
    for level in (0, 128, 255):
        for class_id in range(20):
            picture = Picture(bgr=grey_picture(200, 160, level))
            found = Detections(np.array([[20, 60, 180, 140]]), np.array([0.9]), np.array([class_id]))
            one = Frame("a", 0, 0.0, 0.0, picture, detections=found)
            Renderer(RenderSettings(theme=theme, hud=False, labels=False, thickness=2)).process(one)
            assert one.rendered is not None
            across = one.rendered.bgr[100, 10:30].astype(int)
            assert np.abs(across - level).sum(axis=1).max() > 90


# Viénot, Brettel and Mollon (1999): what somebody sees who has no red, or no green, receptors; linear RGB
WITHOUT_RED = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
WITHOUT_GREEN = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


@pytest.mark.parametrize("seen", [np.eye(3), WITHOUT_RED, WITHOUT_GREEN])
def test_the_colours_for_the_colour_blind_are_told_apart_by_them(
    seen: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:
    classes = np.array(THEMES["colour-blind"].classes)[:, ::-1] / 255
    linear = (classes**2.2) @ seen.T
    shown = np.clip(linear, 0, 1) ** (1 / 2.2) * 255
    for first, second in itertools.combinations(shown, 2):
        assert np.linalg.norm(first - second) > 30


def test_mono_adds_no_colour_to_a_grey_picture() -> None:
    picture = Picture(planes=bgr_to_planes(grey_picture(200, 160, 90)))
    found = Detections(
        np.tile((20, 60, 180, 140), (4, 1)), np.linspace(0.9, 0.5, 4, dtype=np.float32), np.arange(4, dtype=np.int32)
    )
    one = Frame("a", 0, 0.0, 0.0, picture, detections=found)
    Renderer(RenderSettings(theme="mono")).process(one)
    assert one.rendered is not None
    drawn = one.rendered.bgr.astype(int)
    assert np.ptp(drawn, axis=2).max() <= 2


# ---- the patch


@pytest.mark.parametrize("corner", [(-30, -8), (180, 150), (500, 10), (10, -500), (40, 60), (-500, 20)])
def test_a_text_beyond_the_edges_is_cut(corner: tuple[int, int]) -> None:
    coverage = Typeface().patch("person 12", 20, 24, 255)
    left, top = corner
    height, width = coverage.shape
    shown = np.zeros((160, 200), bool)
    shown[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)] = True
    image = np.zeros((160, 200, 3), np.uint8)
    image[:] = (200, 60, 220)
    for picture in (Picture(bgr=image), Picture(planes=bgr_to_planes(image))):
        canvas = canvas_of(picture)
        canvas.write(corner, coverage)
        changed = np.abs(canvas.picture().bgr.astype(int) - planes_to_bgr(bgr_to_planes(image))).max(axis=2) > 20
        assert np.array_equal(changed, shown)
