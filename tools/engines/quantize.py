"""`frameloom engines quantize`: int8 for a CPU, kept only where it decides as well as float does.

Quantising is easy and a collapse unnoticed is, too. So the float engine is measured first, the model is calibrated on
some pictures and judged on others, layers that do harm go back to float, and what is not accepted is not stored: a
later run with `engine.precision: int8` finds only what this command has accepted.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from engines.cache.engine_cache import EngineCache
from engines.cache.manifest import Quantisation
from engines.engine import Backend, EngineOptions, open_engine
from engines.errors import ModelError, ParityFailed
from engines.graph import load
from engines.int8.circumstances import CPU_BACKENDS, version_of
from engines.int8.cpu import Calibrated
from engines.int8.kept import keep, opened
from engines.int8.search import PICTURES, Attempt, Harm, Progress, harms_of, search
from engines.prepare import prepare
from engines.tensorrt.refusals import is_quantised
from pipeline.errors import ConfigError
from pipeline.infer.decisions import CONFIDENCE
from tools.engines.cached import JsonOption
from tools.engines.models import Wanted, named
from tools.engines.options import ConfigOption, InputSizeOption, SetsOption, input_size_of, settings_of
from tools.engines.progress import build_progress
from tools.engines.quantize_costs import costs
from tools.engines.quantize_judges import AveragePrecision, Judge, MatchedBoxes
from tools.engines.quantize_pictures import beside, halves, labels
from tools.engines.quantize_report import Report, Tried, print_report
from tools.terminal import say

if TYPE_CHECKING:
    import onnx

    from engines.engine import Batch, Outputs
    from engines.spec import ModelSpec


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Known detector or face finder, or ONNX file.")],
    images: Annotated[
        list[str],
        typer.Option(metavar="FOLDER|VIDEO", help="Pictures of the place of use, to calibrate on; may be repeated."),
    ],
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Judge by AP on labelled pictures: COCO .json, YOLO or VOC folder."),
    ] = None,
    annotated: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Of the labelled pictures. Default: --images, if a folder.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE[,VALUE]", help="Only labelled images whose record says so.")
    ] = None,
    frames: Annotated[int, typer.Option(min=16, help="Most pictures to calibrate on, and to judge by.")] = 100,
    max_ap_loss: Annotated[float, typer.Option(min=0, max=50, help="Most points of AP that int8 may lose.")] = 1.0,
    min_matched: Annotated[
        float, typer.Option(min=50, max=100, help="Without labels: percent of boxes that must match the float ones.")
    ] = 98.0,
    backend: Annotated[
        Literal["auto", "openvino", "onnxruntime"] | None, typer.Option(help="auto: openvino where it is installed.")
    ] = None,
    input_size: InputSizeOption = None,
    config: ConfigOption = None,
    set_: SetsOption = None,
    json: JsonOption = False,
) -> None:
    """Put a detector into int8 for a CPU; keep it only if it decides as well, else exit 1 and keep nothing."""
    began = time.monotonic()
    settings = settings_of(config, set_, {"backend": backend, "precision": "auto"})
    chosen = _backend(settings.engine.backend)
    size = input_size_of(input_size)
    (wanted,) = named([model], settings, size)
    _refuse_unsuitable(wanted)
    EngineCache().check_writable()
    options = replace(wanted.options, backend=chosen, candidates=None)
    floating = open_engine(wanted.spec, options)
    try:
        judge, calibration, notes = _pictures(
            wanted, floating.input_size, images, annotations, annotated, where or [], frames, max_ap_loss, min_matched
        )
        with build_progress(wanted.spec.name) as progress:
            progress(f"judging it in {floating.describe().precision}", 0.0)
            before = judge.baseline(floating)
            progress(f"calibrating on {len(calibration)} pictures", 0.05)
            plain = prepare(wanted.spec, options.input_size)
            calibrated = Calibrated(plain, wanted.spec.input, calibration, chosen)
            attempts = _search(wanted, options, judge, before, calibrated, calibration, progress)
    finally:
        floating.close()
    made = _report(wanted.spec, options, judge, before, calibrated, attempts, plain, notes)
    stored = None
    if made.accepted:
        size = options.input_size
        stored = keep(
            wanted.spec, chosen, size, attempts[-1].network, _quantisation(made, calibrated), time.monotonic() - began
        )
    console = Console(highlight=False)
    if json:
        console.print_json(data={**made.as_dict(), "stored": None if stored is None else str(stored.path)})
    else:
        print_report(made, console)
        if stored is not None:
            say(f"{stored.path}\nto run it: --backend {chosen} --precision int8")
    if stored is None:
        raise ParityFailed(f"{made.verdict}; give more pictures of the place of use, or stay with float")


def _backend(wanted: Backend) -> Backend:
    """Return the CPU backend.

    Raises:
        ConfigError: it is a GPU's, or it is not installed.
    """
    if wanted == "auto":
        wanted = "openvino" if version_of("openvino") is not None else "onnxruntime"
    if wanted not in CPU_BACKENDS:
        raise ConfigError(
            f"quantize is for CPUs (--backend openvino or onnxruntime); for {wanted}: frameloom engines build "
            "--precision int8 --images FOLDER"
        )
    if version_of(wanted) is None:
        raise ConfigError(f"{wanted} is not installed: pip install {wanted}")
    return wanted


def _refuse_unsuitable(wanted: Wanted) -> None:
    """Refuse what nobody could judge.

    Raises:
        ModelError: in words.
    """
    spec = wanted.spec
    if spec.encoder is not None:
        raise ModelError(
            f"{spec.name} encodes faces, and encoders run in fp32 on every CPU, so that galleries mean the same "
            "everywhere: it is not put into int8"
        )
    if wanted.judge is None:
        raise ModelError(
            f"{spec.name} ({spec.task}) gives no boxes that can be read, so nobody could judge it in int8"
            f"{': ' + wanted.note if wanted.note else ''}"
        )
    if is_quantised(load(spec.path)):
        raise ModelError(f"{spec.path} is in int8 already: run it as it is (--precision fp32), or give the float file")


def _pictures(
    wanted: Wanted,
    size: tuple[int, int],
    images: list[str],
    annotations: Path | None,
    annotated: Path | None,
    where: list[str],
    frames: int,
    max_ap_loss: float,
    min_matched: float,
) -> tuple[Judge, list[Batch], tuple[str, ...]]:
    """Return who judges, what to calibrate on, and notes on it."""
    spec = wanted.spec
    if annotations is None:
        if annotated is not None or where:
            raise ConfigError("--annotated and --where are about labelled pictures: add --annotations PATH")
        calibration, held_out = halves(images, frames, spec, size)
        assert wanted.judge is not None
        threshold = CONFIDENCE if spec.task == "detect" else None
        return MatchedBoxes(wanted.judge(size), held_out, min_matched, threshold), calibration, ()
    if spec.task != "detect":
        raise ConfigError(f"--annotations: AP is measured of detectors, and {spec.name} is for {spec.task}")
    folder = annotated or next((Path(place) for place in images if len(images) == 1 and Path(place).is_dir()), None)
    calibration, judged, note = beside(images, frames, labels(annotations, folder, where), spec, size)
    return AveragePrecision(spec, judged, max_ap_loss), calibration, (note,) if note else ()


def _search(
    wanted: Wanted,
    options: EngineOptions,
    judge: Judge,
    before: float,
    calibrated: Calibrated,
    calibration: list[Batch],
    progress: Progress,
) -> list[Attempt]:
    spec, least = wanted.spec, judge.least(before)
    few = calibration[:: max(1, len(calibration) // PICTURES)][:PICTURES]
    assert wanted.judge is not None
    decide = wanted.judge((few[0].shape[1], few[0].shape[2]))

    def run(network: onnx.ModelProto) -> list[Outputs]:
        with closing(opened(spec, options.backend, replace(options, requests=1), network)) as engine:
            return [engine.infer(picture) for picture in few]

    def look(network: onnx.ModelProto) -> tuple[float, bool]:
        with closing(opened(spec, options.backend, options, network)) as engine:
            figure = judge.measure(engine)
        return figure, figure >= least

    def find_harms() -> list[Harm]:
        return harms_of(calibrated, run, decide, lambda doing, share: progress(doing, 0.2 + 0.4 * share))

    return search(calibrated, find_harms, look, lambda doing, share: progress(doing, 0.1 + 0.9 * share))


def _report(
    spec: ModelSpec,
    options: EngineOptions,
    judge: Judge,
    before: float,
    calibrated: Calibrated,
    attempts: list[Attempt],
    plain: onnx.ModelProto,
    notes: tuple[str, ...],
) -> Report:
    last, alone = attempts[-1], replace(options, requests=1)
    with (
        closing(open_engine(spec, alone)) as floating,
        closing(opened(spec, options.backend, alone, last.network)) as int8,
    ):
        (float_ms, float_cpu_ms), (int8_ms, int8_cpu_ms) = costs([floating, int8])
        precision = floating.describe().precision
    return Report(
        spec.name,
        options.backend,
        precision,
        judge.figure,
        judge.judged_on,
        before,
        judge.least(before),
        tuple(Tried(len(each.in_float), each.figure) for each in attempts),
        last.accepted,
        len(last.in_int8),
        {harm.layer: harm.loss for harm in last.in_float},
        calibrated.others,
        calibrated.pictures,
        float_ms,
        int8_ms,
        float_cpu_ms,
        int8_cpu_ms,
        plain.ByteSize(),
        last.network.ByteSize(),
        notes,
    )


def _quantisation(made: Report, calibrated: Calibrated) -> Quantisation:
    return Quantisation(
        calibration_pictures=calibrated.pictures,
        calibration_sha256=calibrated.pictures_sha256,
        layers=made.layers,
        in_float=made.in_float,
        depthwise=made.depthwise,
        figure=made.figure,
        judged_on=made.judged_on,
        float_precision=made.float_precision,
        before=made.before,
        after=made.attempts[-1].figure,
        bound=made.least,
        float_ms=made.float_ms,
        int8_ms=made.int8_ms,
        float_cpu_ms=made.float_cpu_ms,
        int8_cpu_ms=made.int8_cpu_ms,
        float_bytes=made.float_bytes,
    )
