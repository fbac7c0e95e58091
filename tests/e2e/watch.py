"""Programs that watch a camera of `tests.servers` and tell how old each picture was when they had it, by its bar code.

Each has a process of its own, as its users have: `python -m tests.e2e.watch ours|opencv|bare ...` prints one line of
JSON. `Watch` starts one and reads what it says.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# OpenCV first: see pipeline/capture/live/connection.py
import cv2

# isort: split
import av
import numpy as np
import numpy.typing as npt
import psutil

from pipeline import Frame, Pipeline
from tests.e2e.program import environment
from tests.servers import barcode

ROOT = Path(__file__).resolve().parents[2]
FRAME = ("at_s", "pixels_ms", "own_ms", "wait_ms", "work_ms", "predicted")
"""What is told of a picture: when it was had, how old it then was by its bar code and by our clock, how long it waited
for the model and was worked on (nan: it was not), and whether its detections are an older picture's."""
OLD = ("at_s", "pixels_ms")
"""What others than ours tell."""


@dataclass(frozen=True)
class Seen:
    """What a program saw."""

    columns: dict[str, npt.NDArray[np.float64]]
    rss_mb: tuple[float, ...]
    summary: dict[str, Any]

    def __getitem__(self, column: str) -> npt.NDArray[np.float64]:
        return self.columns[column]

    def __len__(self) -> int:
        return len(self["at_s"])

    def between(self, first_s: float, last_s: float) -> Seen:
        """Those pictures that were had in this time, seconds since the first; negative ones count from the end."""
        end = self["at_s"][-1]
        low, high = (each + end if each < 0 else each for each in (first_s, last_s))
        chosen = (self["at_s"] >= low) & (self["at_s"] <= high)
        return Seen({name: values[chosen] for name, values in self.columns.items()}, self.rss_mb, self.summary)

    def percentile(self, column: str, percent: float) -> float:
        """Of those that have a value."""
        return float(np.nanpercentile(self[column], percent))


class Watch:
    """A program that watches, as a child process; `result` waits for its end."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.e2e.watch", *arguments]
        self._log = folder / f"watch-{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True
            )

    def result(self, within_s: float) -> Seen:
        """What it saw; fails where it ends otherwise."""
        try:
            output, _ = self._process.communicate(timeout=within_s)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, self.log
        told = json.loads(output)
        columns = {name: np.array(values, np.float64) for name, values in told["columns"].items()}
        return Seen(columns, tuple(told["rss_mb"]), told["summary"])

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text()


def ours(folder: Path, config: dict[str, Any], seconds: float) -> Watch:
    """Iterate over a Pipeline for so long after the first picture."""
    return Watch(folder, "ours", json.dumps(config), str(seconds))


def opencv(folder: Path, url: str, seconds: float) -> Watch:
    """Read with cv2.VideoCapture as it comes."""
    return Watch(folder, "opencv", url, str(seconds))


def bare(folder: Path, url: str, seconds: float) -> Watch:
    """Read with PyAV and one decoder thread, and do nothing else: what the camera and the machine do to everybody."""
    return Watch(folder, "bare", url, str(seconds))


# The programs


class Notes:
    """What is told at the end."""

    def __init__(self, names: tuple[str, ...], seconds: float) -> None:
        self.columns: dict[str, list[float | None]] = {name: [] for name in names}
        self.rss_mb: list[float] = []
        self._seconds = seconds
        self._process = psutil.Process()
        self._first_at: float | None = None

    def add(self, luma: npt.NDArray[Any], **more: float | None) -> bool:
        """Note a picture that is had now; return whether to go on."""
        age_s, now = barcode.age_s(luma), time.monotonic()
        if self._first_at is None:
            self._first_at = now
        at_s = now - self._first_at
        values = {"at_s": at_s, "pixels_ms": None if age_s is None else age_s * 1e3} | more
        for name, value in values.items():
            self.columns[name].append(value)
        if len(self.rss_mb) <= at_s:
            self.rss_mb.append(self._process.memory_info().rss / 1e6)
        return at_s < self._seconds

    def tell(self, summary: dict[str, Any]) -> None:
        """Print them."""
        sys.stdout.write(json.dumps({"columns": self.columns, "rss_mb": self.rss_mb, "summary": summary}) + "\n")


def watch_ours(config: str, seconds: str) -> None:
    logging.basicConfig(format="%(relativeCreated).0f ms: %(message)s")
    notes = Notes(FRAME, float(seconds))
    pipeline = Pipeline(json.loads(config))
    with pipeline as frames:
        for frame in frames:
            if not notes.add(luma_of(frame), **times_of(frame)):
                break
    notes.tell(pipeline.summary())
    if pipeline.runner.abandoned:  # as `frameloom run` does: its threads would be in the way of an orderly end
        sys.stdout.flush()
        os._exit(0)


def luma_of(frame: Frame) -> npt.NDArray[Any]:
    return frame.image if frame.planes is None else frame.planes.y


def times_of(frame: Frame) -> dict[str, float | None]:
    work = next((span for span in frame.spans if span.stage == "detect"), None)
    return {
        "own_ms": (frame.free_since - frame.captured_at) * 1e3,
        "wait_ms": None if work is None else (work.start - frame.captured_at) * 1e3,
        "work_ms": None if work is None else (work.end - work.start) * 1e3,
        "predicted": float(frame.predicted),
    }


def watch_opencv(url: str, seconds: str) -> None:
    notes = Notes(OLD, float(seconds))
    capture = cv2.VideoCapture(url)
    while True:
        read, image = capture.read()
        if not read or not notes.add(image):
            break
    notes.tell({})


def watch_bare(url: str, seconds: str) -> None:
    notes = Notes(OLD, float(seconds))
    with av.open(url, options={"rtsp_transport": "tcp", "analyzeduration": "200000", "probesize": "200000"}) as video:
        video.streams.video[0].thread_type = "NONE"
        for decoded in video.decode(video=0):
            if not notes.add(decoded.to_ndarray()[: decoded.height]):
                break
    notes.tell({})


PROGRAMS: dict[str, Callable[[str, str], None]] = {"ours": watch_ours, "opencv": watch_opencv, "bare": watch_bare}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
