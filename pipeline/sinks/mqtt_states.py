"""States: what the retained topics should say of sources, persons and zones, as of the last frame.

Filled by the sink's thread; read by the one that sends, which compares it with what was said. Where a source gives no
pictures now (it is away, or over) nobody knows what is in its zones, and that is said: null.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
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
        self._zones: dict[str, dict[str, ZoneState]] = {}
        """By source and name, as of the last frame."""
        self._persons_at: dict[tuple[str, str], int] = {}
        """By source and name: the frame that told of a person last."""
        self._told_of: set[tuple[str, ...]] = set()

    def topic_of(self, source: str) -> str:
        """Return what all topics of a source begin with."""
        return f"{self._settings.topic}/{level(source)}"

    def note(self, frame: Frame) -> None:
        """Note who came and left, and what is in the zones."""
        self.note_events(frame.source, ((frame.index, event) for event in frame.events))
        for zone in frame.zones:
            self._note_zone(frame.source, zone)

    def note_events(self, source: str, events: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Note who came and left.

        Args:
            source: where.
            events: each with the index of its frame; an older frame's may come after those of a newer one.
        """
        state = self._sources.get(source)
        if state is None:
            state = self._set_state(source, "streaming")
        for index, event in events:
            self._note_person(source, state, index, event)

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

    def _is_seen(self, source: str) -> bool:
        return bool(self._sources[source]["state"] == "streaming")

    def _set_state(
        self, source: str, word: str, reason: str | None = None, since: float | None = None
    ) -> dict[str, Any]:
        state = self._sources.setdefault(source, {"persons": []})
        if "state" not in state or _is_away(state["state"]) != _is_away(word) or word == "stopped":
            state["since"] = round(time.time() if since is None else since, 3)
        state |= {"state": word, "reason": reason}
        self._say(f"{self.topic_of(source)}/state", state)
        self._tell_of((source,), lambda places: home_assistant.source_entities(places, self._settings.on))
        if not self._is_seen(source):
            for zone in self._zones.get(source, {}).values():
                self._say_zone(source, zone)
        return state

    def _note_person(self, source: str, state: dict[str, Any], index: int, event: Mapping[str, Any]) -> None:
        kind, name = event.get("event"), event.get("name")
        if kind not in ("person.appeared", "person.left") or name is None:
            return
        if index < self._persons_at.get((source, name), index):
            return
        self._persons_at[source, name] = index
        present = set(state["persons"])
        state["persons"] = sorted(present | {name} if kind == "person.appeared" else present - {name})
        self._say(f"{self.topic_of(source)}/state", state)
        self._tell_of((source, "persons"), home_assistant.person_entities)

    def _note_zone(self, source: str, zone: ZoneState) -> None:
        self._zones.setdefault(source, {})[zone.name] = zone
        topic = self._say_zone(source, zone)
        self._tell_of(
            (source, "zones", zone.name),
            lambda places: home_assistant.zone_entities(places, zone.name, topic, zone.is_line),
        )

    def _say_zone(self, source: str, zone: ZoneState) -> str:
        """Say what is in a zone, or that nobody knows; return the topic."""
        topic = f"{self.topic_of(source)}/zones/{level(zone.name)}"
        seen = self._is_seen(source)
        self._say(
            topic,
            {
                "zone": zone.name,
                "objects": sum(zone.inside.values()) if seen else None,
                "inside": dict(zone.inside) if seen else None,
                "entered": dict(zone.entered),
                "left": dict(zone.left),
                "alarm": zone.alarm if seen else None,
            },
        )
        return topic

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


def _is_away(word: str) -> bool:
    """Whether a source gives nothing for now; each time that it is tried again it is connecting, and waits again."""
    return word != "streaming"


def level(name: str) -> str:
    """Return a name as one level of a topic: what has a meaning there is written as in an address (%23 for #)."""
    return re.sub(r"[%+#/\0-\x1f\x7f]", lambda sign: f"%{ord(sign[0]):02X}", name)
