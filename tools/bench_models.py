"""`frameloom bench models`: how fast and how right the detectors at hand are here, so that one can be chosen.

Each model on each backend has a process of its own, one after the other, and rounds are repeated, so that a machine
that gets busier hits all of them; times are medians over the rounds. A model that cannot run is a row with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from engines.engine import Backend
from engines.spec import Precision
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from tools import bench_models_plot as plot
from tools import coco
from tools.bench_models_measure import Candidate, Row, measure
from tools.benchmark import environment
from tools.eval_detect import Dataset
from tools.figures import check_installed
from tools.labels import read_labels
from tools.targets import check_target
from tools.terminal import bar, download_progress, say


def models(
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="A detector; may be repeated. Default: all detectors that are at hand."),
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="What runs them; may be repeated. Default: auto.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="What they compute in; may be repeated. Default: auto.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Labels, for AP: as of `frameloom eval detect`.")
    ] = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of the labelled pictures.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE[,VALUE]", help="Only images whose record says so.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests that are timed of each, in each round.")] = 50,
    rounds: Annotated[int, typer.Option(min=1, help="How often to time everything.")] = 3,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw AP over milliseconds; without labels, bars.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure latency, throughput and AP of detectors, side by side."""
    check_target("--json", json_file)
    check_target("--plot", plot_file)
    if plot_file is not None:
        check_installed()
    dataset = _dataset(annotations, images, tuple(where or ()), limit)
    backends, precisions = _checked(backend, Backend, "backend"), _checked(precision, Precision, "precision")
    candidates = _candidates(model, backends, precisions)
    with bar("bench models") as progress:
        rows = measure(candidates, dataset, requests, rounds, progress)
    console = Console(highlight=False)
    _print(rows, dataset, console)
    if json_file is not None:
        report = {"environment": environment(), "rows": [asdict(row) for row in rows]}
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    if plot_file is not None:
        plot.draw(plot_file, rows)
        say(f"wrote {plot_file}")
    if all(row.reason for row in rows):
        raise typer.Exit(1)


def _checked(given: Sequence[str] | None, kind: Any, what: str) -> tuple[Any, ...]:
    """Return the names given, or `auto`; typer takes no list of literals.

    Raises:
        ConfigError: one is none.
    """
    for name in given or ():
        if name not in get_args(kind):
            raise ConfigError(f"--{what} {name}: choose from {', '.join(get_args(kind))}")
    return tuple(dict.fromkeys(given or ("auto",)))


def _candidates(
    names: Sequence[str] | None, backends: Sequence[Backend], precisions: Sequence[Precision]
) -> list[Candidate]:
    """Return every model on every backend in every precision.

    Raises:
        ConfigError: no detector is named, and none is at hand.
        ModelError: one that is named is nowhere, or no detector.
    """
    zoo = Zoo.load()
    if names:
        for name in names:  # fetched before anything is measured
            with download_progress(name) as progress:
                zoo.spec(name, task="detect", progress=progress)
    found = names or [entry.name for entry in zoo if entry.task == "detect" and zoo.locate(entry.name) is not None]
    if not found:
        raise ConfigError("no detector is at hand: frameloom models pull --default, or say --model FILE")
    return [Candidate(name, each, kind) for name in dict.fromkeys(found) for each in backends for kind in precisions]


def _dataset(
    annotations: Path | None, images: Path | None, where: tuple[str, ...], limit: int | None
) -> Dataset | None:
    """Return the labelled pictures, read once to see that they can be; None: there are none.

    Raises:
        ConfigError: they cannot be read, or pictures are given without labels.
    """
    if annotations is None:
        if images is not None or where or limit is not None:
            raise ConfigError("--images, --where and --limit are about labelled pictures: add --annotations PATH")
        return None
    coco.check_installed()
    coco.select_images(read_labels(annotations, images).images, coco.parse_where(where))
    return Dataset(images, annotations, where, limit)


def _print(rows: Sequence[Row], dataset: Dataset | None, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("engine", no_wrap=True)
    for heading in ("input", "AP %", "ms", "p95", "per s", "CPU ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        height, width = row.size or (0, 0)
        size = f"{width}x{height}" if row.size else "-"
        figures = (row.ms, row.p95_ms, row.fps, row.cpu_ms)
        ap = "-" if row.ap is None else f"{100 * row.ap:.1f}"
        each = ("-" if value is None else f"{value:.1f}" for value in figures)
        table.add_row(row.name, f"{row.backend} {row.precision}", size, ap, *each)
    console.print(table)
    for row in rows:
        if row.reason:
            console.print(f"{row.name} on {row.backend} {row.precision}: {row.reason}", markup=False, style="yellow")
    machine = environment()
    say(
        "ms: one request at a time; per s and CPU ms: with requests in flight; "
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}, Python {machine['python']}"
    )
    if dataset is None:
        say("AP is not measured without labels: --annotations PATH --images FOLDER")
