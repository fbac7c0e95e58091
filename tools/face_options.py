"""Options that all commands about faces share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engines.engine import Backend
from engines.spec import Precision

DEFAULT_GALLERY = Path("gallery.db")

GalleryOption = Annotated[Path, typer.Option("--gallery", metavar="FILE", help="The gallery's file.")]
FinderOption = Annotated[str, typer.Option("--finder", help="Name of a known face finder, or an ONNX file.")]
EmbedderOption = Annotated[
    str | None,
    typer.Option("--embedder", help="Known face encoder, or a file. Default: the gallery's, else dlib-resnet."),
]
BackendOption = Annotated[Backend, typer.Option("--backend", help="What runs the models.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="What they compute in.")]
