"""Ledger: every captured frame is accounted for, per source.

    captured = delivered + the sum of dropped by reason

`delivered` means offered to all sinks. What a sink could not keep up with is its own affair and counted apart.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.frame import Frame
from pipeline.mailbox import Sourced
from pipeline.trace import Histogram

REASONS = ("stale", "mailbox_full", "stopped", "corrupt")
"""Reasons that are always reported, also when they are 0."""


@dataclass
class Account:
    """The counts of one source."""

    captured: int = 0
    delivered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)

    @property
    def balanced(self) -> bool:
        """Whether the conservation law holds."""
        return self.captured == self.delivered + self.dropped.total()


class Ledger:
    """The accounts of all sources; safe to use from every thread."""

    def __init__(self, sources: list[str]) -> None:
        self.accounts = {source: Account() for source in sources}
        self.first_at: float | None = None
        self.last_at: float | None = None
        self._settled = False
        self._lock = threading.Lock()

    def captured(self, item: Sourced) -> None:
        """Count a frame that a source has produced."""
        with self._lock:
            if self._settled:
                return
            self.accounts[item.source].captured += 1
            if self.first_at is None:
                self.first_at = item.captured_at

    def delivered(self, frame: Frame) -> float:
        """Count a frame that is offered to all sinks now; return the time, in monotonic seconds."""
        now = time.monotonic()
        with self._lock:
            if self._settled:
                return now
            account = self.accounts[frame.source]
            account.delivered += 1
            account.latency.add(now - frame.captured_at)
            self.last_at = now
        return now

    def dropped(self, item: Sourced, reason: str) -> None:
        """Count a frame that goes no further."""
        with self._lock:
            if not self._settled:
                self.accounts[item.source].dropped[reason] += 1

    def settle(self) -> None:
        """Count what an abandoned thread still holds as `stopped`, and nothing after that."""
        with self._lock:
            for account in self.accounts.values():
                account.dropped["stopped"] += account.captured - account.delivered - account.dropped.total()
            self._settled = True

    def fps(self) -> float | None:
        """Return delivered frames per second, from the first capture to the last delivery; None: nothing to go by."""
        delivered = sum(account.delivered for account in self.accounts.values())
        if self.first_at is None or self.last_at is None or self.last_at <= self.first_at:
            return None
        return round(delivered / (self.last_at - self.first_at), 2)

    def latency(self) -> Histogram:
        """Return the times from capture to delivery, of all sources."""
        latency = Histogram()
        for account in self.accounts.values():
            latency.merge(account.latency)
        return latency

    def counts(self) -> dict[str, dict[str, Any]]:
        """Return each source's numbers, in plain types."""
        with self._lock:
            return {
                source: {
                    "captured": account.captured,
                    "delivered": account.delivered,
                    "dropped": dict.fromkeys(REASONS, 0) | dict(account.dropped),
                }
                for source, account in self.accounts.items()
            }

    @property
    def balanced(self) -> bool:
        """Whether the conservation law holds for every source."""
        return all(account.balanced for account in self.accounts.values())
