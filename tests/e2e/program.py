"""The real program, started as a user starts it: the `frameloom` script beside this Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from tests.conftest import SHARED

FRAMELOOM = Path(sys.executable).with_name("frameloom")
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


def until_it_takes_signals(process: subprocess.Popen[str]) -> None:
    """Wait until a run can be ended in order: it then has a handler for SIGTERM, which Python alone has not."""
    status = Path(f"/proc/{process.pid}/status")

    def has_handler() -> bool:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    until(has_handler, process)


def number_of_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def events(path: Path) -> list[dict[str, Any]]:
    """Every line of an event log; each must be whole JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def times_of(path: Path) -> list[float]:
    """The presentation times of a recording, in seconds, by decoding all of it."""
    with av.open(str(path)) as video:
        return [float(frame.time) for frame in video.decode(video=0) if frame.time is not None]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    error: str

    @property
    def complaint(self) -> str:
        """The one line on standard error, without the program's name; fails where there is more or less."""
        lines = self.error.splitlines()
        assert len(lines) == 1, self.error
        assert lines[0].startswith("frameloom: ")
        return lines[0].removeprefix("frameloom: ")


def frameloom(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout_s: float = 90) -> Done:
    """Run a command to its end. No test may touch the user's own cache, display or models."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FRAMELOOM_", "DISPLAY"))}
    environment = kept | {"FRAMELOOM_CACHE": str(cwd / ".cache")} | (env or {})
    done = subprocess.run(
        [FRAMELOOM, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    return Done(done.returncode, done.stdout, done.stderr)
