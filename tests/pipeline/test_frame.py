"""Frame and Detections: the contracts that every stage and sink relies on."""

from __future__ import annotations

import sys
import threading
import types
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pipeline.picture
from pipeline.arrays import Index
from pipeline.frame import Detections, Frame
from pipeline.masks import Masks
from pipeline.picture import Picture, Planes


def some(
    scores: object = (0.9, 0.8, 0.7, 0.6), tracks: bool = False, masks: bool = False, points: bool = False
) -> Detections:
    """Detections whose class number is their place in `scores`, and so is x of their only keypoint."""
    number = len(np.atleast_1d(np.asarray(scores)))
    boxes = np.arange(number * 4, dtype=np.float32).reshape(-1, 4)
    each = np.arange(number)
    pixels = np.zeros((number, 2, 2), bool)
    pixels[:, 0, 0] = each % 2
    keypoints = np.zeros((number, 1, 3), np.float32)
    keypoints[:, 0, 0] = each
    return Detections(
        boxes,
        np.asarray(scores, np.float32),
        each.astype(np.int32),
        (each + 100).astype(np.int32) if tracks else None,
        Masks.of(pixels) if masks else None,
        keypoints if points else None,
    )


def kinds(found: Detections) -> tuple[str, str, str]:
    return str(found.boxes.dtype), str(found.scores.dtype), str(found.class_ids.dtype)


def ids(detections: Detections) -> list[int]:
    return [int(number) for number in detections.class_ids]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, [0]),
        (-1, [3]),
        (np.int64(2), [2]),
        (slice(1, 3), [1, 2]),
        (slice(None), [0, 1, 2, 3]),
        (slice(None, None, -1), [0, 1, 2, 3]),  # sorted again
        (slice(9, 12), []),
        ([True, False, False, True], [0, 3]),
        (np.zeros(4, bool), []),
        (np.array([3, 0]), [0, 3]),
        ([1, 1, -1], [1, 1, 3]),
        ([], []),
        (..., [0, 1, 2, 3]),
    ],
)
def test_indexing_is_numpys_and_keeps_the_rows_together(index: Index, expected: list[int]) -> None:
    chosen = some(tracks=True, masks=True, points=True)[index]
    assert ids(chosen) == expected
    assert chosen.boxes[:, 0].tolist() == [4 * row for row in expected]
    assert chosen.track_ids is not None
    assert chosen.masks is not None
    assert chosen.track_ids.tolist() == [row + 100 for row in expected]
    assert chosen.masks[:, 0, 0].tolist() == [bool(row % 2) for row in expected]
    assert chosen.masks.shape == (len(expected), 2, 2)
    assert chosen.keypoints is not None
    assert chosen.keypoints[:, 0, 0].tolist() == expected


@pytest.mark.parametrize("index", [4, -5, [0, 4], [True, False], "a", 1.5])
def test_a_wrong_index_is_numpys_error(index: Index) -> None:
    with pytest.raises(IndexError):
        some()[index]


def test_iterating_gives_one_at_a_time() -> None:
    assert [ids(one) for one in some()] == [[0], [1], [2], [3]]  # type: ignore[attr-defined]


def test_order_is_by_descending_score_and_ties_keep_theirs() -> None:
    assert ids(some((0.5, 0.9, 0.5, 0.9, 0.1))) == [1, 3, 0, 2, 4]


@pytest.mark.parametrize("scores", [(0.5, np.nan, 0.9), (np.nan, 0.5, 0.9), (np.nan, 0.9, 0.5), (0.9, 0.5, np.nan)])
def test_scores_that_are_no_number_come_last_and_disturb_no_other(scores: tuple[float, ...]) -> None:
    found = some(scores, tracks=True, masks=True)
    assert found.scores[:2].tolist() == pytest.approx([0.9, 0.5])
    assert np.isnan(found.scores[2])


@given(hnp.arrays(np.float32, st.integers(0, 30), elements=st.floats(width=32)))
def test_any_scores_are_sorted_with_their_rows(scores: npt.NDArray[np.float32]) -> None:
    found = some(scores, tracks=True, masks=True, points=True)
    real = found.scores[~np.isnan(found.scores)]
    assert np.all(real[:-1] >= real[1:])
    assert np.array_equal(found.scores, scores[found.class_ids], equal_nan=True)
    assert found.boxes[:, 0].tolist() == (4.0 * found.class_ids).tolist()
    assert found.track_ids is not None
    assert found.track_ids.tolist() == (found.class_ids + 100).tolist()
    assert found.masks is not None
    assert found.masks[:, 0, 0].tolist() == (found.class_ids % 2 == 1).tolist()
    assert found.keypoints is not None
    assert found.keypoints[:, 0, 0].tolist() == found.class_ids.tolist()


@given(st.data())
def test_any_mask_or_indices_choose_what_numpy_would(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 12))
    found = some(np.linspace(1, 0, number))
    if number and data.draw(st.booleans()):
        index: Any = data.draw(st.lists(st.integers(-number, number - 1), max_size=15))
        index = np.array(index, int)
    else:
        index = np.array(data.draw(st.lists(st.booleans(), min_size=number, max_size=number)), bool)
    assert sorted(ids(found[index])) == sorted(np.arange(number)[index].tolist())


def test_arrays_have_the_promised_types_whatever_came() -> None:
    found = Detections([[0, 0, 1, 1], [0, 0, 2, 2]], [0.1, 0.9], [3, 4], [7, 8], np.eye(2).reshape(2, 1, 2))  # type: ignore[arg-type]
    assert kinds(found) == ("float32", "float32", "int32")
    assert found.boxes.shape == (2, 4)
    assert found.track_ids is not None
    assert found.masks is not None
    assert (str(found.track_ids.dtype), str(found.masks.dtype)) == ("int32", "bool")
    assert found.track_ids.tolist() == [8, 7]


def test_empty_has_the_same_types_and_shapes() -> None:
    for empty in (Detections.empty(), some()[[]], Detections([], [], [])):  # type: ignore[arg-type]
        assert len(empty) == 0
        assert kinds(empty) == ("float32", "float32", "int32")
        assert empty.boxes.shape == (0, 4)
        assert len(empty.clip(10, 10)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros(3)}, "2 boxes but 3 scores"),
        ({"class_ids": np.zeros(1)}, "2 boxes but 1 class_ids"),
        ({"track_ids": np.zeros(3)}, "2 boxes but 3 track_ids"),
        ({"masks": np.zeros((1, 2, 2))}, "2 boxes but 1 masks"),
        ({"masks": np.zeros((2, 2))}, r"masks must be \(N, H, W\), not \(2, 2\)"),
        ({"keypoints": np.zeros((1, 17, 3))}, "2 boxes but 1 keypoints"),
        ({"keypoints": np.zeros((2, 34))}, r"keypoints must be \(N, K, 3\), not \(2, 34\)"),
        ({"boxes": np.zeros((2, 6))}, r"boxes must be \(N, 4\), not \(2, 6\)"),
        ({"boxes": np.zeros((4, 2))}, r"boxes must be \(N, 4\), not \(4, 2\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    parts: dict[str, Any] = {"boxes": np.zeros((2, 4)), "scores": np.zeros(2), "class_ids": np.zeros(2)}
    with pytest.raises(ValueError, match=message):
        Detections(**{**parts, **change})


def test_concatenate_sorts_again_and_keeps_what_all_have() -> None:
    parts = [some((0.9, 0.1), True, True, True), Detections.empty(), some((0.5,), True, True, True)]
    joined = Detections.concatenate(parts)
    assert joined.scores.tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert joined.track_ids is not None
    assert joined.masks is not None
    assert joined.track_ids.tolist() == [100, 100, 101]
    assert joined.masks.shape == (3, 2, 2)
    assert joined.masks[:, 0, 0].tolist() == [False, False, True]
    assert joined.keypoints is not None
    assert joined.keypoints[:, 0, 0].tolist() == [0, 0, 1]
    without = Detections.concatenate([some((0.9,), True, True, True), some((0.5,))])
    assert (without.track_ids, without.masks, without.keypoints) == (None, None, None)
    assert len(Detections.concatenate([])) == 0


def test_clip_cuts_at_the_edges_and_removes_what_is_outside() -> None:
    boxes = [[-5, -5, 5, 5], [90, 40, 150, 70], [100, 0, 120, 50], [10, 10, 10, 20], [np.nan, 0, 1, 1], [0, 0, 100, 50]]
    points = np.arange(18, dtype=np.float32).reshape(6, 1, 3)
    found = Detections(boxes, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], range(6), range(6), np.ones((6, 50, 100)), points)  # type: ignore[arg-type]
    clipped = found.clip(100, 50)
    assert clipped.boxes.tolist() == [[0, 0, 5, 5], [90, 40, 100, 50], [0, 0, 100, 50]]
    assert clipped.track_ids is not None
    assert clipped.track_ids.tolist() == [0, 1, 5]
    assert clipped.masks is not None
    assert clipped.masks.shape == (3, 50, 100)
    assert clipped.keypoints is not None
    assert clipped.keypoints[:, 0, 0].tolist() == [0, 3, 15]
    assert found.boxes[0, 0] == -5  # the original is as it was


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 10), st.just(4)), elements=st.floats(-50, 200, width=32)))
def test_no_clipped_box_leaves_the_frame_or_is_empty(boxes: npt.NDArray[np.float32]) -> None:
    clipped = Detections(boxes, np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.int32)).clip(100, 60)
    left, top, right, bottom = clipped.boxes.T
    assert np.all((left >= 0) & (top >= 0) & (right <= 100) & (bottom <= 60))
    assert np.all((right > left) & (bottom > top))


def test_comparing_detections_is_by_identity_and_does_not_raise() -> None:
    found = some()
    assert found == found
    assert found != some()


def test_to_supervision_gives_the_same() -> None:
    supervision = pytest.importorskip("supervision", reason="the package supervision is not installed")
    converted = some(tracks=True, masks=True, points=True).to_supervision()
    assert isinstance(converted, supervision.Detections)
    assert converted.confidence.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert converted.tracker_id.tolist() == [100, 101, 102, 103]
    assert converted[1:].data["keypoints"][:, 0, 0].tolist() == [1, 2, 3]


def test_to_supervision_hands_over_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("supervision")
    module.Detections = lambda **parts: parts  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", module)
    parts = some(tracks=True, masks=True, points=True).to_supervision()
    assert set(parts) == {"xyxy", "confidence", "class_id", "tracker_id", "mask", "data"}
    assert isinstance(parts["mask"], np.ndarray)
    assert (parts["mask"].shape, parts["mask"].dtype) == ((4, 2, 2), bool)
    assert parts["data"]["keypoints"].shape == (4, 1, 3)
    plain = some().to_supervision()
    assert (plain["tracker_id"], plain["mask"], plain["data"]) == (None, None, {})


def test_to_supervision_without_the_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        some().to_supervision()


def planes(height: int = 48, width: int = 64) -> Planes:
    return Planes(np.random.default_rng(0).integers(16, 235, (height * 3 // 2, width), dtype=np.uint8))


def test_a_frame_shows_its_picture_as_image_and_planes() -> None:
    data = planes()
    frame = Frame("cam", 0, 0.0, 0.0, Picture(planes=data))
    assert frame.planes is data
    assert frame.image.shape == (48, 64, 3)
    assert (frame.width, frame.height) == (64, 48)
    image = Frame("cam", 0, 0.0, 0.0, Picture(bgr=np.zeros((5, 7, 3), np.uint8)))
    assert image.planes is None
    assert (image.width, image.height) == (7, 5)


def test_output_is_the_rendered_picture_once_there_is_one() -> None:
    frame = Frame("cam", 0, 0.0, 0.0, Picture(planes=planes()))
    assert frame.output is frame.picture
    frame.rendered = Picture(planes=planes())
    assert frame.output is frame.rendered


@pytest.mark.parametrize(("class_id", "name"), [(0, "cat"), (1, "dog"), (2, "2"), (-1, "-1")])
def test_label_is_the_name_or_else_the_number(class_id: int, name: str) -> None:
    assert Frame("cam", 0, 0.0, 0.0, Picture(planes=planes()), labels=("cat", "dog")).label(class_id) == name


def test_frames_share_nothing_they_add_to() -> None:
    first, second = (Frame("cam", i, 0.0, 0.0, Picture(planes=planes())) for i in range(2))
    first.events.append({"event": "x"})
    assert second.events == []
    assert first != second


def test_pixels_are_read_only() -> None:
    frame = Frame("cam", 0, 0.0, 0.0, Picture(planes=planes()))
    for array in (frame.image, planes_of(frame).data, planes_of(frame).y, planes_of(frame).u):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0
    drawable = frame.image.copy()
    drawable[0, 0] = 255  # a copy may be drawn on


def planes_of(frame: Frame) -> Planes:
    assert frame.planes is not None
    return frame.planes


def test_many_threads_that_ask_at_once_get_one_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    conversions = []
    convert = pipeline.picture.planes_to_bgr

    def counted(source: Planes) -> pipeline.arrays.Image:
        conversions.append(threading.get_ident())
        return convert(source)

    monkeypatch.setattr("pipeline.picture.planes_to_bgr", counted)
    for _ in range(20):
        frame, barrier = Frame("cam", 0, 0.0, 0.0, Picture(planes=planes())), threading.Barrier(8)
        got: list[Any] = []

        def ask(frame: Frame = frame, barrier: threading.Barrier = barrier, got: list[Any] = got) -> None:
            barrier.wait()
            got.append(frame.image)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(image) for image in got}) == 1
        assert len(got) == 8
        assert not got[0].flags.writeable
    assert len(conversions) == 20
