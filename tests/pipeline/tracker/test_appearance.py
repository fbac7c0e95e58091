"""Looks: things are found again by them, and not taken for others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.engine import Engine, EngineOptions, open_engine
from engines.errors import ModelError, ModelNotFound
from engines.spec import ModelSpec
from pipeline.arrays import FloatArray
from pipeline.picture import Picture
from pipeline.postprocess.track import Track
from pipeline.postprocess.tracker import Tracker, TrackerOptions, appearance_model, make_appearance
from pipeline.postprocess.tracker.appearance import Appearance, ColourHistogram
from tests.pipeline.constant_model import constant_model
from tests.pipeline.tracker.scenes import Box, Where, numbers_of, watch

RED, BLUE, GREEN = (20, 20, 220), (220, 30, 20), (30, 200, 40)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
NOISE = np.random.default_rng(4).integers(-15, 15, (360, 640, 3))


def painted(things: list[tuple[Box | None, tuple[int, int, int]]]) -> Picture:
    """Return a grey picture with coloured things, x, y, w, h of centre and size."""
    bgr = np.full((360, 640, 3), 128, np.int16)
    for place, colour in things:
        if place is not None:
            x, y, width, height = (round(value) for value in place)
            bgr[y - height // 2 : y + height // 2, x - width // 2 : x + width // 2] = colour
    return Picture(bgr=(bgr + NOISE).clip(0, 255).astype(np.uint8))


def averages(path: Path, size: tuple[int | str, int | str] = (256, 128), batch: int | str = 1) -> Path:
    """Write an encoder that gives the mean of each channel, and two constants to make the length uneven."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
        ],
        "averages",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *size])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def opened(path: Path) -> Appearance:
    """Return the encoder, ready."""
    appearance = make_appearance(str(path))
    appearance.open()
    return appearance


@pytest.mark.parametrize(("size", "batch"), [((256, 128), 1), ((64, 32), "N"), (("H", "W"), "N")])
def test_an_encoder_gets_rgb_normalised_as_for_imagenet(
    tmp_path: Path, size: tuple[int | str, int | str], batch: int | str
) -> None:
    appearance = opened(averages(tmp_path / "encoder.onnx", size, batch))
    picture = painted([((100, 100, 60, 120), RED), ((300, 100, 60, 120), BLUE)])
    rows = appearance.encode(picture, np.array([[80, 50, 120, 150], [280, 50, 320, 150]], np.float32))
    for row, bgr in zip(rows, (RED, BLUE), strict=True):
        expected = (np.array(bgr[::-1]) / 255 - MEAN) / STD
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=0.03)
    assert appearance.encode(picture, np.empty((0, 4), np.float32)).shape == (0, 3)
    appearance.close()


def test_what_is_no_encoder_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"there is no file .*nowhere\.onnx; give 'colour'"):
        make_appearance(str(tmp_path / "nowhere.onnx"))
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    with pytest.raises(ModelError, match=r"text\.onnx"):
        make_appearance(str(text))
    two = {"a": np.zeros((1, 4), np.float32), "b": np.zeros((1, 4), np.float32)}
    made = make_appearance(str(constant_model(tmp_path / "two.onnx", two, (64, 32))))
    with pytest.raises(ModelError, match="is no encoder of looks"):
        made.open()
    made.close()
    made.close()


def test_an_encoder_is_compiled_when_the_stage_opens_and_given_back_when_it_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[Engine] = []
    closed: list[Engine] = []

    def open_and_note(spec: ModelSpec, options: EngineOptions | None) -> Engine:
        engine = open_engine(spec, options)
        close = engine.close

        def close_and_note() -> None:
            closed.append(engine)
            close()

        monkeypatch.setattr(engine, "close", close_and_note)
        engines.append(engine)
        return engine

    monkeypatch.setattr(appearance_model, "open_engine", open_and_note)
    stage = Track(TrackerOptions(appearance=make_appearance(str(averages(tmp_path / "encoder.onnx")))))
    assert engines == []
    stage.open()
    assert len(engines) == 1
    assert closed == []
    stage.close()
    assert closed == engines
    stage.close()
    assert closed == engines
    never_opened = Track(TrackerOptions(appearance=make_appearance(str(averages(tmp_path / "encoder.onnx")))))
    never_opened.close()
    assert len(engines) == 1


def test_a_stage_without_an_encoder_opens_and_closes() -> None:
    for appearance in (None, ColourHistogram()):
        stage = Track(TrackerOptions(appearance=appearance))
        stage.open()
        stage.close()


def test_colours_tell_things_apart_and_not_their_size_or_place() -> None:
    picture = painted([((100, 100, 60, 120), RED), ((300, 150, 90, 200), RED), ((500, 100, 60, 120), BLUE)])
    boxes = np.array([[70, 40, 130, 160], [255, 50, 345, 250], [470, 40, 530, 160]], np.float32)
    looks = ColourHistogram().encode(picture, boxes)
    np.testing.assert_allclose(np.linalg.norm(looks, axis=1), 1, atol=1e-5)
    likeness = looks @ looks.T
    assert likeness[0, 1] > ColourHistogram.same
    assert likeness[0, 2] < ColourHistogram.different


@pytest.mark.parametrize(
    "box", [(-50, -50, 5, 5), (630, 350, 900, 700), (700, 400, 800, 500), (10.2, 10.2, 10.4, 10.4)]
)
def test_boxes_at_or_beyond_the_edge_have_looks_too(box: tuple[float, ...]) -> None:
    looks = ColourHistogram().encode(painted([]), np.array([box], np.float32))
    assert np.linalg.norm(looks[0]) == pytest.approx(1, abs=1e-5)


def scene(appearance: Appearance | None, first: tuple[int, int, int], second: tuple[int, int, int]) -> set[int]:
    """Return the numbers of something that goes behind a wall at 1 s and comes out elsewhere at 4 s, and of another."""

    def walker(time_s: float) -> Box | None:
        if time_s < 1:
            return (100 + 60 * time_s, 100, 40, 80)
        return None if time_s < 4 else (500 - 20 * (time_s - 4), 260, 40, 80)

    def other(time_s: float) -> Box:
        return (300, 250 - 10 * time_s, 40, 80)

    tracker = Tracker(TrackerOptions(max_gap_s=10, appearance=appearance))
    times = [frame / 10 for frame in range(60)]
    seen = watch(
        tracker,
        [walker, other],
        times,
        lambda t: painted([(walker(t), first if t < 2 else second), (other(t), GREEN)]),
    )
    assert numbers_of(seen, 1) == {2}
    return numbers_of(seen, 0)


def test_a_thing_is_found_again_elsewhere_by_its_looks(tmp_path: Path) -> None:
    assert scene(ColourHistogram(), RED, RED) == {1}
    assert scene(opened(averages(tmp_path / "encoder.onnx")), RED, RED) == {1}
    assert scene(None, RED, RED) == {1, 3}


def test_something_else_that_comes_out_gets_another_number() -> None:
    assert scene(ColourHistogram(), RED, BLUE) == {1, 3}


@pytest.mark.parametrize(("appearance", "numbers"), [(ColourHistogram(), {1, 2}), (None, {1})])
def test_what_stands_where_another_was_hidden_is_not_taken_for_it(
    appearance: Appearance | None, numbers: set[int]
) -> None:
    place: Where = lambda t: None if 1 <= t < 1.5 else (200, 150, 40, 80)  # noqa: E731
    tracker = Tracker(TrackerOptions(appearance=appearance))
    times = [frame / 10 for frame in range(30)]
    seen = watch(tracker, [place], times, lambda t: painted([(place(t), RED if t < 1.2 else BLUE)]))
    assert numbers_of(seen, 0) == numbers


def test_without_pictures_looks_do_nothing() -> None:
    seen = watch(
        Tracker(TrackerOptions(appearance=ColourHistogram())), [lambda t: (100 + t, 100, 40, 80)], [0.0, 0.1, 0.5]
    )
    assert seen == [[1], [1], [1]]


def test_looks_are_learnt_twice_a_second_only() -> None:
    class Counting(ColourHistogram):
        boxes = 0

        def encode(self, picture: Picture, boxes: FloatArray) -> FloatArray:
            self.boxes += len(boxes)
            return super().encode(picture, boxes)

    counting = Counting()
    thing: Where = lambda t: (100 + 20 * t, 100, 40, 80)  # noqa: E731
    times = [frame / 25 for frame in range(51)]
    watch(Tracker(TrackerOptions(appearance=counting)), [thing], times, lambda t: painted([(thing(t), RED)]))
    assert counting.boxes <= 5
