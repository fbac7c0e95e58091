"""`frameloom bench gpu`: all that is to be known of a machine with an NVIDIA GPU, in one go.

What is least likely to go wrong comes first. TensorRT may refuse a GPU: then its words are the result, and the CUDA
layer and the letterbox are measured all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer
from rich.console import Console

from engines.cuda.choose import open_cuda
from engines.cuda.driver import gpu_for
from engines.errors import BackendUnavailable, FrameloomError
from engines.tensorrt.flavour import find_flavour
from engines.tensorrt.recipe import PlanPrecision
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from pipeline.sinks.paths import prepare_file
from tools.engines.build import chosen_backend
from tools.engines.models import named
from tools.engines.options import DeviceOption, SetsOption, settings_of
from tools.gpu.layer import COPIED, FILLED, Moved, measure_layer
from tools.gpu.machine import in_words, look_at
from tools.gpu.models import agreements, ask, in_precision
from tools.gpu.pipeline import decoded
from tools.gpu.report import Report
from tools.gpu.speed import Bench
from tools.gpu.tables import ACCEPTED, AGREES, GRAPHS, LATENCY, LAYER, LAYERS, SWEEP
from tools.gpu.timing import Effort
from tools.terminal import download_progress

if TYPE_CHECKING:
    from engines.cuda.driver import Gpu
    from engines.tensorrt.flavour import Flavour
    from pipeline.config.settings import Settings
    from pipeline.picture import Picture
    from tools.engines.models import Wanted

MODELS = ("yolox-nano", "centerface", "dlib-resnet", "mobilefacenet")
CLIP = "demo-bikes"
MIB = 1 << 20


def gpu(
    video: Annotated[Path | None, typer.Argument(help="Video to take frames from; without it, a demo clip.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"Repeatable; the first detector's speed is measured. Default: {', '.join(MODELS)}."),
    ] = None,
    backend: Annotated[
        Literal["auto", "tensorrt", "tensorrt-rtx"], typer.Option(help="auto: tensorrt where it is, else tensorrt-rtx.")
    ] = "auto",
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, fp16 or int8; repeatable. Default: fp32, fp16, and int8 where it is calibrated."),
    ] = None,
    batches: Annotated[str, typer.Option(metavar="N,N,...", help="Batch sizes to compare.")] = "1,2,4,8,16,32",
    frames: Annotated[int, typer.Option(min=1, help="Frames of the video to hold in memory.")] = 300,
    seconds: Annotated[float, typer.Option(min=0, help="Shortest time of each measurement's round.")] = 1.0,
    steps: Annotated[int, typer.Option(min=1, help="Fewest steps of each measurement's round.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="How often to repeat; medians are reported.")] = 3,
    copy_mib: Annotated[int, typer.Option(min=1, help="Size of the copies.")] = COPIED // MIB,
    fill_mib: Annotated[int, typer.Option(min=1, help="Most memory to fill.")] = FILLED // MIB,
    device: DeviceOption = None,
    set_: SetsOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure an NVIDIA GPU: does TensorRT take it, do plans agree with their models, how fast is everything."""
    settings = settings_of(None, set_, {"device": device})
    sizes, precisions = _batches(batches), _precisions(precision)
    chosen = gpu_for(settings.engine.device)
    if json_file is not None:
        prepare_file(json_file, "bench gpu --json")
    report = Report(Console(highlight=False), json_file)
    effort = Effort(seconds, steps, rounds)
    flavour = _flavour(backend, report)
    report.measure(LAYER, lambda: _layer(chosen, settings, effort, copy_mib * MIB, fill_mib * MIB, flavour, report))
    if flavour is None:
        return
    models = tuple(model or MODELS)
    detector = _detector(models, settings)
    if detector is not None:
        report.measure(ACCEPTED, lambda: ask(flavour, chosen, settings.engine.cuda, detector.spec))
    report.measure(AGREES, lambda: agreements(flavour, settings, models, precisions))
    if detector is not None:
        _speed(report, detector, flavour, chosen, decoded(video or _clip(), frames), effort, sizes)


def _batches(text: str) -> tuple[int, ...]:
    """Return the numbers of `--batches`, in order, none twice.

    Raises:
        ConfigError: it is no list of numbers above 0.
    """
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1:
        raise ConfigError(f"--batches {text}: write numbers of pictures, such as 1,2,4,8")
    return tuple(numbers)


def _precisions(wanted: Sequence[str] | None) -> tuple[PlanPrecision, ...]:
    known: tuple[PlanPrecision, ...] = get_args(PlanPrecision)
    for precision in wanted or ():
        if precision not in known:
            raise ConfigError(f"--precision {precision}: choose of {', '.join(known)}")
    return tuple(each for each in known if not wanted or each in wanted)


def _flavour(backend: Literal["auto", "tensorrt", "tensorrt-rtx"], report: Report) -> Flavour | None:
    """Return the TensorRT that is measured; None where there is none, which is no reason to measure nothing."""
    try:
        return find_flavour(chosen_backend(backend))
    except BackendUnavailable as reason:
        report.problem("tensorrt", reason)
        return None


def _layer(
    chosen: Gpu, settings: Settings, effort: Effort, copied: int, filled: int, flavour: Flavour | None, report: Report
) -> Iterator[Moved]:
    """Tell what the machine is, and measure the CUDA layer."""
    cuda = open_cuda(settings.engine.cuda, chosen)
    try:
        name = "none" if flavour is None else f"{flavour.backend} {flavour.version}"
        machine = look_at(chosen, cuda.name, name)
        report.keep("machine", asdict(machine))
        for line in in_words(machine):
            report.say(line)
        cuda.activate()
        yield from measure_layer(cuda, effort, copied, filled)
    finally:
        cuda.close()


def _detector(models: Sequence[str], settings: Settings) -> Wanted | None:
    """Return the first of the models that detects objects; what is wrong with others is told with their parity."""
    for model in models:
        try:
            (wanted,) = named([model], settings, None)
        except FrameloomError:
            continue
        if wanted.spec.task == "detect":
            return wanted
    return None


def _speed(
    report: Report,
    detector: Wanted,
    flavour: Flavour,
    chosen: Gpu,
    pictures: Sequence[Picture],
    effort: Effort,
    sizes: Sequence[int],
) -> None:
    """Measure the detector in each precision in which it agrees with its model file."""
    agreed = [
        row["precision"]
        for row in report.found.get(AGREES.name, ())
        if (row["model"], row["state"]) == (detector.spec.name, "verified")
    ]
    benches = [Bench(flavour, chosen, in_precision(detector, flavour, each), pictures, effort) for each in agreed]
    report.measure(LAYERS, *(bench.layers for bench in benches))
    report.measure(LATENCY, *(bench.latencies for bench in benches))
    report.measure(GRAPHS, *(bench.graphs for bench in benches))
    report.measure(SWEEP, *(partial(bench.sweep, sizes) for bench in benches))


def _clip() -> Path:
    with download_progress(CLIP) as progress:
        return Zoo.load().fetch(CLIP, progress)
