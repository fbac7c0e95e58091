"""Real V4L2 capture, run inside the machine that `make test-v4l2` starts; the ordinary test run does not collect it.

The camera is the kernel's `vivid`: it shows eight colour bars, at sizes and rates of its own, in raw formats only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import pytest

from tests.e2e.program import times_of
from tests.pipeline.videos import look_into
from tests.v4l2.camera import DEVICE, lose_buffers, plug_in, press, unplug
from tests.v4l2.program import BACK_S, FEW, START_S, Run

AWAY_S = 2.0
"""Long enough for several attempts in vain."""
BARS = [(191, 191, 191), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191), (191, 0, 0), (0, 0, 191), (0, 0, 0)]
"""75 % colour bars, RGB, from left to right."""
SMALL = {"width": 320, "height": 180, "fps": 15}
"""What an emulated machine manages with ease."""
Start: TypeAlias = Callable[..., Run]


@pytest.fixture(autouse=True)
def new_camera() -> None:
    """For every check the camera as it was when it was new, also its size and rate."""
    if DEVICE.exists():
        unplug()
    plug_in()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts runs, from the camera with some settings if no other source is named; none outlives its check."""
    runs: list[Run] = []

    def begun(*arguments: str, **settings: float) -> Run:
        folder = tmp_path / str(len(runs))
        folder.mkdir()
        source = () if "--source" in arguments else (configured(folder, **(SMALL | settings)),)
        runs.append(Run(folder, *source, *arguments))
        return runs[-1]

    yield begun
    for run in runs:
        run.kill()


def configured(folder: Path, **settings: float) -> str:
    """Write a configuration with the camera as its one source."""
    path = folder / "camera.yaml"
    path.write_text(json.dumps({"sources": [{"url": 0, **settings}]}))  # JSON is YAML
    return str(path)


@pytest.mark.parametrize(("source", "name"), [("0", "camera0"), (str(DEVICE), "video0")])
def test_a_camera_is_captured_by_its_number_and_by_its_path(start: Start, source: str, name: str) -> None:
    run = start("--source", source, "--max-frames", str(FEW))
    run.end()
    assert run.counts["captured"] == FEW
    assert {line["source"] for line in run.lines if "source" in line} == {name}
    assert run.states == ["connecting", "streaming", "stopped"]
    assert len(times_of(run.recording)) == run.counts["delivered"]
    assert run.frames[-1]["wall_time"] == pytest.approx(time.time(), abs=30)


@pytest.mark.parametrize(("width", "height", "fps"), [(320, 180, 10), (1280, 720, 4)])
def test_size_and_rate_are_those_asked_for_and_colours_those_shown(
    start: Start, tmp_path: Path, width: int, height: int, fps: int
) -> None:
    pictures = tmp_path / "pictures"
    run = start("--max-frames", str(FEW), "--frames", str(pictures), width=width, height=height, fps=fps)
    run.end()
    assert np.median(np.diff(run.times)) == pytest.approx(1 / fps, rel=0.15)
    image = cv2.imread(str(next(pictures.rglob("*.jpg"))))
    assert image is not None
    assert image.shape == (height, width, 3)
    strip = image[-height // 8 :, :, ::-1].mean(axis=0)
    np.testing.assert_allclose([strip[(2 * bar + 1) * width // 16] for bar in range(8)], BARS, atol=12)


def test_a_size_that_the_camera_does_not_have_becomes_one_that_it_has(start: Start) -> None:
    run = start("--max-frames", str(FEW), width=333, height=222)
    run.end()
    assert look_into(run.recording).sizes == {(320, 180)}


def test_after_every_unplug_and_replug_the_run_goes_on(start: Start) -> None:
    run = start()
    run.wait_for_start()
    before = run.threads_and_files
    for _ in range(3):
        unplug()
        run.wait_for_state("waiting")
        time.sleep(AWAY_S)
        plug_in()
        run.wait_for_state("streaming")
        run.wait_for_frames()
    assert set(run.reasons) <= {"eof", "refused"}
    assert run.threads_and_files == before
    run.interrupt()
    gaps = np.diff(run.times)
    assert sum(gaps > AWAY_S) == 3
    assert gaps.max() < AWAY_S + BACK_S


def test_failures_of_the_driver_are_recovered_from(start: Start) -> None:
    run = start()
    run.wait_for_start()
    for count, button in enumerate(("disconnect", "inject_fatal_streaming_error"), 1):
        press(button)
        run.wait_for_reasons(count)
        run.wait_for_state("streaming")
        run.wait_for_frames()
    run.interrupt()


def test_a_damaged_picture_does_not_interrupt_the_run(start: Start) -> None:
    run = start()
    run.wait_for_start()
    press("inject_v4l2_buf_flag_error")
    run.wait_for_frames()
    run.interrupt()
    assert run.counts["dropped"]["corrupt"] == 1
    assert not run.reasons


def test_a_camera_that_falls_silent_is_stalled_until_it_sends_again(start: Start) -> None:
    run = start()
    run.wait_for_start()
    lose_buffers(100)
    run.wait_for_state("stalled")
    lose_buffers(0)
    run.wait_for_state("streaming")
    run.wait_for_frames()
    run.interrupt()
    assert not run.reasons


def test_a_camera_that_is_silent_for_long_is_connected_anew(start: Start) -> None:
    run = start(read_timeout_s=2, open_timeout_s=2)
    run.wait_for_start()
    lose_buffers(100)
    run.wait_for_reasons(1)
    assert run.reasons[0] == "timeout"
    time.sleep(5)
    lose_buffers(0)
    run.wait_for_frames()
    run.interrupt()


def test_a_camera_that_another_program_holds_is_waited_for(start: Start) -> None:
    first = start()
    first.wait_for_start()
    second = start("--max-frames", str(FEW))
    second.wait_for_reasons(1, START_S)
    assert second.reasons[0] == "refused"
    first.interrupt()
    second.end()
    assert second.counts["captured"] == FEW


@pytest.mark.parametrize("state", ["waiting", "stalled"])
def test_ctrl_c_ends_the_run_within_2_s_also_without_the_camera(start: Start, state: str) -> None:
    run = start()
    run.wait_for_start()
    if state == "waiting":
        unplug()
        run.wait_for_reasons(1)
    elif state == "stalled":
        lose_buffers(100)
        run.wait_for_state(state)
    run.interrupt()


def test_a_camera_that_is_not_there_is_refused_in_one_line_that_names_those_that_are(start: Start) -> None:
    process = start("--source", "7").process
    _, said = process.communicate(timeout=START_S)
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert "/dev/video7" in said
    assert str(DEVICE) in said
