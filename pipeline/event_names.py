"""What the events of a run are called; your own stages may have others."""

from __future__ import annotations

ZONE_EVENTS = ("zone.enter", "zone.leave", "zone.dwell", "zone.occupancy", "zone.speed", "line.cross")
PERSON_EVENTS = ("person.appeared", "person.left", "person.unknown")
LATENCY_EVENTS = ("degraded", "restored")
EVENTS = (*ZONE_EVENTS, *PERSON_EVENTS, *LATENCY_EVENTS)
