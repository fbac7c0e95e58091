"""The face finder: sizes, places, options; and real finders on real faces, against labels and OpenCV's own decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engines.engine import EngineOptions
from engines.spec import ModelSpec
from engines.zoo import Zoo
from pipeline.arrays import Image
from pipeline.faces import Faces
from pipeline.infer.face_finder import FaceFinder, FinderOptions, Search, recognise, size_for
from pipeline.picture import Picture, bgr_to_planes
from tests.pipeline.face_models import FRACTIONS, SQUARE, square_finder
from tests.pipeline.face_photos import labelled_photos, load, overlaps, score_finder

FP32 = EngineOptions("onnxruntime", "fp32", threads=1)
SIDES = st.integers(1, 5000)
Open = Callable[..., FaceFinder]


# ---- the size of the input


@given(height=SIDES, width=SIDES, short=st.integers(64, 1000), multiple=st.sampled_from([8, 32, 64]))
def test_the_input_has_the_shape_of_the_picture(height: int, width: int, short: int, multiple: int) -> None:
    size = size_for(height, width, short, multiple)
    assert size[0] % multiple == size[1] % multiple == 0
    assert abs(min(size) - short) <= max(multiple / 2, multiple - short)
    assert (size[0] <= size[1]) or height > width
    assert max(size) <= 3 * min(size) + multiple
    if max(height, width) <= 3 * min(height, width):  # what a step leaves free, or takes
        wished = min(size) * max(height, width) / min(height, width)
        assert abs(max(size) - wished) <= multiple * 1.0001


@given(height=SIDES, width=SIDES, short=st.integers(64, 1000))
def test_a_picture_on_its_side_has_the_input_on_its_side(height: int, width: int, short: int) -> None:
    if height != width:
        assert size_for(height, width, short) == size_for(width, height, short)[::-1]


@pytest.mark.parametrize(
    ("picture", "short", "expected"),
    [
        ((1080, 1920), 256, (256, 448)),
        ((480, 640), 256, (256, 320)),
        ((480, 640), 480, (480, 640)),
        ((1080, 1920), 480, (480, 832)),
        ((4032, 3024), 480, (640, 480)),
        ((100, 100), 256, (256, 256)),
        ((100, 5000), 256, (256, 768)),
        ((720, 1280), 10, (32, 64)),
        ((720, 1280), 250, (256, 448)),
    ],
)
def test_sizes_of_common_pictures(picture: tuple[int, int], short: int, expected: tuple[int, int]) -> None:
    assert size_for(*picture, short) == expected


def test_all_shapes_of_pictures_share_few_sizes() -> None:
    random = np.random.default_rng(0)
    shapes = random.integers(300, 4000, (2000, 2)).tolist()
    assert len({size_for(height, width, 256) for height, width in shapes}) <= 18


# ---- where faces are: a model that finds white squares of known size, through a real engine


def picture_of(size: tuple[int, int], squares: list[tuple[int, int, int]], planes: bool = False) -> Picture:
    """Draw white squares: left, top, side."""
    image = np.zeros((*size, 3), np.uint8)
    for left, top, side in squares:
        image[top : top + side, left : left + side] = 255
    return Picture(planes=bgr_to_planes(image)) if planes else Picture(bgr=image)


@pytest.fixture(scope="module")
def open_squares(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Opens finders of white squares."""
    folder = tmp_path_factory.mktemp("squares")
    opened: list[FaceFinder] = []

    def open_(**options: Any) -> FaceFinder:
        finder = FaceFinder(recognise(square_finder(folder)), FP32, FinderOptions(**options))
        opened.append(finder)
        return finder

    yield open_
    for finder in opened:
        finder.close()


@pytest.fixture(scope="module")
def squares(open_squares: Open) -> FaceFinder:
    return open_squares(short_side=96, confidence=0.8)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(150, 700),
    width=st.integers(150, 700),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    planes=st.booleans(),
    region=st.booleans(),
)
@example(height=700, width=150, x=1, y=1, planes=False, region=True)
@example(height=151, width=699, x=0, y=1, planes=True, region=True)
@example(height=150, width=151, x=1, y=0, planes=True, region=False)
def test_a_face_is_found_where_it_is(
    squares: FaceFinder, height: int, width: int, x: float, y: float, planes: bool, region: bool
) -> None:
    part = (width / 5, height / 6, width * 0.8, height * 0.9) if region else (0, 0, width, height)
    side, scale = side_of(squares, (height, width), part)
    left, top = (round(a + where * (b - a - side)) for a, b, where in ((part[0], part[2], x), (part[1], part[3], y)))
    picture = picture_of((height, width), [(left, top, side)], planes)
    found = squares(picture, part if region else None)
    assert len(found) == 1
    tolerance = 3.5 * scale  # a cell is 4 pixels of the input
    box = np.array([left, top, left + side, top + side])
    assert np.abs(found.boxes[0] - box).max() <= tolerance
    points = np.array(FRACTIONS) * side + (left, top)
    assert np.abs(found.landmarks[0] - points).max() <= tolerance
    assert (found.boxes[0] >= 0).all()
    assert (found.boxes[0] <= [picture.width, picture.height] * 2).all()  # planes have even sides


def side_of(finder: FaceFinder, frame: tuple[int, int], part: tuple[float, ...]) -> tuple[int, float]:
    """Return the side that a square must have to be found in a part of a frame, and pixels of it per input pixel."""
    size = finder.size_for(*frame)
    scale = max((part[3] - part[1]) / size[0], (part[2] - part[0]) / size[1])
    return round(SQUARE * scale), scale


def test_only_the_region_is_looked_at(squares: FaceFinder) -> None:
    picture = picture_of((192, 384), [(20, 20, 64), (280, 100, 64)])
    assert len(squares(picture)) == 2
    half = squares(picture, [192, 0, 384, 192])
    assert len(half) == 0 or half.boxes[:, 0].min() >= 192
    assert len(squares(picture, [-50, -50, 5000, 5000])) == 2


@pytest.mark.parametrize("region", [[400, 0, 500, 50], [-90, 0, -10, 50], [50, 60, 50, 60], [60, 50, 50, 60]], ids=str)
def test_a_region_outside_the_picture_is_refused(squares: FaceFinder, region: list[int]) -> None:
    with pytest.raises(ValueError, match=r"lies outside the picture of 384x192, or is empty"):
        squares(picture_of((192, 384), []), region)


def test_a_region_needs_no_engine_of_its_own(open_squares: Open) -> None:
    finder = open_squares(short_side=96)
    for right in range(50, 384, 60):
        finder(picture_of((192, 384), []), [0, 0, right, 192])
    assert [info.input_shape for info in finder.infos()] == [(1, 96, 192, 3)]


def test_faces_come_best_first_and_no_more_than_asked_for(open_squares: Open) -> None:
    picture = picture_of((192, 384), [(20, 20, 64), (120, 100, 62), (280, 30, 60)])
    everyone = open_squares(short_side=96, confidence=0.7)(picture)
    assert (len(everyone), np.argsort(-everyone.scores, kind="stable").tolist()) == (3, [0, 1, 2])
    best = open_squares(short_side=96, confidence=0.7, max_faces=2)(picture)
    np.testing.assert_array_equal(best.boxes, everyone.boxes[:2])


@pytest.mark.parametrize(("min_size", "count"), [(0, 1), (63, 1), (65, 0)])
def test_faces_smaller_than_asked_for_are_left_out(open_squares: Open, min_size: float, count: int) -> None:
    picture = picture_of((192, 384), [(100, 60, 64)])
    assert len(open_squares(short_side=96, confidence=0.8, min_size=min_size)(picture)) == count


def test_confidence_and_iou_are_the_heads_unless_given(open_squares: Open) -> None:
    picture = picture_of((192, 384), [(100, 60, 64), (140, 60, 64)])  # boxes of 64 that overlap by 24: IoU 0.23
    assert len(open_squares(short_side=96)(picture)) < len(open_squares(short_side=96, iou=0.9)(picture))
    grey = Picture(bgr=(picture.bgr // 255 * 120).astype(np.uint8))  # a score of 0.47
    assert len(open_squares(short_side=96)(grey)) == 0
    assert len(open_squares(short_side=96, confidence=0.4)(grey)) > 0


def test_the_black_picture_and_the_smallest_have_no_faces(squares: FaceFinder) -> None:
    for size in ((192, 384), (1, 1), (2, 900)):
        found = squares(picture_of(size, []))
        assert (len(found), found.landmarks.shape) == (0, (0, 5, 2))


def test_submit_and_collect_on_two_threads_give_what_one_gives(open_squares: Open) -> None:
    finder = open_squares(short_side=96, confidence=0.8)
    sizes = [(192 + 64 * (n % 11), 192 + 96 * (n % 7)) for n in range(60)]  # more sizes than engines are kept
    pictures = [
        picture_of(size, [(n, 2 * n, side_of(finder, size, (0, 0, *size[::-1]))[0])]) for n, size in enumerate(sizes)
    ]
    waiting: SimpleQueue[Search | None] = SimpleQueue()

    def collect() -> list[Faces]:
        return [finder.collect(ticket) for ticket in iter(waiting.get, None)]

    with ThreadPoolExecutor(1) as other:
        collected = other.submit(collect)
        for picture in pictures:
            waiting.put(finder.submit(picture))
        waiting.put(None)
        together = collected.result(60)
    assert len(finder.infos()) <= 8 + 3
    for picture, faces in zip(pictures, together, strict=True):
        np.testing.assert_array_equal(faces.boxes, finder(picture).boxes)


def test_prepare_compiles_what_the_pictures_need(open_squares: Open) -> None:
    finder = open_squares(short_side=96)
    assert finder.describe() == "finder, not compiled yet"
    finder.prepare(1080, 1920)
    finder.prepare(480, 640)
    finder(picture_of((720, 1280), []))
    assert [info.input_shape[1:3] for info in finder.infos()] == [(96, 128), (96, 192)]
    assert finder.describe().startswith("finder 192x96 on onnxruntime")
    assert finder.describe().endswith("also at 128x96")


@pytest.mark.parametrize(("threads", "asked", "requests"), [(None, 5, 5), (3, None, 4), (3, 1, 1)])
def test_the_number_of_requests_is_known_before_and_true_after(
    tmp_path: Path, threads: int | None, asked: int | None, requests: int
) -> None:
    options = EngineOptions("onnxruntime", "fp32", threads=threads, requests=asked)
    finder = FaceFinder(recognise(square_finder(tmp_path)), options)
    assert finder.requests == requests
    finder.prepare(64, 64)
    assert finder.infos()[0].requests == requests
    finder.close()


# ---- real finders


@pytest.fixture
def spec_of(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModelSpec]:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))

    def find(name: str) -> ModelSpec:
        if name == "scrfd":  # weights for research only: no entry, as a user would bring it
            return recognise(ModelSpec(name, shared / "models" / "face" / "scrfd_500m_bnkps.onnx", "face-detect"))
        return Zoo.load().spec(name)

    return find


@pytest.fixture
def open_finder(spec_of: Callable[[str], ModelSpec]) -> Iterator[Open]:
    opened: list[FaceFinder] = []

    def open_(name: str, short_side: int = 320, **options: Any) -> FaceFinder:
        opened.append(
            FaceFinder(spec_of(name), EngineOptions("openvino", "fp32"), FinderOptions(short_side, **options))
        )
        return opened[-1]

    yield open_
    for finder in opened:
        finder.close()


@pytest.mark.parametrize(
    ("name", "short_side", "most_wrong", "worst_error"),
    [
        ("centerface", 192, 0, 0.18),
        ("centerface", 256, 0, 0.14),
        ("centerface", 480, 1, 0.11),
        ("yunet", 320, 1, 0.16),
        ("yunet", 480, 2, 0.13),
        ("scrfd", 640, 0, 0.09),
    ],
)
def test_the_labelled_faces_are_found_with_their_landmarks(
    open_finder: Open, shared: Path, name: str, short_side: int, most_wrong: int, worst_error: float
) -> None:
    result = score_finder(open_finder(name, short_side), shared / "data" / "faces" / "groups")
    assert (result.faces, result.found) == (43, 43)
    assert result.wrong <= most_wrong
    assert result.errors.mean() < worst_error
    assert result.errors.mean(axis=0).max() < 1.4 * worst_error  # no point is another than it is called


@pytest.mark.parametrize(("name", "short_side", "dogs"), [("centerface", 256, 0), ("yunet", 256, 0), ("scrfd", 640, 1)])
def test_pictures_with_two_many_and_no_faces(
    open_finder: Open, shared: Path, name: str, short_side: int, dogs: int
) -> None:
    finder, data = open_finder(name, short_side), shared / "data"
    two = finder(load(data / "images" / "zidane.jpg"))
    assert len(two) == 2
    assert (
        overlaps(two.boxes, np.array([[915, 95, 1052, 279], [555, 250, 668, 434]], np.float32)).max(axis=0).min() > 0.6
    )
    assert len(finder(load(data / "faces" / "groups" / "bald_guys.jpg"))) == 24
    assert len(finder(load(data / "faces" / "groups" / "dogs.jpg"))) <= dogs


@pytest.mark.parametrize("short_side", [320, 640])
def test_yunet_is_read_as_opencv_reads_it(open_finder: Open, shared: Path, short_side: int) -> None:
    finder = open_finder("yunet", short_side)
    compared = 0
    for path in labelled_photos(shared / "data" / "faces" / "groups"):
        picture = load(path)
        ticket = finder.submit(picture)
        ours = finder.collect(ticket)
        boxes, landmarks, scores = by_opencv(finder.spec.path, ticket.sized.reader.inputs.cut(picture)[1])
        boxes, landmarks = ticket.plan.to_source(boxes), ticket.plan.points_to_source(landmarks)
        theirs = Faces(boxes, scores, landmarks).clip(picture.width, picture.height)
        assert len(ours) == len(theirs) > 0
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-3)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1)
        np.testing.assert_allclose(ours.landmarks, theirs.landmarks, atol=1)
        compared += len(ours)
    assert compared >= 43


def by_opencv(path: Path, image: Image) -> tuple[npt.NDArray[np.float32], ...]:
    """Return boxes, landmarks and scores of OpenCV's FaceDetectorYN; its points are the person's right eye first."""
    detector = cv2.FaceDetectorYN.create(str(path), "", (image.shape[1], image.shape[0]), 0.6, 0.3, 5000)
    rows = np.asarray(detector.detect(image)[1], np.float32)
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    return boxes, rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14]


@pytest.mark.parametrize("name", ["centerface", "yunet"])
def test_a_bare_file_is_recognised_as_what_the_zoo_says_it_is(spec_of: Callable[[str], ModelSpec], name: str) -> None:
    known = spec_of(name)
    bare = recognise(ModelSpec("mine", known.path, "face-detect"))
    assert bare.head == known.head == name
    for field in ("colour", "mean", "std", "fit", "pad", "multiple"):
        assert getattr(bare.input, field) == getattr(known.input, field)
    assert recognise(known) is known


def test_a_file_that_cannot_change_its_size_is_used_at_its_own(open_finder: Open, shared: Path) -> None:
    finder = open_finder("scrfd", 256)
    assert len(finder(load(shared / "data" / "images" / "zidane.jpg"))) == 2
    assert finder.size_for(720, 1280) == (640, 640)


def test_looking_inside_a_person_finds_the_face_that_is_there(open_finder: Open, shared: Path) -> None:
    finder, picture = open_finder("centerface"), load(shared / "data" / "images" / "zidane.jpg")
    whole = finder(picture)
    inside = finder(picture, [740, 40, 1150, 720])
    assert len(inside) == 1
    assert overlaps(inside.boxes, whole.boxes).max() > 0.8
    eyes = np.linalg.norm(whole.landmarks[0, 0] - whole.landmarks[0, 1])
    assert np.abs(inside.landmarks[0] - whole.landmarks[0]).max() < 0.12 * eyes


@cache
def _has_bf16() -> bool:
    from engines.openvino import shared_core

    return "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_bf16_moves_no_landmark_by_much(spec_of: Callable[[str], ModelSpec], open_finder: Open, shared: Path) -> None:
    if not _has_bf16():
        pytest.skip("no native bf16 on this CPU")
    exact = open_finder("centerface")
    rough = FaceFinder(spec_of("centerface"), EngineOptions("openvino", "bf16"), exact.options)
    drifts = []
    for path in labelled_photos(shared / "data" / "faces" / "groups"):
        picture = load(path)
        ours, reference = rough(picture), exact(picture)
        assert len(ours) == len(reference)
        order = overlaps(ours.boxes, reference.boxes).argmax(axis=0)
        drift = np.linalg.norm(ours.landmarks[order] - reference.landmarks, axis=2)
        eyes = np.linalg.norm(reference.landmarks[:, 0] - reference.landmarks[:, 1], axis=1)
        drifts.append(drift / eyes[:, None])
    rough.close()
    moved = np.concatenate(drifts)
    assert 0 < np.median(moved) < 0.015
    assert np.quantile(moved, 0.95) < 0.03
    assert moved.max() < 0.12  # NMS may prefer the cell beside
