"""Where time goes: durations per stage, as percentiles, in memory that does not grow.

A run may last months, so durations fall into buckets whose edges grow by 2 %: a percentile is then right within
1 %, at 8 bytes a bucket and a fraction of a microsecond a value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SHORTEST_S = 1e-6
GROWTH = math.log(1.02)
BUCKETS = 1200
"""Enough for 1 microsecond to 6 hours."""


class Histogram:
    """Durations in seconds; percentiles within 1 %. Written by one thread, read when that thread is done."""

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


@dataclass(slots=True)
class StageTimes:
    """One stage's work: wall time per frame, and the CPU time its own threads took."""

    wall: Histogram
    cpu_s: float = 0.0

    @classmethod
    def start(cls) -> StageTimes:
        """Begin with nothing."""
        return cls(Histogram())
