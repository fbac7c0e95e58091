"""`frameloom train segment`: a U-Net of your own, learnt from pictures with a class for every pixel.

What comes out is an ONNX file that is registered like any model of the zoo: `frameloom run --set segment.model=NAME`.
Source: Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines import own_models
from engines.errors import FrameloomError
from engines.zoo import Zoo
from engines.zoo_entry import Entry
from pipeline.errors import ConfigError
from tools.labelled_maps import MOST_CLASSES, find_pairs, read_classes
from tools.terminal import bar, say
from tools.train.device import Device, usable_device
from tools.train.segment_settings import Loss, SegmentSettings

if TYPE_CHECKING:
    from tools.train.segment_loop import SegmentTraining, Tested

DEFAULTS = SegmentSettings()
HELD_OUT = 0.2
LARGEST_SIDE = 4096
CURVES, PREVIEW = "curves.png", "preview.png"


@dataclass(frozen=True)
class Request:
    """What is to be trained, and where it goes."""

    images: Path
    labels: Path
    classes: Path
    """File of names."""
    name: str
    """Of the model."""
    out: Path
    """Folder for the checkpoint, the curves and the ONNX file."""
    settings: SegmentSettings = DEFAULTS
    val_images: Path | None = None
    val_labels: Path | None = None
    """Folders to test on; None: `held_out` of the others."""
    held_out: float = HELD_OUT
    ignore: int | None = None
    """Value of a label that does not count."""
    device: Device = "auto"
    resume: bool = False
    replace: bool = False
    """Whether an own model of that name may be overwritten."""


def segment(
    images: Annotated[Path, typer.Option(metavar="FOLDER", help="Pictures.")],
    labels: Annotated[Path, typer.Option(metavar="FOLDER", help="8-bit PNG of class indices, of the same names.")],
    classes: Annotated[Path, typer.Option(metavar="FILE", help="Names of the classes, one a line.")],
    name: Annotated[str, typer.Option(help="Name of the new model.")],
    val_images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Pictures to test on.")] = None,
    val_labels: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Their labels.")] = None,
    held_out: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Part to test on, without --val-images.")
    ] = HELD_OUT,
    ignore: Annotated[int | None, typer.Option(min=0, max=255, help="Value of pixels that do not count.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For checkpoint, curves and ONNX file (default: ./NAME).")
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="HxW", help="Of the network's input.")
    ] = f"{DEFAULTS.height}x{DEFAULTS.width}",
    width: Annotated[int, typer.Option(min=1, max=256, help="Channels of the first level.")] = DEFAULTS.channels,
    depth: Annotated[int, typer.Option(min=1, max=7, help="Times that the picture is halved.")] = DEFAULTS.depth,
    loss: Annotated[
        Loss, typer.Option(help="weighted: by median frequency; dice: cross-entropy and overlap.")
    ] = DEFAULTS.loss,
    epochs: Annotated[int, typer.Option(min=1, help="Times that every picture is seen.")] = DEFAULTS.epochs,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = DEFAULTS.batch,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=10, help="The highest.")] = DEFAULTS.learning_rate,
    weight_decay: Annotated[float, typer.Option(min=0, max=1, help="Of AdamW.")] = DEFAULTS.weight_decay,
    no_flip: Annotated[bool, typer.Option("--no-flip", help="Never mirror: where left and right differ.")] = False,
    zoom: Annotated[
        float, typer.Option(min=1, max=4, help="Show pictures so many times larger or smaller, at most.")
    ] = DEFAULTS.zoom,
    colour: Annotated[float, typer.Option(min=0, max=0.9, help="Change colours by so much.")] = DEFAULTS.colour,
    test_every: Annotated[int, typer.Option(min=1, help="Epochs between two tests.")] = DEFAULTS.test_every,
    full_precision: Annotated[bool, typer.Option("--full-precision", help="Compute in float32.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another network.")] = DEFAULTS.seed,
    device: Annotated[Device, typer.Option(help="What computes.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the checkpoint was written.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite an own model of that name.")] = False,
) -> None:
    """Train a U-Net that says what every pixel is, and register it as your own model; Ctrl-C keeps the best so far."""
    rows, columns = _size(size, depth)
    settings = SegmentSettings(
        height=rows,
        width=columns,
        channels=width,
        depth=depth,
        loss=loss,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        flip=not no_flip,
        zoom=zoom,
        colour=colour,
        mixed_precision=not full_precision,
        test_every=test_every,
        seed=seed,
    )
    request = Request(
        images=images,
        labels=labels,
        classes=classes,
        name=name,
        out=out or Path(name),
        settings=settings,
        val_images=val_images,
        val_labels=val_labels,
        held_out=held_out,
        ignore=ignore,
        device=device,
        resume=resume,
        replace=replace,
    )
    with bar("iterations") as progress:
        entry = train_segment(request, progress=progress, say=say)
    say(f"registered as {entry.name}: {entry.accuracy}")
    say(f"frameloom run --source VIDEO --set segment.enabled=true --set segment.model={entry.name}")


def _size(text: str, depth: int) -> tuple[int, int]:
    """Read `HxW`; raises ConfigError where it is none, or does not go through `depth` halvings."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None:
        raise ConfigError(f"--size {text}: give height and width in pixels, such as 176x240")
    height, width = int(found[1]), int(found[2])
    step = 2**depth
    if height % step or width % step or not (step < min(height, width) and max(height, width) <= LARGEST_SIDE):
        raise ConfigError(
            f"--size {text}: with --depth {depth} both sides must be multiples of {step}, "
            f"from {2 * step} to {LARGEST_SIDE}"
        )
    return height, width


def train_segment(request: Request, *, progress: Callable[[int, int], None], say: Callable[[str], None]) -> Entry:
    """Train, export, compare and register; `say` gets a line for everything that a person wants to know.

    Raises:
        BackendUnavailable: PyTorch is not installed, or the device is not there.
        ConfigError: the pictures, labels, classes or settings do not do, matplotlib is not installed, or the
            checkpoint does not fit.
        ModelError: the name is taken, or files cannot be written.
        FrameloomError: training failed, or was stopped before there was anything to keep.
    """
    device = usable_device(request.device)
    from tools.figures import check_installed
    from tools.train.checkpoint import new_checkpoint
    from tools.train.segment_preview import draw_curves, draw_preview

    check_installed()
    zoo = Zoo.load()
    zoo.check_free(request.name, replace=request.replace)
    training = _begin(request, device, say)
    checkpoint = new_checkpoint(request.out, resume=request.resume)
    if request.resume:
        training.resume(checkpoint)
        say(f"resumed after epoch {training.history[-1].epoch}")

    def report(tested: Tested) -> None:
        say(_as_line(tested, training.best is tested, request.settings.epochs))
        draw_curves(request.out / CURVES, training)
        draw_preview(request.out / PREVIEW, training)

    try:
        training.run(checkpoint, report, progress)
    except KeyboardInterrupt:
        if not training.history:
            raise FrameloomError("stopped before the first test: there is nothing to keep") from None
        say(f"stopped; the best so far is kept, and --resume goes on from {checkpoint}")
    return _keep(request, zoo, training, say)


def _begin(request: Request, device: str, say: Callable[[str], None]) -> SegmentTraining:
    from tools.train.segment_data import Classes, Maps, hold_out
    from tools.train.segment_loop import SegmentTraining

    classes = Classes(_scored(read_classes(request.classes), request.ignore, request.classes), request.ignore)
    pairs = find_pairs(request.images, request.labels)
    if (request.val_images is None) != (request.val_labels is None):
        raise ConfigError("--val-images and --val-labels belong together: give both, or --held-out")
    if request.val_images is not None and request.val_labels is not None:
        learn, test = pairs, find_pairs(request.val_images, request.val_labels)
    else:
        learn, test = hold_out(pairs, request.held_out, request.settings.seed)
    shown, held_out = Maps(learn, classes), Maps(test, classes)
    for where, maps in (("to learn from", shown), ("to test on", held_out)):
        if unseen := maps.unseen():
            say(f"note: no picture {where} shows {', '.join(unseen)}")
    training = SegmentTraining(shown, held_out, request.settings, device)
    say(
        f"learning {len(classes.names)} classes from {len(learn)} pictures, testing on {len(test)} others, "
        f"on {device}: {training.iterations} iterations"
    )
    return training


def _scored(names: tuple[str, ...], ignore: int | None, file: Path) -> tuple[str, ...]:
    """Return the classes without the last, if that is the one that does not count."""
    scored = names[:-1] if ignore is not None and ignore == len(names) - 1 else names
    if not 2 <= len(scored) <= MOST_CLASSES:
        raise ConfigError(f"{file} leaves {len(scored)} classes to tell apart: give 2 to {MOST_CLASSES}")
    return scored


def _as_line(tested: Tested, best: bool, epochs: int) -> str:
    scores = f"held-out mIoU {tested.mean_iou:.4f}, pixels {tested.accuracy:.1%}{' *' if best else ''}"
    return f"epoch {tested.epoch}/{epochs}: loss {tested.loss:.4f}, {scores} ({tested.seconds:.0f} s)"


def _keep(request: Request, zoo: Zoo, training: SegmentTraining, say: Callable[[str], None]) -> Entry:
    """Export the best network, compare, register."""
    from tools.train.segment_export import compared, describe, export_unet, scores_by_class, spec_of
    from tools.train.segment_loop import stretched

    network, settings, labels = training.best_network(), request.settings, training.classes.names
    file = request.out / f"{request.name}.onnx"
    export_unet(network, settings, file)
    held_out = training.held_out
    shown = [stretched(held_out[number][0], settings) for number in range(len(held_out))][:4]
    drift = compared(network, spec_of(request.name, file, settings, labels), shown)
    matrix = training.test(network)
    fields = describe(request.name, settings, labels, matrix, len(held_out), drift)
    entry = zoo.register(file, fields, replace=request.replace)
    described = own_models.describe(file, entry)
    say(f"wrote {file} (epoch {training.best.epoch}) and {described.name}, which describes it")
    say(f"IoU by class: {scores_by_class(labels, matrix)}")
    return entry
