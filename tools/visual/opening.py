"""Opening a model to be looked at: one of the zoo, an ONNX file or a PyTorch network, with how it is fed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines import graph
from engines.errors import EngineError, ModelError
from engines.spec import InputSpec, ModelSpec
from engines.zoo import Zoo
from pipeline.infer.recognition import USUAL, recognise
from tools.terminal import download_progress
from tools.visual import torch_file
from tools.visual.layers import Network

OPEN_SIDE = 320
"""Side of the input of models that take any: most of a photograph, and fields of some 200 pixels fit in it."""


@contextmanager
def opened(
    model: str | Path, size: tuple[int, int] | None = None, stated: dict[str, Any] | None = None
) -> Iterator[tuple[Network, list[str]]]:
    """Open a model's network.

    Args:
        model: a name of the zoo, or a file.
        size: height and width of its input; None: its own, or `OPEN_SIDE`, where it takes any.
        stated: fields of `InputSpec` that the user states.

    Returns:
        The network, and what was assumed.

    Raises:
        FrameloomError: there is no such model, or it cannot be read.
    """
    with download_progress(str(model)) as progress:
        spec = Zoo.load().spec(model, progress=progress)
    with tempfile.TemporaryDirectory(prefix="frameloom-") as folder:
        if torch_file.is_torch(spec.path):
            spec, notes = _from_torch(spec, size or (OPEN_SIDE, OPEN_SIDE), Path(folder), bool(stated))
        else:
            spec, notes = _described(spec, size, bool(stated))
        spec = replace(spec, input=replace(spec.input, **(stated or {})))
        yield Network(spec, size or _own_size(spec)), notes


def _from_torch(spec: ModelSpec, size: tuple[int, int], folder: Path, stated: bool) -> tuple[ModelSpec, list[str]]:
    target = folder / "network.onnx"
    torch_file.to_onnx(spec.path, size, target)
    if torch_file.is_vgg(spec.path):
        return replace(spec, path=target, input=torch_file.VGG_INPUT), []
    return replace(spec, path=target, input=_assumed(spec.input)), [] if stated else [_how_assumed()]


def _described(spec: ModelSpec, size: tuple[int, int] | None, stated: bool) -> tuple[ModelSpec, list[str]]:
    """Return a spec that says how the model is fed: the zoo's, what its outputs say of a detector, or a guess."""
    if stated or spec.task != "detect" or spec.head is not None or spec.input != InputSpec():
        return spec, []
    try:
        return recognise(spec, size), []
    except (ModelError, EngineError):  # no detector, or none that could be run: a broken file is refused below
        return replace(spec, input=_assumed(spec.input)), [_how_assumed()]


def _assumed(given_input: InputSpec) -> InputSpec:
    return replace(given_input, colour="rgb", mean=(0.0,) * 3, std=USUAL.std)


def _how_assumed() -> str:
    return "how the model takes pictures is not known, so RGB 0..1 was taken: --colour, --mean and --std say it"


def _own_size(spec: ModelSpec) -> tuple[int, int] | None:
    """Return the side for a model that leaves its input open; None: it does not."""
    if spec.task == "face-detect":  # which a run sizes for its sources, whatever the file says
        declared: tuple[int | None, int | None] = (None, None)
    else:
        declared = graph.declared_size(graph.load(spec.path))
    height, width = spec.input.height or declared[0], spec.input.width or declared[1]
    if height is not None and width is not None:
        return None
    side = -(-OPEN_SIDE // spec.input.multiple) * spec.input.multiple
    return height or side, width or side
