"""`frameloom eval`: how right a model is on labelled pictures, under one set of conventions.

AP moves by a point with what nobody states: the least score, one class per candidate or all, clipping, the NMS
threshold, the interpolation of the resize. Here they are fixed, and printed under every table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from engines.engine import Backend, EngineOptions
from engines.spec import Precision
from pipeline.config.load import Override, load_settings
from pipeline.infer.picture_detector import DetectorOptions
from pipeline.infer.tiles import TileOptions
from pipeline.postprocess.merge import Merging
from tools import eval_confusion
from tools.engines.options import input_size_of
from tools.eval_detect import MAX_DETECTIONS, Dataset, Wanted, evaluate_detections
from tools.eval_report import print_report
from tools.terminal import bar

DEFAULT_MODEL = "yolox-nano"

app = typer.Typer(help="Measure how right models are on labelled data.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure how right models are on labelled data."""


@app.command()
def detect(
    annotations: Annotated[
        Path,
        typer.Option(metavar="PATH", help="COCO instances.json; folder of YOLO .txt (or data.yaml), or of VOC .xml."),
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the pictures; YOLO and VOC have a usual one.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of YOLO's classes, one a line, or a data.yaml.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name of a known model, or an ONNX file.")] = DEFAULT_MODEL,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the boxes as COCO results JSON.")] = None,
    backend: Annotated[Backend, typer.Option(help="What runs the model.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="What it computes in.")] = "auto",
    input_size: Annotated[
        str | None, typer.Option(metavar="SIDE|HxW", help="Of the model's input. Default: the model's own.")
    ] = None,
    iou: Annotated[float, typer.Option(min=0, max=1, help="NMS: boxes that overlap by more are one.")] = 0.65,
    nms: Annotated[Merging, typer.Option(help="How boxes of one object become one.")] = "standard",
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Boxes of different classes suppress each other.")
    ] = False,
    tiles: Annotated[
        str | None, typer.Option(metavar="auto|RxC|SIDE", help="Cut large pictures, as detect.tiles does.")
    ] = None,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="A score must be larger.")] = 0.01,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="A candidate stands for every class above the confidence.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE[,VALUE]", help="Only images whose record says so.")
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="AP of masks, too, on images with real ones.")] = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="Print AP of each class.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw precision over recall, and F1 over confidence.")
    ] = None,
    confusion: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw what is taken for what.")] = None,
    confusion_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Score from which a box counts, in --confusion and --worst.")
    ] = eval_confusion.CONFIDENCE,
    worst: Annotated[
        Path | None, typer.Option(metavar="PICTURE", help="Draw the pictures with most missed and false boxes.")
    ] = None,
    worst_count: Annotated[int, typer.Option(min=1, max=100, help="How many of them.")] = 12,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report and all counts as JSON.")
    ] = None,
) -> None:
    """Box AP of a detector on labelled pictures (COCO, YOLO or VOC labels). One model at a time, no ensembles."""
    with bar("detect") as progress:
        report = evaluate_detections(
            model,
            Dataset(images, annotations, tuple(where or ()), limit, names),
            EngineOptions(backend=backend, precision=precision, input_size=input_size_of(input_size)),
            DetectorOptions(
                confidence=confidence,
                iou=iou,
                nms=nms,
                class_agnostic=class_agnostic,
                max_detections=MAX_DETECTIONS,
                multi_label=multi_label,
            ),
            tiles=_tiles(tiles),
            wanted=Wanted(save, json_file, plot, confusion, confusion_confidence, worst, worst_count, masks),
            progress=progress,
        )
    print_report(report, Console(highlight=False), per_class=per_class)


def _tiles(text: str | None) -> TileOptions | None:
    """Return how `--tiles` cuts: written and checked as `detect.tiles`, with the settings' overlap and full frame."""
    if text is None:
        return None
    override = Override("detect.tiles", int(text) if text.isdecimal() else text, f"--tiles {text}")
    detect = load_settings(None, [override]).settings.detect
    return TileOptions(detect.tiles, detect.tile_overlap, detect.full_frame)
