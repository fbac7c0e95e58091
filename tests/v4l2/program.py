"""A run of the real program with the camera, watched through its log."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.program import NO_MODEL, begin, events

START_S = 60
"""For the first frame: the program takes 8 s to start in an emulated machine."""
BACK_S = 15
"""For what happens later: pauses between attempts are at most 0.5 s, the rest is for the emulated machine."""


class Run:
    """A run that writes a log and a recording into a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.recording = folder / "out.mp4"
        self._log = folder / "log.jsonl"
        outputs = ("--events", str(self._log), "--record", str(self.recording))
        self.process = begin(folder, *arguments, *NO_MODEL, *outputs)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        return events(self._log) if self._log.exists() else []

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames' lines so far."""
        return [line for line in self.lines if line["type"] == "frame"]

    @property
    def times(self) -> list[float]:
        """The frames' times so far, in seconds."""
        return [line["pts"] for line in self.frames]

    @property
    def states(self) -> list[str]:
        """The source's states so far."""
        return [line["state"] for line in self.lines if line["type"] == "source"]

    @property
    def reasons(self) -> list[str]:
        """Why it has been waiting, each time."""
        return [line["reason"] for line in self.lines if line.get("state") == "waiting"]

    @property
    def threads_and_files(self) -> tuple[int, int]:
        """How many threads and open files the program has."""
        place = Path("/proc", str(self.process.pid))
        return len(os.listdir(place / "task")), len(os.listdir(place / "fd"))

    def wait(self, condition: Callable[[], bool], within_s: float = BACK_S) -> None:
        """Wait until the program has done something; looks rarely, because reading the log takes its time too."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.process.communicate()}"
            assert time.monotonic() < deadline, f"waited in vain; the source was {self.states}"
            time.sleep(0.1)

    def wait_for_frames(self, count: int, within_s: float = BACK_S) -> None:
        """Wait for so many more frames."""
        target = len(self.frames) + count
        self.wait(lambda: len(self.frames) >= target, within_s)

    def wait_for_state(self, state: str) -> None:
        """Wait until the source is in a state."""
        self.wait(lambda: self.states[-1:] == [state])

    def wait_for_streaming(self, times: int) -> None:
        """Wait until it has begun to stream so many times."""
        self.wait(lambda: self.states.count("streaming") == times)

    def interrupt(self) -> float:
        """Press Ctrl-C; return the seconds until it had ended, in order."""
        before = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        after = time.monotonic()
        self.end()
        return after - before

    def end(self) -> None:
        """Wait for its end; see that it was a good one and that every frame is accounted for."""
        _, said = self.process.communicate(timeout=START_S)
        assert self.process.returncode == 0, said
        assert "Traceback" not in said
        summary = self.lines[-1]
        assert summary["type"] == "summary"
        (counts,) = summary["sources"].values()
        assert counts["captured"] == counts["delivered"] + sum(counts["dropped"].values())
        indices = [line["frame"] for line in self.frames]
        assert len(indices) == counts["delivered"]
        assert indices == sorted(set(indices))
        assert self.times == sorted(self.times)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.communicate()
