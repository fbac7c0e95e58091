"""`frameloom bench track`: what following objects costs, and how well it is done, beside ByteTrack and OC-SORT.

The package `trackers` has those two. In one run all get the same detections at the same times; then again with frames
removed, which is what a busy machine does to a live stream. What given detections' scores mean is not known, and the
figures hang on the score from which a detection counts, so each tracker runs twice: as it comes, and at the best of
some thresholds taken from the scores themselves, its own best on all frames of a set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.errors import ConfigError
from pipeline.postprocess.tracker import TrackerOptions
from pipeline.sinks.paths import prepare_file
from tools.benchmark import environment
from tools.eval_track import check_truth, checked_fps, options_of, percent, print_notes
from tools.terminal import bar
from tools.tracking import packages
from tools.tracking.follow import Follower, Ours, follow
from tools.tracking.mot_rows import MotRows
from tools.tracking.score import Score, check_installed, score_sequence, score_together
from tools.tracking.sequences import FPS, Found, Labelled, Thinning, find_sequences

OBJECTS = (10, 50, 200)
COST_FRAMES = 300
WARM_UP = 20
"""First frames, in which tracks begin and code is imported."""
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.7, 0.8, 0.9)
"""Of the scores of a set: the thresholds that are tried."""
THINNINGS = (Thinning(), Thinning(drop_every=2), Thinning(drop_every=3), Thinning(keep_every=3))
OURS = "frameloom"
TABLE_WIDTH = 140


@dataclass(frozen=True)
class Cost:
    """What a tracker costs for so many objects."""

    tracker: str
    objects: int
    min_ms: float
    median_ms: float
    p95_ms: float
    cpu_ms: float
    """Median of the CPU time, which other programs hardly change."""


@dataclass(frozen=True)
class Result:
    """What a tracker makes of one set, with some of its frames."""

    set: str
    tracker: str
    threshold: float | None
    """Score from which a detection is sure; None: its default."""
    frames: str
    score: Score
    update_ms: float
    """Median CPU time of a frame."""

    @property
    def goodness(self) -> float:
        """By which thresholds are compared: the mean of the three shares."""
        return float(np.mean([self.score.mota or 0, self.score.idf1 or 0, self.score.hota or 0]))


Maker = Callable[[float, float | None], Follower]
"""Makes a tracker for a sequence's frames per second and a threshold (None: its default)."""


def bench(
    det: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Folder of sequences, as in `eval track`; may be repeated, each with a --gt."),
    ] = None,
    gt: Annotated[list[Path] | None, typer.Option(metavar="DIR", help="Their truth, in the same order.")] = None,
    fps: Annotated[float | None, typer.Option(help="As in `eval track`.")] = None,
    objects: Annotated[
        list[int] | None, typer.Option(min=1, max=2000, help="In a frame, to see the cost; may be repeated.")
    ] = None,
    best: Annotated[bool, typer.Option(help="Also look for each tracker's best threshold.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure what tracking costs, and MOTA, IDF1 and HOTA beside the package `trackers`, also with frames removed."""
    if json_file is not None:
        prepare_file(json_file, "bench track --json")
    if len(det or ()) != len(gt or ()):
        raise ConfigError(f"{len(det or ())} --det and {len(gt or ())} --gt: give as many of each, in the same order")
    if det:
        check_installed()
    rate = checked_fps(fps)
    sets = [(other.name, find_sequences(one, other, rate)) for one, other in zip(det or (), gt or (), strict=True)]
    for _, found in sets:
        check_truth(found.sequences)
    makers = contestants()
    costs = [cost(name, make, count) for count in objects or OBJECTS for name, make in makers.items()]
    results = [each for name, found in sets for each in compare(name, found.sequences, makers, best=best)]
    _print(costs, results, sets)
    if json_file is not None:
        report = {
            "environment": environment(),
            "trackers": packages.installed(),
            "costs": [asdict(each) for each in costs],
            "results": [asdict(each) for each in results],
        }
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def contestants() -> dict[str, Maker]:
    """Return the trackers that are there, ours first."""
    makers: dict[str, Maker] = {OURS: lambda fps, threshold: Ours(_options(threshold))}
    if packages.installed():
        for name in get_args(packages.PackageTracker):
            makers[name] = _from_package(name)
    return makers


def _from_package(name: packages.PackageTracker) -> Maker:
    return lambda fps, threshold: packages.FromPackage(name, fps, threshold)


def _options(threshold: float | None) -> TrackerOptions:
    """Return those of `eval track`."""
    return options_of() if threshold is None else options_of(threshold)


# ---- (a) the cost


def crowd(objects: int, frames: int) -> Labelled:
    """Make objects that walk through a 1920 x 1080 picture and turn round at its edges, as a detector finds them.

    A twentieth is missed, a fifth is unsure (score 0.2 to 0.6), places are off by 2 %, and as many false boxes as a
    twentieth of the objects flicker.
    """
    random = np.random.default_rng(objects)
    size = np.array([1920.0, 1080.0])
    sides = random.uniform(30, 120, (objects, 2)) * (1, 2)
    start, speed = random.uniform(0, 1, (objects, 2)) * (size - sides), random.normal(0, 4, (objects, 2))
    rows = []
    for frame in range(1, frames + 1):
        room = size - sides
        corner = room - np.abs((start + speed * frame) % (2 * room) - room)
        false = random.binomial(objects, 0.05)
        corner = np.concatenate([corner, random.uniform(0, 1, (false, 2)) * (size - 120)])
        shape = np.concatenate([sides, random.uniform(30, 120, (false, 2))])
        corner, shape = (each + random.normal(0, 0.02, shape.shape) * shape for each in (corner, shape))
        scores = np.where(random.random(len(shape)) < 0.2, random.uniform(0.2, 0.6, len(shape)), 0.9)
        seen = random.random(len(shape)) > 0.05
        table = np.column_stack([np.full(len(shape), frame), np.full(len(shape), -1), corner, shape, scores])
        rows.append(table[seen])
    nothing = MotRows.of([])
    every = tuple(range(1, frames + 1))
    return Labelled(f"{objects} objects", FPS, every, MotRows.of(np.concatenate(rows)), truth=nothing, ignored=nothing)


def cost(tracker: str, make: Maker, objects: int) -> Cost:
    """Measure one tracker's update on a crowd."""
    followed = follow(crowd(objects, COST_FRAMES), make(FPS, None))
    wall, cpu = followed.wall_ms[WARM_UP:], followed.cpu_ms[WARM_UP:]
    p50, p95 = np.percentile(wall, (50, 95)).tolist()
    return Cost(tracker, objects, *(round(ms, 4) for ms in (min(wall), p50, p95, float(np.median(cpu)))))


# ---- (b) how well


def compare(name: str, sequences: Sequence[Labelled], makers: dict[str, Maker], *, best: bool) -> Iterator[Result]:
    """Run each tracker on a set, as it comes and at its best threshold, with all frames and with some removed."""
    for tracker, make in makers.items():
        thresholds: list[float | None] = [None]
        if best:
            thresholds.append(_best_threshold(name, sequences, tracker, make))
        with bar(f"{name}: {tracker}") as progress:
            for threshold in thresholds:
                for number, thinning in enumerate(THINNINGS):
                    progress(number, len(THINNINGS))
                    yield measure(name, sequences, tracker, make, threshold, thinning)


def _best_threshold(name: str, sequences: Sequence[Labelled], tracker: str, make: Maker) -> float:
    """Return that of the candidates with which a tracker is best on all frames; 0 where nothing is detected."""
    scores = np.concatenate([each.detections.values for each in sequences])
    candidates = np.unique(np.quantile(scores, QUANTILES)).tolist() if len(scores) else [0.0]
    tried = []
    with bar(f"{name}: {tracker}, best threshold") as progress:
        for number, threshold in enumerate(candidates):
            progress(number, len(candidates))
            tried.append(measure(name, sequences, tracker, make, threshold).goodness)
    return float(candidates[int(np.argmax(tried))])


def measure(
    name: str,
    sequences: Sequence[Labelled],
    tracker: str,
    make: Maker,
    threshold: float | None,
    thinning: Thinning = THINNINGS[0],
) -> Result:
    """Run a tracker on a set and score what it makes of it."""
    scored, times = [], list[float]()
    for sequence in map(thinning, sequences):
        followed = follow(sequence, make(sequence.fps, threshold))
        scored.append(score_sequence(sequence, followed.tracks))
        times += followed.cpu_ms
    return Result(name, tracker, threshold, str(thinning), score_together(scored), round(float(np.median(times)), 4))


# ---- what is printed


def _print(costs: Sequence[Cost], results: Sequence[Result], sets: Sequence[tuple[str, Found]]) -> None:
    machine = environment()
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)  # wrapped, it says nothing
    console.print(_costs_table(costs))
    if results:
        console.print()
        console.print(_results_table(results))
    package = packages.installed()
    others = f"trackers {package}" if package else "the package trackers is not installed: nothing to compare with"
    console.print(
        f"\nupdate ms: median CPU time of a frame; change: of IDF1, against all frames; {others}; "
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}, Python {machine['python']}",
        soft_wrap=True,
    )
    for _, found in sets:
        print_notes(console, found)


def _costs_table(costs: Sequence[Cost]) -> Table:
    table = Table(box=box.MARKDOWN)
    table.add_column("tracker")
    for heading in ("objects", "min ms", "median ms", "p95 ms", "CPU ms"):
        table.add_column(heading, justify="right")
    for each in costs:
        times = (f"{ms:.3f}" for ms in (each.min_ms, each.median_ms, each.p95_ms, each.cpu_ms))
        table.add_row(each.tracker, str(each.objects), *times)
    return table


def _results_table(results: Sequence[Result]) -> Table:
    table = Table(box=box.MARKDOWN)
    for heading in ("set", "frames", "tracker", "threshold"):
        table.add_column(heading, no_wrap=True)
    for heading in ("MOTA", "IDF1", "change", "HOTA", "switches", "FP", "FN", "update ms"):
        table.add_column(heading, justify="right")
    order = [(each.set, each.threshold is not None, each.frames) for each in results]
    whole = {(each.set, each.tracker, each.threshold): each.score.idf1 for each in results if each.frames == "all"}
    for key in dict.fromkeys(sorted(order, key=lambda key: (order.index((key[0], False, "all")), key[1]))):
        for each in (result for result, its in zip(results, order, strict=True) if its == key):
            score, base = each.score, whole[each.set, each.tracker, each.threshold]
            change = "" if each.frames == "all" else f"{100 * ((score.idf1 or 0) - (base or 0)):+.1f}"
            threshold = "default" if each.threshold is None else f"best: {each.threshold:.2f}"
            shares = (percent(score.mota), percent(score.idf1), change, percent(score.hota))
            counts = map(str, (score.switches, score.false_positives, score.misses))
            table.add_row(each.set, each.frames, each.tracker, threshold, *shares, *counts, f"{each.update_ms:.2f}")
    return table
