"""The real program puts another background behind the driver of a real clip, in every frame that it records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.api import Pipeline
from pipeline.arrays import Image
from pipeline.capture.file import VideoFile
from pipeline.frame import Frame
from pipeline.render.effect import NOT_AT_ALL, WHOLLY
from tests.e2e.program import frameloom

FRAMES = 40
ALONE = ("--set", "detect.enabled=false", "--set", "render.enabled=false", "--max-frames", str(FRAMES))


@pytest.fixture(scope="module")
def clip(shared: Path) -> Path:
    return shared / "data" / "videos" / "carphone.mp4"


@pytest.fixture
def models(shared: Path) -> dict[str, str]:
    return {"FRAMELOOM_MIRROR": str(shared / "models")}


def lumas_of(video: Path) -> list[Image]:
    source = VideoFile("clip", video)
    source.open()
    try:
        items = [item for item in source.frames() if isinstance(item, Frame)]
    finally:
        source.close()
    return [frame.planes.y.copy() for frame in items[:FRAMES] if frame.planes is not None]


FACE = (slice(40, 84), slice(72, 100))
"""Rows and columns of the driver's face, in all of the first frames."""
WINDOW = (slice(45, 100), slice(2, 30))
"""Those of the striped blind behind him."""


def detail(luma: Image, place: tuple[slice, slice]) -> float:
    """How much is to be seen: the mean gradient."""
    part = luma[place].astype(np.float32)
    return float(np.hypot(cv2.Sobel(part, cv2.CV_32F, 1, 0), cv2.Sobel(part, cv2.CV_32F, 0, 1)).mean())


def test_a_blurred_background_is_recorded_and_the_face_stays(
    tmp_path: Path, clip: Path, models: dict[str, str]
) -> None:
    options = ("--source", clip, "--segment", "blur-background", "--record", "out.mp4", "--events", "e.jsonl")
    crf = ("--set", "sinks.record.crf=12")
    done = frameloom("run", *options, *crf, *ALONE, cwd=tmp_path, env=models)
    assert (done.code, done.error) == (0, "")
    before, after = lumas_of(clip), lumas_of(tmp_path / "out.mp4")
    assert len(before) == len(after) == FRAMES
    for first, second in zip(before, after, strict=True):
        assert detail(second, WINDOW) < 0.3 * detail(first, WINDOW)
        assert np.abs(second[FACE].astype(int) - first[FACE]).mean() < 2.5  # what encoding changes
        assert detail(second, FACE) > 0.9 * detail(first, FACE)


@pytest.mark.parametrize("effect", ["replace-background", "cut-out", "blur-background"])
def test_the_background_goes_and_the_face_keeps_its_very_values(
    clip: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch, effect: str
) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", models["FRAMELOOM_MIRROR"])
    config: dict[str, Any] = {"sources": [str(clip)], "detect.enabled": False, "max_frames": 20}
    count = 0
    with Pipeline({**config, "segment.effect": effect}) as frames:
        for frame in frames:
            assert frame.segmentation is not None
            assert frame.output.planes is not None
            assert frame.planes is not None
            before, after = frame.planes.y, frame.output.planes.y
            alpha = frame.segmentation.alpha
            assert (alpha[FACE] >= WHOLLY).all()
            sure = alpha >= WHOLLY
            assert np.array_equal(after[sure], before[sure])
            behind = alpha <= NOT_AT_ALL
            assert behind.mean() > 0.3
            if effect == "cut-out":
                assert (after[behind] == 16).all()
            elif effect == "replace-background":
                assert np.ptp(after[behind]) == 0
            else:
                assert detail(after, WINDOW) < 0.3 * detail(before, WINDOW)
            count += 1
    assert count == 20


def test_a_background_that_cannot_be_ends_before_anything_is_written(
    tmp_path: Path, clip: Path, models: dict[str, str]
) -> None:
    options = ("--source", clip, "--segment", "replace-background", "--record", "out.mp4")
    done = frameloom("run", *options, "--set", "segment.background=beach.jpg", *ALONE, cwd=tmp_path, env=models)
    assert done.code == 2
    assert "segment.background: 'beach.jpg' is neither a colour nor a file that is there" in done.complaint
    assert not (tmp_path / "out.mp4").exists()
