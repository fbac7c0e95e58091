"""`frameloom bench segment`: what segmentation costs, each part by itself, and what a whole run with it reaches.

The parts are measured on pictures of the source, made 640 x 360, one after the other on one thread (the engine has its
own). What is between the model and the map (reading it, edges, smoothing) is the whole stage less cutting and model.
The runs have a process of each own and take turns with those without segmentation, round by round.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from engines.engine import Backend, open_engine
from engines.spec import Precision
from engines.zoo import Zoo
from pipeline.api import Pipeline
from pipeline.assemble import find_model
from pipeline.assemble_engine import engine_options
from pipeline.capture.file import VideoFile
from pipeline.config.load import Override, load_settings, parse_set
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.infer.letterbox import Letterboxes
from pipeline.infer.picture_segmenter import find_segmenter
from pipeline.infer.segment import Segment
from pipeline.picture import Picture, bgr_to_planes
from pipeline.render.effect import Effect
from pipeline.render.renderer import Renderer
from pipeline.sinks.paths import prepare_file
from tools.benchmark import apart, environment, run_pipeline
from tools.terminal import bar, download_progress

if TYPE_CHECKING:
    from engines.engine import EngineOptions
    from engines.spec import ModelSpec
    from pipeline.config.settings import Settings
    from pipeline.segmentation import SegmentationMap

SIZE = (640, 360)
"""Width and height of the pictures that the parts are measured on."""
PICTURES = 50
WARM_UP = 5
"""First pictures, which are not counted."""
EFFECTS = ("overlay", "blur-background", "replace-background", "cut-out")
STAGES: dict[str, dict[str, Any]] = {
    "stage": {},
    "stage, edges: false": {"edges": False},
    "stage, smooth_s: 0": {"smooth_s": 0.0},
    "stage, every: 3": {"every": 3},
}
"""What is changed of the settings to see what it costs; the first is as configured."""
RUNS = ("detection + drawing", "detection + segmentation + drawing", "the same, recorded")


@dataclass(frozen=True)
class Cost:
    """Milliseconds a frame."""

    part: str
    wall_ms: float
    """Median."""
    cpu_ms: float
    """Mean, of all threads of the process."""


@dataclass(frozen=True)
class Reached:
    """What a whole run reaches."""

    run: str
    fps: float
    cpu_ms: float


Measured = TypeVar("Measured", Cost, Reached)
"""A name, and figures."""


def bench(
    source: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Video to run on; without it, a demo clip.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name of a known segmentation model, or a file.")] = "selfie-landscape",
    detector: Annotated[str, typer.Option(help="Name of a known detector, or a file.")] = "yolox-nano",
    backend: Annotated[Backend, typer.Option(help="What runs the models.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="What they compute in.")] = "auto",
    frames: Annotated[int, typer.Option(min=1, help="Frames of the source that a run uses.")] = 300,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any other key of the pipeline.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often to repeat everything.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure segmentation and its effects, in milliseconds a frame, and a run with detection, in frames per second."""
    if json_file is not None:
        prepare_file(json_file, "bench segment --json")
    if source is None:
        with download_progress("demo-bikes") as progress:
            source = Zoo.load().fetch("demo-bikes", progress)
    values = {"sources": [str(source)], "detect.model": detector, "segment.model": model, "max_frames": frames}
    values |= {"segment.enabled": True, "engine.backend": backend, "engine.precision": precision}
    overrides = [Override(key, value, "bench") for key, value in values.items()]
    settings = load_settings(None, [*overrides, *map(parse_set, set_ or ())]).settings
    with download_progress(detector) as progress:
        find_model(settings.detect.model, settings.detect.input_size, progress)
    with download_progress(model) as progress:
        spec = find_segmenter(settings.segment.model, settings.segment.input_size, progress)
    pictures = pictures_of(source)
    steps = itertools.count(1)
    with bar("bench segment") as progress:
        costs, reached = list[Cost](), list[Reached]()
        for _ in range(rounds):
            costs += measure_parts(spec, settings, pictures)
            for run in RUNS:
                reached.append(measure_run(run, settings))
                progress(next(steps), rounds * len(RUNS))
    report = {
        "video": source.name,
        "model": spec.name,
        "environment": environment(),
        "costs": [asdict(each) for each in _medians(costs)],
        "runs": [asdict(each) for each in _medians(reached)],
    }
    _print(report, Console(highlight=False))
    if json_file is not None:
        every = {"costs": [asdict(each) for each in costs], "runs": [asdict(each) for each in reached]}
        json_file.write_text(json.dumps(report | {"rounds": every}, indent=2) + "\n")


def pictures_of(video: Path) -> list[Picture]:
    """Return the first pictures of a video, as planes of `SIZE`.

    Raises:
        SourceError: it cannot be read.
        ConfigError: it has fewer pictures than are needed.
    """
    source = VideoFile("bench", video)
    source.open()
    try:
        items = (item for item in source.frames() if isinstance(item, Frame))
        found = [item.picture.bgr for item in itertools.islice(items, PICTURES)]
    finally:
        source.close()
    if len(found) <= WARM_UP:
        raise ConfigError(f"--source {video} has {len(found)} pictures: at least {WARM_UP + 1} are needed")
    resized = (np.asarray(cv2.resize(each, SIZE, interpolation=cv2.INTER_AREA), np.uint8) for each in found)
    return [Picture(planes=bgr_to_planes(each)) for each in resized]


def measure_parts(spec: ModelSpec, settings: Settings, pictures: Sequence[Picture]) -> list[Cost]:
    """Measure each part of segmentation, and each effect.

    Args:
        spec: of the segmentation model.
        settings: of segmentation and engine.
        pictures: that are segmented, more than `WARM_UP`.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return _parts(spec, settings, pictures)
    finally:
        cv2.setNumThreads(threads)


def _parts(spec: ModelSpec, settings: Settings, pictures: Sequence[Picture]) -> list[Cost]:
    options = engine_options(settings.engine, settings.segment.input_size)
    costs = _of_model(spec, options, pictures)
    maps: list[SegmentationMap | None] = []
    for name, changed in STAGES.items():
        cost, found = _of_stage(name, Segment(spec, options, settings.segment.model_copy(update=changed)), pictures)
        costs.append(cost)
        maps = maps or found
    between = [
        costs[2].wall_ms - costs[0].wall_ms - costs[1].wall_ms,
        costs[2].cpu_ms - costs[0].cpu_ms - costs[1].cpu_ms,
    ]
    costs.insert(2, Cost("reading, edges, smoothing", max(0.0, between[0]), max(0.0, between[1])))
    for effect in EFFECTS:
        stage = Effect(settings.segment.model_copy(update={"effect": effect}), settings.render.theme)
        shown = [_frame(number, *each) for number, each in enumerate(zip(pictures, maps, strict=True))]
        costs.append(_timed(f"effect: {effect}", stage.process, shown))
    return costs


def _of_model(spec: ModelSpec, options: EngineOptions, pictures: Sequence[Picture]) -> list[Cost]:
    """Measure cutting and the model alone."""
    engine = open_engine(spec, options)
    try:
        letterboxes = Letterboxes(engine.input_size, spec.input.fit, spec.input.pad)
        inputs = [letterboxes.cut(each)[1].copy()[None] for each in pictures]
        return [_timed("cut", letterboxes.cut, pictures), _timed("model", engine.infer, inputs)]
    finally:
        engine.close()


def _of_stage(name: str, stage: Segment, pictures: Sequence[Picture]) -> tuple[Cost, list[SegmentationMap | None]]:
    """Measure the whole stage, one frame after the other, and return what it has found."""
    frames = [_frame(number, picture) for number, picture in enumerate(pictures)]

    def process(frame: Frame) -> None:
        if stage.wants(frame):
            stage.collect(frame, stage.submit(frame))
        else:
            stage.skip(frame)

    stage.open()
    try:
        return _timed(name, process, frames), [frame.segmentation for frame in frames]
    finally:
        stage.end("bench")
        stage.close()


def _frame(number: int, picture: Picture, known: SegmentationMap | None = None) -> Frame:
    return Frame("bench", number, number / 25, time.monotonic(), picture, segmentation=known)


def _timed(part: str, work: Callable[[Any], Any], items: Sequence[Any]) -> Cost:
    """Do the work on each item; those of the warm-up are not counted."""
    walls = list[float]()
    cpu = 0.0
    for number, item in enumerate(items):
        if number == WARM_UP:
            cpu = time.process_time()
        began = time.perf_counter()
        work(item)
        walls.append((time.perf_counter() - began) * 1e3)
    counted = len(items) - WARM_UP
    return Cost(part, median(walls[WARM_UP:]), (time.process_time() - cpu) * 1e3 / counted)


def measure_run(run: str, settings: Settings) -> Reached:
    """Measure one of `RUNS`, in a process of its own."""
    if run == RUNS[0]:
        off = settings.segment.model_copy(update={"enabled": False})
        settings = settings.model_copy(update={"segment": off})
    if run != RUNS[2]:
        return Reached(run, *apart(_drawn, settings))
    with tempfile.TemporaryDirectory() as folder:
        result = apart(run_pipeline, settings, Path(folder) / "bench.mp4")
    return Reached(run, result["fps"], result["cpu_ms"])


def _drawn(settings: Settings) -> tuple[float, float]:
    """Run as Python's loop does and draw on each frame there; return frames per second and CPU milliseconds each."""
    renderer = Renderer(settings.render)
    renderer.open()
    count, cpu = 0, time.process_time()
    with Pipeline(settings) as frames:
        for frame in frames:
            renderer.process(frame)
            count += 1
        ended = time.monotonic()
        first_at = frames.runner.ledger.first_at
    assert first_at is not None
    return count / (ended - first_at), (time.process_time() - cpu) * 1e3 / count


def _medians(measured: Sequence[Measured]) -> list[Measured]:
    """Return the median of each part, or run, over the rounds."""
    rounds: dict[str, list[Sequence[float]]] = {}
    for each in measured:
        name, *figures = astuple(each)
        rounds.setdefault(name, []).append(figures)
    kind = type(measured[0])
    return [kind(name, *map(median, zip(*figures, strict=True))) for name, figures in rounds.items()]


def _print(report: dict[str, Any], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column(f"part, {SIZE[0]}x{SIZE[1]}")
    for heading in ("ms a frame", "CPU ms"):
        table.add_column(heading, justify="right")
    for each in report["costs"]:
        table.add_row(each["part"], f"{each['wall_ms']:.2f}", f"{each['cpu_ms']:.2f}")
    console.print(table)
    runs = Table(box=None, pad_edge=False)
    runs.add_column(f"run, {report['video']}")
    for heading in ("fps", "CPU ms a frame"):
        runs.add_column(heading, justify="right")
    for each in report["runs"]:
        runs.add_row(each["run"], f"{each['fps']:.1f}", f"{each['cpu_ms']:.1f}")
    console.print(runs)
    machine = report["environment"]
    console.print(
        f"{report['model']}; medians over the rounds; {machine['cpu']}, {machine['cores']} cores, "
        f"load {machine['load']}, Python {machine['python']}",
        markup=False,
        soft_wrap=True,
    )
