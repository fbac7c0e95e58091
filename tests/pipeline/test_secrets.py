"""No secret of a configuration is shown: neither in a message about it, nor in the line beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.keys import section_at
from pipeline.config.load import Override, load_settings, parse_set
from pipeline.config.secrets import ADDRESSES, SECRETS, place_of
from pipeline.errors import ConfigError


def message(tmp_path: Path, yaml: str, *options: str) -> str:
    file = tmp_path / "c.yaml"
    file.write_text(yaml)
    with pytest.raises(ConfigError) as raised:
        load_settings(file, [parse_set(option) for option in options])
    return str(raised.value)


@pytest.mark.parametrize("key", [*SECRETS, *ADDRESSES])
def test_what_is_marked_is_a_setting(key: tuple[str, ...]) -> None:
    section = section_at(key[:2])
    assert section is not None
    assert key[2] in section.keys()  # noqa: SIM118


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("mqtt: user:HUSH@broker", "sinks.mqtt.host: '***@broker' is no host"),
        ("webhook: hooks.example/services/HUSH", "sinks.webhook.url: 'hooks.example/***' is no address"),
        ("webhook: [https://hooks.example/HUSH]", "sinks.webhook: ['https://hooks.example/***'] is not text"),
        ("webhook: {url: 'https://h/HUSH', timeout_s: x}", "sinks.webhook.timeout_s: 'x' is not a number"),
        ("webhook: {url: https://h, headers: [X-Api-Key=HUSH], timeout_s: 0}", "timeout_s: 0 is too small"),
        ("webhook: {url: https://h, headers: ['K L=HUSH']}", "sinks.webhook.headers: *** must be headers"),
        ("webhook: {url: https://h, headers: [HUSH]}", "sinks.webhook.headers.0: *** must be NAME=VALUE"),
        ("webhook: {url: https://h, secrte: HUSH}", "unknown key 'secrte' in sinks.webhook; did you mean 'secret'?"),
        ("webhook: {url: https://h, secret: 4711}", "sinks.webhook.secret: *** is not text: put it in quotes"),
        ("mqtt: {host: h, user: u, password: [HUSH]}", "sinks.mqtt.password: *** is not text"),
        ("publish: {url: rtmp://live.example/app/HUSH, crf: 99}", "sinks.publish.crf: 99 is too large"),
        ("webhook: {url: https://h, headers: [X-Api-Key=HUSH]", "not valid YAML"),
    ],
)
def test_a_mistake_is_told_without_secrets(tmp_path: Path, yaml: str, says: str) -> None:
    text = message(tmp_path, f"sinks:\n  {yaml}\n")
    assert says in text
    assert "HUSH" not in text
    assert "4711" not in text


def test_every_other_sign_of_the_line_stays_in_place(tmp_path: Path) -> None:
    line = "  webhook: {url: 'https://h/HUSH', secret: HUSH, timeout_s: x}"
    _, shown, marked = message(tmp_path, f"sinks:\n{line}\n").splitlines()
    assert shown == "    2 | " + line.replace("'https://h/HUSH'", "*" * 16).replace("HUSH", "****")
    assert marked.index("^") == shown.index("x}")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("sinks.webhook.headers=5", "--set sinks.webhook.headers=***: sinks.webhook.headers: ***"),
        ("sinks.mqtt.password=[HUSH]", "--set sinks.mqtt.password=***"),
        ("sinks.webhook=hooks.example/HUSH", "--set sinks.webhook=hooks.example/***"),
        ("sinks={webhook: {url: https://h/HUSH, timeout_s: x}}", "--set sinks=***: sinks.webhook.timeout_s: 'x'"),
        ("sinks.webhook.url.x=1", "sinks.webhook.url is 'https://h/***', which has no key 'x'"),
    ],
)
def test_options_are_told_without_secrets(tmp_path: Path, option: str, says: str) -> None:
    text = message(tmp_path, "sinks: {webhook: 'https://h/HUSH', mqtt: {host: h, user: u}}", option)
    assert says in text
    assert "HUSH" not in text


def test_a_line_is_shown_without_secrets_where_an_option_has_replaced_them(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("sinks: {webhook: {url: https://h, secret: HUSH}, mqtt: {port: x, host: h}}")
    with pytest.raises(ConfigError) as raised:
        load_settings(file, [Override("sinks.webhook.secret", "other", "--secret")])
    assert "sinks.mqtt.port" in str(raised.value)
    assert "HUSH" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://hooks.example/services/T0/HUSH?x=http://y", "https://hooks.example/***"),
        ("https://ann:HUSH@hooks.example:8443/", "https://***@hooks.example:8443/"),
        ("https://ann:HU/SH@hooks.example", "https://***"),
        ("https://hooks.example?token=HUSH", "https://hooks.example/***"),
        ("hooks.example/HUSH", "hooks.example/***"),
        ("http:/hooks.example/HUSH", "http:/***"),
        ("broker", "broker"),
    ],
)
def test_only_the_place_of_an_address_is_shown(address: str, shown: str) -> None:
    assert place_of(address) == shown
