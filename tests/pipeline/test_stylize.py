"""The stage that paints pictures: which files are style networks, at which size, and what reaches the frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engines.engine import EngineOptions
from engines.errors import ModelError, UnknownHead
from engines.spec import InputSpec, ModelSpec
from pipeline.config.look_settings import StylizeSettings
from pipeline.frame import Frame
from pipeline.infer import style_budget
from pipeline.infer.picture_stylizer import RAW, SIGNED, UNIT, PictureStylizer, find_stylizer, size_for
from pipeline.infer.style_budget import fit_budget
from pipeline.infer.stylize import Stylize
from pipeline.picture import Picture, Planes, bgr_to_planes
from pipeline.segmentation import SegmentationMap
from tests.pipeline.constant_model import constant_model
from tests.pipeline.style_models import style_model, style_spec
from tests.pipeline.videos import noise_planes

CPU = EngineOptions("onnxruntime", "fp32", threads=1, requests=2)
GREY = Picture(planes=bgr_to_planes(np.full((48, 64, 3), 200, np.uint8)))
NEGATIVE = 55
"""What the network makes of it."""


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Any]:
    """Makes stages that are open and closed after the test: `make(where="inside", sizes=[(48, 64)])`."""
    opened: list[Stylize] = []

    def make(spec: ModelSpec | None = None, *, bypass: bool = False, **settings: Any) -> Stylize:
        wanted = StylizeSettings.model_validate({"enabled": True, "short_side": 64, **settings})
        stage = Stylize(spec or style_spec(tmp_path), CPU, wanted, sizes=[(48, 64)], bypass=bypass)
        stage.open()
        opened.append(stage)
        return stage

    yield make
    for stage in opened:
        stage.close()


def frame_of(picture: Picture = GREY, index: int = 0, source: str = "cam", **more: Any) -> Frame:
    return Frame(source, index, index / 25, 0.0, picture, **more)


def passed(stage: Stylize, frame: Frame) -> Frame:
    """What a run does with a frame."""
    if stage.wants(frame):
        stage.collect(frame, stage.submit(frame))
    else:
        stage.skip(frame)
    return frame


def level(picture: Picture) -> float:
    return float(np.median(picture.bgr))


# --- which files are style networks -----------------------------------------------------------------------------------


def test_a_file_of_ones_own_is_recognised_by_what_it_answers(tmp_path: Path) -> None:
    spec = find_stylizer(str(style_model(tmp_path / "negative.onnx")))
    assert (spec.name, spec.task, spec.input) == ("negative", "stylize", replace(RAW, multiple=4))
    fixed = find_stylizer(str(style_model(tmp_path / "fixed.onnx", size=(40, 64))))
    assert (fixed.input.height, fixed.input.width) == (40, 64)


@pytest.mark.parametrize(
    ("factor", "shift", "fed"),
    [(-1.0, 255.0, RAW), (1 / 255, 0.0, UNIT), (2 / 255, -1.0, SIGNED)],
    ids=["0..255", "0..1", "-1..1"],
)
def test_the_units_are_those_of_the_answer(tmp_path: Path, factor: float, shift: float, fed: InputSpec) -> None:
    path = style_model(tmp_path / "style.onnx", factor=factor, shift=(shift,) * 3)
    assert find_stylizer(str(path)).input == replace(fed, multiple=4)


@pytest.mark.parametrize(
    ("outputs", "seen"),
    [
        ({"scores": np.zeros((1, 1000), np.float32)}, "scores 1x1000"),
        ({"map": np.zeros((1, 21, 64, 64), np.float32)}, "map 1x21x64x64"),
        ({"small": np.zeros((1, 3, 16, 16), np.float32)}, "small 1x3x16x16"),
    ],
    ids=["classes", "map", "small"],
)
def test_a_file_that_gives_no_picture_is_refused_with_what_it_gives(
    tmp_path: Path, outputs: dict[str, Any], seen: str
) -> None:
    path = constant_model(tmp_path / "other.onnx", outputs, (64, 64))
    with pytest.raises(UnknownHead, match=f"other is no style network: .* it gives {seen}, where a picture"):
        find_stylizer(str(path))


def test_what_is_no_model_or_for_another_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match="not an ONNX model"):
        find_stylizer(str(tmp_path / "text.onnx"))
    with pytest.raises(ModelError, match="'yolox-nano' is a model for detect, not for stylize"):
        find_stylizer("yolox-nano")
    with pytest.raises(ModelError, match="no model is called 'van-gogh'"):
        find_stylizer("van-gogh")


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "short_side", "wanted"),
    [
        ((720, 1280), 360, (360, 640)),
        ((1280, 720), 360, (640, 360)),
        ((144, 176), 360, (144, 176)),
        ((576, 768), 360, (360, 480)),
        ((272, 640), 360, (272, 640)),
        ((480, 854), 360, (360, 640)),
        ((63, 65), 360, (60, 64)),
        ((10, 10), 360, (32, 32)),
        ((100, 5000), 360, (100, 400)),
    ],
)
def test_the_input_has_the_frames_shape_and_is_never_larger(
    frame: tuple[int, int], short_side: int, wanted: tuple[int, int]
) -> None:
    assert size_for(*frame, short_side) == wanted


def test_sides_are_multiples_and_pixels_are_limited() -> None:
    for height in range(40, 700, 23):
        for most in (None, 40_000.0):
            size = size_for(height, 500, 300, 32, most)
            assert size[0] % 32 == size[1] % 32 == 0
            assert most is None or size[0] * size[1] <= 40_000 * 1.35  # the long side is rounded


@pytest.mark.parametrize("pads", [(0, 0), (3, 1)], ids=["same", "larger"])
def test_the_painting_is_that_of_the_picture_also_where_the_answer_is_larger(
    tmp_path: Path, pads: tuple[int, int]
) -> None:
    stylizer = PictureStylizer(style_spec(tmp_path, pads=pads), CPU)
    random = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    painted = stylizer(Picture(bgr=random))
    assert painted is not None
    assert np.array_equal(painted, 255 - random)
    stylizer.close()


def test_answers_saturate_and_colours_keep_their_places(tmp_path: Path) -> None:
    stylizer = PictureStylizer(style_spec(tmp_path, factor=1.0, shift=(100.4, 0.0, -100.6)), CPU)
    painted = stylizer(Picture(bgr=np.full((32, 32, 3), (90, 180, 200), np.uint8)))
    assert painted is not None
    assert painted[5, 5].tolist() == [0, 180, 255]
    stylizer.close()


@pytest.mark.parametrize(("factor", "shift", "fed"), [(1.0, 0.0, UNIT), (1.0, 0.0, SIGNED)], ids=["0..1", "-1..1"])
def test_an_answer_in_other_units_becomes_pixels(tmp_path: Path, factor: float, shift: float, fed: InputSpec) -> None:
    stylizer = PictureStylizer(style_spec(tmp_path, replace(fed, multiple=4), factor=factor, shift=(shift,) * 3), CPU)
    random = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    painted = stylizer(Picture(bgr=random))
    assert painted is not None
    assert abs(painted.astype(int) - random).max() <= 1
    stylizer.close()


def test_a_file_of_a_fixed_size_runs_at_that_size(tmp_path: Path) -> None:
    stylizer = PictureStylizer(find_stylizer(str(style_model(tmp_path / "s.onnx", size=(40, 64)))), CPU)
    painted = stylizer(Picture(bgr=np.full((100, 300, 3), 5, np.uint8)))
    assert painted is not None
    assert painted.shape == (40, 64, 3)
    assert (painted == 250).all()
    stylizer.close()


# --- what reaches the frame -------------------------------------------------------------------------------------------


def test_the_painting_is_rendered_and_the_picture_left(stages: Any) -> None:
    frame = passed(stages(), frame_of())
    assert frame.picture is GREY
    assert frame.rendered is not None
    assert frame.rendered.planes is not None
    assert abs(level(frame.rendered) - NEGATIVE) <= 2


def test_what_stages_before_have_made_is_what_is_painted(stages: Any) -> None:
    before = Picture(bgr=np.full((31, 45, 3), 10, np.uint8))
    frame = passed(stages(), frame_of(rendered=before))
    assert frame.rendered is not None
    assert (frame.rendered.bgr == 245).all()
    assert frame.rendered.bgr.shape == (31, 45, 3)


def test_at_no_strength_the_frame_passes_untouched(stages: Any) -> None:
    stage = stages(strength=0)
    frame = frame_of()
    assert not stage.wants(frame)
    assert passed(stage, frame).rendered is None


def test_keep_colours_leaves_u_and_v(stages: Any) -> None:
    picture = Picture(planes=noise_planes(64, 48))
    frame = passed(stages(keep_colours=True), frame_of(picture))
    assert frame.rendered is not None
    assert frame.rendered.planes is not None
    assert picture.planes is not None
    assert np.array_equal(frame.rendered.planes.data[48:], picture.planes.data[48:])
    assert not np.array_equal(frame.rendered.planes.y, picture.planes.y)


def map_of(left_half: int) -> SegmentationMap:
    alpha = np.zeros((48, 64), np.uint8)
    alpha[:, :32] = left_half
    return SegmentationMap((alpha > 127).astype(np.uint8), alpha, ("background", "person"))


@pytest.mark.parametrize(
    ("where", "segmentation", "left", "right"),
    [
        ("inside", map_of(255), NEGATIVE, 200),
        ("outside", map_of(255), 200, NEGATIVE),
        ("inside", None, 200, 200),
        ("outside", None, NEGATIVE, NEGATIVE),
        ("inside", map_of(0), 200, 200),
    ],
    ids=["inside", "outside", "inside, no map", "outside, no map", "nobody there"],
)
def test_only_inside_or_outside_the_foreground(
    stages: Any, where: str, segmentation: SegmentationMap | None, left: int, right: int
) -> None:
    frame = passed(stages(where=where), frame_of(segmentation=segmentation))
    shown = frame.output.bgr.astype(int)
    assert abs(shown[:, :30] - left).max() <= 2
    assert abs(shown[:, 34:] - right).max() <= 2


def test_nothing_is_painted_where_nobody_is_inside(stages: Any) -> None:
    stage = stages(where="inside")
    assert not stage.wants(frame_of(segmentation=map_of(0)))
    assert stage.wants(frame_of(segmentation=map_of(9)))


@pytest.mark.parametrize("off", [False, True])
def test_side_by_side_always_has_the_same_size(stages: Any, off: bool) -> None:
    stage = stages(where="side-by-side")
    stage.suspend(off)
    shown = passed(stage, frame_of()).output
    assert (shown.width, shown.height) == (128, 48)
    assert abs(shown.bgr[:, :62].astype(int) - 200).max() <= 2
    assert abs(shown.bgr[:, 66:].astype(int) - (200 if off else NEGATIVE)).max() <= 2


def test_while_it_is_suspended_frames_pass_and_then_are_painted_again(stages: Any) -> None:
    stage = stages()
    seen = []
    for index, is_off in enumerate([False, True, True, False]):
        stage.suspend(is_off)
        seen.append(passed(stage, frame_of(index=index)).rendered is None)
    assert seen == [False, True, True, False]


def noisy(seed: int) -> Picture:
    """A picture with noise that the network makes twice as strong."""
    coarse = np.random.default_rng(5).integers(80, 170, (6, 8, 3)).repeat(8, 0).repeat(8, 1)
    return Picture(
        bgr=np.clip(coarse + np.random.default_rng(seed).normal(0, 4, coarse.shape), 0, 255).astype(np.uint8)
    )


def flicker_of(stage: Stylize, **more: Any) -> float:
    shown = [passed(stage, frame_of(noisy(i), i, **more)).output.bgr.astype(float) for i in range(12)]
    return float(np.mean([np.square(b - a).mean() for a, b in pairwise(shown[5:])]))


def test_video_is_kept_steady_and_images_are_not(stages: Any) -> None:
    loose, steady = flicker_of(stages(stable=0)), flicker_of(stages())
    assert steady < loose / 5
    assert flicker_of(stages(), file=Path("a.jpg")) == loose


def test_sources_do_not_mix_and_an_ended_one_begins_anew(stages: Any) -> None:
    stage = stages(stable=0.95)
    white = Picture(bgr=noisy(0).bgr // 2 + 100)
    for index in range(3):
        a = passed(stage, frame_of(noisy(index), index, "a"))
        b = passed(stage, frame_of(white, index, "b"))
    assert abs(a.output.bgr.astype(int) - (255 - noisy(0).bgr.astype(int))).mean() < 5
    assert np.array_equal(b.output.bgr, 255 - white.bgr)
    stage.end("a")
    fresh = passed(stage, frame_of(noisy(9), 9, "a"))
    assert np.array_equal(fresh.output.bgr, 255 - noisy(9).bgr)
    assert "warping error" in (stage.describe() or "")


def test_frames_may_change_size_and_kind(stages: Any) -> None:
    stage = stages(stable=0.9)
    bgr = np.full((48, 64, 3), 200, np.uint8)
    pictures = [
        GREY,
        Picture(bgr=bgr),
        Picture(planes=Planes(bgr_to_planes(bgr).data, "bt709", True)),
        Picture(bgr=np.full((81, 45, 3), 200, np.uint8)),
        GREY,
    ]
    for index, picture in enumerate(pictures):
        shown = passed(stage, frame_of(picture, index)).output
        assert (shown.width, shown.height) == (picture.width, picture.height)
        assert abs(level(shown) - (255 - level(picture))) <= 2


def test_several_are_in_flight_and_come_back_in_order(stages: Any) -> None:
    stage = stages(stable=0)
    assert stage.in_flight == 2
    frames = [frame_of(Picture(bgr=np.full((48, 64, 3), 10 * i, np.uint8)), i) for i in range(8)]
    waiting: list[Any] = []
    for frame in frames:
        if len(waiting) == stage.in_flight:
            stage.collect(*waiting.pop(0))
        waiting.append((frame, stage.submit(frame)))
    for each in waiting:
        stage.collect(*each)
    assert [level(frame.output) for frame in frames] == [255 - 10 * i for i in range(8)]


def test_a_frame_that_the_network_has_no_time_for_gets_the_last_painting(stages: Any) -> None:
    stage = stages(bypass=True, stable=0)
    assert stage.bypass
    unpainted = frame_of(noisy(0))
    stage.skip(unpainted)
    assert unpainted.rendered is None
    passed(stage, frame_of(noisy(0), 1))
    carried = frame_of(noisy(1), 2)
    stage.skip(carried)
    assert carried.rendered is not None
    assert abs(carried.rendered.bgr.astype(int) - (255 - noisy(0).bgr.astype(int))).mean() < 5
    assert "1 frames got the last painting" in (stage.describe() or "")


def test_a_painting_of_no_numbers_is_not_shown_and_counted(stages: Any, tmp_path: Path) -> None:
    stage = stages(style_spec(tmp_path, factor=float("nan")))
    assert passed(stage, frame_of()).rendered is None
    assert "1 paintings with values that are no numbers" in (stage.describe() or "")


def test_no_line_before_it_is_open_and_the_engine_after_it_is_closed(tmp_path: Path) -> None:
    stage = Stylize(style_spec(tmp_path), CPU, StylizeSettings(enabled=True))
    assert stage.describe() is None
    stage.open()
    stage.close()
    assert "stylize: style 640x360 on onnxruntime" in (stage.describe() or "")


# --- budget -----------------------------------------------------------------------------------------------------------


def by_pixels(monkeypatch: pytest.MonkeyPatch, ms_a_megapixel: float) -> list[tuple[int, int]]:
    """Let the clock say so many milliseconds; the sizes that are measured are collected."""
    measured = []

    def seconds(stylizer: PictureStylizer, frame: tuple[int, int]) -> tuple[float, tuple[int, int]]:
        measured.append(stylizer.size_for(*frame))
        return measured[-1][0] * measured[-1][1] * ms_a_megapixel * 1e-9, measured[-1]

    monkeypatch.setattr(style_budget, "seconds", seconds)
    return measured


@pytest.mark.parametrize(("budget_ms", "wanted"), [(60, (360, 640)), (12, (160, 288)), (3, (80, 144))])
def test_the_largest_size_within_the_budget_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget_ms: float, wanted: tuple[int, int]
) -> None:
    measured = by_pixels(monkeypatch, 250)
    stylizer = PictureStylizer(style_spec(tmp_path), CPU, 360)
    words = fit_budget(stylizer, budget_ms, (720, 1280))
    height, width = stylizer.size_for(720, 1280)
    assert height * width * 250e-6 <= budget_ms
    assert abs(height - wanted[0]) <= 16
    assert len(measured) <= 7
    assert f"{width}x{height} takes" in words
    assert words.endswith(f"of {budget_ms:g}")


def test_where_no_size_fits_the_smallest_is_taken_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    by_pixels(monkeypatch, 1e6)
    stylizer = PictureStylizer(style_spec(tmp_path), CPU, 360)
    with caplog.at_level(logging.WARNING):
        fit_budget(stylizer, 5, (720, 1280))
    assert min(stylizer.size_for(720, 1280)) == 64
    assert "no size fits stylize.budget_ms" in caplog.text


def test_a_budget_is_measured_on_the_engine_when_the_stage_opens(stages: Any) -> None:
    stage = stages(budget_ms=1000)
    assert "64x48 takes" in (stage.describe() or "")


# --- a real network ---------------------------------------------------------------------------------------------------


def test_a_real_network_paints_a_picture(shared: Path, stages: Any) -> None:
    path = shared / "models" / "style" / "tnet_candy.onnx"
    photo = np.asarray(cv2.imread(str(shared / "data" / "images" / "bus.jpg")), np.uint8)
    spec = find_stylizer(str(path))
    assert spec.input == replace(RAW, multiple=4)
    stage = stages(spec)
    frame = passed(stage, frame_of(Picture(bgr=photo)))
    assert frame.rendered is not None
    assert frame.rendered.bgr.shape == photo.shape
    difference = np.abs(frame.rendered.bgr.astype(int) - photo).mean()
    assert 20 < difference < 120
    assert frame.rendered.bgr.std() > 20
