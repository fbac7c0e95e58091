"""`frameloom models`: which models exist, where they are, what may be done with them; fetch them, check them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from engines.errors import ChecksumMismatch
from engines.spec import GALLERY, TEMPLATES, EncoderSpec
from engines.zoo import Zoo
from engines.zoo_entry import Address, Entry
from tools.inspect_model import inspect
from tools.terminal import download_progress, say

DEFAULT_MODELS = ("yolox-nano",)
"""What `frameloom run` needs with nothing configured."""

WITH_HEAD = ("detect", "face-detect")
"""Tasks of models whose outputs have one of several known layouts."""

app = typer.Typer(help="List, fetch, check and inspect models and demo clips.", no_args_is_help=True)
app.command()(inspect)


@app.command("list")
def list_models(
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Only those for it, such as stylize.")] = None,
    names: Annotated[bool, typer.Option("--names", help="Print names only, one a line.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List every model and demo clip, its licence, and where it is."""
    zoo = Zoo.load()
    entries = [entry for entry in zoo if task in (None, entry.task)]
    if not entries:
        tasks = ", ".join(dict.fromkeys(entry.task for entry in zoo))
        raise typer.BadParameter(f"no model is for {task!r}: choose one of {tasks}", param_hint="--task")
    if json:
        Console().print_json(data=[entry.name if names else _as_json(zoo, entry) for entry in entries])
        return
    if names:
        for entry in entries:
            say(entry.name)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True, min_width=max(len(entry.name) for entry in entries))
    table.add_column("task", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for heading in ("licence", "commercial", "where"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        commercial = _commercial(entry)
        table.add_row(entry.name, entry.task, _size(entry), entry.licence, commercial, _where(zoo, entry))
    Console(highlight=False).print(table)


@app.command()
def pull(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", show_default=False)] = None,
    default: Annotated[bool, typer.Option("--default", help="What `run` needs with nothing configured.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Everything that can be fetched.")] = False,
) -> None:
    """Fetch models into the cache and print where they are."""
    zoo = Zoo.load()
    wanted = [*(names or []), *(DEFAULT_MODELS if default else ())]
    if everything:
        wanted += [entry.name for entry in zoo if entry.sources]
    if not wanted:
        raise typer.BadParameter("give names, --default or --all")
    entries = [zoo.entry(name) for name in dict.fromkeys(wanted)]  # a misspelt name is said before anything is fetched
    for entry in entries:
        with download_progress(entry.name) as progress:
            path = zoo.fetch(entry.name, progress)
        say(f"{entry.name}  {path}")


@app.command()
def info(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Print everything the zoo says about one model."""
    zoo = Zoo.load()
    for key, value in _facts(zoo, zoo.entry(name)):
        if value:
            say(f"{key:<15} {value}")


@app.command()
def check(names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", show_default=False)] = None) -> None:
    """Hash the files at hand again; exit 1 if one is not what it should be."""
    zoo = Zoo.load()
    wrong = 0
    for entry in [zoo.entry(name) for name in names or zoo.names()]:
        try:
            path = zoo.locate(entry.name)
        except ChecksumMismatch as error:
            wrong += 1
            say(f"{entry.name}  WRONG  {error}")
        else:
            say(f"{entry.name}  ok  {path}" if path else f"{entry.name}  not at hand")
    if wrong:
        raise typer.Exit(1)


def _facts(zoo: Zoo, entry: Entry) -> Iterator[tuple[str, str]]:
    shape = entry.input
    yield "name", entry.name
    yield "task", entry.task
    yield "file", entry.file
    for accepted in entry.accepts:
        yield "sha256", f"{accepted.sha256} ({accepted.bytes} bytes)"
    yield "licence", entry.licence
    yield "commercial use", _commercial(entry)
    yield "note", entry.note
    yield "accuracy", entry.accuracy or "not stated"
    if entry.task != "clip":
        yield "input", f"{shape.height or 'any'} x {shape.width or 'any'} (height x width), {shape.colour}, {shape.fit}"
        yield "normalisation", f"(x - {list(shape.mean)}) / {list(shape.std)}"
        yield "head", entry.head or ("recognised from the outputs" if entry.task in WITH_HEAD else "")
        yield "labels", f"{len(entry.labels)}: {', '.join(entry.labels)}" if entry.labels else ""
        yield "precision", entry.precision
    if entry.encoder is not None:
        yield from _encoder_facts(entry.encoder)
    yield "where", _where(zoo, entry)
    for source in entry.sources:
        yield "source", str(source) if isinstance(source, Address) else f"{source}, {source.member}"


def _encoder_facts(encoder: EncoderSpec) -> Iterator[tuple[str, str]]:
    named = next((name for name, points in TEMPLATES.items() if points == encoder.template), None)
    points = ", ".join(f"({x:g}, {y:g})" for x, y in encoder.template)
    yield "template", f"{named}: {points}" if named else points
    yield "compared by", encoder.metric
    yield "threshold 1:1", f"{encoder.verify_threshold:g}"
    growth = f", {encoder.identify_growth:+g} for ten times as many" if encoder.identify_growth else ""
    yield "threshold 1:N", f"{encoder.identify_threshold:g} among {GALLERY} people{growth}"


def _where(zoo: Zoo, entry: Entry) -> str:
    try:
        path = zoo.locate(entry.name)
    except ChecksumMismatch:
        return "cached file is WRONG"
    if entry.shipped is not None:
        return "comes with Frameloom"
    if path is not None:
        return "cached" if path == zoo.cached_path(entry.name) else "mirror"
    kinds = ["url" if isinstance(source, Address) else "package" for source in entry.sources]
    return f"from {' or '.join(kinds)}" if kinds else "only by mirror"


def _as_json(zoo: Zoo, entry: Entry) -> dict[str, Any]:
    fields = entry.model_dump(mode="json", exclude={"labels", "input"})
    return {**fields, "where": _where(zoo, entry)}


def _commercial(entry: Entry) -> str:
    return {True: "yes", False: "no", None: "not stated"}[entry.commercial_use]


def _size(entry: Entry) -> str:
    return f"{entry.accepts[0].bytes / 1e6:.1f} MB"
