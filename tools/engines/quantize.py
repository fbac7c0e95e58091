"""`frameloom engines quantize`: int8 for a CPU, kept only where it decides as well as float does.

Quantising is easy and a collapse unnoticed is, too. So the float engine is measured first, the model is calibrated on
some pictures, layers that do harm on others go back to float, and what that gives must hold on a third lot. What is not
accepted is not stored: a later run with `engine.precision: int8` finds only what this command has accepted.
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
from engines.engine import EngineOptions, open_engine
from engines.errors import ParityFailed
from engines.int8.answers import Answers, answers_of
from engines.int8.cpu import Calibrated
from engines.int8.kept import keep, opened
from engines.int8.search import PICTURES, Attempt, Harm, Progress, harms_of, search
from engines.prepare import prepare
from tools.engines.cached import JsonOption
from tools.engines.models import named
from tools.engines.options import ConfigOption, InputSizeOption, SetsOption, input_size_of, settings_of
from tools.engines.progress import build_progress
from tools.engines.quantize_costs import costs
from tools.engines.quantize_judges import Judge, Measured
from tools.engines.quantize_parts import Asked, parts_of
from tools.engines.quantize_refusals import cpu_backend, refuse_unsuitable
from tools.engines.quantize_report import Part, Report, Tried, print_report
from tools.terminal import say

if TYPE_CHECKING:
    import onnx

    from engines.engine import Batch, Engine, Outputs
    from engines.spec import ModelSpec
    from tools.engines.models import Wanted


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
    chosen = cpu_backend(settings.engine.backend)
    size = input_size_of(input_size)
    (wanted,) = named([model], settings, size)
    refuse_unsuitable(wanted)
    EngineCache().check_writable()
    options = replace(wanted.options, backend=chosen, candidates=None)
    floating = open_engine(wanted.spec, options)
    try:
        asked = Asked(images, annotations, annotated, where or (), frames, max_ap_loss, min_matched)
        parts = parts_of(wanted, floating.input_size, asked)
        with build_progress(wanted.spec.name) as progress:
            progress(f"judging it in {floating.describe().precision}", 0.0)
            choosing, deciding = (_part(judge, floating) for judge in (parts.choosing, parts.deciding))
            progress(f"calibrating on {len(parts.calibration)} pictures", 0.05)
            plain = prepare(wanted.spec, options.input_size)
            calibrated = Calibrated(plain, wanted.spec.input, parts.calibration, chosen)
            attempts = _search(wanted, options, parts.choosing, choosing, calibrated, parts.calibration, progress)
            decision, answers = None, {}
            if attempts[-1].accepted:
                with closing(opened(wanted.spec, chosen, options, attempts[-1].network)) as engine:
                    decision, answers = parts.deciding.measure(engine), answers_of(wanted.spec, engine)
    finally:
        floating.close()
    made = _report(
        wanted.spec,
        options,
        parts.deciding.figure,
        choosing,
        deciding,
        decision,
        calibrated,
        attempts,
        plain,
        parts.notes,
    )
    stored = None
    if made.accepted:
        size = options.input_size
        stored = keep(
            wanted.spec,
            chosen,
            size,
            attempts[-1].network,
            _quantisation(made, calibrated, answers),
            time.monotonic() - began,
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


def _part(judge: Judge, floating: Engine) -> Part:
    before = judge.baseline(floating)
    return Part(judge.judged_on, before, judge.least(before))


def _search(
    wanted: Wanted,
    options: EngineOptions,
    judge: Judge,
    part: Part,
    calibrated: Calibrated,
    calibration: list[Batch],
    progress: Progress,
) -> list[Attempt]:
    spec = wanted.spec
    few = calibration[:: max(1, len(calibration) // PICTURES)][:PICTURES]
    assert wanted.judge is not None
    decide = wanted.judge((few[0].shape[1], few[0].shape[2]))

    def run(network: onnx.ModelProto) -> list[Outputs]:
        with closing(opened(spec, options.backend, replace(options, requests=1), network)) as engine:
            return [engine.infer(picture) for picture in few]

    def look(network: onnx.ModelProto) -> tuple[float, bool]:
        with closing(opened(spec, options.backend, options, network)) as engine:
            figure = judge.measure(engine).figure
        return figure, figure >= part.least

    def find_harms() -> list[Harm]:
        return harms_of(calibrated, run, decide, lambda doing, share: progress(doing, 0.2 + 0.4 * share))

    return search(calibrated, find_harms, look, lambda doing, share: progress(doing, 0.1 + 0.9 * share))


def _report(
    spec: ModelSpec,
    options: EngineOptions,
    figure: str,
    choosing: Part,
    deciding: Part,
    decision: Measured | None,
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
        figure,
        choosing,
        tuple(Tried(len(each.in_float), each.figure) for each in attempts),
        deciding,
        None if decision is None else decision.figure,
        "" if decision is None else decision.words,
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


def _quantisation(made: Report, calibrated: Calibrated, answers: Answers) -> Quantisation:
    assert made.after is not None  # it was accepted
    return Quantisation(
        calibration_pictures=calibrated.pictures,
        calibration_sha256=calibrated.pictures_sha256,
        layers=made.layers,
        in_float=made.in_float,
        depthwise=made.depthwise,
        figure=made.figure,
        judged_on=made.deciding.judged_on,
        float_precision=made.float_precision,
        before=made.deciding.before,
        after=made.after,
        bound=made.deciding.least,
        float_ms=made.float_ms,
        int8_ms=made.int8_ms,
        float_cpu_ms=made.float_cpu_ms,
        int8_cpu_ms=made.int8_cpu_ms,
        float_bytes=made.float_bytes,
        answers=answers,
    )
