"""From the settings to which frames are detected in, and where in them; and what the stage makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.assemble import assemble
from pipeline.assemble_detect import detection_load, detection_regions
from pipeline.capture.source import Damaged
from pipeline.config.find_settings import DetectSettings
from pipeline.config.load import Override, load_settings
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.infer.detector import Detector, Load, Where
from pipeline.infer.motion import MotionOptions
from pipeline.infer.tiles import TileOptions
from pipeline.runner import Runner
from tests.pipeline.fakes import FakeSink, FakeSource


def settings(**values: object) -> Settings:
    overrides = [Override(key.replace("__", "."), value, key) for key, value in values.items()]
    return load_settings(None, overrides).settings


def test_the_defaults_of_settings_and_options_are_the_same() -> None:
    detect = DetectSettings()
    assert MotionOptions(detect.motion_area, detect.motion_hold_s, detect.keep_alive_s) == MotionOptions()
    assert TileOptions(detect.tiles, detect.tile_overlap, detect.full_frame) == TileOptions()
    assert detection_load(detect, None) == Load(between="predict")


def test_every_key_reaches_the_stage() -> None:
    loaded = settings(
        sources=[{"url": "a.mp4", "detect_in": [0, 2, 3, 1]}, {"url": "b.mp4"}],
        detect__every=2,
        detect__on_overload="bypass",
        detect__when="motion",
        detect__motion_area=0.01,
        detect__motion_hold_s=2.0,
        detect__keep_alive_s=None,
        detect__between="hold",
        detect__tiles="2x3",
        detect__tile_overlap=0.3,
        detect__full_frame=False,
    )
    assert detection_load(loaded.detect, None) == Load(2, True, None, MotionOptions(0.01, 2.0, None), "hold")
    where = detection_regions(loaded, [FakeSource("a"), FakeSource("b")])
    assert where == Where(TileOptions((2, 3), 0.3, full_frame=False), {"a": (0, 2, 3, 1)})
    assert not where.is_whole
    assert Where().is_whole


def test_a_region_beyond_the_frames_is_refused_before_the_run() -> None:
    loaded = settings(sources=[{"url": "a.mp4", "detect_in": [2, 2, 3, 1]}])
    with pytest.raises(
        ConfigError, match=r"^a: detect_in \[2, 2, 3, 1\] .* reaches beyond the picture, which is 4 x 4"
    ):
        detection_regions(loaded, [FakeSource("a")])


# ---------------------------------------------------------------------- with a real model and a real video


class Seen(FakeSink):
    """Keeps the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    def consume(self, frame: Frame) -> None:
        super().consume(frame)
        self.frames.append(frame)


@pytest.fixture
def video(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    return shared / "data" / "videos" / "vtest.avi"


def frames_of(frames: int, source: Any, **values: object) -> tuple[list[Frame], Runner]:
    runner = assemble(settings(sources=[source], max_frames=frames, **values))
    sink = Seen()
    with_sink = Runner(runner.sources, runner.stages, [sink], max_frames=frames)
    with_sink.run()
    assert with_sink.ledger.balanced
    return sink.frames, with_sink


def test_tiles_find_more_of_what_is_small(video: Path) -> None:
    whole, _ = frames_of(4, str(video))
    tiled, runner = frames_of(4, str(video), detect__tiles="2x2")
    assert sum(len(frame.detections or ()) for frame in tiled) > sum(len(frame.detections or ()) for frame in whole)
    assert "5 windows a frame" in (runner.stages[0].describe() or "")
    for frame in tiled:
        assert frame.detections is not None
        assert (frame.detections.boxes <= [768, 576, 768, 576]).all()
        assert np.all(np.diff(frame.detections.scores) <= 0)


def test_a_region_is_all_that_is_detected_in(video: Path) -> None:
    frames, _ = frames_of(3, {"url": str(video), "detect_in": [300, 100, 200, 200]})
    boxes = np.concatenate([frame.detections.boxes for frame in frames if frame.detections is not None])
    assert len(boxes)
    assert (boxes >= [300, 100, 300, 100]).all()
    assert (boxes <= [500, 300, 500, 300]).all()


def test_between_two_frames_detected_in_boxes_move_on_or_stay(video: Path) -> None:
    held, _ = frames_of(7, str(video), detect__every=3, detect__between="hold")
    moved, _ = frames_of(7, str(video), detect__every=3)
    assert [frame.predicted for frame in held] == [False, True, True, False, True, True, False]
    for now, before in ((1, 0), (2, 0), (4, 3)):
        assert boxes_of(held[now]) == boxes_of(held[before])
    assert boxes_of(moved[1]) == boxes_of(moved[0])  # nothing is known of speeds yet
    assert boxes_of(moved[4]) != boxes_of(moved[3]) == boxes_of(held[3])


def boxes_of(frame: Frame) -> Any:
    assert frame.detections is not None
    return frame.detections.boxes.tolist()


class Still(FakeSource):
    """One picture of a video, again and again, 10 a second."""

    def __init__(self, frames: int, picture: Frame) -> None:
        super().__init__("still", frames)
        self._picture = picture.picture

    def frames(self) -> Iterator[Frame | Damaged]:
        for item in super().frames():
            if isinstance(item, Frame):
                item.picture, item.pts = self._picture, item.index / 10
            yield item


def test_where_nothing_moves_the_model_rests_and_the_boxes_stay(video: Path) -> None:
    (first,), runner = frames_of(1, str(video), detect__when="motion")
    stage, sink = runner.stages[0], Seen()
    assert isinstance(stage, Detector)
    assembled = assemble(settings(sources=[str(video)], detect__when="motion", detect__keep_alive_s=2.0))
    assembled.sources[0].close()
    again = Runner([Still(60, first)], assembled.stages, [sink])
    again.run()
    detected = [frame.index for frame in sink.frames if not frame.predicted]
    assert detected == [*range(11), 30, 50]
    assert all(boxes_of(frame) == boxes_of(first) for frame in sink.frames)
    assert "13 of 60 frames detected in" in (assembled.stages[0].describe() or "")
