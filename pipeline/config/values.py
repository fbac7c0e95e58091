"""The kinds of values that settings have, and what is checked about a single one.

A check raises `wrong("must end in .mp4")`; the text follows the value in the message: "'out.avi' must end in .mp4".
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import InitErrorDetails, PydanticCustomError

from pipeline.event_names import EVENTS


def wrong(text: str) -> PydanticCustomError:
    """An error about the value being checked."""
    return PydanticCustomError("frameloom", text)


def wrong_at(key: tuple[str | int, ...], value: object, text: str) -> InitErrorDetails:
    """An error about a value below the one being checked."""
    return InitErrorDetails(type=wrong(text), loc=key, input=value)


def _list(value: object) -> object:
    return () if value is None else value


def _texts(value: object) -> object:
    return (value,) if isinstance(value, str) else _list(value)


def _sides(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


def _no_bool(value: object) -> object:
    if isinstance(value, bool):  # to Python, False is 0, which is a choice
        raise PydanticCustomError("literal_error", "is not one of the choices")
    return value


def _address(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PydanticCustomError("address_type", "is no camera number, file or address")
    if isinstance(value, str):
        return value if "://" in value else _file(value)
    if value < 0:
        raise wrong("is no camera: the first one is 0")
    return value


def _file(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip() or "\0" in value:
        raise wrong("names no file")
    return os.path.expanduser(value)


def _no_folder(path: Path) -> Path:
    if os.path.isdir(path):
        raise wrong("is a folder: name a file in it")
    return path


def _mp4(path: Path) -> Path:
    if path.suffix.lower() != ".mp4":
        raise wrong("must end in .mp4")
    return path


def _json(path: Path) -> Path:
    if path.suffix.lower() != ".json":
        raise wrong("must end in .json")
    return path


def _folder(path: Path) -> Path:
    if os.path.isfile(path):
        raise wrong("is a file: name a folder")
    return path


def _event(name: str) -> str:
    if not re.fullmatch(r"[\w-]+(\.([\w-]+|\*))?|\*", name):
        raise wrong("names no event: write one such as zone.enter, or all of a kind such as zone.*")
    kind, _, what = name.partition(".")
    ours = [event for event in EVENTS if event.startswith(f"{kind}.")]
    if ours and what not in ("", "*") and name not in ours:
        raise wrong(f"is no event: those of {kind} are {', '.join(ours)}")
    return name


def _option(text: str) -> str:
    if not text.partition("=")[0].strip() or "=" not in text:
        raise wrong("must be NAME=VALUE")
    return text


def _tiles(value: object) -> object:
    """Read `auto`, `2x3` (rows, columns) or 640 (the side of a tile)."""
    if value in ("auto", None):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and TILE_SIDE <= value <= LARGEST_TILE_SIDE:
        return value
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,3})x(\d{1,3})", value, re.ASCII | re.IGNORECASE)):
        rows, columns = int(found[1]), int(found[2])
        if not (rows and columns):
            raise wrong(f"has {rows} rows and {columns} columns: write at least 1 of each, such as 2x3")
        if 1 <= rows * columns <= MOST_TILES:
            return rows, columns
    sides = f"{TILE_SIDE}..{LARGEST_TILE_SIDE}"
    raise wrong(f"must be auto, ROWSxCOLUMNS such as 2x3 (at most {MOST_TILES} in all), or a side in pixels, {sides}")


Text = Annotated[str, Field(min_length=1)]
SourceName = Annotated[str, Field(pattern=r"^[\w.-]+$")]
Address = Annotated[int | str, BeforeValidator(_address)]
"""A camera number, or a file, a glob or a URL; a leading ~ of a file is expanded."""

FilePath = Annotated[Path, Field(strict=False), AfterValidator(_no_folder), BeforeValidator(_file)]
FolderPath = Annotated[Path, Field(strict=False), AfterValidator(_folder), BeforeValidator(_file)]
VideoPath = Annotated[FilePath, AfterValidator(_mp4)]
JsonPath = Annotated[FilePath, AfterValidator(_json)]

Rotation = Annotated[Literal["auto", 0, 90, 180, 270], BeforeValidator(_no_bool)]
X264Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
]

Texts = Annotated[
    tuple[Text, ...], Field(strict=False), BeforeValidator(_texts, json_schema_input_type=Text | list[Text])
]
"""A list of texts; a single one may stand alone."""

Options = Annotated[
    tuple[Annotated[Text, AfterValidator(_option)], ...],
    Field(strict=False),
    BeforeValidator(_texts, json_schema_input_type=Text | list[Text]),
]
"""A list of NAME=VALUE."""

_EventName = Annotated[str, AfterValidator(_event)]
EventNames = Annotated[
    tuple[_EventName, ...], Field(strict=False), BeforeValidator(_texts, json_schema_input_type=str | list[str])
]
"""What events are called, `zone.enter`; `zone.*` and `*` stand for several, and your own stages may have others."""

_Number = Annotated[float, Field(allow_inf_nan=False)]
Point = Annotated[tuple[_Number, _Number], Field(strict=False)]
"""x and y."""

_GroundPoint = Annotated[tuple[_Number, _Number, _Number, _Number], Field(strict=False)]
Ground = Annotated[tuple[_GroundPoint, ...], Field(strict=False, min_length=4)]
"""x and y in the picture, and the same place on the ground in metres, four times or more."""

_Place = Annotated[int, Field(ge=0)]
_Length = Annotated[int, Field(ge=1)]
Crop = Annotated[tuple[_Place, _Place, _Length, _Length], Field(strict=False)]
"""Left, top, width and height in pixels."""

Rung = Literal["stylize", "segment", "detect_every_2", "detect_every_3", "smaller_model"]
Ladder = Annotated[tuple[Rung, ...], Field(strict=False)]
"""What to do without, in this order, where the machine is too slow."""

_Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
InputSize = Annotated[
    tuple[_Side, _Side],
    Field(strict=False),
    BeforeValidator(_sides, json_schema_input_type=_Side | tuple[_Side, _Side]),
]
"""Height and width in pixels; one number stands for both."""

_AnySide = Annotated[int, Field(ge=32, le=4096)]
AnyInputSize = Annotated[
    tuple[_AnySide, _AnySide],
    Field(strict=False),
    BeforeValidator(_sides, json_schema_input_type=_AnySide | tuple[_AnySide, _AnySide]),
]
"""The same, for models that halve their input in other steps."""

TILE_SIDE, LARGEST_TILE_SIDE, MOST_TILES = 32, 8192, 256
Tiles = Annotated[
    Literal["auto"] | int | tuple[int, int],
    BeforeValidator(
        _tiles, json_schema_input_type=str | Annotated[int, Field(ge=TILE_SIDE, le=LARGEST_TILE_SIDE)] | None
    ),
]
"""How a large picture is cut: automatically, by the side of a tile in pixels, or in rows and columns."""

EmptyIsNone = BeforeValidator(_list)
"""A list left empty in YAML (`sources:`) is null there: read it as no entries."""
