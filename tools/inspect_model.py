"""`frameloom models inspect`: what a model file is, how it would be fed and read, and why.

Whatever is assumed can be stated instead, by an option; `--save-spec` writes it down beside the model, and from then on
every command uses that.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic_core import to_json
from rich.console import Console

from engines.errors import ChecksumMismatch, UnknownHead
from engines.importers.darknet_files import SUFFIXES, files_of
from engines.model_files import identity_of, sha256_of
from engines.own_models import SUFFIX, described_beside
from engines.spec import AnchorArithmetic, BoxOrder, BoxUnit, ColourOrder, Fit, ModelSpec, ScoreKind
from engines.zoo import Zoo
from tools import inspect_options
from tools.engines.options import InputSizeOption, input_size_of, refuse_uneven
from tools.inspect_options import Stated, given
from tools.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tools.inspect_recognise import Recognised

Task = Literal["detect", "face-detect", "segment", "stylize"]
FIND_BOXES = ("detect", "face-detect")
COLUMN = len("anchor arithmetic") + 1
"""Width of what stands in front: of the longest."""


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX or TFLite file, or a Darknet network.")],
    task: Annotated[Task | None, typer.Option(help="What it is for. Default: whichever its outputs fit.")] = None,
    head: Annotated[str | None, typer.Option(help="Which layout its outputs have.")] = None,
    input_size: InputSizeOption = None,
    colour: Annotated[ColourOrder | None, typer.Option(help="Order of the channels that it takes.")] = None,
    mean: Annotated[str | None, typer.Option(metavar="X|X,X,X", help="Subtracted from pixels of 0..255.")] = None,
    std: Annotated[str | None, typer.Option(metavar="X|X,X,X", help="What they are then divided by.")] = None,
    fit: Annotated[Fit | None, typer.Option(help="How a picture is brought to its size.")] = None,
    pad: Annotated[int | None, typer.Option(min=0, max=255, help="Grey beside the picture.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE|coco|coco91|A,B,C", help="Its classes; coco: the 80, coco91: by COCO's ids."),
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(metavar="FILE|LIST", help="Anchors of each feature map, the finest first.")
    ] = None,
    arithmetic: Annotated[AnchorArithmetic | None, typer.Option(help="How anchors become boxes.")] = None,
    box_unit: Annotated[BoxUnit | None, typer.Option(help="What boxes are measured in.")] = None,
    box_order: Annotated[BoxOrder | None, typer.Option(help="What the four numbers of a box are.")] = None,
    scores: Annotated[ScoreKind | None, typer.Option(help="Whether scores are 0..1 already.")] = None,
    background: Annotated[
        bool | None, typer.Option("--background/--no-background", help="Whether class 0 is the background.")
    ] = None,
    keypoints: Annotated[str | None, typer.Option(metavar="NxV", help="Keypoints, and values of each.")] = None,
    nms: Annotated[bool | None, typer.Option("--nms/--no-nms", help="Whether NMS is still to be done.")] = None,
    save_spec: Annotated[
        bool, typer.Option("--save-spec", help="Write all this to a YAML file beside the model, which is then used.")
    ] = False,
    replace_: Annotated[bool, typer.Option("--replace", help="Let that file take the place of another.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a model file is, how it is fed and read, and why; options state what is assumed."""
    from tools.inspect_facts import facts_of  # these bring onnx: 0.3 s that no other command of this group needs
    from tools.inspect_recognise import recognise
    from tools.inspect_save import save

    stated = Stated(
        head,
        inspect_options.labels(labels),
        given(
            anchors=inspect_options.anchors(anchors),
            arithmetic=arithmetic,
            box_order=box_order,
            box_unit=box_unit,
            scores=scores,
            background=background,
            keypoints=inspect_options.keypoints(keypoints),
            nms=nms,
        ),
        given(
            colour=colour,
            mean=inspect_options.triple(mean, "--mean"),
            std=inspect_options.triple(std, "--std"),
            fit=fit,
            pad=pad,
        ),
    )
    size, zoo = input_size_of(input_size, any_step=True), Zoo.load()
    spec, replaced = _spec(zoo, file, task, anew=save_spec and replace_)
    facts, described = facts_of(spec.path), replaced or _described(spec, zoo)
    if not json:
        _print([*facts.lines(), ("described", described)])
    found: Recognised | None = None
    error: UnknownHead | None = None
    try:
        found = recognise(spec, stated, size, only_task=task is not None)
        if found.spec.task in FIND_BOXES:
            refuse_uneven(size)
    except UnknownHead as reason:
        error = reason
    if json:
        answer = {**facts.as_dict(), **_as_dict(found), "described": described, "error": error and str(error)}
        Console().print_json(to_json(answer, inf_nan_mode="null").decode())
    elif found is not None:
        _print(_lines(found))
    if found is None:
        raise error or AssertionError("it is recognised, or an error says why not")
    if save_spec:
        saved = save(found, facts, replace=replace_)
        if not json:
            say(f"wrote {saved}")


def _spec(zoo: Zoo, file: Path, task: Task | None, *, anew: bool) -> tuple[ModelSpec, str | None]:
    """Return what is known of a model, and what is said of it where that is nothing.

    With `anew`, a description beside it of another file, such as of an earlier training, counts for nothing: that may
    have had other classes.

    Raises:
        ChecksumMismatch: there is such a description.
    """
    try:
        return zoo.spec(file, task=task), None
    except ChecksumMismatch:
        path = file.expanduser()
        if not (anew and path.is_file()):
            raise
    path = files_of(path).weights if path.suffix in SUFFIXES else path
    spec = ModelSpec(path.stem, path, task or "detect", sha256=identity_of(path, sha256_of(path)))
    beside = path.with_suffix(SUFFIX).name
    return spec, f"by nobody: {beside} is for another file, so nothing is taken from it, and it is replaced"


def _described(spec: ModelSpec, zoo: Zoo) -> str:
    """Say where a file's description comes from."""
    if (own := described_beside(spec.path)) is not None:
        return f"by {own.path.with_suffix(SUFFIX).name} beside it ({own.entry.task})"
    if spec.name in zoo:
        return f"by Frameloom's own list: {spec.name} ({spec.task}), {spec.licence}"
    return "by nobody: worked out from the file"


def _print(lines: Iterable[tuple[str, str]]) -> None:
    for key, value in lines:
        say(f"{key:<{COLUMN}}{value}")


def _lines(found: Recognised) -> Iterator[tuple[str, str]]:
    """Yield what a model is taken for, for people."""
    from tools.inspect_facts import words

    height, width = found.size
    shapes = ", ".join(f"{name} {words(shape)}" for name, shape in found.outputs.items())
    yield "as run", f"for one picture of {width}x{height}: {shapes}"
    yield "task", found.spec.task
    for each in found.assumptions:
        yield each.what, f"{each.value} ({each.why})"


def _as_dict(found: Recognised | None) -> dict[str, Any]:
    """Return it for JSON."""
    if found is None:
        return {"task": None, "assumptions": []}
    spec = found.spec
    return {
        "task": spec.task,
        "head": spec.head,
        "head_options": asdict(spec.head_options),
        "input": asdict(spec.input),
        "labels": list(spec.labels),
        "size": list(found.size),
        "as_run": {name: list(shape) for name, shape in found.outputs.items()},
        "assumptions": [asdict(each) for each in found.assumptions],
    }
