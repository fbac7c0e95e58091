"""A run of the real program with the camera, watched through its log."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.program import NO_MODEL, begin, events

FEW = 15
"""Frames."""
USUAL_START_S = 8.0
"""From the program's start to its first frames, in a machine that is emulated on two idle cores."""
START_S = 60
STOP_S = 2.0
BACK_S = 15
"""For what happens later: pauses between attempts are at most 0.5 s, the rest is for the emulated machine."""


class Run:
    """A run that writes a log and a recording into a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.recording = folder / "out.mp4"
        self._log = folder / "log.jsonl"
        outputs = ("--events", str(self._log), "--record", str(self.recording))
        self._began = time.monotonic()
        self._slowness = 1.0
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
    def counts(self) -> dict[str, Any]:
        """What became of the frames; of a run that has ended."""
        (counts,) = self.lines[-1]["sources"].values()
        return dict(counts)

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

    def wait_for_start(self) -> None:
        """Wait for the first frames."""
        self.wait(lambda: len(self.frames) >= FEW, START_S)
        self._slowness = max(1.0, (time.monotonic() - self._began) / USUAL_START_S)

    def wait_for_frames(self) -> None:
        """Wait for a few more frames."""
        target = len(self.frames) + FEW
        self.wait(lambda: len(self.frames) >= target)

    def wait_for_state(self, state: str) -> None:
        """Wait until the source is in a state."""
        self.wait(lambda: self.states[-1:] == [state])

    def wait_for_reasons(self, count: int, within_s: float = BACK_S) -> None:
        """Wait until it has failed so many times."""
        self.wait(lambda: len(self.reasons) >= count, within_s)

    def interrupt(self) -> None:
        """Press Ctrl-C; see that it ends in time and in order.

        Where this machine is busy with something else, everything takes longer inside the emulated one; how much, the
        program's start has told.
        """
        before = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(START_S)
        assert time.monotonic() - before < STOP_S * self._slowness
        self.end()

    def end(self) -> None:
        """Wait for its end; see that it was a good one and that every frame is accounted for."""
        _, said = self.process.communicate(timeout=START_S)
        assert self.process.returncode == 0, said
        assert "Traceback" not in said
        assert self.lines[-1]["type"] == "summary"
        assert self.counts["captured"] == self.counts["delivered"] + sum(self.counts["dropped"].values())
        indices = [line["frame"] for line in self.frames]
        assert len(indices) == self.counts["delivered"]
        assert indices == sorted(set(indices))
        assert self.times == sorted(self.times)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.communicate()
