"""Check: what one look at this machine saw, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "missing", "problem"]


@dataclass(frozen=True)
class Check:
    """What one check saw."""

    name: str
    status: Status
    text: str
    advice: str = ""
    """What to do or to install, where something is missing."""
    essential: bool = False
    """Whether nothing works without it."""

    @property
    def broken(self) -> bool:
        """Whether this alone keeps Frameloom from running."""
        return self.essential and self.status != "ok"
