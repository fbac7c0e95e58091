"""Where time goes: durations per stage, as percentiles, in memory that does not grow.

A run may last months, so durations fall into buckets whose edges grow by 2 %: a percentile is then right within
1 %, at 8 bytes a bucket and a fraction of a microsecond a value.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

SHORTEST_S = 1e-6
GROWTH = math.log(1.02)
BUCKETS = 1200
"""Enough for 1 microsecond to 6 hours."""


class Histogram:
    """Durations in seconds; percentiles within 1 %. Written by one thread; others may read meanwhile."""

    def __init__(self) -> None:
        self._counts = np.zeros(BUCKETS, np.int64)
        self.count = 0
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bucket = math.log(max(seconds, SHORTEST_S) / SHORTEST_S) / GROWTH
        self._counts[int(min(bucket, BUCKETS - 1))] += 1
        self.count += 1
        self.total_s += seconds

    def merge(self, other: Histogram) -> None:
        """Add all durations of another histogram."""
        self._counts += other._counts
        self.count += other.count
        self.total_s += other.total_s

    def percentile_ms(self, percent: float) -> float | None:
        """Return the duration in milliseconds that `percent` of all do not exceed; None without any."""
        below = np.cumsum(self._counts)  # its last, not `count`: the writer may be between the two
        if not below[-1]:
            return None
        rank = max(1, math.ceil(int(below[-1]) * percent / 100))
        bucket = int(np.searchsorted(below, rank))
        return SHORTEST_S * math.exp((bucket + 0.5) * GROWTH) * 1e3

    def percentiles(self) -> dict[str, float | None]:
        """Return p50, p95 and p99 in milliseconds, rounded to the microsecond."""
        values = {f"p{percent}": self.percentile_ms(percent) for percent in (50, 95, 99)}
        return {name: None if value is None else round(value, 3) for name, value in values.items()}


class Tracer(Protocol):
    """Who wants to know of every single piece of work: a trace file."""

    def work(self, station: str, source: str, frame: int, waited_from: float, started: float, ended: float) -> None:
        """Take one; the times are monotonic seconds."""


class StageTimes:
    """One station's work: how long frames waited for it and how long it took, and its own threads' CPU seconds."""

    def __init__(self, station: str) -> None:
        self.station = station
        self.wall = Histogram()
        self.waits = Histogram()
        self.cpu_s = 0.0
        self.tracer: Tracer | None = None

    def add(self, source: str, frame: int, waited_from: float, started: float, ended: float) -> None:
        """Count one frame's work; the times are monotonic seconds."""
        self.waits.add(started - waited_from)
        self.wall.add(ended - started)
        if self.tracer is not None:
            self.tracer.work(self.station, source, frame, waited_from, started, ended)

    def merge(self, other: StageTimes) -> None:
        """Add those of another thread."""
        self.wall.merge(other.wall)
        self.waits.merge(other.waits)
        self.cpu_s += other.cpu_s
