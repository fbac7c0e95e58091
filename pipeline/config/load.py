"""Load the settings: defaults, then a file, then options, each later one winning; remember where each came from.

    loaded = load_settings(Path("config.yaml"), [Override("detect.model", "yolox-s", "--model")])
    loaded.settings.detect.model             'yolox-s'
    str(loaded.origins["detect.model"])      '--model'

Paths in a configuration are relative to the current directory, not to the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from pipeline.config.keys import Key, dotted, leaves, section_at
from pipeline.config.positions import BadYaml, Document, read_yaml, split_lines
from pipeline.config.problems import Origin, Problem, report
from pipeline.config.reasons import problem_of
from pipeline.config.secrets import lines_shown, option_shown, shown_at
from pipeline.config.section import Section
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError

MAX_BYTES = 1_000_000
"""A configuration has a few thousand; a video given by mistake should not be read to its end."""

DEFAULT = Origin("default")

_DEEPEST = 9  # no key has more dots; what follows them is an unknown key


class Override(NamedTuple):
    """A value that wins over the file: its dotted key, the value, and what to call it in messages.

    To change the path of a sink and keep its other keys, name the path: `sinks.record.path`, not `sinks.record`.
    """

    key: str
    value: object
    origin: str


@dataclass(frozen=True)
class Loaded:
    """The settings, and for each dotted key where its value came from."""

    settings: Settings
    origins: Mapping[str, Origin]


def load_settings(path: Path | None = None, overrides: Sequence[Override] = ()) -> Loaded:
    """Read the settings from a file (None: the defaults) and apply the overrides in order.

    Raises `ConfigError` whose text lists everything that is wrong.
    """
    text = _read(path) if path else ""
    document = _document(text, str(path))
    _expand_all(document)
    lines = lines_shown(split_lines(text), document.origins)
    for override in overrides:
        _apply(document, override)
        _expand_all(document)
    settings = _check(document)
    if document.problems or settings is None:
        raise ConfigError(report(document.problems, lines))
    return Loaded(settings, {dotted(key): document.origins.get(key, DEFAULT) for key, _, _ in leaves(settings)})


def parse_set(text: str) -> Override:
    """The `KEY=VALUE` of `--set`; the value is read as YAML, but a colour (#0b4) is text. Raises `ConfigError`."""
    key, equals, value = text.partition("=")
    origin = Origin(f"--set {option_shown(text)}")
    if not equals or not key.strip():
        raise _refusal(origin, "write KEY=VALUE, such as detect.confidence=0.4")
    if value.startswith("#"):
        return Override(key.strip(), value, origin.name)
    try:
        document = read_yaml(value, origin.name)
    except BadYaml as bad:
        raise _refusal(origin, bad.problem.text) from None
    if document.problems:
        raise _refusal(origin, *(problem.text for problem in document.problems))
    return Override(key.strip(), document.value, origin.name)


def parse_sources(texts: Sequence[str]) -> list[object]:
    """The values of `--source`: camera numbers, addresses, YAML files with a list of sources, or YAML: {url: 0}.

    Raises `ConfigError`.
    """
    sources: list[object] = []
    for text in texts:
        origin = Origin(f"--source {text}")
        value: object = text
        if text.isascii() and text.isdecimal():
            value = int(text)
        elif text.startswith(("{", "[{")):
            value = parse_set(f"sources={text}").value
        elif text.endswith((".yaml", ".yml")):
            value = _list_in(Path(text), origin)
        sources += value if isinstance(value, list) else [value]
    return sources


def _list_in(path: Path, origin: Origin) -> list[object]:
    text = _read(path)
    try:
        document = read_yaml(text, str(path))
    except BadYaml as bad:
        raise ConfigError(report([bad.problem], split_lines(text))) from None
    value = document.value
    if isinstance(value, dict) and list(value) == ["sources"]:
        value = value["sources"]
    if document.problems or not isinstance(value, list):
        raise _refusal(origin, "the file must be a list of sources, such as '- url: rtsp://camera/stream'")
    return value


def _read(path: Path) -> str:
    """The text of the file, in UTF-8."""
    origin = Origin(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refusal(origin, error.strerror or str(error)) from None
    except ValueError as error:  # a NUL in the name
        raise _refusal(origin, str(error)) from None
    if b"\0" in data:
        raise _refusal(origin, "a binary file, not a configuration in YAML")
    if len(data) > MAX_BYTES:
        raise _refusal(origin, f"over {MAX_BYTES} bytes, too large for a configuration")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _refusal(origin, f"byte 0x{data[error.start]:02x} in line {line} is not UTF-8") from None


def _refusal(origin: Origin, *texts: str) -> ConfigError:
    return ConfigError(report(Problem(origin, text) for text in texts))


def _document(text: str, name: str) -> Document:
    try:
        document = read_yaml(text, name)
    except BadYaml as bad:
        raise ConfigError(report([bad.problem], split_lines(text))) from None
    root = document.origins.setdefault((), Origin(name))
    if document.value is None:
        document.value = {}
    if not isinstance(document.value, dict):
        problem = Problem(root, "the file must be a mapping, such as 'max_frames: 100'", root.value)
        raise ConfigError(report([problem], split_lines(text)))
    return document


def _check(document: Document) -> Settings | None:
    """The settings, or None and more problems in the document."""
    try:
        return Settings.model_validate(document.value)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            key = details["loc"]
            if not any(key[:n] in document.unusable for n in range(len(key) + 1)):
                document.problems.append(problem_of(details, document.origins))
        return None


def _expand_all(document: Document) -> None:
    document.value = _expand(document.value, (), document.origins)


def _expand(value: object, key: Key, origins: dict[Key, Origin]) -> object:
    """Write short forms out (`record: a.mp4` -> `record: {path: a.mp4}`), so that options can name what is in them."""
    if isinstance(value, dict):
        return {name: _expand(child, (*key, name), origins) for name, child in value.items()}
    if isinstance(value, list):
        return [_expand(child, (*key, i), origins) for i, child in enumerate(value)]
    section = section_at(key)
    name = None if section is None else section.key_of(value)
    if name is None or value is None or isinstance(value, Section):
        return value
    long_key = (*key, name)
    origins[long_key] = origins[key]
    return {name: value}


def _apply(document: Document, override: Override) -> None:
    """Set one value; its place, and that of all below it, becomes the override's."""
    origin = Origin(override.origin)
    value = list(override.value) if isinstance(override.value, tuple) else override.value
    parts = override.key.split(".", maxsplit=_DEEPEST)
    try:
        key, document.value = _put(document.value, parts, value, ())
    except _NoSuchPlace as error:
        document.problems.append(Problem(origin, str(error)))
        return
    for below in [known for known in document.origins if known[: len(key)] == key]:
        del document.origins[below]
    for n, part in enumerate(key):
        if isinstance(part, int) or key[:n] not in document.origins:  # a list that was changed, a mapping that was made
            document.origins[key[:n]] = origin
    _mark(value, key, origin, document.origins)


class _NoSuchPlace(Exception):
    """An override names a place that cannot exist."""


def _put(here: object, parts: Sequence[str], value: object, at: Key) -> tuple[Key, object]:
    """The key that the parts stand for, and `here` with the value put there; what is missing is made."""
    if not parts:
        return at, value
    part, rest = parts[0], parts[1:]
    is_index = part.isdecimal() and len(part) < 10
    if here is None:
        here = [] if is_index else {}
    if isinstance(here, dict):
        key, child = _put(here.get(part), rest, value, (*at, part))
        return key, {**here, part: child}
    if not isinstance(here, list):
        raise _NoSuchPlace(f"{dotted(at)} is {shown_at(at, here)}, which has no key {part!r}")
    if not is_index or int(part) > len(here):
        raise _NoSuchPlace(f"{dotted(at)} is a list of {len(here)}: {part!r} must be 0..{len(here)}")
    i = int(part)
    key, child = _put(here[i] if i < len(here) else None, rest, value, (*at, i))
    return key, [*here[:i], child, *here[i + 1 :]]


def _mark(value: object, key: Key, origin: Origin, origins: dict[Key, Origin]) -> None:
    origins[key] = origin
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for name, child in value.items():
            _mark(child, (*key, name), origin, origins)
