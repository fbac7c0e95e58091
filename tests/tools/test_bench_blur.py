"""`frameloom bench blur`: it finds what is exposed, and on a real face with a finder that fails nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.load import Override, load_settings
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.faces import Faces
from pipeline.frame import Frame
from pipeline.picture import Picture
from tests.e2e.program import frameloom
from tools.bench_blur import Counts, WorseFinder, hidden_mask, is_exposed, measure

FRAMES = 40


@pytest.fixture
def clip(shared: Path, face_models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAMELOOM_MIRROR", face_models["FRAMELOOM_MIRROR"])
    return shared / "data" / "videos" / "carphone.mp4"


def settings_of(clip: Path, **values: Any) -> Settings:
    wanted = {"sources": [str(clip)], "detect.enabled": False, "max_frames": FRAMES, "blur.enabled": True}
    return load_settings(None, [Override(key, value, key) for key, value in (wanted | values).items()]).settings


def counted(clip: Path, drop: float = 0.2, **values: Any) -> Counts:
    counts, reference = measure(settings_of(clip, **values), drop, seed=3)
    assert "yunet" in reference
    (only,) = counts.values()
    assert only.frames == only.faces == FRAMES  # the driver is seen in all of them
    assert only.failed > 0.1 * FRAMES
    return only


def test_no_face_is_exposed_or_recognised_where_the_finder_fails_in_a_fifth_of_the_frames(clip: Path) -> None:
    counts = counted(clip)
    assert (counts.exposed, counts.recognised) == (0, 0)
    assert counts.whole < 10
    assert np.mean(counts.areas) < 0.5


def test_it_counts_the_faces_that_are_exposed_where_nothing_is_held(clip: Path) -> None:
    counts = counted(clip, **{"blur.hold_s": 0.0})
    assert counts.exposed >= 3
    assert counts.recognised >= 3


def test_what_spares_somebody_cannot_be_measured(clip: Path) -> None:
    for values in ({"blur.except": "known"}, {"blur.enabled": False}):
        with pytest.raises(ConfigError, match=r"leave blur\.enabled on, and blur\.except empty"):
            measure(settings_of(clip, **values), 0.2, 0)


def test_a_worse_finder_fails_as_often_as_it_is_told_and_the_same_way_each_time() -> None:
    picture = Picture(bgr=np.zeros((20, 20, 3), np.uint8))
    face = Faces(np.array([[1, 1, 9, 9]]), np.array([0.9]), np.zeros((1, 5, 2), np.float32))

    def course(seed: int) -> str:
        worse, letters = WorseFinder(0.4, seed), ""
        for index in range(500):
            frame = Frame("a", index, index / 25, 0.0, picture, faces=face)
            worse.process(frame)
            assert frame.faces is not None
            letters += "skipped" if frame.faces.predicted else "found" if len(frame.faces) else "missed"
        assert worse.dropped["a"] == letters.count("skipped") + letters.count("missed")
        assert 70 < letters.count("skipped") < 130
        assert 70 < letters.count("missed") < 130
        return letters

    assert course(1) == course(1) != course(2)


@pytest.mark.parametrize(
    ("region", "exposed"),
    [
        ((0, 0, 200, 200), False),
        ((50, 50, 150, 150), False),
        ((64, 64, 136, 136), False),
        ((64, 64, 136, 126), True),
        ((150, 150, 200, 200), True),
    ],
)
def test_a_face_is_exposed_where_the_middle_of_its_box_is_not_hidden(region: Any, exposed: bool) -> None:
    mask = hidden_mask(np.array([region], np.float32), 200, 200)
    assert is_exposed(np.array([50, 50, 150, 150], np.float32), mask) is exposed


def test_the_command_prints_what_the_stage_costs(tmp_path: Path) -> None:
    done = frameloom("bench", "blur", "--json", "costs.json", cwd=tmp_path)
    assert (done.code, done.error) == (0, "")
    assert "1080p, 10" in done.out
    costs = json.loads((tmp_path / "costs.json").read_text())["costs"]
    assert {(each["how"], each["height"], each["regions"]) for each in costs} == {
        (how, height, regions) for how in ("blur", "pixelate", "fill") for height in (720, 1080) for regions in (1, 10)
    }
    assert all(0 < each["ms"] < 1000 for each in costs)
