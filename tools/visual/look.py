"""Looking: a folder of pictures goes through a network, and what excites its channels most is cut out of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.arrays import Image
from pipeline.capture.images import read_image
from pipeline.errors import ConfigError
from tools.visual import sheet
from tools.visual.layers import Layer, Network, run
from tools.visual.pictures import Filling, cut, fill
from tools.visual.strongest import Place, Strongest

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """What is to be shown."""

    layer: str
    channels: int | None = None
    """How many, the most active first; None: all, in their order."""
    patch: int | None = None
    """Side of the patches, in pixels of the input; None: the receptive field."""


@dataclass
class Shown:
    """What was found."""

    network: Network
    layer: Layer
    pictures: list[Path]
    """Those that were looked at."""
    fillings: list[Filling]
    """How each of them was put into the input."""
    unreadable: list[Path]
    channels: dict[int, list[Place]] = field(default_factory=dict)
    """The strongest places of each channel that is shown; `picture` counts in `pictures`."""
    patch: int | None = None
    """Side of the patches; None: the field."""

    def box(self, place: Place) -> tuple[int, int, int, int]:
        """Return what is cut out: x1, y1, x2, y2 in pixels of the input; at most all of it, where the field decides."""
        height, width = self.network.input_size
        if self.layer.field is None:
            return 0, 0, width, height
        y1, y2 = self._span(0, place.row)
        x1, x2 = self._span(1, place.column)
        return x1, y1, x2, y2

    def mark(self, place: Place) -> tuple[float, float] | None:
        """Return the middle (x, y) of a field, where all of the input is shown; None: it is not, or there is none."""
        if self.layer.field is None or self.box(place)[2:] != self.network.input_size[::-1]:
            return None
        top, left = (each.middle(unit) for each, unit in zip(self.layer.field, (place.row, place.column), strict=True))
        return left, top

    def _span(self, axis: int, unit: int) -> tuple[int, int]:
        assert self.layer.field is not None
        side, field_of = self.network.input_size[axis], self.layer.field[axis]
        if self.patch is not None:
            start = round(field_of.middle(unit) - self.patch / 2)
            return start, start + self.patch
        first, last = field_of.of(unit)
        start, end = math.floor(first), math.ceil(last) + 1
        return (0, side) if end - start >= side else (start, end)


def look(
    network: Network, files: Sequence[Path], wanted: Wanted, progress: Progress = lambda done, total: None
) -> Shown:
    """Find the pictures that excite the channels of a layer most.

    Raises:
        ConfigError: there is no such layer, it has too many channels for a sheet, or no picture can be read.
    """
    layer = network.layer(wanted.layer)
    sheet.check_count(min(layer.channels, wanted.channels or layer.channels))
    engine = network.up_to(layer)
    strongest = Strongest(layer, network.input_size)
    shown = Shown(network, layer, [], [], [], patch=wanted.patch)
    try:
        for number, file in enumerate(files, start=1):
            picture = read_image(file)
            if picture is None:
                shown.unreadable.append(file)
            else:
                filled, filling = fill(picture, network.input_size)
                strongest.add(len(shown.pictures), run(engine, layer, filled))
                shown.pictures.append(file)
                shown.fillings.append(filling)
            progress(number, len(files))
    finally:
        engine.close()
    if not shown.pictures:
        raise ConfigError(f"--images: not one of the {len(files)} pictures can be read, such as {files[0]}")
    shown.channels = {channel: strongest.of(channel) for channel in strongest.most_active(wanted.channels)}
    if not any(shown.channels.values()):
        raise ConfigError(
            f"--layer {layer.name}: not one of its channels is excited by one of the {len(shown.pictures)} pictures "
            "more than by the others: more pictures may, or the model is fed wrongly (--colour, --mean, --std)"
        )
    return shown


def draw(shown: Shown) -> Image:
    """Draw the sheet. Each picture is read once more, and all that is wanted is cut out of it.

    Raises:
        ConfigError: a picture has gone.
    """
    by_picture: dict[int, list[tuple[int, int, Place]]] = {}
    for channel, places in shown.channels.items():
        for rank, place in enumerate(places):
            by_picture.setdefault(place.picture, []).append((channel, rank, place))
    side = sheet.patch_side(len(shown.channels))
    tiles: dict[tuple[int, int], Image] = {}
    for number, wanted in sorted(by_picture.items()):
        picture = read_image(shown.pictures[number])
        if picture is None:
            raise ConfigError(f"{shown.pictures[number]} cannot be read any more")
        filled, _ = fill(picture, shown.network.input_size)
        for channel, rank, place in wanted:
            tiles[channel, rank] = _tile(shown, filled, place, side)
    blocks = [
        sheet.Block(
            channel, tuple(tiles[channel, rank] for rank in range(len(places))), tuple(each.value for each in places)
        )
        for channel, places in shown.channels.items()
    ]
    return sheet.draw(_title(shown), blocks)


def _tile(shown: Shown, filled: Image, place: Place, side: int) -> Image:
    return sheet.tile(cut(filled, shown.box(place), sheet.OUTSIDE), shown.mark(place), side)


def _title(shown: Shown) -> list[str]:
    layer = shown.layer
    part = "" if shown.patch is None or layer.field is None else f"; {shown.patch} around their middle are shown"
    return [
        f"{shown.network.spec.name}, layer {layer.name} ({layer.operator}): {len(shown.channels)} of {layer.channels} "
        f"channels, {len(shown.pictures)} pictures",
        f"{layer.describe()}{part}",
    ]


def as_dict(shown: Shown) -> dict[str, Any]:
    """Return which patches these are; boxes in pixels of each picture, as far as they lie in it."""
    seen = shown.layer.field
    return {
        "model": shown.network.spec.name,
        "layer": shown.layer.name,
        "shape": list(shown.layer.shape),
        "field": seen and [each.side for each in seen],
        "step": seen and [each.step for each in seen],
        "input": list(shown.network.input_size),
        "pictures": len(shown.pictures),
        "unreadable": [str(file) for file in shown.unreadable],
        "channels": [
            {"channel": channel, "patches": [_as_dict(shown, place) for place in places]}
            for channel, places in shown.channels.items()
        ],
    }


def _as_dict(shown: Shown, place: Place) -> dict[str, Any]:
    height, width = shown.network.input_size
    x1, y1, x2, y2 = shown.box(place)
    inside = (max(0, x1), max(0, y1), min(width, x2), min(height, y2))
    box = shown.fillings[place.picture].to_picture(inside)
    return {
        "picture": str(shown.pictures[place.picture]),
        "box": [round(value, 1) for value in box],
        "value": place.value,
    }
