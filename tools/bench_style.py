"""`frameloom bench style`: how fast a style network is, what the stage around it costs, how steady its paintings are.

Other programs disturb times of the clock, so CPU time is given beside them, and of several rounds the fastest.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from engines.engine import EngineOptions
from engines.spec import ModelSpec
from engines.zoo import Zoo
from pipeline.arrays import Image
from pipeline.assemble_engine import engine_options
from pipeline.capture.file import VideoFile
from pipeline.config.load import Override, load_settings, parse_set
from pipeline.config.look_settings import StylizeSettings
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.infer.picture_stylizer import PictureStylizer, find_stylizer
from pipeline.infer.style_budget import paint_all
from pipeline.infer.stylize import Stylize
from pipeline.picture import Picture, bgr_to_planes
from pipeline.sinks.paths import prepare_file
from tools.benchmark import apart, environment, run_pipeline
from tools.flicker import Flicker, changes, flicker
from tools.terminal import bar, download_progress

ALONE = (360, 640)
"""Height and width of the picture that a network is timed with."""
ROUNDS = 5
FRAMES_A_ROUND = 8
SIZES = {"360p": (360, 640), "720p": (720, 1280), "1080p": (1080, 1920)}
WAYS: dict[str, dict[str, Any]] = {
    "each picture by itself": {"stable": 0.0},
    "steady": {},
    "keeping colours": {"stable": 0.0, "keep_colours": True},
    "half strength": {"stable": 0.0, "strength": 0.5},
    "side by side": {"stable": 0.0, "where": "side-by-side"},
}
FRAMES, FLICKER_FRAMES = 60, 40
"""Of a whole run, and of each video whose flicker is measured: about a minute in all on two quiet cores."""
TIMED = 8
"""Frames of which a cost is taken, in each of fifteen ways and sizes; each is painted for it."""
QUIET = 0.2
"""Part of the frames that cost less than what is taken for the cost: other programs only make one dearer."""
FIRST = 2
"""Frames that do not count: there is no last painting yet."""
LONG_SIDE = 480
"""Pixels of the pictures in which flicker is measured, at most."""
TABLE_WIDTH = 110


@dataclass(frozen=True)
class Alone:
    """A network by itself."""

    size: str
    ms: float
    """From picture to painting, all requests in flight: the fastest round, per picture."""
    cpu_ms: float
    engine: str

    @property
    def fps(self) -> float:
        """Paintings a second."""
        return 1e3 / self.ms


@dataclass(frozen=True)
class Steadiness:
    """One video, painted each picture by itself and kept steady."""

    video: str
    frames: int
    original: Flicker
    alone: Flicker
    steady: Flicker
    cpu_ms: float
    """That keeping it steady costs a frame."""


def style(
    model: Annotated[str, typer.Option(help="Name of a known style, or its ONNX file.")] = "starry-night",
    backend: Annotated[str, typer.Option(help="auto, tensorrt, tensorrt-rtx, openvino or onnxruntime.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 (CPU) or fp16 (TensorRT).")] = "auto",
    flicker_of: Annotated[
        list[Path] | None, typer.Option("--flicker", metavar="VIDEO", help="Measure flicker instead; may be repeated.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=2, help=f"Frames of each video ({FRAMES}; with --flicker {FLICKER_FRAMES}).")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any key of the pipeline.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure a style network alone, the stage's CPU time, and a whole run; or, with --flicker, how steady it is."""
    if json_file is not None:
        prepare_file(json_file, "bench style --json")
    frames = frames or (FLICKER_FRAMES if flicker_of else FRAMES)
    values = {"stylize.model": model, "stylize.enabled": True, "detect.enabled": False, "sources": ["-"]}
    values |= {"engine.backend": backend, "engine.precision": precision, "max_frames": frames}
    overrides = [Override(key, value, "bench") for key, value in values.items()]
    settings = load_settings(None, [*overrides, *map(parse_set, set_ or ())]).settings
    with download_progress(model) as progress:
        spec = find_stylizer(settings.stylize.model, progress)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        report = _steadiness(spec, settings, flicker_of, frames) if flicker_of else _speed(spec, settings)
    finally:
        cv2.setNumThreads(threads)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")


# --- speed ------------------------------------------------------------------------------------------------------------


def _speed(spec: ModelSpec, settings: Settings) -> dict[str, Any]:
    console = _console()
    alone = measure_alone(spec, engine_options(settings.engine))
    console.print(f"network alone  {alone.fps:.1f} fps, {alone.ms:.1f} ms, {alone.cpu_ms:.1f} CPU ms a picture")
    console.print(f"  {alone.engine}", markup=False, soft_wrap=True)
    costs = {}
    with bar("the stage") as progress:
        for done, (size, pixels) in enumerate(SIZES.items(), 1):
            costs[size] = stage_costs(spec, engine_options(settings.engine), pixels)
            progress(done, len(SIZES))
    console.print(_cost_table(costs))
    with download_progress("demo-bikes") as progress:
        video = Zoo.load().fetch("demo-bikes", progress)
    with tempfile.TemporaryDirectory() as folder:
        settings = settings.model_copy(update={"sources": load_settings(None, _source(video)).settings.sources})
        run = apart(run_pipeline, settings, Path(folder) / "out.mp4")
    console.print(f"whole run      {run['fps']:.1f} fps, {run['cpu_ms']:.1f} CPU ms a frame ({video.name}, recorded)")
    machine = environment()
    console.print(_about(machine), soft_wrap=True)
    return {"alone": asdict(alone), "stage_cpu_ms": costs, "run": run, "environment": machine}


def _source(video: Path) -> list[Override]:
    return [Override("sources", [str(video)], "bench")]


def measure_alone(spec: ModelSpec, options: EngineOptions) -> Alone:
    """Time a network with all its requests in flight, from picture to painting."""
    stylizer = PictureStylizer(spec, options, min(ALONE))
    picture = _picture(ALONE)
    try:
        size = stylizer.prepare(*ALONE).engine.input_size
        paint_all(stylizer, picture, FRAMES_A_ROUND)
        times, cpu = [], []
        for _ in range(ROUNDS):
            began = time.process_time()
            times.append(paint_all(stylizer, picture, FRAMES_A_ROUND))
            cpu.append(time.process_time() - began)
        shown = f"{size[1]}x{size[0]}"
        return Alone(shown, _each_ms(min(times)), _each_ms(min(cpu)), stylizer.describe())
    finally:
        stylizer.close()


def _each_ms(seconds: float) -> float:
    return seconds * 1e3 / FRAMES_A_ROUND


def _picture(size: tuple[int, int]) -> Picture:
    """Return a made-up picture in planes: soft shapes, which have strokes and flow."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (size[0] // 40, size[1] // 40, 3), np.uint8)
    bgr = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return Picture(planes=bgr_to_planes(np.asarray(bgr, np.uint8)))


def stage_costs(spec: ModelSpec, options: EngineOptions, size: tuple[int, int]) -> dict[str, float]:
    """Return the CPU milliseconds of the stage's two threads a frame, without the network, for each way to use it."""
    costs = {}
    for way, values in WAYS.items():
        stage = Stylize(spec, options, StylizeSettings(enabled=True, **values), sizes=[size])
        stage.open()
        frames = (Frame("bench", i, i / 25, 0.0, _picture(size)) for i in range(TIMED))
        costs[way] = usual([cpu for _, cpu in painted(stage, frames)])
        stage.close()
    return costs


def usual(costs: list[float]) -> float:
    """Return what a frame costs where nothing disturbs."""
    return float(np.quantile(costs[FIRST:] or costs, QUIET))


def painted(stage: Stylize, frames: Iterator[Frame]) -> Iterator[tuple[Frame, float]]:
    """Paint frames one by one; yield each with the CPU milliseconds of this thread: all but the network's own."""
    for frame in frames:
        began = time.thread_time()
        ticket = stage.submit(frame)
        stage.collect(frame, ticket)
        yield frame, (time.thread_time() - began) * 1e3


# --- flicker ----------------------------------------------------------------------------------------------------------


def _steadiness(spec: ModelSpec, settings: Settings, videos: list[Path], frames: int) -> dict[str, Any]:
    if settings.stylize.where != "everywhere":
        raise ConfigError(f"stylize.where: {settings.stylize.where} cannot go with --flicker, which paints everywhere")
    results = []
    for video in videos:
        with bar(video.name) as progress:
            done = 0

            def step() -> None:
                nonlocal done
                done += 1
                progress(done, 2 * frames)

            results.append(steadiness(spec, settings, video, frames, step))
    console = _console()
    console.print(_flicker_table(results))
    machine = environment()
    console.print(
        "warping error and flicker where nothing moves: mean squared grey levels from frame to frame; strokes: mean "
        "absolute Laplacian of what moves, against each picture painted by itself. " + _about(machine),
        soft_wrap=True,
    )
    return {"videos": [asdict(each) for each in results], "environment": machine}


def steadiness(
    spec: ModelSpec, settings: Settings, video: Path, frames: int, step: Callable[[], None] = lambda: None
) -> Steadiness:
    """Paint a video twice, each picture by itself and kept steady, and compare.

    Args:
        spec: the style.
        settings: of the run; `stylize.stable` is what is compared with 0.
        video: the original.
        frames: how many of its first frames to use.
        step: called after each painted frame.

    Raises:
        ConfigError: it has less than two frames.
    """
    original = [_small(frame.picture) for frame in read(video, frames)]
    if len(original) < 2:
        raise ConfigError(f"--flicker {video}: {len(original)} frame, where flicker needs two or more: name a video")
    happens = changes(original)
    found: list[Flicker] = []
    costs: list[float] = []
    for stable in (0.0, settings.stylize.stable):
        wanted = settings.stylize.model_copy(update={"stable": stable})
        stage = Stylize(spec, engine_options(settings.engine), wanted)
        stage.open()
        shown, cpu = [], []
        for frame, ms in painted(stage, read(video, frames)):
            shown.append(_small(frame.output))
            cpu.append(ms)
            step()
        stage.close()
        found.append(flicker(shown, happens))
        costs.append(usual(cpu))
    alone, steady = found
    return Steadiness(video.name, len(original), flicker(original, happens), alone, steady, costs[1] - costs[0])


def read(video: Path, frames: int) -> Iterator[Frame]:
    """Yield the first frames of a video."""
    source = VideoFile(video.stem, video)
    source.open()
    try:
        whole = (frame for frame in source.frames() if isinstance(frame, Frame))
        yield from islice(whole, frames)
    finally:
        source.close()


def _small(picture: Picture) -> Image:
    scale = min(1.0, LONG_SIDE / max(picture.width, picture.height))
    size = (round(picture.width * scale), round(picture.height * scale))
    return np.asarray(cv2.resize(picture.bgr, size, interpolation=cv2.INTER_AREA), np.uint8)


# --- tables -----------------------------------------------------------------------------------------------------------


def _console() -> Console:
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)  # wrapped, it says nothing
    return console


def _about(machine: dict[str, Any]) -> str:
    return f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}, Python {machine['python']}"


def _cost_table(costs: dict[str, dict[str, float]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("the stage, CPU ms a frame without the network")
    for size in costs:
        table.add_column(size, justify="right")
    for way in WAYS:
        table.add_row(way, *(f"{each[way]:.1f}" for each in costs.values()))
    return table


def _flicker_table(results: list[Steadiness]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("video")
    table.add_column("")
    for heading in ("original", "by itself", "steady", "steady / by itself"):
        table.add_column(heading, justify="right")
    for each in results:
        rows = {"warping error": "warping_error", "where nothing moves": "still_error", "strokes": "strokes"}
        for name, key in rows.items():
            original, alone, steady = (getattr(of, key) for of in (each.original, each.alone, each.steady))
            shown = [f"{value:.2f}" for value in (original, alone, steady, _ratio(steady, alone))]
            table.add_row(each.video if name == "warping error" else "", name, *shown)
        table.add_row("", "CPU ms a frame", "", "", f"+{each.cpu_ms:.1f}", "")
    return table


def _ratio(value: float, to: float) -> float:
    return value / to if to else math.nan
