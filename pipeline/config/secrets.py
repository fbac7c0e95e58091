"""Which settings are secrets, and what may be shown of them. Whoever shows a setting asks here.

A secret is shown as ***. Of an address only scheme and host are shown: in the path of a webhook, or of a media server,
there is often the key to it. In a section that has secrets an unknown key may be one of them, written wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipeline.config.keys import Key, section_at
from pipeline.config.problems import Origin, shown

SECRETS: tuple[Key, ...] = (
    ("sinks", "mqtt", "password"),
    ("sinks", "webhook", "secret"),
    ("sinks", "webhook", "headers"),
)
ADDRESSES: tuple[Key, ...] = (
    ("sinks", "mqtt", "host"),  # where people write user:password@host
    ("sinks", "webhook", "url"),
    ("sinks", "publish", "url"),
)
SECTIONS = frozenset(key[:2] for key in (*SECRETS, *ADDRESSES))
HIDDEN = "***"
_ADDRESS = re.compile(r"([a-z][\w+.-]*://)?([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
"""Scheme, login and host, and the rest."""


def is_secret(key: Key) -> bool:
    """Whether nothing of a value may be shown."""
    if any(key[: len(secret)] == secret for secret in SECRETS):
        return True
    if len(key) < 3 or key[:2] not in SECTIONS or (section := section_at(key[:2])) is None:
        return False
    known = section.keys()
    return key[2] not in known


def is_address(key: Key) -> bool:
    """Whether only the place may be shown; also of a short form such as `webhook: ADDRESS`."""
    return key in SECTIONS or any(key[: len(address)] == address for address in ADDRESSES)


def shown_at(key: Key, value: object) -> str:
    """Return the value of a key as a person would write it, without what is secret."""
    if value is None or value == () or isinstance(value, Mapping):
        return shown(value)
    if is_secret(key):
        return HIDDEN
    if is_address(key) and isinstance(value, list | tuple):
        return f"[{', '.join(shown_at(key, each) for each in value)}]"
    return shown(place_of(value) if is_address(key) and isinstance(value, str) else value)


def place_of(address: str) -> str:
    """Return an address without login and path: https://hooks.example/***."""
    parts = _ADDRESS.fullmatch(address)
    assert parts is not None
    scheme, host, path = parts[1] or "", parts[2], parts[3]
    if "@" in path:  # of a path, or of a password with a slash
        return f"{scheme}{HIDDEN}"
    _, at, host = host.rpartition("@")
    return f"{scheme}{at and HIDDEN + at}{host}{'/' + HIDDEN if path.strip('/') else path}"


def option_shown(text: str) -> str:
    """Return a KEY=VALUE of an option without what is secret."""
    name, equals, value = text.partition("=")
    key = tuple(name.strip().split("."))
    holds = any(of[: len(key)] == key for of in SECTIONS)  # such as sinks={mqtt: {password: ...}}
    if not equals or not (holds or is_secret(key) or is_address(key)):
        return text
    return f"{name}{equals}{place_of(value) if is_address(key) and '{' not in value else HIDDEN}"


def lines_shown(lines: Sequence[str], origins: Mapping[Key, Origin]) -> list[str]:
    """Return the lines of a file with * in place of what is secret, every other sign where it was."""
    hidden = list(lines)
    for key, origin in origins.items():
        span = origin.value
        if span is None or key in SECTIONS or not (is_secret(key) or is_address(key)):
            continue
        line = hidden[span.line]
        end = len(line) if span.end is None else span.end
        text = line[span.column : end]
        if is_secret(key) or place_of(text.strip("'\"")) != text.strip("'\""):
            hidden[span.line] = line[: span.column] + "*" * len(text) + line[end:]
    return hidden
