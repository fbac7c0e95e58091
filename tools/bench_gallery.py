"""`frameloom bench gallery`: what it costs to search for the faces of a frame, by the number of people known.

The encodings are made up, but lie as real ones do. Encoders spread people evenly over the sphere, for that is what
their losses ask for, so each person's centre is uniform on it; pictures of one person surround the centre such that two
of them have a cosine of 0.65 in the mean and 0.6 to 0.7 mostly, as MobileFaceNet's do. It is a hard case for an index:
people form no groups that it could tell apart.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.table import Table

from pipeline.arrays import FloatArray
from pipeline.gallery.matcher import EXACT_UP_TO, Matcher
from pipeline.gallery.records import Snapshot
from pipeline.sinks.paths import prepare_file
from tools.benchmark import environment

PEOPLE = (1_000, 10_000, 100_000)
LARGE = 1_000_000
SAME_PERSON = 0.65
"""Mean cosine of two pictures of one person."""
PROBES = 500
"""Pictures of known people that are searched for, and as many of strangers."""


@dataclass(frozen=True)
class SearchCost:
    """What searching among so many people costs, and finds."""

    people: int
    exact: bool
    frame_ms: float
    """Median for all faces of a frame."""
    frame_p95_ms: float
    frame_cpu_ms: float
    """Median of the CPU time, which other programs hardly change."""
    build_s: float
    memory_mb: float
    """Resident memory that the matcher took, beside the encodings."""
    recall: float
    """Share of pictures of known people for whom the person most alike by exact search was found."""
    known: float
    """Lowest similarity of a picture to its person, among those found."""
    strangers: float
    """Highest similarity of a stranger to anybody."""


def gallery(
    people: Annotated[list[int] | None, typer.Option(min=1, help="How many are known; may be repeated.")] = None,
    large: Annotated[bool, typer.Option("--large", help="Also a million, with the index; takes a minute.")] = False,
    faces: Annotated[int, typer.Option(min=1, help="Faces in a frame.")] = 5,
    dimensions: Annotated[int, typer.Option(min=8, help="Numbers of an encoding.")] = 128,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure how long it takes to search a gallery for the faces of a frame, and whether the index finds everybody."""
    if json_file is not None:
        prepare_file(json_file, "bench gallery --json")
    sizes = [*(people or PEOPLE), *([LARGE] if large else [])]
    costs = [measure(size, faces, dimensions) for size in sizes]
    machine = environment()
    console = Console(highlight=False)
    console.print(_table(costs, faces))
    console.print(
        f"{dimensions} numbers an encoding, one encoding a person; known: the lowest similarity to the right person, "
        f"unknown: the highest of a stranger; {machine['cpu']}, {machine['cores']} cores, "
        f"load {machine['load']}, Python {machine['python']}",
        soft_wrap=True,
    )
    if json_file is not None:
        report = {"faces": faces, "dimensions": dimensions, "environment": machine}
        json_file.write_text(json.dumps(report | {"galleries": [asdict(each) for each in costs]}, indent=2) + "\n")


def centres(people: int, dimensions: int, random: np.random.Generator) -> FloatArray:
    """Return (people, dimensions) float32 points, uniform on the unit sphere."""
    points = random.standard_normal((people, dimensions), dtype=np.float32)
    points /= np.sqrt(np.einsum("nd,nd->n", points, points))[:, None]
    return points


def pictures(centres: FloatArray, random: np.random.Generator, same: float = SAME_PERSON) -> FloatArray:
    """Return an encoding of each person: (N, D) float32 of length 1; two of a person have that mean cosine.

    With c the centre, n a unit vector across it and s the mean cosine it is sqrt(s) c + sqrt(1 - s) n: of two, the
    centres' part gives s, and the two n are nearly at right angles.
    """
    across = random.standard_normal(centres.shape, dtype=np.float32)
    across -= np.einsum("nd,nd->n", across, centres)[:, None] * centres
    across *= (np.sqrt(1 - same) / np.sqrt(np.einsum("nd,nd->n", across, across)))[:, None]
    across += np.float32(np.sqrt(same)) * centres
    return across


def snapshot_of(vectors: FloatArray) -> Snapshot:
    """Return a gallery with one encoding a person."""
    rows = np.arange(len(vectors))
    names = tuple(f"person {row}" for row in rows)
    return Snapshot(vectors, names, rows.astype(np.int32), np.ones(len(rows), np.float32), rows)


def measure(people: int, faces: int, dimensions: int, exact_up_to: int = EXACT_UP_TO) -> SearchCost:
    """Fill a gallery and search it."""
    random = np.random.default_rng(people)
    persons = centres(people, dimensions, random)
    snapshot = snapshot_of(pictures(persons, random))
    known = pictures(persons[random.integers(people, size=PROBES)], random)
    strangers = pictures(centres(PROBES, dimensions, random), random)

    process = psutil.Process()
    memory, began = process.memory_info().rss, time.perf_counter()
    matcher = Matcher(snapshot, "cosine", exact_up_to)
    build_s, memory_mb = time.perf_counter() - began, (process.memory_info().rss - memory) / 1e6

    times = []
    for start in range(0, PROBES - faces + 1, faces):
        began, cpu_began = time.perf_counter(), time.process_time()
        matcher.search(known[start : start + faces])
        times.append((time.perf_counter() - began, time.process_time() - cpu_began))
    (p50, cpu_ms), (p95, _) = np.percentile(1e3 * np.array(times), (50, 95), axis=0).tolist()

    found = matcher.search(known)
    truth = found if matcher.exact else Matcher(snapshot, "cosine", people).search(known)
    right = found.persons == truth.persons
    return SearchCost(
        people,
        matcher.exact,
        round(p50, 4),
        round(p95, 4),
        round(cpu_ms, 4),
        round(build_s, 3),
        round(memory_mb, 1),
        float(right.mean()),
        round(float(found.similarities[right].min()), 3),
        round(float(matcher.search(strangers).similarities.max()), 3),
    )


def _table(costs: list[SearchCost], faces: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("people", justify="right")
    table.add_column("search")
    for heading in (f"{faces} faces ms", "p95", "CPU", "recall", "build s", "MB", "known", "unknown"):
        table.add_column(heading, justify="right")
    for each in costs:
        times = (f"{each.frame_ms:.3f}", f"{each.frame_p95_ms:.3f}", f"{each.frame_cpu_ms:.3f}", f"{each.recall:.3f}")
        costs_ = (f"{each.build_s:.2f}", f"{each.memory_mb:.0f}", f"{each.known:.2f}", f"{each.strangers:.2f}")
        table.add_row(f"{each.people:,}", "exact" if each.exact else "index", *times, *costs_)
    return table
