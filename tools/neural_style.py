"""`frameloom style`: one picture painted in the style of another, minutes of work for a picture rather than ms.

Source: Gatys, Ecker and Bethge, "Image Style Transfer Using Convolutional Neural Networks" (2016). For video a network
is trained to do the same at once: `frameloom train style`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engines.errors import FrameloomError
from engines.model_files import sha256_of
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from tools.style.layer_weights import read_weights
from tools.style.memory import check_memory, free_bytes
from tools.style.pictures import (
    LEAST_CONTENT,
    Content,
    check_output,
    read_content,
    read_painting,
    with_alpha_of,
    with_colours_of,
    write_picture,
)
from tools.style.settings import Optimiser, PaintSettings, Pooling, Start, level_sizes
from tools.terminal import say
from tools.train.device import Device, usable_device

if TYPE_CHECKING:
    from tools.style.painter import Moment, Painter

DEFAULTS = PaintSettings()
TRUNK = "vgg16-hed"
IF_GREY = "add --keep-colours, so that the content keeps its own, or give a painting in colour"
EVERY = 25
"""Iterations between two previews, each with a checkpoint."""


@dataclass(frozen=True)
class Request:
    """What is to be painted, and where it goes."""

    content: Path
    style: Path
    out: Path
    settings: PaintSettings = DEFAULTS
    keep_colours: bool = False
    every: int = EVERY
    previews: Path | None = None
    """Folder for a numbered picture each time; None: only `out`, over and over."""
    device: Device = "auto"
    vgg: Path | None = None
    """Weights of VGG16; None: the zoo's."""
    resume: bool = False

    @property
    def checkpoint(self) -> Path:
        """Beside the result; removed when it is done."""
        return self.out.with_name(f"{self.out.name}.checkpoint")


def style(
    content: Annotated[Path, typer.Option(metavar="IMG", help="The picture that is painted.")],
    painting: Annotated[Path, typer.Option("--style", metavar="IMG", help="The painting.")],
    out: Annotated[Path, typer.Option(metavar="IMG", help="The result, .png or .jpg; until then the last preview.")],
    size: Annotated[int, typer.Option(min=LEAST_CONTENT, help="Its long side, pixels.")] = DEFAULTS.size,
    iterations: Annotated[
        int, typer.Option(min=1, help="At the coarsest level; each finer one has half as many.")
    ] = DEFAULTS.iterations,
    levels: Annotated[
        int, typer.Option(min=0, max=8, help="From coarse to fine, each twice as large; 0: as the size needs it.")
    ] = DEFAULTS.levels,
    alpha: Annotated[float, typer.Option(min=0, help="Weight of the content.")] = DEFAULTS.alpha,
    beta: Annotated[float, typer.Option(min=0, help="Weight of the style.")] = DEFAULTS.beta,
    content_layers: Annotated[str, typer.Option(metavar="A,...", help="Where content is compared.")] = ",".join(
        DEFAULTS.content_layers
    ),
    style_layers: Annotated[str, typer.Option(metavar="A,B,...", help="Where style is compared.")] = ",".join(
        DEFAULTS.style_layers
    ),
    layer_weights: Annotated[
        str, typer.Option(metavar="A,B,...", help="Lambda of each style layer (default: the same for all).")
    ] = "",
    smooth_weight: Annotated[float, typer.Option(min=0, help="Of total variation.")] = DEFAULTS.smooth_weight,
    paper_scale: Annotated[
        bool, typer.Option("--paper-scale", help="Weigh the paper's sums as they are, not relative ones.")
    ] = False,
    start: Annotated[Start, typer.Option(help="What it begins as.")] = DEFAULTS.start,
    pooling: Annotated[Pooling, typer.Option(help="In VGG16: average is smoother.")] = DEFAULTS.pooling,
    optimiser: Annotated[Optimiser, typer.Option(help="Adam needs more iterations.")] = DEFAULTS.optimiser,
    learning_rate: Annotated[float, typer.Option(min=1e-3, help="Of Adam, in grey levels.")] = DEFAULTS.learning_rate,
    history: Annotated[int, typer.Option(min=1, max=200, help="Steps that L-BFGS remembers.")] = DEFAULTS.history,
    style_scale: Annotated[
        float, typer.Option(min=0.1, max=8, help="The painting's size beside the picture's: larger, larger strokes.")
    ] = DEFAULTS.style_scale,
    keep_colours: Annotated[bool, typer.Option("--keep-colours", help="Take over brightness only.")] = False,
    every: Annotated[int, typer.Option(min=1, help="Iterations between previews and checkpoints.")] = EVERY,
    previews: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep every preview here, numbered.")] = None,
    device: Annotated[Device, typer.Option(help="What computes.")] = "auto",
    vgg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of VGG16, torchvision's .pth (default: the zoo's).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise to start from.")] = DEFAULTS.seed,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it was stopped.")] = False,
) -> None:
    """Paint a picture in the style of a painting; Ctrl-C keeps what there is, and --resume goes on."""
    named = _names("--style-layers", style_layers)
    settings = PaintSettings(
        size=size,
        iterations=iterations,
        levels=levels,
        alpha=alpha,
        beta=beta,
        content_layers=_names("--content-layers", content_layers),
        style_layers=named,
        layer_weights=read_weights(layer_weights, len(named)) if layer_weights else (1.0,) * len(named),
        smooth_weight=smooth_weight,
        paper_scale=paper_scale,
        start=start,
        pooling=pooling,
        optimiser=optimiser,
        history=history,
        learning_rate=learning_rate,
        style_scale=style_scale,
        seed=seed,
    )
    request = Request(content, painting, out, settings, keep_colours, every, previews, device, vgg, resume)
    with shown_losses() as progress:
        paint(request, progress=progress, say=say)


def _names(option: str, text: str) -> tuple[str, ...]:
    """Read names with commas between them; raises ConfigError where there are none, or one twice."""
    names = tuple(each.strip() for each in text.split(",") if each.strip())
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"{option} {text}: name layers like conv4_2, each once, with commas between them")
    return names


@contextmanager
def shown_losses() -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar with J on standard error, where that is a terminal; call it with done, total and the losses."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, losses: bar.update(task, completed=done, total=total, description=losses)


def paint(request: Request, *, progress: Callable[[int, int, str], None], say: Callable[[str], None]) -> None:
    """Paint, and write the result; stopped by Ctrl-C, what there is of it.

    Raises:
        BackendUnavailable: PyTorch or h5py is not installed, or the device is not there.
        ConfigError: a picture or a setting does not do, there is not enough memory, or the checkpoint does not fit.
        ModelError: the weights of VGG16 are not to be had.
        SinkError: the result cannot be written.
        FrameloomError: J is not finite any more; the last good picture is kept.
    """
    content, painter = _begin(request)
    sizes = ", then ".join(f"{width}x{height}" for width, height in painter.sizes)
    say(f"painting {request.content.name} in the style of {request.style.name}: {sizes}")
    if request.resume:
        painter.resume(request.checkpoint)
        say(f"resumed after {painter.done} of {painter.total} iterations")
    begun = time.monotonic()

    def report(moment: Moment) -> None:
        progress(painter.done, painter.total, _losses(moment))
        if moment.iteration and moment.iteration % request.every == 0:
            say(f"{moment.iteration:4d} at level {moment.level + 1} of {len(painter.sizes)}: {_losses(moment)}")
            _keep(request, content, painter, moment)

    try:
        painter.run(report)
    except KeyboardInterrupt:
        if _keep(request, content, painter, None):
            painter.save(request.checkpoint)
            say(f"stopped; {request.out} is what there is, and --resume goes on from {request.checkpoint}")
            return
        raise FrameloomError("stopped before there was anything to keep") from None
    except FrameloomError as error:
        kept = f"; the last good picture is {request.out}" if _keep(request, content, painter, None) else ""
        raise FrameloomError(f"{error}{kept}") from error
    _keep(request, content, painter, None)
    request.checkpoint.unlink(missing_ok=True)
    say(f"wrote {request.out}, {_losses(painter.history[-1])}, in {time.monotonic() - begun:.0f} s")


def _begin(request: Request) -> tuple[Content, Painter]:
    """Check all that can be checked before the work, in the order of what it costs."""
    check_output(request.out, request.content, request.style)
    content = read_content(request.content)
    painting = read_painting(request.style, if_grey=None if request.keep_colours else IF_GREY)
    height, width = content.picture.shape[:2]
    sizes = level_sizes(width, height, request.settings)
    if min(sizes[-1]) < LEAST_CONTENT:
        raise ConfigError(
            f"--content {request.content}, {width}x{height}, would be painted with {sizes[-1][0]}x{sizes[-1][1]} "
            f"pixels: at least {LEAST_CONTENT} each way are needed"
        )
    if request.checkpoint.exists() and not request.resume:
        raise ConfigError(
            f"{request.checkpoint} is of a painting that was stopped: --resume goes on with it; delete it to begin anew"
        )
    device = usable_device(request.device)
    from tools.style.painter import Painter
    from tools.train.vgg import LAYERS, load_vgg16

    for name in (*request.settings.content_layers, *request.settings.style_layers):
        if name not in LAYERS:
            raise ConfigError(f"VGG16 has no layer {name}: it has {', '.join(LAYERS)}")
    check_memory(width, height, request.settings, free_bytes(device))
    _make_folder(request.previews)
    trunk = request.vgg or Zoo.load().fetch(TRUNK)
    files = {"content": request.content, "style": request.style, "vgg": trunk}
    identity = {f"{name}_sha256": sha256_of(path) for name, path in files.items()}
    vgg = load_vgg16(trunk, request.settings.pooling)
    return content, Painter(content.picture, painting, vgg, request.settings, device, identity)


def _make_folder(folder: Path | None) -> None:
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--previews {folder}: the folder cannot be made: {error.strerror}") from error


def _keep(request: Request, content: Content, painter: Painter, moment: Moment | None) -> bool:
    """Write the picture as it is, and for a moment on the way its preview and a checkpoint; False: there is none."""
    picture = painter.picture()
    if picture is None:
        return False
    if request.keep_colours:
        picture = with_colours_of(picture, content.picture)
    write_picture(request.out, with_alpha_of(picture, content, request.out))
    if moment is not None:
        painter.save(request.checkpoint)
        if request.previews is not None:
            write_picture(request.previews / f"{moment.level + 1}_{moment.iteration:05d}.png", picture)
    return True


def _losses(moment: Moment) -> str:
    losses = moment.losses
    smooth = f", smooth {losses.smooth:.4g}" if losses.smooth else ""
    return f"J {losses.total:.4g} (content {losses.content:.4g}, style {losses.style:.4g}{smooth})"
