"""The window under a real X server (Xvfb; Debian packages xvfb and, for keys, xdotool), and without any display."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.sinks.window import display_problem

REPOSITORY = Path(__file__).resolve().parents[2]
FRAMELOOM = [sys.executable, "-c", "from tools.cli import main; main()"]
RUN = [*FRAMELOOM, "run", "--window", "--set", "detect.enabled=false", "--source"]


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """The name of a display of our own."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed (Debian package xvfb)")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read) as number:
        name = f":{number.readline().strip()}"
    yield name
    server.terminate()
    server.wait()


def environment(display: str | None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return kept if display is None else kept | {"DISPLAY": display}


def test_frames_are_shown_to_the_end(display: str) -> None:
    command = [*RUN, "synthetic://320x240?frames=40"]
    done = subprocess.run(command, env=environment(display), capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "window" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("key", ["q", "Escape"])
def test_q_and_escape_end_the_run(display: str, key: str) -> None:
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is not installed (Debian package xdotool)")
    env = environment(display)
    run = subprocess.Popen([*RUN, "synthetic://320x240"], env=env, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        search = ["xdotool", "search", "--sync", "--onlyvisible", "--name", "frameloom: synthetic"]
        window = subprocess.run(search, env=env, capture_output=True, text=True, timeout=20).stdout.split()[0]
        deadline = time.monotonic() + 20
        while run.poll() is None and time.monotonic() < deadline:
            subprocess.run(["xdotool", "windowfocus", window], env=env, capture_output=True)
            subprocess.run(["xdotool", "key", key], env=env, capture_output=True)
            time.sleep(0.2)
        output, _ = run.communicate(timeout=10)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 0
    assert "delivered" in output


@pytest.mark.parametrize("display_name", [None, "", ":4711"])
def test_without_a_display_the_request_is_refused_in_one_line(tmp_path: Path, display_name: str | None) -> None:
    log = tmp_path / "e.jsonl"
    log.write_text("precious")
    command = [*RUN, "synthetic?frames=5", "--events", str(log)]
    done = subprocess.run(command, env=environment(display_name), capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2
    assert done.stderr.startswith("frameloom: sinks.window: no window can be shown: ")
    assert done.stderr.count("\n") == 1
    assert log.read_text() == "precious"


def test_where_a_window_would_hang_the_request_is_refused() -> None:
    script = (
        "import av, cv2; from pipeline.sinks.window import Window; from pipeline.errors import ConfigError\n"
        "try: Window('w', print).check([])\nexcept ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert "import cv2 before av" in done.stdout


def test_the_probe_finds_a_display_that_is_there(display: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", display)
    assert display_problem() is None
