"""The head-up display: name of the source, its frames per second and its latency, smoothed for the eye."""

from __future__ import annotations

import math
from dataclasses import dataclass

SMOOTHING = 0.9
SHORTEST_S = 1e-6
REFRESH_S = 0.25
"""Numbers that change with every frame cannot be read, and cost a new text each (40 us)."""


@dataclass
class Pace:
    """One source's frames per second and latency."""

    last_at: float | None = None
    interval_s: float | None = None
    latency_ms: float = 0.0
    shown: str = ""
    shown_at: float = -math.inf

    @property
    def fps(self) -> float:
        """Frames per second: the smoothed interval, inverted (a mean of rates would be too high)."""
        return 0.0 if self.interval_s is None else 1 / max(self.interval_s, SHORTEST_S)

    def update(self, now: float, captured_at: float) -> None:
        """Count one frame."""
        latency_ms = (now - captured_at) * 1e3
        if self.last_at is None:
            self.latency_ms = latency_ms
        else:
            interval_s = now - self.last_at
            self.interval_s = interval_s if self.interval_s is None else _smooth(self.interval_s, interval_s)
            self.latency_ms = _smooth(self.latency_ms, latency_ms)
        self.last_at = now

    def text(self, source: str) -> str:
        """Return the line that is shown: a new one every `REFRESH_S`."""
        now = self.last_at or 0.0
        if not abs(now - self.shown_at) < REFRESH_S:
            self.shown = f"{source}  {self.fps:.0f} fps  {self.latency_ms:.0f} ms"
            self.shown_at = now
        return self.shown


def _smooth(old: float, new: float) -> float:
    return SMOOTHING * old + (1 - SMOOTHING) * new
