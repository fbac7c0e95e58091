"""What sinks are made of the settings, and what is refused before any is."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.assemble_sinks import check_occasions, is_watched
from pipeline.config.load import Override, load_settings
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError

AREA = {"name": "door", "polygon": [[0, 0], [1, 0], [1, 1]]}
LINE = {"name": "gate", "line": [[0, 0], [1, 1]]}


def settings(**values: Any) -> Settings:
    return load_settings(None, [Override(key.replace("__", "."), value, key) for key, value in values.items()]).settings


@pytest.mark.parametrize(
    ("event", "zones", "missing"),
    [
        ("zone.enter", [], "an area under zones"),
        ("zone.*", [LINE], "an area under zones"),
        ("line.cross", [AREA], "a line under zones"),
        ("person.unknown", [AREA], "faces.gallery"),
    ],
)
def test_clips_of_what_cannot_happen_are_refused(event: str, zones: list[object], missing: str) -> None:
    with pytest.raises(ConfigError, match=f"clips.on: {event.replace('*', '.')} never happens without {missing}"):
        check_occasions(settings(clips__on=[event], zones=zones))


@pytest.mark.parametrize("event", ["zone.enter", "line.cross", "zone.speed", "person.unknown", "mine.alarm", "*"])
def test_clips_of_what_can_happen_are_not(event: str) -> None:
    check_occasions(settings(clips__on=event, zones=[AREA, LINE], faces__gallery="gallery.db"))


def test_a_line_alone_reports_speeds() -> None:
    check_occasions(settings(clips__on=["zone.speed"], zones=[LINE]))


@pytest.mark.parametrize(
    ("values", "watched"),
    [
        ({}, False),
        ({"sinks__events__path": "e.jsonl"}, False),
        ({"sinks__record__path": "o.mp4"}, True),
        ({"sinks__publish__url": "rtsp://host/live"}, True),
        ({"clips__on": ["zone.enter"]}, True),
        ({"clips__on": ["zone.enter"], "clips__pictures": "original"}, False),
    ],
)
def test_pictures_are_drawn_only_for_those_who_look_at_them(values: dict[str, object], watched: bool) -> None:
    assert is_watched(settings(**values)) is watched


def test_an_event_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(ConfigError, match=r"'zone.entered' is no event: those of zone are zone.enter, zone.leave"):
        settings(clips__on=["zone.entered"])


@pytest.mark.parametrize("values", [{"blur__what": "persons"}, {"blur": True}, {"blur__except": "known"}])
def test_who_says_how_people_are_hidden_wants_them_hidden(values: dict[str, object]) -> None:
    assert settings(**values).blur.enabled
    assert not settings(**values, blur__enabled=False).blur.enabled if "blur" not in values else True
