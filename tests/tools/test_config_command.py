"""`frameloom config`, run as a program in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from pipeline.config.keys import dotted, leaves
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from tools.config import app


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


class Outcome(NamedTuple):
    exit_code: int
    stdout: str
    exception: BaseException | None


def run(*arguments: str) -> Outcome:
    result = CliRunner().invoke(app, list(arguments))
    return Outcome(result.exit_code, result.stdout, result.exception)


def test_check_says_ok() -> None:
    Path("my.yaml").write_text("max_frames: 3")
    result = run("check", "my.yaml")
    assert result == Outcome(0, "my.yaml: ok\n", None)


def test_check_without_a_name_takes_config_yaml() -> None:
    Path("config.yaml").write_text("max_frames: 3")
    assert run("check").stdout == "config.yaml: ok\n"


def test_check_raises_what_is_wrong_for_the_program_to_show() -> None:
    Path("my.yaml").write_text("max_frames: x")
    result = run("check", "my.yaml")
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("my.yaml:1:13: max_frames: 'x' is not a whole number")


def test_explain_shows_every_value_and_its_origin_in_80_columns() -> None:
    Path("my.yaml").write_text("sources: ['rtsp://u:secret@h/x']\nsinks: {record: a.mp4, window: on, frames: f}\n")
    result = run("explain", "my.yaml", "--set", "detect.iou=0.6", "--set", "sinks.frames.quality=75")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    rows = {
        line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line[2:3].strip() and "." in line.split()[0]
    }
    assert rows["sinks.frames.quality"].split() == ["75", "--set"]
    assert rows["sinks.record.path"].split() == ["'a.mp4'", "my.yaml:2:9"]
    assert rows["detect.class_agnostic"].split() == ["false", "default"]
    assert "secret" not in result.stdout


def test_explain_shows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    Path("my.yaml").write_text(
        "sinks:\n  webhook: {url: https://hooks.example/T0/HUSH, headers: [X-Api-Key=HUSH], secret: HUSH}\n"
        "  publish: rtmp://live.example/app/HUSH\n  mqtt: {host: broker, user: ann, password: HUSH}\n"
    )
    text = run("explain", "my.yaml", "--set", "sinks.webhook.secret=HUSH").stdout
    assert "HUSH" not in text
    values = {line.split()[0]: line.split()[1] for line in text.splitlines() if line.startswith("  sinks.")}
    assert values["sinks.webhook.headers"] == values["sinks.webhook.secret"] == values["sinks.mqtt.password"] == "***"
    assert values["sinks.mqtt.host"] == "'broker'"
    assert values["sinks.webhook.url"] == "'https://hooks.example/***'"
    assert values["sinks.publish.url"] == "'rtmp://live.example/***'"


def test_explain_without_a_file_shows_the_defaults_with_their_meaning() -> None:
    result = run("explain")
    words = " ".join(result.stdout.split())
    for key, _, field in leaves(Settings()):
        assert f" {dotted(key)} " in words
        assert field.description
        assert field.description.split()[0] in words


def test_explain_shows_brackets_as_they_are() -> None:
    assert "['[red]x']" in run("explain", "--set", "detect.classes='[red]x'").stdout


def test_a_wrong_set_is_raised() -> None:
    assert "write KEY=VALUE" in str(run("explain", "--set", "x").exception)


def test_schema_is_json_schema_with_the_descriptions() -> None:
    schema = json.loads(run("schema").stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == set(Settings.model_fields)
    sections = [form for section in schema["$defs"].values() for form in (section, *section.get("anyOf", ()))]
    properties = [field for section in sections for field in section.get("properties", {}).values()]
    assert len(properties) > 40
    assert all(field["description"] for field in properties)
