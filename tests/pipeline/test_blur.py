"""Hiding people: what is not known to be nobody is hidden, nothing is left of it, and nobody gets the original."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engines.engine import EngineOptions
from pipeline.arrays import FloatArray
from pipeline.assemble import assemble
from pipeline.assemble_faces import check_hiding, looks_for_faces
from pipeline.config.result_settings import BlurSettings
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.faces import Faces
from pipeline.frame import Detections, Frame
from pipeline.gallery.records import EmbedderId, Encoding
from pipeline.gallery.store import GalleryFile
from pipeline.infer.face_finder import FaceFinder, FinderOptions, recognise
from pipeline.picture import Picture, bgr_to_planes
from pipeline.render import hidden_regions
from pipeline.render.blur import Blur, grown
from pipeline.render.hidden_regions import LOOKS, MOST, HiddenRegions, SceneChange, Seen
from pipeline.render.hiding import CELLS, FILL, How, hide
from pipeline.runner import Runner
from tests.pipeline.constant_model import constant_model
from tests.pipeline.face_models import SQUARE, square_finder
from tests.pipeline.fakes import FakeSink
from tests.pipeline.heads.encoded import centres, objects, without_objectness
from tests.pipeline.videos import noise_planes

CPU = EngineOptions("onnxruntime", "fp32")
FPS = 25
WIDTH, HEIGHT = 320, 240
NOISE = Picture(planes=noise_planes(WIDTH, HEIGHT))
NOT_LOOKED_AT = None
Box = tuple[float, float, float, float]
MIDDLE: Box = (100, 80, 160, 150)
HOWS: tuple[How, ...] = ("blur", "pixelate", "fill")


def faces_at(*boxes: Box, **more: Any) -> Faces:
    count = len(boxes)
    return Faces(np.array(boxes), np.full(count, 0.9), np.zeros((count, 5, 2), np.float32), **more)


def frame_of(index: int, faces: Faces | None, picture: Picture = NOISE, **more: Any) -> Frame:
    return Frame("cam", index, index / FPS, 0.0, picture, faces=faces, **more)


def blur_of(**settings: Any) -> Blur:
    return Blur(BlurSettings.model_validate({"enabled": True, **settings}))


def passed(stage: Blur, all_faces: Iterable[Faces | None], first: int = 0) -> list[Frame]:
    frames = [frame_of(first + index, faces) for index, faces in enumerate(all_faces)]
    for each in frames:
        stage.process(each)
    return frames


def settled(stage: Blur, *boxes: Box, **more: Any) -> Blur:
    """Let a stage look at as many pictures as it wants to."""
    passed(stage, [faces_at(*boxes, **more)] * LOOKS)
    return stage


def is_whole(frame: Frame) -> bool:
    assert frame.hidden is not None
    return bool(np.array_equal(frame.hidden, [[0, 0, frame.width, frame.height]]))


def covers(frame: Frame, box: Box) -> bool:
    """Whether one of the hidden regions has all of a box in it."""
    assert frame.hidden is not None
    left, top, right, bottom = box
    return any(r[0] <= left and r[1] <= top and r[2] >= right and r[3] >= bottom for r in frame.hidden.tolist())


# --- which pictures are shown at all --------------------------------------------------------------------------------


def test_nothing_is_shown_before_a_number_of_pictures_was_looked_at() -> None:
    frames = passed(blur_of(), [faces_at()] * (LOOKS + 1))
    assert [is_whole(frame) for frame in frames] == [True] * (LOOKS - 1) + [False] * 2


def test_pictures_that_nobody_looked_at_do_not_count() -> None:
    unseen: list[Faces | None] = [NOT_LOOKED_AT, replace(faces_at(), predicted=True)] * 10
    assert all(is_whole(frame) for frame in passed(blur_of(), unseen))


@pytest.mark.parametrize("missing", [NOT_LOOKED_AT, replace(faces_at(MIDDLE), predicted=True)])
def test_nothing_is_shown_when_nobody_has_looked_for_longer_than_the_hold(missing: Faces | None) -> None:
    frames = passed(settled(blur_of(hold_s=0.4), MIDDLE), [missing] * 20, first=LOOKS)
    assert [is_whole(frame) for frame in frames] == [False] * 10 + [True] * 10
    assert all(covers(frame, MIDDLE) for frame in frames)


def test_after_a_gap_and_after_a_clock_that_jumps_back_it_begins_anew() -> None:
    for first in (LOOKS + 2 * FPS, 0):
        stage = settled(blur_of(), MIDDLE)
        frames = passed(stage, [faces_at()] * LOOKS, first=first)
        assert [is_whole(frame) for frame in frames] == [True] * (LOOKS - 1) + [False]


def test_without_a_hold_pictures_that_are_looked_at_are_shown_and_others_are_not() -> None:
    stage = settled(blur_of(hold_s=0), MIDDLE)
    looked, missed, unseen = passed(stage, [faces_at(MIDDLE), faces_at(), None], first=LOOKS)
    assert not is_whole(looked)
    assert covers(looked, MIDDLE)
    assert not len(missed.hidden)  # type: ignore[arg-type]
    assert is_whole(unseen)


def test_another_scene_is_hidden_until_it_was_looked_at() -> None:
    dark, bright = (Picture(bgr=np.full((HEIGHT, WIDTH, 3), level, np.uint8)) for level in (40, 60))
    stage = blur_of()
    frames = [frame_of(index, faces_at(), bright if index > 9 else dark) for index in range(20)]
    for each in frames:
        stage.process(each)
    hidden = [index for index, each in enumerate(frames) if is_whole(each)]
    assert hidden == [*range(LOOKS - 1), *range(10, 10 + LOOKS - 1)]


def test_noise_movement_and_the_first_picture_are_no_other_scene() -> None:
    scene_change = SceneChange()
    street = np.kron(np.random.default_rng(0).integers(60, 190, (6, 8)), np.ones((40, 40)))
    noisy = street + np.random.default_rng(1).normal(0, 15, street.shape)
    pixels = [np.repeat(each[..., None], 3, axis=2).astype(np.uint8) for each in (street, np.roll(noisy, 4, axis=1))]
    pictures = [*(Picture(bgr=each) for each in pixels), Picture(planes=bgr_to_planes(pixels[0]))]
    assert not any(scene_change(picture) for picture in pictures)
    assert scene_change(Picture(bgr=np.roll(pixels[0], 80, axis=1)))


def test_a_picture_of_another_size_begins_anew() -> None:
    stage = settled(blur_of(), MIDDLE)
    small = frame_of(LOOKS, faces_at(), Picture(planes=noise_planes(160, 120)))
    stage.process(small)
    assert is_whole(small)


def test_sources_know_nothing_of_each_other_and_an_ended_one_is_forgotten() -> None:
    stage = settled(blur_of(), MIDDLE)
    other = Frame("other", 0, 0.0, 0.0, NOISE, faces=faces_at())
    stage.process(other)
    assert is_whole(other)
    stage.end("cam")
    assert is_whole(passed(stage, [faces_at()], first=LOOKS)[0])


def test_an_image_stands_alone() -> None:
    stage = blur_of()
    with_face, without, unseen = (
        frame_of(index, faces, file=Path("a.png")) for index, faces in enumerate([faces_at(MIDDLE), faces_at(), None])
    )
    for each in (with_face, without, unseen):
        stage.process(each)
    assert covers(with_face, MIDDLE)
    assert not is_whole(with_face)
    assert not len(without.hidden)  # type: ignore[arg-type]
    assert without.picture is NOISE
    assert is_whole(unseen)


def test_a_source_of_which_nothing_is_ever_shown_is_explained_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        passed(blur_of(), [None] * 600)
    assert [record.getMessage() for record in caplog.records] == [
        "cam: nothing was shown for 10 s: too few of its pictures were looked at (blur.hold_s 1); "
        "more time to hold, or less to do for the machine, would help"
    ]


# --- which places are hidden ----------------------------------------------------------------------------------------


def test_a_face_that_is_missed_stays_hidden_for_the_hold_and_not_longer() -> None:
    frames = passed(settled(blur_of(hold_s=0.4), MIDDLE), [faces_at()] * 20, first=LOOKS)
    assert [covers(frame, MIDDLE) for frame in frames] == [True] * 10 + [False] * 10
    assert not len(frames[-1].hidden)  # type: ignore[arg-type]
    assert frames[-1].picture is NOISE


def test_a_place_moves_on_as_it_moved_and_grows() -> None:
    def place(index: int) -> Box:
        return (20 + 6 * index, 80, 70 + 6 * index, 140)

    stage = blur_of(grow=0)
    passed(stage, [faces_at(place(index)) for index in range(20)])
    areas = []
    for frame in passed(stage, [faces_at()] * 10, first=20):
        assert covers(frame, place(frame.index))
        assert frame.hidden is not None
        left, top, right, bottom = frame.hidden[0].tolist()
        areas.append((right - left) * (bottom - top))
    assert areas == sorted(areas)
    assert areas[-1] < WIDTH * HEIGHT / 2


def test_a_face_that_stops_where_it_was_missed_is_hidden_too() -> None:
    stage = blur_of(grow=0)
    passed(stage, [faces_at((20 + 6 * index, 80, 70 + 6 * index, 140)) for index in range(20)])
    for frame in passed(stage, [faces_at()] * 10, first=20):
        assert covers(frame, (134, 80, 184, 140))


def test_a_face_that_is_found_again_leaves_nothing_behind() -> None:
    stage = settled(blur_of(), MIDDLE)
    frames = passed(stage, [faces_at(), faces_at((104, 82, 164, 152)), faces_at((104, 82, 164, 152))], first=LOOKS)
    assert [len(frame.hidden) for frame in frames] == [1, 1, 1]  # type: ignore[arg-type]


def test_a_face_found_elsewhere_does_not_uncover_the_one_that_was_missed() -> None:
    near: Box = (150, 90, 210, 160)
    for other in (near, (250, 10, 290, 60)):
        stage = settled(blur_of(), MIDDLE)
        for frame in passed(stage, [faces_at(other)] * 5, first=LOOKS):
            assert covers(frame, MIDDLE)
            assert covers(frame, other)


def test_of_two_faces_side_by_side_the_missed_one_stays_hidden() -> None:
    right: Box = (130, 80, 190, 150)
    for found, missed in ((MIDDLE, right), (right, MIDDLE)):
        stage = settled(blur_of(), MIDDLE, right)
        for frame in passed(stage, [faces_at(found)] * 5, first=LOOKS):
            assert covers(frame, found)
            assert covers(frame, missed)


def test_what_only_may_be_a_face_is_hidden() -> None:
    doubtful = replace(faces_at(), doubtful=np.array([MIDDLE], np.float32))
    assert all(covers(frame, MIDDLE) for frame in passed(settled(blur_of()), [doubtful, faces_at()], first=LOOKS))


def test_regions_are_larger_than_the_box_and_most_so_above() -> None:
    (region,) = grown(np.array([[100, 100, 200, 300]], np.float32), 0.3, 0.25).tolist()
    assert region == pytest.approx([85, 20, 215, 330])


def test_more_places_than_can_be_followed_hide_everything() -> None:
    regions = HiddenRegions(10.0)
    boxes = np.stack([np.arange(50) * 10, np.zeros(50), np.arange(50) * 10 + 5, np.full(50, 5)], axis=1)
    for index in range(LOOKS + MOST // 50):
        seen = Seen((boxes + 7 * index).astype(np.float32), np.zeros(50, np.bool_), np.full(50, -1))
        hidden = regions.update(index / FPS, seen)
    assert hidden is None


@pytest.mark.parametrize(
    ("options", "faces", "doubtful"),
    [
        ({}, (20, 120), None),
        ({"doubtful": 0.3}, (20, 120), (220,)),
        ({"doubtful": 0.3, "max_faces": 1}, (20,), (120, 220)),
        ({"doubtful": 0.3, "min_size": 500}, (), (20, 120, 220)),
        ({"doubtful": 0.95}, (20, 120), ()),
    ],
)
def test_a_finder_gives_what_is_no_face_to_it_as_doubtful(
    tmp_path: Path, options: dict[str, Any], faces: tuple[int, ...], doubtful: tuple[int, ...] | None
) -> None:
    image = np.zeros((256, 320, 3), np.uint8)
    for place, level in ((20, 255), (120, 230), (220, 110)):
        image[100 : 100 + SQUARE, place : place + SQUARE] = level
    finder = FaceFinder(recognise(square_finder(tmp_path)), CPU, FinderOptions(confidence=0.6, **options))
    found = finder(Picture(bgr=image))
    finder.close()
    assert squares(found.boxes) == faces
    assert (None if found.doubtful is None else squares(found.doubtful)) == doubtful


def squares(boxes: FloatArray) -> tuple[int, ...]:
    """Return which of the three squares are among the boxes: beside each of them lie others, which are half of it."""
    return tuple(place for place in (20, 120, 220) if (np.abs(boxes[:, :2] - (place, 100)) < 2.5).all(axis=1).any())


coordinates = st.floats(0, 300, width=32)
places = st.tuples(coordinates, coordinates, st.floats(4, 100, width=32), st.floats(4, 100, width=32))
looks = st.none() | st.lists(places, max_size=4)


@given(st.lists(st.tuples(looks, st.integers(1, 20)), min_size=1, max_size=30))
@hypothesis_settings(max_examples=150, deadline=None)
def test_whatever_comes_all_that_was_found_is_hidden_and_what_was_missed_is_at_its_place(
    course: list[tuple[list[Box] | None, int]],
) -> None:
    regions, index = HiddenRegions(1.0), 0
    last: list[Box] = []
    for found, step in course:
        index += step
        boxes = [] if found is None else [(x, y, x + width, y + height) for x, y, width, height in found]
        seen = None if found is None else Seen(rows(boxes), np.zeros(len(boxes), np.bool_), np.full(len(boxes), -1))
        hidden = regions.update(index / FPS, seen)
        expected = last if found is None else boxes
        last = expected
        if hidden is None:
            continue
        for box in rows(expected):
            assert any((region[:2] <= box[:2]).all() and (region[2:] >= box[2:]).all() for region in hidden), box


def rows(boxes: Sequence[Box]) -> FloatArray:
    return np.array(boxes, np.float32).reshape(-1, 4)


# --- persons, and who is not to be hidden ---------------------------------------------------------------------------


def persons_at(*boxes: Box, class_ids: Sequence[int] | None = None, names: Any = None) -> Detections:
    count = len(boxes)
    return Detections(rows(boxes), np.full(count, 0.9), np.array(class_ids or [0] * count), names=names)


def test_persons_are_hidden_and_other_objects_are_not() -> None:
    stage = blur_of(what="persons")
    car: Box = (200, 100, 300, 200)
    detections = persons_at(MIDDLE, car, class_ids=[0, 1])
    for index in range(LOOKS):
        frame = frame_of(index, None, detections=detections, labels=("person", "car"))
        stage.process(frame)
    assert covers(frame, MIDDLE)
    assert not covers(frame, car)
    for index in range(LOOKS, LOOKS + 40):  # predicted: not seen in these
        frame = frame_of(index, None, detections=detections, labels=("person", "car"), predicted=True)
        stage.process(frame)
    assert is_whole(frame)


def test_both_needs_both_to_be_looked_for() -> None:
    stage = blur_of(what="both")
    person: Box = (90, 70, 170, 230)
    frames = [
        frame_of(index, faces_at(MIDDLE), detections=persons_at(person), labels=("person",), predicted=index > 60)
        for index in range(100)
    ]
    for each in frames:
        stage.process(each)
    assert covers(frames[50], MIDDLE)
    assert covers(frames[50], person)
    assert is_whole(frames[99])


@pytest.mark.parametrize(
    ("spare", "shown"), [((), ""), ("known", "ann bob"), (("bob",), "bob"), (("ann", "bob"), "ann bob"), ("eve", "")]
)
def test_known_people_are_shown_as_far_as_they_are_excepted(spare: Any, shown: str) -> None:
    boxes: dict[str | None, Box] = {"ann": (10, 80, 60, 140), "bob": (120, 80, 170, 140), None: (220, 80, 270, 140)}
    faces = faces_at(*boxes.values(), names=tuple(boxes), track_ids=np.arange(1, 4))
    (frame,) = passed(settled(blur_of(**{"except": spare})), [faces], first=LOOKS)
    assert [name for name, box in boxes.items() if not covers(frame, box)] == shown.split()
    image = frame_of(0, replace(faces, track_ids=None), file=Path("a.png"))
    blur = blur_of(**{"except": spare})
    blur.process(image)
    assert [name for name, box in boxes.items() if not covers(image, box)] == shown.split()


def test_a_face_is_hidden_until_it_has_a_name_and_again_when_it_has_none_any_more() -> None:
    stage = settled(blur_of(**{"except": "known"}), MIDDLE, track_ids=np.array([1]), names=(None,))
    named = faces_at(MIDDLE, track_ids=np.array([1]), names=("ann",))
    unnamed = faces_at(MIDDLE, track_ids=np.array([1]), names=(None,))
    frames = passed(stage, [unnamed, named, named, unnamed], first=LOOKS)
    assert [covers(frame, MIDDLE) for frame in frames] == [True, False, False, True]


def test_a_known_face_does_not_uncover_a_stranger_whom_the_finder_has_missed() -> None:
    stage = settled(blur_of(**{"except": "known"}), MIDDLE, track_ids=np.array([1]), names=(None,))
    near = faces_at((110, 85, 170, 155), track_ids=np.array([2]), names=("ann",))
    for frame in passed(stage, [near] * 5, first=LOOKS):
        assert covers(frame, MIDDLE)


def test_a_stranger_in_front_of_a_known_face_stays_hidden() -> None:
    stage = settled(blur_of(**{"except": "known"}))
    both = faces_at(MIDDLE, (110, 85, 170, 155), track_ids=np.array([1, 2]), names=("ann", None))
    (frame,) = passed(stage, [both], first=LOOKS)
    assert covers(frame, (110, 85, 170, 155))


LEFT, RIGHT = (20.0, 60.0, 90.0, 230.0), (220.0, 60.0, 290.0, 230.0)
FACE_OF = {LEFT: (40.0, 65.0, 70.0, 100.0), RIGHT: (240.0, 65.0, 270.0, 100.0)}


def people_frame(
    index: int, bodies: dict[Box, tuple[int, str | None]], faces: dict[Box, str | None], **more: Any
) -> Frame:
    """Persons at places, each with the number and the name that its track has, and faces on some of them."""
    detections = persons_at(*bodies, names=tuple(name for _, name in bodies.values()))
    detections.track_ids = np.array([number for number, _ in bodies.values()], np.int32)
    found = faces_at(*(FACE_OF[place] for place in faces), names=tuple(faces.values()))
    return frame_of(index, found, detections=detections, labels=("person",), **more)


def shown_after(stage: Blur, frames: Iterable[Frame], place: Box) -> list[bool]:
    """Whether the middle of a place is to be seen in each frame."""
    middle = (place[0] + 20, place[1] + 60, place[2] - 20, place[3] - 60)
    shown = []
    for frame in frames:
        stage.process(frame)
        assert frame.hidden is not None
        apart = (frame.hidden[:, :2] >= middle[2:]).any(axis=1) | (frame.hidden[:, 2:] <= middle[:2]).any(axis=1)
        shown.append(bool(apart.all()))
    return shown


def test_a_name_that_a_tracker_gives_to_another_body_uncovers_nobody() -> None:
    stage = blur_of(what="persons", **{"except": "known"})
    before = [people_frame(i, {LEFT: (1, "ann"), RIGHT: (2, None)}, {LEFT: "ann"}) for i in range(40)]
    after = [people_frame(i, {RIGHT: (1, "ann")}, {}) for i in range(40, 150)]
    frames = before + after
    assert shown_after(stage, before, LEFT)[LOOKS:] == [True] * (40 - LOOKS)
    assert not any(shown_after(stage, after, RIGHT))
    assert not any(shown_after(blur_of(what="persons", **{"except": "known"}), frames, RIGHT))


@pytest.mark.parametrize("hold_s", [0.0, 0.4])
def test_a_known_person_who_turns_away_is_shown_for_the_hold_and_not_longer(hold_s: float) -> None:
    stage = blur_of(what="persons", hold_s=hold_s, **{"except": "known"})
    frames = [people_frame(i, {LEFT: (1, "ann")}, {LEFT: "ann"} if i < 20 else {}) for i in range(60)]
    shown = shown_after(stage, frames, LEFT)
    assert shown == [False] * (LOOKS - 1) + [True] * (20 + round(hold_s * FPS) - LOOKS + 1) + [False] * (
        40 - round(hold_s * FPS)
    )


@pytest.mark.parametrize("other", ["bob", None])
def test_another_face_on_a_body_hides_it_at_once(other: str | None) -> None:
    stage = blur_of(what="persons", **{"except": "known"})
    frames = [people_frame(i, {LEFT: (1, "ann")}, {LEFT: "ann" if i < 20 else other}) for i in range(25)]
    assert shown_after(stage, frames, LEFT)[18:] == [True, True] + [False] * 5


def test_faces_that_were_not_seen_in_this_picture_confirm_no_body() -> None:
    stage = blur_of(what="persons", **{"except": "known"})
    frames = [people_frame(i, {LEFT: (1, "ann")}, {LEFT: "ann"}) for i in range(20)]
    for frame in frames:
        assert frame.faces is not None
        frame.faces.predicted = True
    assert not any(shown_after(stage, frames, LEFT))


def test_after_a_cut_a_number_that_goes_on_uncovers_nobody() -> None:
    stage = blur_of(what="persons", **{"except": "known"})
    dark, bright = (Picture(bgr=np.full((HEIGHT, WIDTH, 3), level, np.uint8)) for level in (40, 90))
    frames = [
        people_frame(i, {LEFT: (1, "ann")}, {LEFT: "ann"} if i < 20 else {}, picture=dark if i < 20 else bright)
        for i in range(60)
    ]
    shown = shown_after(stage, frames, LEFT)
    assert shown[19]
    assert not any(shown[20:])


def test_in_an_image_the_body_of_a_known_face_is_shown() -> None:
    frame = people_frame(0, {LEFT: (1, "ann"), RIGHT: (2, None)}, {LEFT: "ann"}, file=Path("a.png"))
    assert shown_after(blur_of(what="persons", **{"except": "known"}), [frame], LEFT) == [True]


def test_what_only_may_be_a_person_is_hidden_and_does_not_cover_those_who_are_spared() -> None:
    stage = blur_of(what="persons", **{"except": "known"})
    frames = [people_frame(i, {LEFT: (1, "ann")}, {LEFT: "ann"}) for i in range(20)]
    for frame in frames:
        scores = np.array([0.9, 0.2, 0.15])
        frame.possible = Detections(rows([LEFT, RIGHT, (130, 10, 160, 40)]), scores, np.array([0, 0, 1]))
        frame.labels = ("person", "dog")
    assert shown_after(stage, frames, LEFT)[LOOKS:] == [True] * (20 - LOOKS)
    assert covers(frames[-1], RIGHT)
    assert not covers(frames[-1], (130, 10, 160, 40))


# --- what is left of the pixels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", ["planes", "bgr"])
def test_a_place_has_no_detail_left_and_the_rest_is_as_it_was(how: How, kind: str) -> None:
    original = NOISE if kind == "planes" else Picture(bgr=NOISE.bgr)
    before = NOISE.planes.data.copy() if NOISE.planes else None
    hidden = hide(original, rows([(101, 81, 159, 149)]), how)
    assert (hidden.planes is None) == (original.planes is None)
    assert NOISE.planes is not None
    assert np.array_equal(NOISE.planes.data, before)  # type: ignore[arg-type]
    inside, old = hidden.bgr[82:148, 102:158].astype(float), original.bgr[82:148, 102:158].astype(float)
    assert inside.std() < old.std() / 4
    rest = np.abs(hidden.bgr.astype(int) - original.bgr).max(axis=2)
    rest[80:150, 100:160] = 0
    assert rest.max() == 0


@pytest.mark.parametrize("how", HOWS)
def test_what_is_left_follows_from_a_few_mean_values_however_large_a_face_is(how: How) -> None:
    """Two pictures of the same mean values become the same: nothing else of either is kept."""
    cell, size = 40, CELLS * 40
    coarse = np.random.default_rng(0).integers(60, 190, (CELLS, CELLS)).astype(np.float64)
    large = np.kron(coarse, np.ones((cell, cell)))
    checks = np.kron(np.indices((size // 2, size // 2)).sum(axis=0) % 2 * 2 - 1, np.ones((2, 2))) * 50
    pictures = [np.repeat((large + sign * checks)[..., None], 3, axis=2).astype(np.uint8) for sign in (1, -1)]
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() == pytest.approx(100)
    one, other = (hide(Picture(bgr=each), rows([(0, 0, size, size)]), how).bgr.astype(int) for each in pictures)
    assert np.abs(one - other).max() <= 4


@pytest.mark.parametrize("size", [(321, 241), (320, 240), (3, 5), (2, 2)])
@pytest.mark.parametrize("how", HOWS)
def test_places_of_any_kind_are_hidden_without_an_error(how: How, size: tuple[int, int]) -> None:
    width, height = size
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    odd = [
        (-50, -50, 10, 10),
        (0, 0, width, height),
        (1.5, 1.5, 2.2, 2.2),
        (500, 500, 600, 600),
        (-9e9, -9e9, 9e9, 9e9),
    ]
    pictures = [Picture(bgr=image)] + ([Picture(planes=bgr_to_planes(image))] if not (width % 2 or height % 2) else [])
    for picture in pictures:
        hidden = hide(picture, rows(odd), how)
        assert (hidden.width, hidden.height) == size
        if how == "fill":
            assert np.abs(hidden.bgr.astype(int) - FILL).max() <= 3


def test_the_frame_keeps_no_way_to_the_original() -> None:
    original = Picture(planes=noise_planes(WIDTH, HEIGHT))
    shown_before = original.bgr
    stage = settled(blur_of(), MIDDLE)
    frame = frame_of(LOOKS, faces_at(MIDDLE), original, rendered=Picture(bgr=shown_before.copy()))
    stage.process(frame)
    for picture in (frame.picture, frame.output, frame.rendered):
        assert picture is not None
        assert picture is not original
        assert np.asarray(picture.bgr)[80:150, 100:160].std() < shown_before[80:150, 100:160].std() / 3
    assert frame.image[80:150, 100:160].std() < shown_before[80:150, 100:160].std() / 3
    assert frame.planes is not None


def test_a_drawing_of_another_size_is_dropped() -> None:
    frame = frame_of(0, faces_at(), rendered=Picture(bgr=np.zeros((10, 10, 3), np.uint8)))
    blur_of().process(frame)
    assert frame.output is frame.picture


def test_an_error_while_hiding_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no assignment")

    stage = settled(blur_of(), MIDDLE)
    monkeypatch.setattr(hidden_regions, "linear_sum_assignment", broken)
    with pytest.raises(RuntimeError, match="no assignment"):
        passed(stage, [faces_at(MIDDLE)], first=LOOKS)


# --- settings -------------------------------------------------------------------------------------------------------


def settings_of(**values: Any) -> Settings:
    return Settings.model_validate(values)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    embedder = EmbedderId("mobilefacenet", "0" * 64, "cosine", 4)
    with GalleryFile.open(tmp_path / "g.db", embedder, create=True) as file:
        vector = np.array([1, 0, 0, 0], np.float32)
        file.add("ann", [Encoding(vector, 0.9, "ann.png", "", "2026-01-02T03:04:05+00:00")])
    return tmp_path / "g.db"


@pytest.mark.parametrize(
    ("values", "looks"),
    [
        ({}, False),
        ({"blur": True}, True),
        ({"blur": {"enabled": True, "what": "persons"}}, False),
        ({"blur": {"enabled": True, "what": "both"}}, True),
        ({"blur": {"enabled": False, "what": "faces"}}, False),
        ({"faces": {"enabled": True}}, True),
    ],
)
def test_hiding_faces_is_a_reason_to_look_for_them(values: dict[str, Any], looks: bool) -> None:
    assert looks_for_faces(settings_of(**values)) is looks


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"blur": True, "faces": {"enabled": False}}, "blur.what: faces needs faces to be looked for"),
    ({"blur": {"enabled": True, "what": "both"}, "faces": {"enabled": False}}, "blur.what: both needs faces"),
    ({"blur": True, "faces": {"inside_persons": True}}, "faces.inside_persons: faces outside of persons"),
    (
        {"blur": {"enabled": True, "what": "persons"}, "detect": {"enabled": False}},
        "blur.what: persons needs detection",
    ),
    (
        {"blur": {"enabled": True, "what": "persons"}, "detect": {"when": "motion"}},
        "looked for every 5 s, but are held",
    ),
    (
        {"blur": {"enabled": True, "what": "persons"}, "detect": {"when": "motion", "keep_alive_s": None}},
        "looked for never",
    ),
    *(
        (
            {
                "blur": {"enabled": True, "what": what},
                "sources": ["a.mp4", {"url": "b.mp4", "detect_in": [0, 0, 40, 40]}],
            },
            "detect_in of source 2: persons outside of it would not be hidden",
        )
        for what in ("persons", "both")
    ),
    (
        {"blur": {"enabled": True, "what": "persons"}, "detect": {"class_agnostic": True}},
        "detect.class_agnostic: persons that overlap with something else would not be hidden",
    ),
    ({"blur": {"enabled": True, "except": "known"}}, "blur.except: nobody is known without a gallery"),
    ({"blur": {"enabled": True, "except": ["ann"]}}, "blur.except: nobody is known without a gallery"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED)
def test_what_would_hide_less_than_it_says_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_hiding(settings_of(**values))
    assert message in str(caught.value)


def test_it_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"blur\.what: persons needs detection"):
        assemble(
            settings_of(sources=["synthetic"], blur={"enabled": True, "what": "persons"}, detect={"enabled": False})
        )


@pytest.mark.parametrize(
    "values",
    [
        {"blur": {"enabled": True, "what": "persons"}, "faces": {"enabled": False}},
        {"blur": {"enabled": True, "what": "persons", "hold_s": 6}, "detect": {"when": "motion"}},
        {"blur": {"enabled": False, "what": "both", "except": "known"}, "faces": {"enabled": False}},
        {"blur": True, "detect": {"enabled": False}},
        {"blur": True, "sources": [{"url": "b.mp4", "detect_in": [0, 0, 40, 40]}]},
        {"blur": {"enabled": True, "what": "both"}, "detect": {"tiles": "2x2", "full_frame": False, "every": 3}},
    ],
)
def test_what_can_be_hidden_is_accepted(values: dict[str, Any]) -> None:
    check_hiding(settings_of(**values))


def test_names_that_nobody_bears_are_warned_of(gallery: Path, caplog: pytest.LogCaptureFixture) -> None:
    faces = {"gallery": str(gallery)}
    with caplog.at_level(logging.WARNING):
        check_hiding(settings_of(blur={"enabled": True, "except": ["ann"]}, faces=faces))
        check_hiding(settings_of(blur={"enabled": True, "except": "known"}, faces=faces))
    assert not caplog.records
    check_hiding(settings_of(blur={"enabled": True, "except": ["ann", "Ann"]}, faces=faces))
    assert caplog.messages == [f"blur.except: {gallery} holds nobody called 'Ann': who is not known is hidden"]


def test_who_somebody_is_cannot_be_known_without_faces(gallery: Path) -> None:
    blur = {"enabled": True, "what": "persons", "except": "known"}
    with pytest.raises(ConfigError, match=r"blur\.except: who somebody is shows in the face"):
        check_hiding(settings_of(blur=blur, faces={"gallery": str(gallery), "enabled": False}))


# --- what a real detector finds -------------------------------------------------------------------------------------


@pytest.fixture
def street(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    return shared / "data" / "videos" / "vtest.avi"


STREET_FRAMES = 12


def run_on(street: Path, **values: Any) -> list[Frame]:
    settings = settings_of(sources=[str(street)], max_frames=STREET_FRAMES, render={"enabled": False}, **values)
    assembled, sink = assemble(settings), Kept()
    Runner(assembled.sources, assembled.stages, [sink], max_frames=STREET_FRAMES).run()
    return sink.frames


class Kept(FakeSink):
    """Keeps the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    def consume(self, frame: Frame) -> None:
        super().consume(frame)
        self.frames.append(frame)


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("few", [{"confidence": 0.95}, {"max_detections": 2}])
def test_persons_who_are_too_weak_or_too_many_to_be_shown_are_hidden(
    street: Path, few: dict[str, Any], tracked: bool
) -> None:
    persons = {"enabled": True, "what": "persons"}
    clear = run_on(street, detect={"confidence": 0.5, "classes": ["person"]})
    seen = run_on(street, detect=few, track={"enabled": tracked})
    hidden = run_on(street, detect=few, track={"enabled": tracked}, blur=persons)
    for all_of_them, unhidden, frame in zip(clear, seen, hidden, strict=True):
        assert all_of_them.detections is not None
        assert unhidden.detections is not None
        assert frame.detections is not None
        assert np.array_equal(frame.detections.boxes, unhidden.detections.boxes)
        assert len(all_of_them.detections) > max(3, len(frame.detections))
        for box in all_of_them.detections.boxes.tolist():
            assert covers(frame, box)
    assert not is_whole(hidden[-1])


def test_a_smaller_model_must_know_what_is_hidden_and_counted(street: Path, tmp_path: Path) -> None:
    middles = centres((96, 128))
    rows_of_it = without_objectness(middles, 2, objects(middles, 2, 0), 0)
    names = {"names": "{0: 'pedestrian', 1: 'car'}"}
    constant_model(tmp_path / "small.onnx", {"output0": rows_of_it.T[None]}, (96, 128), names)
    values: dict[str, Any] = {
        "sources": [str(street)],
        "detect": {"smaller_model": str(tmp_path / "small.onnx")},
        "latency": {"objective_ms": 1, "ladder": ["smaller_model"]},
    }
    persons = {"enabled": True, "what": "persons"}
    with pytest.raises(
        ConfigError, match=r"^blur\.what: persons .*'person', which is not known to detect\.smaller_model small"
    ):
        assemble(settings_of(**values, blur=persons))
    zone = {"name": "yard", "polygon": [[0, 0], [1, 0], [1, 1]], "classes": ["person"]}
    with pytest.raises(ConfigError, match=r"^zones: yard counts 'person', .* known to detect\.smaller_model small"):
        assemble(settings_of(**values, zones=[zone]))
    for values["latency"] in ({}, {"objective_ms": 1, "ladder": ["detect_every_2"]}):  # where it is never used
        for source in assemble(settings_of(**values, blur=persons)).sources:
            source.close()
