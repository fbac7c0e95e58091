"""`frameloom bench`: what a frame costs, what the whole reaches, and what a plain loop reaches, in one run.

Every measurement has a process of its own, and they take turns round by round, so a machine that gets slower or busier
hits all of them; medians are reported.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Annotated, Any, TypeVar

import psutil
import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from engines.engine import EngineOptions
from engines.spec import ModelSpec
from engines.zoo import Zoo
from pipeline.assemble import assemble, find_model
from pipeline.assemble_engine import engine_options
from pipeline.config.load import Override, load_settings, parse_set
from pipeline.config.settings import Settings
from pipeline.sinks.paths import prepare_file
from tools.terminal import download_progress

Result = TypeVar("Result")


class VideoUnlessNamed(TyperGroup):
    """`bench street.mp4` is short for `bench video street.mp4`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name in front where none is given."""
        named = args and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named else ["video", *args])


app = typer.Typer(
    cls=VideoUnlessNamed,
    help="Measure. `frameloom bench street.mp4` is short for `frameloom bench video street.mp4`.",
)


@app.command("video")
def bench(
    video: Annotated[Path | None, typer.Argument(help="Video to run on; without it, a demo clip.")] = None,
    model: Annotated[str, typer.Option(help="Name of a known YOLOX model, or its ONNX file.")] = "yolox-nano",
    backend: Annotated[str, typer.Option(help="auto, tensorrt, tensorrt-rtx, openvino or onnxruntime.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 (CPU), fp16 (TensorRT) or int8.")] = "auto",
    frames: Annotated[int, typer.Option(min=1, help="Frames of the video to use.")] = 300,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any other key of the pipeline.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often to repeat everything.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure each stage's CPU time, the pipeline's frames per second, and those of a plain loop."""
    if video is None:
        with download_progress("demo-bikes") as progress:
            video = Zoo.load().fetch("demo-bikes", progress)
    if json_file is not None:
        prepare_file(json_file, "bench --json")
    values = {"sources": [str(video)], "detect.model": model, "max_frames": frames}
    values |= {"engine.backend": backend, "engine.precision": precision}
    overrides = [Override(key, value, "bench") for key, value in values.items()]
    settings = load_settings(None, [*overrides, *map(parse_set, set_ or ())]).settings
    with download_progress(model) as progress:
        spec = find_model(settings.detect.model, settings.detect.input_size, progress)
    options = engine_options(settings.engine, settings.detect.input_size)
    results = [_round(spec, options, settings, video, frames) for _ in range(rounds)]
    report = summarise(results, os.cpu_count() or 1) | {"video": video.name, "environment": environment()}
    _print(report, Console(highlight=False))
    if json_file is not None:
        json_file.write_text(json.dumps(report | {"rounds": results}, indent=2) + "\n")


def _round(spec: ModelSpec, options: EngineOptions, settings: Settings, video: Path, frames: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        pipeline = apart(run_pipeline, settings, Path(folder) / "pipeline.mp4")
        baseline = apart(_run_baseline, spec.path, spec.labels, video, Path(folder) / "baseline.mp4", frames)
        stages = apart(_bare, spec, options, video, frames)
    return {"stages": stages, "pipeline": pipeline, "baseline_fps": baseline}


def _bare(spec: ModelSpec, options: EngineOptions, video: Path, frames: int) -> dict[str, float]:
    from tools.bare import bare_stages

    return bare_stages(spec, options, video, frames)


def _run_baseline(*arguments: Any) -> float:
    from tools.baseline import run_baseline

    return run_baseline(*arguments)


def run_pipeline(settings: Settings, output: Path) -> dict[str, Any]:
    """Run as `frameloom run --record` does; count from the first captured frame to the closed file."""
    loaded = settings.model_copy(
        update={"sinks": load_settings(None, [Override("sinks.record.path", str(output), "bench")]).settings.sinks}
    )
    runner = assemble(loaded)
    cpu = time.process_time()
    runner.run()
    ended = time.monotonic()
    assert runner.ledger.first_at is not None
    delivered = sum(account.delivered for account in runner.ledger.accounts.values())
    return {
        "fps": delivered / (ended - runner.ledger.first_at),
        "frames": delivered,
        "cpu_ms": (time.process_time() - cpu) * 1e3 / delivered,
        "latency_ms": runner.summary()["latency_ms"],
        "engine": runner.descriptions(),
    }


def apart(work: Callable[..., Result], *arguments: Any) -> Result:
    """Do the work in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def summarise(results: list[dict[str, Any]], cores: int) -> dict[str, Any]:
    """Return the medians over the rounds; ratios are medians of the ratios within a round."""
    stages = {name: median(each["stages"][name] for each in results) for name in results[0]["stages"]}
    bounds = [cores * 1e3 / sum(each["stages"].values()) for each in results]
    fps = [each["pipeline"]["fps"] for each in results]
    return {
        "stages_cpu_ms": stages,
        "sum_cpu_ms": median(sum(each["stages"].values()) for each in results),
        "bound_fps": median(bounds),
        "pipeline_fps": median(fps),
        "pipeline_cpu_ms": median(each["pipeline"]["cpu_ms"] for each in results),
        "baseline_fps": median(each["baseline_fps"] for each in results),
        "of_bound": median(reached / bound for reached, bound in zip(fps, bounds, strict=True)),
        "times_baseline": median(each["pipeline"]["fps"] / each["baseline_fps"] for each in results),
        "latency_ms": results[-1]["pipeline"]["latency_ms"],
        "engine": results[-1]["pipeline"]["engine"],
        "frames": results[-1]["pipeline"]["frames"],
    }


def environment() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "load": round(psutil.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _print(report: dict[str, Any], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("stage, alone on one thread")
    table.add_column("CPU ms per frame", justify="right")
    for name, milliseconds in report["stages_cpu_ms"].items():
        table.add_row(name, f"{milliseconds:.2f}")
    table.add_row("sum", f"{report['sum_cpu_ms']:.2f}", style="bold")
    console.print(table)
    machine = report["environment"]
    console.print(f"bound      {report['bound_fps']:7.1f} fps = {machine['cores']} cores / the sum")
    console.print(
        f"pipeline   {report['pipeline_fps']:7.1f} fps = {report['of_bound']:.2f} of the bound, "
        f"{report['times_baseline']:.2f} x the plain loop; {report['pipeline_cpu_ms']:.2f} CPU ms per frame"
    )
    console.print(f"plain loop {report['baseline_fps']:7.1f} fps (cv2 + ONNX Runtime + cv2.VideoWriter)")
    for line in report["engine"]:
        console.print(line, markup=False, soft_wrap=True)
    console.print(
        f"{report['video']}, {report['frames']} frames; {machine['cpu']}, {machine['cores']} cores, "
        f"load {machine['load']}, Python {machine['python']}",
        soft_wrap=True,
    )
