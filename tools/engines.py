"""`frameloom engines`: does a compiled engine still say what its ONNX file says?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from engines.engine import Backend, Engine, EngineOptions, open_engine
from engines.errors import UnknownHead
from engines.parity import Bounds, Decide, Decisions, ParityReport, bounds_for, compare
from engines.reference import PlainFile
from engines.spec import ModelSpec, Precision
from engines.zoo import Zoo
from pipeline.capture import make_source
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.infer.detector import DetectorOptions, PictureDetector, recognise
from pipeline.infer.letterbox import Letterbox
from tools.terminal import download_progress

if TYPE_CHECKING:
    from engines.engine import Batch, Outputs
    from pipeline.picture import Picture

DEFAULT_CLIP = "demo-bikes"
DETECTORS = DetectorOptions(confidence=0.3, iou=0.45)
"""What `frameloom run` decides by."""

app = typer.Typer(help="Check compiled engines.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Check compiled engines."""


@app.command()
def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a known model, or an ONNX file.")],
    backend: Annotated[Backend, typer.Option(help="What runs the model.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="What it computes in.")] = "auto",
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER|VIDEO", help=f"Pictures to compare on; may be repeated. Default: {DEFAULT_CLIP}."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many pictures, spread evenly.")] = 50,
) -> None:
    """Compare an engine with the unchanged ONNX file in fp32, on real pictures; exit 1 if it is out of bounds."""
    zoo, console = Zoo.load(), Console(highlight=False)
    with download_progress(model) as progress:
        spec, note = _recognised(zoo.spec(model, progress=progress))
    with download_progress(DEFAULT_CLIP) as progress:
        places = images or [str(zoo.fetch(DEFAULT_CLIP, progress))]
    engine = open_engine(spec, EngineOptions(backend=backend, precision=precision))
    try:
        decide = None if note else _decide(spec, engine)
        report = compare(engine, PlainFile(spec), _batches(spec, engine, sample(places, frames)), decide)
    finally:
        engine.close()
    info = engine.describe()
    bounds = bounds_for(info.precision)
    console.print(str(info), markup=False)
    print_report(report, bounds, console)
    if note or (report.decisions is not None and not report.decisions.reference):
        note = note or "no box was found in any picture, so decisions were not tested: give --images with objects"
        console.print(f"note: {note}", markup=False, style="yellow")
    report.require(bounds, f"{spec.name} on {info.backend} in {info.precision}")


def _recognised(spec: ModelSpec) -> tuple[ModelSpec, str]:
    """Return the spec, and a note where its outputs cannot be read as boxes."""
    if spec.task != "detect":
        return spec, f"{spec.name} is no detector of objects ({spec.task}): only its tensors were compared"
    try:
        return recognise(spec), ""
    except UnknownHead as unknown:
        return spec, f"only tensors were compared: {unknown}"


def _decide(spec: ModelSpec, engine: Engine) -> Decide:
    detector = PictureDetector(spec, engine, DETECTORS)
    plan = Letterbox.plan(engine.input_size, engine.input_size, "stretch")

    def decide(outputs: Outputs) -> Decisions:
        found = detector.read(outputs, plan)
        return Decisions(found.boxes, found.scores, found.class_ids)

    return decide


def _batches(spec: ModelSpec, engine: Engine, pictures: Iterator[Picture]) -> Iterator[Batch]:
    for picture in pictures:
        plan = Letterbox.plan((picture.height, picture.width), engine.input_size, spec.input.fit)
        cut = plan.blank(spec.input.pad)
        plan.cut(picture, cut)
        yield cut[None]


def sample(places: Sequence[str], count: int) -> Iterator[Picture]:
    """Yield up to `count` pictures, as many from each place, spread evenly over it.

    Raises:
        SourceError: a place holds no pictures.
    """
    for number, place in enumerate(places):
        share = count * (number + 1) // len(places) - count * number // len(places)
        source = make_source(place, place)
        source.open()
        try:
            pictures = (item.picture for item in source.frames() if isinstance(item, Frame))
            step = max(1, (source.info.frames or 1) // max(1, share))
            taken = 0
            for index, picture in enumerate(pictures):
                if taken < share and index % step == 0:
                    taken += 1
                    yield picture
                if taken >= share:
                    break
        finally:
            source.close()
        if share and not taken:
            raise SourceError(f"{place}: not one picture can be read")


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
        f"{found.matched} matched (score > {DETECTORS.confidence:g}, IoU 0.5)"
    )
