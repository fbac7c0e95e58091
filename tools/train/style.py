"""`frameloom train style`: a network that paints every picture in the style of one painting, fast enough for video.

What comes out is an ONNX file that is registered like any model of the zoo: `frameloom run --set stylize.model=NAME`.
Source: Johnson, Alahi and Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution" (2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np
import typer

from engines import own_models
from engines.errors import FrameloomError
from engines.zoo import Zoo
from engines.zoo_entry import Entry
from pipeline.arrays import Image
from tools.figures import check_installed, new_figure, save_figure
from tools.style import pictures
from tools.style.layer_weights import read_weights
from tools.terminal import bar, say
from tools.train.device import Device, memory_said, usable_device
from tools.train.style_data import read_pictures
from tools.train.style_settings import StyleSettings

if TYPE_CHECKING:
    from tools.train.style_loop import StyleTraining, Tested

DEFAULTS = StyleSettings()
LAYER_WEIGHTS = ",".join(map("{:g}".format, DEFAULTS.style_weights))
TRUNK = "vgg16-hed"
PREVIEW, CURVES = "preview.png", "curves.png"
CURVES_INCHES = (7.0, 4.5)


@dataclass(frozen=True)
class Request:
    """What is to be trained, and where it goes."""

    painting: Path
    content: tuple[Path, ...]
    name: str
    out: Path
    settings: StyleSettings = DEFAULTS
    device: Device = "auto"
    vgg: Path | None = None
    """Weights of VGG16; None: the zoo's."""
    begin_with: Path | None = None
    """Checkpoint of another style, whose network this one begins as."""
    resume: bool = False
    replace: bool = False


def style(
    content: Annotated[list[Path], typer.Argument(metavar="PLACE...", help="Photos and videos to learn from.")],
    painting: Annotated[Path, typer.Option("--style", metavar="IMG", help="The painting.")],
    name: Annotated[str, typer.Option(help="Name of the new model.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For checkpoint, preview and ONNX file (default: ./NAME).")
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of learning.")] = DEFAULTS.iterations,
    batch: Annotated[int, typer.Option(min=1, help="Crops in each.")] = DEFAULTS.batch,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of a crop, pixels.")] = DEFAULTS.size,
    style_size: Annotated[
        int,
        typer.Option(min=pictures.LEAST_PAINTING, max=2048, help="Short side of the painting: larger, finer strokes."),
    ] = DEFAULTS.style_size,
    style_weight: Annotated[float, typer.Option(min=0, help="More is further from the photo.")] = DEFAULTS.style_weight,
    layer_weights: Annotated[
        str, typer.Option(metavar="A,B,C,D", help=f"Of {', '.join(DEFAULTS.style_layers)}.")
    ] = LAYER_WEIGHTS,
    smooth_weight: Annotated[float, typer.Option(min=0, help="Of total variation.")] = DEFAULTS.smooth_weight,
    stable_weight: Annotated[
        float, typer.Option(min=0, help="Of the same picture moved: more flickers less.")
    ] = DEFAULTS.stable_weight,
    width: Annotated[int, typer.Option(min=4, max=64, help="Channels of the first layer.")] = DEFAULTS.width,
    full: Annotated[bool, typer.Option("--full", help="Full residual blocks, not depthwise: half as fast.")] = False,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1, help="At the start.")] = DEFAULTS.learning_rate,
    full_precision: Annotated[bool, typer.Option("--full-precision", help="Compute in float32.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another network.")] = DEFAULTS.seed,
    device: Annotated[Device, typer.Option(help="What computes.")] = "auto",
    vgg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of VGG16, torchvision's .pth (default: the zoo's).")
    ] = None,
    begin_with: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Begin as another style's network: a third of the time.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the checkpoint was written.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite an own model of that name.")] = False,
) -> None:
    """Train a style network and register it as a model of your own; Ctrl-C keeps what there is."""
    settings = StyleSettings(
        size=size,
        style_size=style_size,
        iterations=iterations,
        batch=batch,
        width=width,
        depthwise=not full,
        learning_rate=learning_rate,
        style_weights=read_weights(layer_weights, len(DEFAULTS.style_layers)),
        style_weight=style_weight,
        smooth_weight=smooth_weight,
        stable_weight=stable_weight,
        mixed_precision=not full_precision,
        seed=seed,
    )
    request = Request(
        painting, tuple(content), name, out or Path(name), settings, device, vgg, begin_with, resume, replace
    )
    with bar("iterations") as progress:
        entry = train_style(request, progress=progress, say=say)
    say(f"registered as {entry.name}: frameloom run --source VIDEO --set stylize.model={entry.name}")


def train_style(request: Request, *, progress: Callable[[int, int], None], say: Callable[[str], None]) -> Entry:
    """Train, export, compare and register.

    Raises:
        BackendUnavailable: PyTorch or h5py is not installed, or the device is not there.
        ConfigError: the painting, the pictures or the settings do not do, the checkpoint does not fit, or matplotlib,
            which draws the curves, is not installed.
        ModelError: the name is taken, or files cannot be written.
        FrameloomError: training failed, memory was not enough, or it was stopped before there was anything to keep.
    """
    device = usable_device(request.device)
    check_installed()
    zoo = Zoo.load()
    zoo.check_free(request.name, replace=request.replace)
    settings = request.settings
    with memory_said(f"{settings.batch} x {settings.size} x {settings.size}", "--batch, --size or --style-size"):
        training = _train(request, device, progress, say)
    return _keep(request, zoo, training, say)


def _train(
    request: Request, device: str, progress: Callable[[int, int], None], say: Callable[[str], None]
) -> StyleTraining:
    from tools.train.checkpoint import new_checkpoint

    painting = read_painting(request.painting, request.settings.style_size)
    checkpoint = new_checkpoint(request.out, resume=request.resume)
    training = _begin(request, painting, device, say)
    say(f"learning the style of {request.painting.name} on {device}, testing on {len(training.held_out)} pictures")
    if request.resume:
        training.resume(checkpoint)
        say(f"resumed after iteration {training.history[-1].iteration}")

    def report(tested: Tested) -> None:
        say(_as_line(tested, request.settings.iterations))
        _draw(request.out, training)

    try:
        training.run(checkpoint, report, progress)
    except KeyboardInterrupt:
        if not checkpoint.exists():
            raise FrameloomError("stopped before the first test: there is nothing to keep") from None
        training.resume(checkpoint)  # what was tested
        say(f"stopped; {checkpoint} is kept, and --resume --replace goes on from it")
    return training


def read_painting(path: Path, side: int) -> Image:
    """Read a painting, its short side made `side` pixels long where it is longer.

    Raises:
        ConfigError: it is no picture, too small, of one colour, or grey.
    """
    painting = pictures.read_painting(path, if_grey="give a painting in colour")
    short = min(painting.shape[:2])
    if short > side:
        scale = side / short
        painting = np.asarray(cv2.resize(painting, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return painting


def _begin(request: Request, painting: Image, device: str, say: Callable[[str], None]) -> StyleTraining:
    from engines.model_files import sha256_of
    from tools.train.style_loop import StyleTraining
    from tools.train.vgg import load_vgg16

    content = read_pictures(request.content, request.out, say)
    trunk = request.vgg or Zoo.load().fetch(TRUNK)
    training = StyleTraining(painting, content, load_vgg16(trunk), request.settings, device, sha256_of(trunk)[:12])
    if request.begin_with is not None and not request.resume:
        training.begin_with(request.begin_with)
    return training


def _as_line(tested: Tested, iterations: int) -> str:
    losses = tested.losses
    parts = f"content {losses.content:.3f}, style {losses.style:.3f}, smooth {losses.smooth:.4f}"
    each = f"{tested.seconds:.0f} s"
    return (
        f"iteration {tested.iteration}/{iterations}: J {losses.total:.3f} ({parts}, stable {losses.stable:.4f}), {each}"
    )


def _draw(out: Path, training: StyleTraining) -> None:
    """Write what the network makes of the held-out pictures, and how the losses fell."""
    if not cv2.imwrite(str(out / PREVIEW), training.preview()):
        raise FrameloomError(f"{out / PREVIEW} cannot be written: is the disk full?")
    figure = new_figure(*CURVES_INCHES, "losses on held-out pictures")
    axes = figure.add_subplot()
    at = [tested.iteration for tested in training.history]
    for name in ("total", "content", "style", "smooth", "stable"):
        axes.plot(at, [getattr(tested.losses, name) for tested in training.history], label=name, marker=".")
    axes.set_yscale("log")
    axes.set_xlabel("iterations")
    axes.legend(fontsize="small")
    save_figure(figure, out / CURVES)


def _keep(request: Request, zoo: Zoo, training: StyleTraining, say: Callable[[str], None]) -> Entry:
    """Export, compare, register."""
    from tools.train.style_export import compared, describe, export_style, spec_of

    network = training.network.cpu().eval()
    file = request.out / f"{request.name}.onnx"
    export_style(network, file)
    drift = compared(network, spec_of(request.name, file), training.held_out)
    iterations = training.history[-1].iteration
    fields = describe(request.name, request.painting.stem, request.settings, iterations, drift)
    entry = zoo.register(file, fields, replace=request.replace)
    described = own_models.describe(file, entry)
    say(f"wrote {file} and {described.name}, which describes it")
    return entry
