"""Zones and grounds that cannot be are refused before a run, with the place in the file where there is one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from pipeline.capture.source import SourceInfo
from pipeline.config.load import load_settings
from pipeline.errors import ConfigError
from pipeline.postprocess.zones.stage import WatchZones
from tests.pipeline.zones.scenes import INFO, Thing, make_frame, names, run, square, zone

MISTAKES = {
    "polygon: [[0, 0], [1, 1]]": "polygon: [[0, 0], [1, 1]] cannot be zone 'door': it has 2 corners",
    "polygon: [[0, 0], [9, 9], [9, 0], [0, 9]]": "it crosses or touches itself where its edges [0, 0]-[9, 9] and",
    "polygon: [[0, 0], [9, 0], [9, 9], [0, 0]]": "it ends with its first corner, [0, 0]",
    "polygon: [[0, 0], [9, 0], [5, 0]]": "it encloses no area",
    "polygon: [[0, 0], [9, 0], [9, -9]]": "it has the point [9, -9], which is outside",
    "polygon: [[0, 0], [9, 0], [.nan, 9]]": "nan is not finite",
    "line: [[3, 3], [3, 3]]": "line: [[3, 3], [3, 3]] cannot be zone 'door': it has no length",
    "line: [[3, 3], [.inf, 3]]": "inf is not finite",
    "{line: [[3, 3], [4, 3]], units: relative}": "units: 'relative' does not fit [4, 3] of zone 'door'",
    "{line: [[3, 3], [4, 3]], dwell_s: 3}": "dwell_s: 3 needs a polygon: nothing is inside zone 'door'",
    "{line: [[3, 3], [4, 3]], max_objects: 3}": "max_objects: 3 needs a polygon",
    "{line: [[3, 3], [4, 3]], polygon: [[0, 0], [9, 0], [9, 9]]}": "it needs a polygon or a line",
    "source: cam": "it needs a polygon or a line",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_zone_that_cannot_be_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    keys = text if text.startswith("{") else f"{{{text}}}"
    path = tmp_path / "config.yaml"
    path.write_text(f"zones:\n  - {{name: door, {keys[1:]}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    message = str(caught.value)
    assert MISTAKES[text] in message
    assert message.startswith(f"{path}:2:")


def test_a_ground_that_cannot_be_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("sources:\n  - {url: a, ground: [[0, 0, 0, 0], [9, 0, 1, 0], [18, 0, 2, 0], [0, 9, 0, 1]]}\n")
    with pytest.raises(ConfigError, match=r"config.yaml:2:.*ground: .* does not say where the ground is"):
        load_settings(path)
    path.write_text("sources:\n  - {url: a, ground: [[0, 0, 0, 0], [9, 0, 1, 0], [18, 9, 2, 0]]}\n")
    with pytest.raises(ConfigError, match="has 3 values: at least 4"):
        load_settings(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "camm"}, "zones: yard is for 'camm', which is no source: did you mean 'cam'?"),
        ({"source": ("cam", "xyz")}, "zones: yard is for 'xyz', which is no source: there are 'cam', 'gate'"),
        (
            {"polygon": ((0, 0), (641, 0), (641, 300))},
            "zones: yard has the point [641, 0], which is outside the pictures, 640 x 480, of cam",
        ),
        (
            {"line": ((0, 0), (300, 480.5)), "polygon": None},
            "zones: yard has the point [300, 480.5], which is outside the pictures, 640 x 480, of cam",
        ),
        (
            {"polygon": ((0, 0), (400, 0), (400, 300)), "source": "gate"},
            "zones: yard has the point [400, 0], which is outside the pictures, 320 x 240, of gate",
        ),
    ],
)
def test_a_zone_that_does_not_fit_the_sources_is_refused(settings: dict[str, Any], message: str) -> None:
    gate = SourceInfo("gate", "gate", width=320, height=240)
    made = zone(**({"polygon": ((0, 0), (9, 0), (9, 9))} | settings))
    with pytest.raises(ConfigError) as caught:
        WatchZones([made], {}, [INFO, gate])
    assert str(caught.value) == message
    assert caught.value.request_was_wrong


def test_a_zone_up_to_the_last_edge_of_the_picture_fits() -> None:
    WatchZones([zone(polygon=((0, 0), (640, 0), (640, 480)))], {}, [INFO])


def test_a_zone_outside_of_a_stream_whose_size_was_not_known_is_a_warning_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    far = zone(name="far", polygon=((600, 0), (900, 0), (900, 300)))
    watching = WatchZones([far, square()], {}, [SourceInfo("cam", "rtsp://cam", live=True)])
    with caplog.at_level(logging.WARNING):
        events = run(watching, [make_frame([Thing(1, 300, 300)], i / 10) for i in range(5)])
    expected = (
        "zones: far has the point [900, 0], which is outside the pictures, 640 x 480, of cam: nothing is seen there"
    )
    assert [record.getMessage() for record in caplog.records] == [expected]
    assert names(events) == ["zone.enter"]


def test_a_ground_that_does_not_come_from_a_file_is_refused_too() -> None:
    flat = tuple((float(i), 0.0, float(i), 0.0) for i in range(4))
    with pytest.raises(ConfigError, match="sources: cam: ground does not say where the ground is"):
        WatchZones([], {"cam": flat}, [INFO])
