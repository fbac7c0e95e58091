"""Keys: which setting is at ("sources", 0, "name"), and which settings there are."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from pipeline.config.section import Section
from pipeline.config.settings import Settings

Key = tuple[str | int, ...]
"""The way from the whole to one value, () being the whole."""


def section_at(key: Key) -> type[Section] | None:
    """The model of the mapping at a key; None where there is none."""
    annotation: Any = Settings
    for part in key:
        if isinstance(part, int):
            annotation = get_args(annotation)[0] if get_origin(annotation) is tuple else None
        else:
            section = _section(annotation)
            field = section.keys().get(str(part)) if section else None
            annotation = field.annotation if field else None
    return _section(annotation)


def _section(annotation: Any) -> type[Section] | None:
    """The section that an annotation such as `RecordSettings | None` allows."""
    if get_origin(annotation) in (Union, UnionType):
        return next(filter(None, map(_section, get_args(annotation))), None)
    is_class = isinstance(annotation, type) and get_origin(annotation) is None
    return annotation if is_class and issubclass(annotation, Section) else None


def leaves(section: Section, at: Key = ()) -> Iterator[tuple[Key, object, FieldInfo]]:
    """Every single setting with its key, its value and its description."""
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), (*at, field.alias or name)
        if isinstance(value, Section):
            yield from leaves(value, key)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            for i, item in enumerate(value):
                yield from leaves(item, (*key, i))
        else:
            yield key, value, field


def dotted(key: Key) -> str:
    """The key as a person writes it: sources.0.name."""
    return ".".join(map(str, key))
