"""`frameloom bench nms`: what it costs to make one box of those that show one object.

The boxes are made up, in the ways that such code is slow on: many that overlap nothing, many on one spot, few of many
classes and many of one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, get_args

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.merge import Merging, merge
from pipeline.postprocess.nms import nms
from pipeline.postprocess.overlaps import Overlap
from pipeline.sinks.paths import prepare_file
from tools.benchmark import environment

COUNTS = (70, 1_000, 8_400, 30_000)
OTHERS: tuple[Merging, ...] = ("soft-linear", "soft-gaussian", "fusion")
SLOW_ABOVE = 8_400
"""Soft-NMS and fusion go box by box: larger numbers would take seconds."""
THRESHOLD = 0.5
TABLE_WIDTH = 120
REPEAT_S = 0.3
"""How long one case is repeated, three times at least."""

Sides = npt.NDArray[Any]
Made = Callable[[int, np.random.Generator], tuple[Sides, Sides]]
"""(N, 2) left, top and (N, 2) width, height."""


def _street(count: int, random: np.random.Generator) -> tuple[Sides, Sides]:
    """Clusters of some 7 boxes around objects, as a detector finds them."""
    objects = random.integers(0, max(1, count // 7), count)
    places = random.uniform(0, 640, (objects.max() + 1, 2))[objects]
    sizes = np.exp(random.uniform(2, 5, (objects.max() + 1, 2)))[objects]
    return places + random.normal(0, 0.1, (count, 2)) * sizes, sizes * np.exp(random.normal(0, 0.1, (count, 2)))


def _cells(count: int, random: np.random.Generator) -> tuple[Sides, Sides]:
    """A box of about its size on each cell of strides 8, 16, 32 of a 640 x 640 input: a model that sees noise."""
    grids = [np.stack(np.meshgrid(*[np.arange(0, 640, stride)] * 2), -1).reshape(-1, 2) for stride in (8, 16, 32)]
    strides = np.resize(np.repeat([8, 16, 32], [len(grid) for grid in grids]), count)[:, None]
    sizes = strides * np.exp(random.normal(0.8, 0.5, (count, 2)))
    return np.resize(np.concatenate(grids), (count, 2)) + random.normal(0, 0.3, (count, 2)) * strides - sizes / 2, sizes


def _spread(count: int, random: np.random.Generator) -> tuple[Sides, Sides]:
    return random.uniform(0, 4000, (count, 2)), random.uniform(20, 80, (count, 2))


def _dense(count: int, random: np.random.Generator) -> tuple[Sides, Sides]:
    return random.uniform(0, 1, (count, 2)) * (1920, 1080), random.uniform(20, 200, (count, 2))


def _sizes(count: int, random: np.random.Generator) -> tuple[Sides, Sides]:
    return random.uniform(0, 2000, (count, 2)), np.exp(random.uniform(0, 6.5, (count, 2)))


def _spot(count: int, random: np.random.Generator) -> tuple[Sides, Sides]:
    """All around one point."""
    sizes = np.exp(random.uniform(1, 7, (count, 2)))
    return 2000 - sizes * random.uniform(0.1, 0.9, (count, 2)), sizes


def _equal(count: int, random: np.random.Generator) -> tuple[Sides, Sides]:
    return np.full((count, 2), 50.0), np.full((count, 2), 60.0)


DISTRIBUTIONS: dict[str, Made] = {
    "objects": _street,
    "cells of noise": _cells,
    "spread out": _spread,
    "dense": _dense,
    "of all sizes": _sizes,
    "on one spot": _spot,
    "equal": _equal,
}


@dataclass(frozen=True)
class Cost:
    """One method on one heap of boxes."""

    method: str
    boxes: str
    count: int
    classes: int
    kept: int
    ms: float
    """Median."""


def bench(
    count: Annotated[list[int] | None, typer.Option(min=1, help="How many boxes; may be repeated.")] = None,
    classes: Annotated[list[int] | None, typer.Option(min=1, help="Of how many classes; may be repeated.")] = None,
    most: Annotated[int, typer.Option(min=1, help="How many are kept, as in a run.")] = 300,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure NMS (of all boxes, and of the best that a run keeps), soft-NMS and fusion."""
    if json_file is not None:
        prepare_file(json_file, "bench nms --json")
    costs = measure(count or list(COUNTS), classes or [1, 80], most)
    machine = environment()
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)  # wrapped, it says nothing
    console.print(_table(costs))
    console.print(
        f"ms, medians; threshold {THRESHOLD}; NMS keeps all where nothing is said, soft-NMS and fusion {most}; "
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}, Python {machine['python']}",
        soft_wrap=True,
    )
    if json_file is not None:
        report = {
            "threshold": THRESHOLD,
            "most": most,
            "environment": machine,
            "costs": [asdict(each) for each in costs],
        }
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def made(distribution: str, count: int, classes: int) -> Found:
    """Make candidates."""
    random = np.random.default_rng(count)
    places, sizes = DISTRIBUTIONS[distribution](count, random)
    boxes = np.concatenate([places, places + sizes], axis=1).astype(np.float32)
    scores = random.uniform(0.01, 1, count).astype(np.float32)
    return Found(boxes, scores, random.integers(0, classes, count).astype(np.int32))


def measure(counts: list[int], classes: list[int], most: int) -> list[Cost]:
    """Run every method on every heap."""
    costs = []
    for count in counts:
        for number in classes:
            for distribution in DISTRIBUTIONS:
                found = made(distribution, count, number)
                for name, run in _runs(found, most).items():
                    if count <= SLOW_ABOVE or name.startswith("NMS"):
                        kept, ms = _timed(run)
                        costs.append(Cost(name, distribution, count, number, kept, round(ms, 4)))
    return costs


def _runs(found: Found, most: int) -> dict[str, Callable[[], int]]:
    def greedy(overlap: Overlap) -> Callable[[], int]:
        return lambda: len(nms(found.boxes, found.scores, found.class_ids, THRESHOLD, overlap=overlap))

    def other(method: Merging) -> Callable[[], int]:
        return lambda: len(merge(found, method, THRESHOLD, most=most))

    runs = {f"NMS {overlap}": greedy(overlap) for overlap in get_args(Overlap)}
    runs[f"NMS, best {most}"] = other("standard")
    return runs | {method: other(method) for method in OTHERS}


def _timed(run: Callable[[], int]) -> tuple[int, float]:
    kept = run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < REPEAT_S:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return kept, median(times) * 1e3


def _table(costs: list[Cost]) -> Table:
    """A row for each heap, a column for each method."""
    methods = list(dict.fromkeys(each.method for each in costs))
    table = Table(box=None, pad_edge=False)
    table.add_column("boxes", justify="right")
    table.add_column("classes", justify="right")
    table.add_column("which lie")
    for heading in ("kept by IoU", *methods):
        table.add_column(heading, justify="right")
    rows: dict[tuple[int, int, str], dict[str, Cost]] = {}
    for each in costs:
        rows.setdefault((each.count, each.classes, each.boxes), {})[each.method] = each
    for (count, classes, boxes), row in rows.items():
        figures = (f"{row[method].ms:.3g}" if method in row else "" for method in methods)
        table.add_row(f"{count:,}", str(classes), boxes, f"{row[methods[0]].kept:,}", *figures)
    return table
