"""ZoneState: what an area or a line has seen, as of one frame. Drawn, reported and counted by whoever likes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.arrays import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ZoneState:
    """One zone of one source."""

    name: str
    points: FloatArray
    """(K, 2) float32, x and y in frame pixels: the corners of an area in order, or the two ends of a line."""
    is_line: bool = False
    inside: Mapping[str, int] = field(default_factory=dict)
    """How many objects of each class are inside now; of a line: nothing."""
    entered: Mapping[str, int] = field(default_factory=dict)
    """How many have come in since the run began; of a line: crossed to the right, as seen from its first end."""
    left: Mapping[str, int] = field(default_factory=dict)
    """How many have gone out; of a line: crossed to the left."""
    alarm: bool = False
    """Whether something is the matter now: too many, too long, too fast."""
