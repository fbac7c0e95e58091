"""States: what the retained topics should say of sources, persons and zones, as of the last frame.

Filled by the sink's thread; read by the one that sends, which compares it with what was said.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.capture.source import SourceState
from pipeline.config.sink_settings import MqttSettings
from pipeline.frame import Frame
from pipeline.sinks import home_assistant
from pipeline.sinks.sender import as_json
from pipeline.zones import ZoneState

Entities = Callable[[home_assistant.Places], dict[str, dict[str, Any]]]


class States:
    """Topics and what they should say.

    Args:
        settings: of the broker.
    """

    def __init__(self, settings: MqttSettings) -> None:
        self.wanted: dict[str, bytes] = {}
        """Payload by topic."""
        self._settings = settings
        self._sources: dict[str, dict[str, Any]] = {}
        self._told_of: set[tuple[str, ...]] = set()

    def topic_of(self, source: str) -> str:
        """Return what all topics of a source begin with."""
        return f"{self._settings.topic}/{level(source)}"

    def note(self, frame: Frame) -> None:
        """Note who came and left, and what is in the zones."""
        state = self._sources.get(frame.source)
        if state is None:
            state = self._set_state(frame.source, "streaming")
        for event in frame.events:
            self._note_person(frame.source, state, event)
        for zone in frame.zones:
            self._note_zone(frame.source, zone)

    def source_changed(self, state: SourceState) -> None:
        """Note a live source's new state."""
        self._set_state(state.source, state.state, state.reason, state.wall_time)

    def end(self, source: str) -> None:
        """Note that nothing more comes of it."""
        known = self._sources.setdefault(source, {"persons": []})
        known["persons"] = []
        if known.get("state") != "stopped":
            self._set_state(source, "stopped")
        else:
            self._say(f"{self.topic_of(source)}/state", known)

    def _set_state(
        self, source: str, word: str, reason: str | None = None, since: float | None = None
    ) -> dict[str, Any]:
        state = self._sources.setdefault(source, {"persons": []})
        state |= {"state": word, "reason": reason, "since": round(time.time() if since is None else since, 3)}
        self._say(f"{self.topic_of(source)}/state", state)
        self._tell_of((source,), lambda places: home_assistant.source_entities(places, self._settings.on))
        return state

    def _note_person(self, source: str, state: dict[str, Any], event: Mapping[str, Any]) -> None:
        kind, name = event.get("event"), event.get("name")
        if kind not in ("person.appeared", "person.left") or name is None:
            return
        present = set(state["persons"])
        state["persons"] = sorted(present | {name} if kind == "person.appeared" else present - {name})
        self._say(f"{self.topic_of(source)}/state", state)
        self._tell_of((source, "persons"), home_assistant.person_entities)

    def _note_zone(self, source: str, zone: ZoneState) -> None:
        topic = f"{self.topic_of(source)}/zones/{level(zone.name)}"
        self._say(
            topic,
            {
                "zone": zone.name,
                "objects": sum(zone.inside.values()),
                "inside": dict(zone.inside),
                "entered": dict(zone.entered),
                "left": dict(zone.left),
                "alarm": zone.alarm,
            },
        )
        self._tell_of(
            (source, "zones", zone.name),
            lambda places: home_assistant.zone_entities(places, zone.name, topic, zone.is_line),
        )

    def _say(self, topic: str, record: Mapping[str, Any]) -> None:
        """Have a retained topic say something."""
        self.wanted[topic] = as_json(record, "mqtt")

    def _tell_of(self, what: tuple[str, ...], entities: Entities) -> None:
        """Tell Home Assistant of something, the first time that it is there."""
        if self._settings.discovery and what not in self._told_of:
            self._told_of.add(what)
            prefix = self._settings.discovery_prefix
            places = home_assistant.Places(self._settings.topic, what[0], self.topic_of(what[0]), prefix)
            for topic, record in entities(places).items():
                self._say(topic, record)


def level(name: str) -> str:
    """Return a name as one level of a topic: what has a meaning there is written as in an address (%23 for #)."""
    return re.sub(r"[%+#/\0-\x1f\x7f]", lambda sign: f"%{ord(sign[0]):02X}", name)
