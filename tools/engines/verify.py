"""`frameloom engines verify`: does a compiled engine still say what its ONNX file says?

An engine of the cache is opened as a run would open it: by its model and its settings, which its name stands for.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table

from engines.engine import Backend, open_engine
from engines.spec import Precision
from engines.trust.parity import Bounds, ParityReport, bounds_for, compare
from engines.trust.reference import PlainFile
from tools.engines.cached import JsonOption, plan_called
from tools.engines.models import named
from tools.engines.options import (
    BatchOption,
    ConfigOption,
    DeviceOption,
    InputSizeOption,
    SetsOption,
    input_size_of,
    settings_of,
)
from tools.engines.pictures import DEFAULT_CLIP, batches, places_for, sample


def verify(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|NAME", help="Known model, ONNX file, or name of a compiled engine.")
    ],
    config: ConfigOption = None,
    backend: Annotated[Backend | None, typer.Option(help="What runs the model.")] = None,
    precision: Annotated[Precision | None, typer.Option(help="What it computes in.")] = None,
    batch: BatchOption = None,
    input_size: InputSizeOption = None,
    device: DeviceOption = None,
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER|VIDEO", help=f"Pictures to compare on; may be repeated. Default: {DEFAULT_CLIP}."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many pictures, spread evenly.")] = 50,
    set_: SetsOption = None,
    json: JsonOption = False,
) -> None:
    """Compare an engine with the unchanged ONNX file in fp32, on real pictures; exit 1 if it is out of bounds."""
    given: dict[str, object] = {"backend": backend, "precision": precision, "batch": batch, "device": device}
    size, plan = input_size_of(input_size, any_step=True), plan_called(model)
    if plan is not None:
        built = {name: getattr(plan, name) for name in ("backend", "precision", "batch")}
        given = {name: built.get(name) if value is None else value for name, value in given.items()}
        model = plan.model_path if Path(plan.model_path).is_file() else plan.model
        size = size or plan.input_size
    settings = settings_of(config, set_, given)
    (wanted,) = named([model], settings, size)
    spec, note, console = wanted.spec, wanted.note, Console(highlight=False)
    is_encoder = spec.encoder is not None
    places = places_for(images, spec.task)
    engine = open_engine(spec, wanted.options, wanted.judge)
    try:
        decide = wanted.judge(engine.input_size) if wanted.judge else None
        pictures = batches(spec, engine.input_size, sample(places, frames))
        file = PlainFile(spec, engine.input_size)
        report = compare(engine, file, pictures, decide, encodings=is_encoder, ranked=file.ranked)
    finally:
        engine.close()
    info = engine.describe()
    bounds = bounds_for(info.precision)
    if report.decisions is not None and not report.decisions.reference:
        note = "no box was found in any picture, so decisions were not tested: give --images with objects"
    elif decide is None and not is_encoder and not note:
        note = f"{spec.name} finds no boxes ({spec.task}): only its tensors were compared"
    if json:
        answer = {"engine": asdict(info), "report": report.as_dict(), "failures": report.failures(bounds)}
        console.print_json(to_json(answer, inf_nan_mode="null").decode())
    else:
        console.print(str(info), markup=False)
        print_report(report, bounds, console)
        if note:
            console.print(f"note: {note}", markup=False, style="yellow")
    report.require(bounds, f"{spec.name} on {info.backend} in {info.precision}")


def print_report(report: ParityReport, bounds: Bounds, console: Console) -> None:
    """Print what was measured and what is allowed."""
    table = Table(box=None, pad_edge=False)
    table.add_column("against the ONNX file", overflow="fold")
    for heading in ("measured", "allowed", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for what, value, limit in report.measured(bounds):
        table.add_row(what, f"{value:.4g}", f"{limit:.4g}", "ok" if value <= limit else "FAILED")
    console.print(table)
    console.print(_summary(report), markup=False)


def _summary(report: ParityReport) -> str:
    found: Any = report.decisions
    if found is None:
        return f"{report.pictures} pictures"
    return (
        f"{report.pictures} pictures; {found.reference} boxes by the file, {found.engine} by the engine, "
        f"{found.matched} matched (IoU 0.5)"
    )
