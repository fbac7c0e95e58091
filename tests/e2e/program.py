"""The real program, started as a user starts it: the `frameloom` script beside this Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

FRAMELOOM = Path(sys.executable).with_name("frameloom")
SHARED = Path(__file__).resolve().parents[2].parent / "shared"
MODELS = SHARED / "models"
ENDLESS = "synthetic://640x480@30"
NO_MODEL = ("--set", "detect.enabled=false")


def environment() -> dict[str, str]:
    """As a user's, without what would colour the output; models come from the mirror."""
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    return kept | {"FRAMELOOM_MIRROR": str(MODELS), "FRAMELOOM_OFFLINE": "1", "TERM": "xterm-256color"}


def begin(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start `frameloom run`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen([FRAMELOOM, "run", *arguments], cwd=folder, env=environment(), **pipes)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `frameloom run` to its end."""
    command = [str(FRAMELOOM), "run", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)


def until(condition: Callable[[], bool], process: subprocess.Popen[str], within_s: float = 30) -> None:
    """Wait for something that the process does."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert process.poll() is None, f"it ended with {process.returncode}: {process.communicate()}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def number_of_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def events(path: Path) -> list[dict[str, Any]]:
    """Every line of an event log; each must be whole JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def times_of(path: Path) -> list[float]:
    """The presentation times of a recording, in seconds, by decoding all of it."""
    with av.open(str(path)) as video:
        return [float(frame.time) for frame in video.decode(video=0) if frame.time is not None]
