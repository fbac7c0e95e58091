"""How `frameloom bench gpu` measures: warm up, go on for long enough, wait for all that was started, take medians.

A GPU does its work later than it is asked to. So a rate counts what was started until a moment and divides by the time
until the last of it was done; a single launch is timed by nobody.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from engines.engine import Pending

NEAR_THE_BEST = 0.95
"""The plateau begins at the smallest batch that reaches this part of the best."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: a round lasts for so many seconds and for so many steps, whichever ends later."""

    seconds: float = 1.0
    steps: int = 200
    rounds: int = 3


class Work(Protocol):
    """Something that is done again and again."""

    def step(self) -> int:
        """Start some of it, and wait only where too much is under way; return how many pictures (or bytes) it is."""

    def finish(self) -> None:
        """Wait for all that was started."""


class Requests:
    """Keeps requests of an engine in flight."""

    def __init__(self, submit: Callable[[], Pending], pictures: int, in_flight: int) -> None:
        """Begin with none; each of `submit` is of so many pictures."""
        self._submit, self._pictures, self._in_flight = submit, pictures, in_flight
        self._waiting: deque[Pending] = deque()

    def step(self) -> int:
        """Start one, after taking the oldest result where all are in flight."""
        if len(self._waiting) >= self._in_flight:
            self._waiting.popleft().result()
        self._waiting.append(self._submit())
        return self._pictures

    def finish(self) -> None:
        """Take all results."""
        while self._waiting:
            self._waiting.popleft().result()


def per_second(work: Work, effort: Effort) -> float:
    """Return how much is done in a second: the median of the rounds, after one that does not count."""
    _round(work, effort.seconds / 4, max(1, effort.steps // 4))
    return median(_round(work, effort.seconds, effort.steps) for _ in range(effort.rounds))


def _round(work: Work, seconds: float, steps: int) -> float:
    began, done, taken = time.perf_counter(), 0, 0
    while taken < steps or time.perf_counter() - began < seconds:
        done += work.step()
        taken += 1
    work.finish()
    return done / (time.perf_counter() - began)


def milliseconds(call: Callable[[], object], effort: Effort) -> list[float]:
    """Return how long each call takes, one at a time, without those of a warm-up of a quarter."""
    times: list[float] = []
    for seconds, steps in ((effort.seconds / 4, effort.steps // 4), (effort.seconds, effort.steps)):
        times.clear()
        began = time.perf_counter()
        while len(times) < steps or time.perf_counter() - began < seconds:
            started = time.perf_counter()
            call()
            times.append((time.perf_counter() - started) * 1e3)
    return times


def percentiles(times: Sequence[float]) -> tuple[float, float, float]:
    """Return the 50th, 95th and 99th; between two values on the line through them."""
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    return float(p50), float(p95), float(p99)


def plateau(fps: dict[int, float]) -> int:
    """Return the smallest batch whose rate is within 5 % of the best; `fps`: by batch."""
    best = max(fps.values())
    return min(batch for batch, rate in fps.items() if rate >= NEAR_THE_BEST * best)
