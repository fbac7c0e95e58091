"""What is wrong with a setting, in words: the value, the reason, the nearest valid value, and [what is wanted].

    detect.confidence: 1.4 is too large: at most 1 [number 0..1]

pydantic finds the mistakes; what a key takes is read from the JSON schema of its section.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

from pipeline.config.keys import Key, dotted, leaves, section_at
from pipeline.config.problems import Origin, Problem
from pipeline.config.secrets import HIDDEN, is_secret, shown_at
from pipeline.config.section import Section
from pipeline.config.settings import Settings

_SHOWN = 60  # characters of a long value that are shown


def problem_of(details: ErrorDetails, origins: Mapping[Key, Origin]) -> Problem:
    """What pydantic found, in our words and with its place; `origins` has the root key ()."""
    key = details["loc"]
    place = next(key[:n] for n in range(len(key), -1, -1) if key[:n] in origins)
    origin = origins[place]
    if details["type"] == "extra_forbidden":
        return Problem(origin, _unknown_key(key), origin.key)
    if details["type"] == "missing":
        return Problem(origin, _missing(key), origin.value)
    value = shown_at(key, details["input"])
    value = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
    if is_secret(key) and details["type"] == "tuple_type":
        details = {**details, "input": HIDDEN}  # which the reason repeats
    return Problem(origin, f"{dotted(place)}: {value} {_reason(details)}", origin.value)


def _unknown_key(key: Key) -> str:
    *parents, name = key
    section = section_at(tuple(parents))
    names = list(section.keys()) if section else []
    text = f"unknown key {str(name)!r}" + (f" in {dotted(tuple(parents))}" if parents else "")
    if near := nearest(name, names):
        return f"{text}; did you mean {near!r}?"
    if elsewhere := [dotted(known) for known, _, _ in leaves(Settings()) if known[-1] == name]:
        return f"{text}; did you mean {' or '.join(elsewhere)}?"
    return f"{text}; the keys are {', '.join(names)}"


def _missing(key: Key) -> str:
    *parents, name = key
    if isinstance(name, int):
        return f"{dotted(tuple(parents))}: too few values {_wanted(key)}"
    return f"{dotted(tuple(parents))}: the key {name!r} is missing"


def nearest(value: object, choices: Iterable[object]) -> str | None:
    """The choice that was probably meant."""
    names = {str(choice).lower(): str(choice) for choice in choices}
    near = get_close_matches(str(value).lower(), names, 1)
    return names[near[0]] if near else None


_NOUNS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "path_type": "a path",
    "address_type": "a camera number, file or address",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than_equal": "is too small: at least {ge}",
    "greater_than": "is too small: more than {gt}",
    "less_than_equal": "is too large: at most {le}",
    "less_than": "is too large: less than {lt}",
    "finite_number": "is not finite",
    "string_too_short": "is empty",
    "string_pattern_mismatch": "has other characters than letters, digits, _ . -",
    "too_short": "has {actual_length} values: at least {min_length}",
    "too_long": "has {actual_length} values: at most {max_length}",
}


def _reason(details: ErrorDetails) -> str:
    """What is wrong with a value, to be read after the value."""
    kind, key, value = details["type"], details["loc"], details["input"]
    if kind == "model_type" and (section := section_at(key)):
        return f"is not a mapping [{', '.join(section.keys())}]"
    if kind == "tuple_type" and "anyOf" in _property(key):
        return f"is none of these {_wanted(key)}"
    if kind in _NOUNS:
        return f"{_mismatch(kind, value)} {_wanted(key)}"
    if kind in _BOUNDS:
        limits = {
            name: f"{limit:g}" for name, limit in details.get("ctx", {}).items() if isinstance(limit, int | float)
        }
        return f"{_BOUNDS[kind].format(**limits)} {_wanted(key)}"
    if kind == "multiple_of":
        step = int(details["ctx"]["multiple_of"])
        return f"is no multiple of {step}: the nearest is {max(1, round(value / step)) * step} {_wanted(key)}"
    if kind == "literal_error":
        return f"{_no_choice(value, _property(key).get('enum', ()))} {_wanted(key)}"
    return details["msg"]


def _mismatch(kind: str, value: object) -> str:
    """Why a value has the wrong type, with the most likely way out."""
    noun = _NOUNS[kind]
    if value is None:
        return f"is not {noun}: leave the key out for its default"
    if kind in ("string_type", "path_type", "address_type"):
        if isinstance(value, bool):
            return f"is not {noun}: YAML reads on, off, yes and no as true or false; put it in quotes"
        if isinstance(value, int | float):
            return f"is not {noun}: put it in quotes"
    if kind == "tuple_type" and isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"is not a list: write [{value}]"
    if isinstance(value, str) and (plain := _without_quotes(kind, value)):
        return f"is text: write {plain} without quotes"
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f"is not {noun}: write {int(value)}"
    return f"is not {noun}"


def _without_quotes(kind: str, text: str) -> str | None:
    """What a text in quotes should have been, if it is a value of that kind."""
    if kind == "bool_type":
        return text.lower() if text.lower() in ("true", "false", "yes", "no", "on", "off") else None
    pattern = {"int_type": r"[+-]?\d{1,15}", "float_type": r"[+-]?\d{1,15}(\.\d*)?(e[+-]?\d{1,2})?"}.get(kind)
    if pattern is None or not re.fullmatch(pattern, text, re.ASCII | re.IGNORECASE):
        return None
    return str(float(text)) if "e" in text.lower() else text  # YAML 1.1 reads 1e3 as text


def _no_choice(value: object, choices: Iterable[object]) -> str:
    if isinstance(value, str) and value in {str(choice) for choice in choices}:
        return f"is text: write {value} without quotes"
    near = nearest(value, choices)
    return "is not one of the choices" + (f"; did you mean {near!r}?" if near else "")


def _wanted(key: Key) -> str:
    """What a key takes, in brackets: [number 0..1]."""
    return f"[{describe(_property(key))}]"


def _property(key: Key) -> dict[str, Any]:
    """The JSON schema of the setting that a key is, or is a part of."""
    for n in range(len(key) - 1, -1, -1):
        if isinstance(key[n], str) and (section := section_at(key[:n])):
            schema = _properties(section).get(key[n], {})
            return schema.get("items", schema) if key[n + 1 :] else schema
    return {}


@cache
def _properties(section: type[Section]) -> dict[Any, dict[str, Any]]:
    schema = section.model_json_schema()
    forms = [schema, *schema.get("anyOf", ())]
    return next((form["properties"] for form in forms if "properties" in form), {})


def describe(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "enum" in schema:
        return "|".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(describe, schema["anyOf"])))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _describe_number(schema)
    if kind == "array":
        return f"list of {len(schema['prefixItems'])}" if "prefixItems" in schema else "list"
    names = {"string": schema.get("format", "text"), "boolean": "true|false", "null": "null"}
    return str(names.get(str(kind), "mapping"))


def _describe_number(schema: Mapping[str, Any]) -> str:
    noun = "whole number" if schema["type"] == "integer" else "number"
    low, over, high, under = (
        schema.get(name) for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
    )
    top = f" to {high}" if high is not None else f" to under {under}" if under is not None else ""
    if low is not None:
        noun += f" {low}..{high}" if high is not None else f" from {low}{top}"
    elif over is not None:
        noun += f" over {over}{top}"
    return noun + (f" in steps of {schema['multipleOf']}" if "multipleOf" in schema else "")
