"""Options that the commands of `frameloom engines` share: they say how a run opens its models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.cuda.driver import DEVICES
from pipeline.config.load import Override, load_settings, parse_set
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.settings import Settings

STEP = 32
"""What sides of a detector's input are multiples of; models that segment or stylize take others, such as 360x640."""
ConfigOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Configuration of the run that they are for. Default: all defaults.")
]
SetsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any other key of the configuration.")
]
BatchOption = Annotated[
    int | None,
    typer.Option(min=1, max=256, help="Most pictures at once. Default: the configuration's, else what suits it."),
]
DeviceOption = Annotated[str | None, typer.Option(help="Which GPU, such as cuda:1. Default: the first.")]
InputSizeOption = Annotated[
    str | None,
    typer.Option(metavar="SIDE|HxW", help="Of the model's input. Default: the configuration's, else the model's own."),
]


def settings_of(config: Path | None, sets: Sequence[str] | None, engine: Mapping[str, object]) -> Settings:
    """Return the settings of the run that engines are for.

    Args:
        config: the configuration's file; None: the defaults.
        sets: each KEY=VALUE.
        engine: values of options that stand for `engine.NAME`; None where the option was not given.

    Raises:
        ConfigError: the file or an option is wrong, or the device is neither a GPU nor the CPU.
    """
    overrides = [Override(f"engine.{key}", value, f"--{key}") for key, value in engine.items() if value is not None]
    settings = load_settings(config, [*overrides, *(parse_set(text) for text in sets or ())]).settings
    device = settings.engine.device
    if device.lower() != "cpu" and DEVICES.fullmatch(device.strip().lower()) is None:
        raise ConfigError(f"engine.device: {device!r} is no device: say auto, cpu, or a GPU's index such as cuda:1")
    return settings


def input_size_of(text: str | None, *, any_step: bool = False) -> tuple[int, int] | None:
    """Return the height and width that `--input-size` gives: 640 or 384x640; as strict as `detect.input_size`.

    Args:
        text: what was given; None: nothing was.
        any_step: whether sides need not be multiples of `STEP`; whoever knows the model then asks `refuse_uneven`.

    Raises:
        ConfigError: it is no size that models take.
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() for side in sides):
        raise ConfigError(f"--input-size {text}: write the side or HEIGHTxWIDTH in pixels, such as 640 or 384x640")
    value = [-(-int(side) // STEP) * STEP if any_step else int(side) for side in sides]
    override = Override("detect.input_size", value[0] if len(value) == 1 else value, f"--input-size {text}")
    size = load_settings(None, [override]).settings.detect.input_size
    return (int(sides[0]), int(sides[-1])) if any_step else size


def refuse_uneven(size: tuple[int, int] | None) -> None:
    """Refuse a height and width that `detect.input_size` may not be, for a model that finds boxes.

    Raises:
        ConfigError: with the nearest that would do.
    """
    if size is not None and any(side % STEP for side in size):
        near = "x".join(str(max(1, round(side / STEP)) * STEP) for side in size)
        raise ConfigError(
            f"--input-size {size[0]}x{size[1]}: models that find boxes take multiples of {STEP}: the nearest is {near}"
        )
