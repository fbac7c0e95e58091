"""The segmentation stage: which frames the model sees, what the others get, and a real model on a real clip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engines.engine import EngineOptions
from engines.errors import ModelError
from engines.spec import InputSpec, ModelSpec
from pipeline.config.look_settings import SegmentSettings
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.infer.picture_segmenter import find_segmenter, recognise
from pipeline.infer.segment import Segment
from pipeline.picture import Picture, bgr_to_planes
from tests.pipeline.constant_model import constant_model
from tests.pipeline.segment_models import COLOURS, agreement, colour_model, coloured, three_parts

PLAIN = EngineOptions(backend="onnxruntime", requests=2, threads=1)


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return find_segmenter(str(colour_model(tmp_path / "made.onnx", metadata={"names": str(list(COLOURS))})))


def stage(spec: ModelSpec, *, bypass: bool = False, **settings: Any) -> Segment:
    made = Segment(spec, PLAIN, SegmentSettings(enabled=True, **settings), bypass=bypass)
    made.open()
    return made


def picture(shift: int = 0, size: tuple[int, int] = (180, 240)) -> Picture:
    return Picture(planes=bgr_to_planes(np.roll(coloured(three_parts(*size)), shift, axis=1)))


def frame(index: int, shown: Picture, source: str = "cam", **fields: Any) -> Frame:
    return Frame(source, index, fields.pop("pts", index / 25), 0.0, shown, **fields)


def passed(segment: Segment, each: Frame, *, is_busy: bool = False) -> bool:
    """Let a frame pass as a worker does; return whether the model saw it."""
    is_wanted = segment.wants(each) and not is_busy
    if is_wanted:
        segment.collect(each, segment.submit(each))
    else:
        segment.skip(each)
    return is_wanted


def test_a_frame_gets_classes_alpha_and_names(spec: ModelSpec) -> None:
    segment, each = stage(spec, classes=("blue",)), frame(0, picture())
    assert passed(segment, each)
    found = each.segmentation
    assert found is not None
    assert (found.labels, found.predicted) == (COLOURS, False)
    assert agreement(found.class_ids, three_parts()) > 0.97
    np.testing.assert_array_equal(found.alpha >= 128, found.class_ids == 2)
    assert set(found.shares()) == set(COLOURS)
    segment.end("cam")
    segment.close()


def test_every_third_frame_is_segmented_and_the_map_moves_in_between(spec: ModelSpec) -> None:
    segment = stage(spec, every=3, classes=("blue",))
    frames = [frame(number, picture(3 * number)) for number in range(9)]
    assert [passed(segment, each) for each in frames] == [True, False, False] * 3
    for number, each in enumerate(frames):
        assert each.segmentation is not None
        assert each.segmentation.predicted == (number % 3 != 0)
        truth, found = np.roll(three_parts(), 3 * number, axis=1) == 2, each.segmentation.class_ids == 2
        assert (found & truth).sum() / (found | truth).sum() > 0.85
    described = segment.describe()
    assert described is not None
    assert "3 of 9 frames segmented" in described
    segment.close()


def test_a_governor_can_ask_for_less_and_take_it_back(spec: ModelSpec) -> None:
    segment = stage(spec, every=2)
    seen = []
    for number in range(12):
        if number in (4, 8):
            segment.degrade(4 if number == 4 else None)
        seen.append(passed(segment, frame(number, picture())))
    assert seen == [True, False, True, False, False, False, True, False, True, False, True, False]
    segment.degrade(1)
    assert segment.every == 2, "never more than configured"
    segment.close()


def test_a_map_does_not_move_by_a_step_that_began_before_it_was_made(spec: ModelSpec) -> None:
    segment = stage(spec, smooth_s=0)
    seen = []
    for number in range(6):
        if number != 5:  # while each picture is segmented, 1 and 2, none is followed
            segment.degrade(None if number in (1, 2) else 2)
        seen.append(passed(segment, frame(number, picture())))
    assert seen == [True, True, True, True, False, True], "3 is segmented, for nothing leads there from 2"
    segment.close()


def test_a_cut_a_gap_and_another_size_are_segmented_anew(spec: ModelSpec) -> None:
    segment = stage(spec, every=100)
    cut = Picture(bgr=np.full((180, 240, 3), (250, 250, 0), np.uint8))
    shown = [(picture(), 0.0), (picture(), 0.04), (cut, 0.08), (cut, 0.12), (cut, 5.0), (cut, 4.0)]
    shown += [(picture(size=(90, 120)), 4.04), (picture(size=(90, 120)), 4.08)]
    seen = []
    for number, (each, pts) in enumerate(shown):
        now = frame(number, each, pts=pts)
        seen.append(passed(segment, now))
        assert now.segmentation is not None
        assert now.segmentation.class_ids.shape == (each.height, each.width)
    assert seen == [True, False, True, False, True, True, True, False]
    segment.close()


def test_sources_are_apart_and_an_ended_one_is_forgotten(spec: ModelSpec) -> None:
    segment = stage(spec, every=3)
    seen = [passed(segment, frame(number, picture(40 * which), source)) for number in range(3)
            for which, source in enumerate(("left", "right"))]  # fmt: skip
    assert seen == [True, True, False, False, False, False]
    segment.end("left")
    assert passed(segment, frame(3, picture(), "left"))
    assert passed(segment, frame(3, picture(40), "right"))
    assert not passed(segment, frame(4, picture(40), "right"))
    segment.close()


def test_images_are_each_on_their_own(spec: ModelSpec) -> None:
    segment = stage(spec, every=5)
    for number, size in enumerate([(180, 240), (77, 101), (180, 240)]):
        truth = np.roll(three_parts(*size), 50 * number, axis=1)
        each = frame(number, Picture(bgr=coloured(truth)), pts=0.0, file=Path(f"{number}.jpg"))
        assert passed(segment, each)
        assert each.segmentation is not None
        assert agreement(each.segmentation.class_ids, truth, border=4) > 0.99
    segment.close()


def test_frames_that_find_the_model_busy_get_the_moved_map(spec: ModelSpec) -> None:
    segment = stage(spec, bypass=True, smooth_s=0)
    first, second, third = (frame(number, picture()) for number in range(3))
    assert not passed(segment, first, is_busy=True)
    assert first.segmentation is None, "nothing is known yet"
    passed(segment, second)
    passed(segment, third, is_busy=True)
    assert third.segmentation is not None
    assert third.segmentation.predicted
    assert second.segmentation is not None
    assert (third.segmentation.class_ids == second.segmentation.class_ids).mean() > 0.99
    segment.close()


def test_one_that_was_due_but_found_the_model_busy_is_made_up_for(spec: ModelSpec) -> None:
    segment = stage(spec, bypass=True, every=10)
    passed(segment, frame(0, picture()), is_busy=True)
    assert passed(segment, frame(1, picture()))
    assert not passed(segment, frame(2, picture()))
    segment.close()


def test_frames_together_get_each_its_own_map(spec: ModelSpec) -> None:
    segment = stage(spec)
    frames = [frame(0, picture(60 * which), source) for which, source in enumerate(("a", "b"))]
    assert all(segment.wants(each) for each in frames)
    tickets = [segment.submit(each) for each in frames]
    for which, (each, ticket) in enumerate(zip(frames, tickets, strict=True)):
        segment.collect(each, ticket)
        assert each.segmentation is not None
        expected = np.roll(three_parts(), 60 * which, axis=1)
        assert agreement(each.segmentation.class_ids, expected, border=4) > 0.99
    segment.close()


def test_where_the_model_gives_no_numbers_the_last_map_stays(tmp_path: Path) -> None:
    sound = np.zeros((1, 2, 32, 32), np.float32)
    sound[0, 1, :, 16:] = 9
    sound[0, 0, :, :16] = 9
    path = constant_model(tmp_path / "made.onnx", {"map": sound}, (64, 64), dark={"map": sound * np.nan})
    spec = recognise(ModelSpec("made", path, "segment", InputSpec(multiple=1), labels=("background", "thing")))
    segment = stage(spec)
    grey = [Picture(bgr=np.full((64, 64, 3), level, np.uint8)) for level in (0, 8, 0, 0)]
    frames = [frame(number, each) for number, each in enumerate(grey)]
    assert all(passed(segment, each) for each in frames)
    assert frames[0].segmentation is None
    for each, predicted in zip(frames[1:], (False, True, True), strict=True):
        assert each.segmentation is not None
        assert each.segmentation.predicted == predicted
        assert each.segmentation.shares() == {"background": 0.5, "thing": 0.5}
    described = segment.describe()
    assert described is not None
    assert "3 pictures with values that are no numbers" in described
    segment.close()


def test_wrong_requests_are_refused_before_or_when_it_opens(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'blue'"):
        Segment(spec, PLAIN, SegmentSettings(enabled=True, classes=("bleu",)))
    wrong = Segment(
        ModelSpec("made", spec.path, "segment", spec.input, "classes", labels=("a", "b")), PLAIN, SegmentSettings()
    )
    with pytest.raises(ModelError, match="tells 3 classes apart, but there are 2 names"):
        wrong.open()
    assert wrong.describe() is None
    wrong.close()


def clip(path: Path, frames: int) -> list[tuple[Picture, float]]:
    with av.open(str(path)) as container:
        shown = [(each.to_ndarray(format="bgr24"), float(each.time or 0)) for each, _ in zip(
            container.decode(video=0), range(frames), strict=False)]  # fmt: skip
    return [(Picture(planes=bgr_to_planes(np.asarray(bgr, np.uint8))), pts) for bgr, pts in shown]


def test_a_real_person_is_cut_out_of_a_real_clip(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", os.pathsep.join([str(shared / "models"), str(shared / "data")]))
    spec = find_segmenter("selfie-landscape")
    pictures = clip(shared / "data" / "videos" / "carphone.mp4", 18)
    maps: dict[int, list[Any]] = {}
    for every in (1, 3):
        segment = Segment(spec, EngineOptions(requests=1, threads=1), SegmentSettings(enabled=True, every=every))
        segment.open()
        frames = [frame(number, each, pts=pts) for number, (each, pts) in enumerate(pictures)]
        seen = [passed(segment, each) for each in frames]
        assert sum(seen) == 18 // every
        maps[every] = [each.segmentation for each in frames]
        segment.close()
    assert spec.labels == ("background", "person")
    for always, sometimes in zip(maps[1], maps[3], strict=True):
        assert 0.35 < always.shares()["person"] < 0.55
        first, second = always.class_ids == 1, sometimes.class_ids == 1
        assert (first & second).sum() / (first | second).sum() > 0.95
    assert np.median(maps[1][10].alpha[60:, 60:120]) == 255, "the driver"
    assert maps[1][10].alpha[:40, :20].mean() < 20, "the corner behind him"
