"""`frameloom visualize`: what a network has learnt, shown by the parts of pictures that excite its channels most.

A picture is scaled until it fills the network's input; the network runs up to the layer, in fp32 by ONNX Runtime; of
each channel the nine pictures that excite it most are kept, and of each what that unit sees: its receptive field, which
follows from the graph. Ideas and sources: `tools.visual.strongest` and `tools.visual.fields`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from pipeline.capture.images import find_images
from pipeline.errors import ConfigError
from tools.engines.options import input_size_of
from tools.inspect_options import given, triple
from tools.sheets import save_sheet
from tools.targets import check_targets
from tools.terminal import Output, bar, say

if TYPE_CHECKING:
    from tools.visual.layers import Network
    from tools.visual.look import Shown

PNG = ".png"
NAMES_SHOWN = 3
TABLE_WIDTH = 160
"""Letters: names of layers are long, and one that is folded cannot be copied."""


def visualize(
    model: Annotated[str, typer.Option(help="Name of a known model, an ONNX file, or a PyTorch network (.pt2, .pt).")],
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Of pictures; the more, the clearer.")] = None,
    layer: Annotated[str | None, typer.Option(metavar="NAME", help="Whose channels are shown.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Where the sheet is written.")] = None,
    list_layers: Annotated[bool, typer.Option("--list-layers", help="List the layers with their shapes.")] = False,
    channels: Annotated[
        int | None, typer.Option(min=1, help="Show the so many most active channels. Default: all.")
    ] = None,
    patch: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Side of the patches, pixels. Default: the receptive field.")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(metavar="SIDE|HxW", help="Of the model's input. Default: the model's own.")
    ] = None,
    colour: Annotated[
        Literal["rgb", "bgr"] | None, typer.Option(help="Order of the channels that the model takes.")
    ] = None,
    mean: Annotated[str | None, typer.Option(metavar="NUMBERS", help="Subtracted, one or one a channel.")] = None,
    std: Annotated[str | None, typer.Option(metavar="NUMBERS", help="What is left is divided by it.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write which patches these are, as JSON.")
    ] = None,
) -> None:
    """Show what a network has learnt: the nine patches of pictures that excite each channel of a layer most."""
    from tools.visual.look import Wanted, draw, look  # ONNX Runtime, that other commands can begin without
    from tools.visual.opening import opened

    stated = given(colour=colour, mean=triple(mean, "--mean"), std=triple(std, "--std"))
    request = None if list_layers else _request(images, layer, out)
    check_targets({"--out": out, "--json": json_file})
    with opened(model, input_size_of(input_size), stated) as (network, notes):
        if request is None:
            _print_layers(network)
        else:
            folder, name, target = request
            with bar("look") as progress:
                shown = look(network, find_images(str(folder))[:limit], Wanted(name, channels, patch), progress)
            save_sheet("--out", target, draw(shown))
            if json_file is not None:
                _write_json(json_file, shown)
            _print_shown(shown, target)
        for note in notes:
            say(f"note: {note}")


def _request(images: Path | None, layer: str | None, out: Path | None) -> tuple[Path, str, Path]:
    """Return what must be given to draw a sheet.

    Raises:
        ConfigError: some of it is not, or the sheet's name is that of something else.
    """
    if images is None or layer is None or out is None:
        options = {"--images": images, "--layer": layer, "--out": out}
        missing = " and ".join(name for name, value in options.items() if value is None)
        raise ConfigError(f"{missing} must be given, or --list-layers to see what layers there are")
    if out.suffix.lower() != PNG:
        raise ConfigError(f"--out {out}: the sheet is a PNG, so name it so, such as {out.with_suffix(PNG).name}")
    return images, layer, out


def _print_layers(network: Network) -> None:
    """Print a row for each layer."""
    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "made by"):
        table.add_column(heading, overflow="fold")
    for heading in ("channels", "map", "a unit sees", "every"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in network.layers:
        seen = layer.field
        size = "x".join(str(layer.shape[axis]) for axis in layer.places) or "-"
        fields = ("all", "-") if seen is None else (f"{seen[0].side}x{seen[1].side}", f"{seen[0].step:g}")
        table.add_row(Text(layer.name), layer.operator, str(layer.channels), size, *fields)
    Output(highlight=False, width=TABLE_WIDTH).print(table)
    height, width = network.input_size
    say(f"{len(network.layers)} layers of {network.spec.name}, input {height}x{width}; what a unit sees: pixels of it")


def _print_shown(shown: Shown, out: Path) -> None:
    silent = sum(not places for places in shown.channels.values())
    say(f"{len(shown.channels)} of {shown.layer.channels} channels of {shown.layer.name}: {shown.layer.describe()}")
    if silent:
        say(f"note: {silent} of them are excited by no picture more than by the others")
    if shown.unreadable:
        names = ", ".join(file.name for file in shown.unreadable[:NAMES_SHOWN])
        say(f"note: {len(shown.unreadable)} pictures cannot be read and were left out: {names}")
    say(f"wrote {out}")


def _write_json(path: Path, shown: Shown) -> None:
    from tools.visual.look import as_dict

    try:
        path.write_text(json.dumps(as_dict(shown), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json {path}: {error.strerror}") from error
