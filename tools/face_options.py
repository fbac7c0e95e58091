"""Options that all commands about faces share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engines.engine import Backend
from engines.spec import Precision
from tools.face_images import Done

DEFAULT_GALLERY = Path("gallery.db")

GalleryOption = Annotated[Path, typer.Option("--gallery", metavar="FILE", help="The gallery's file.")]
FinderOption = Annotated[str, typer.Option("--finder", help="Name of a known face finder, or an ONNX file.")]
EmbedderOption = Annotated[
    str | None,
    typer.Option("--embedder", help="Known face encoder, or a file. Default: the gallery's, else dlib-resnet."),
]
BackendOption = Annotated[Backend, typer.Option("--backend", help="What runs the models.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="What they compute in.")]


@contextmanager
def bar(title: str) -> Iterator[Done]:
    """Show a bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda count, total: progress.update(task, completed=count, total=total)
