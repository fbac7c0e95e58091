"""Home Assistant's MQTT discovery: messages by which it makes a device of each source, with its zones.

Source: Home Assistant's documentation, "MQTT", "Discovery messages". A message an entity: all versions understand that.

    <prefix>/<component>/<device>/<entity>/config

Entities of a source: whether it streams, and what happens there, as an `event`; how many known persons are there, as
soon as one was. Of an area: whether something is inside, whether something is the matter, how many are inside, came
and went; of a line: whether something is the matter, how many crossed it, either way. What nobody knows, because the
source gives no pictures, is the text None there, which Home Assistant shows as unknown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.event_names import EVENTS
from pipeline.sinks.records import wanted

ONLINE = b"online"
"""What Home Assistant says, as what it was born, on `<prefix>/status`."""


@dataclass(frozen=True)
class Entity:
    """One thing that Home Assistant shows."""

    component: str
    key: str
    name: str
    state_topic: str
    template: str
    more: dict[str, Any]


@dataclass(frozen=True)
class Places:
    """Where a source's messages are."""

    root: str
    """First part of all topics."""
    source: str
    topic: str
    """<root>/<source>, escaped."""
    prefix: str = "homeassistant"


def source_entities(places: Places, on: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return topics and payloads that make a source known."""
    entities = [
        Entity(
            "binary_sensor",
            "connection",
            "Connection",
            f"{places.topic}/state",
            "{{ 'ON' if value_json.state == 'streaming' else 'OFF' }}",
            {"device_class": "connectivity", "entity_category": "diagnostic"},
        )
    ]
    on = tuple(on)
    if types := [name for name in EVENTS if wanted({"event": name}, on)]:
        template = "{{ dict(value_json, event_type=value_json.event) | to_json }}"
        entities.append(Entity("event", "events", "Events", f"{places.topic}/events", template, {"event_types": types}))
    return _configurations(places, entities)


def person_entities(places: Places) -> dict[str, dict[str, Any]]:
    """Return what makes the count of known persons known."""
    template = "{{ value_json.persons | length if value_json.state == 'streaming' else None }}"
    return _configurations(
        places,
        [Entity("sensor", "persons", "Persons", f"{places.topic}/state", template, {"state_class": "measurement"})],
    )


def zone_entities(places: Places, zone: str, zone_topic: str, is_line: bool) -> dict[str, dict[str, Any]]:
    """Return what makes a zone known."""
    key = identifier(zone)
    counts = (("entered", "in"), ("left", "out")) if is_line else (("entered", "entered"), ("left", "left"))
    entities = [
        Entity(
            "binary_sensor",
            f"{key}-alarm",
            f"{zone} alarm",
            zone_topic,
            _on_if("alarm"),
            {"device_class": "problem"},
        ),
        *(
            Entity(
                "sensor",
                f"{key}-{what}",
                f"{zone} {word}",
                zone_topic,
                f"{{{{ value_json.{what}.values() | sum }}}}",
                {"state_class": "total_increasing"},
            )
            for what, word in counts
        ),
    ]
    if not is_line:
        entities += [
            Entity(
                "binary_sensor",
                f"{key}-occupancy",
                f"{zone} occupancy",
                zone_topic,
                _on_if("objects"),
                {"device_class": "occupancy"},
            ),
            Entity(
                "sensor",
                f"{key}-inside",
                f"{zone} inside",
                zone_topic,
                "{{ value_json.objects }}",
                {"state_class": "measurement"},
            ),
        ]
    return _configurations(places, entities)


def _on_if(key: str) -> str:
    """Return the template of what is on where a value is true or not 0."""
    return f"{{{{ None if value_json.{key} is none else 'ON' if value_json.{key} else 'OFF' }}}}"


def _configurations(places: Places, entities: Sequence[Entity]) -> dict[str, dict[str, Any]]:
    return dict(_each_configuration(places, entities))


def _each_configuration(places: Places, entities: Sequence[Entity]) -> Iterator[tuple[str, dict[str, Any]]]:
    device = identifier(f"{places.root}-{places.source}")
    for each in entities:
        yield (
            f"{places.prefix}/{each.component}/{device}/{each.key}/config",
            {
                "name": each.name,
                "unique_id": f"{device}-{each.key}",
                "state_topic": each.state_topic,
                "value_template": each.template,
                "availability_topic": f"{places.root}/status",
                "device": {"identifiers": [device], "name": places.source, "manufacturer": "Frameloom"},
                "origin": {"name": "Frameloom"},
                **each.more,
            },
        )


def identifier(text: str) -> str:
    """Return it in the signs that Home Assistant allows in topics; what had to be replaced stays different."""
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", text)
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
