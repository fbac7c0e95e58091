"""ModelSpec: what must be known about a model file to feed it and to read its answer.

A spec is a value: the zoo makes one from each entry of `zoo.yaml`, and a user's own ONNX file gets
one that is worked out from its shapes and metadata. No file is opened here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ColourOrder = Literal["bgr", "rgb"]
Fit = Literal["letterbox-topleft", "letterbox-centre", "stretch"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the model's input.

    The engine takes uint8 N x H x W x 3 in BGR order and computes `(x - mean) / std` per channel, in
    `colour` order, after the reordering. `height` and `width` are None where the file leaves them open.
    """

    height: int | None = None
    width: int | None = None
    colour: ColourOrder = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fit: Fit = "letterbox-centre"
    pad: int = 114
    multiple: int = 32
    """Where the size is open: height and width must be multiples of this."""


@dataclass(frozen=True)
class ModelSpec:
    """A model: where its file is, how to feed it, how to read it, and what may be done with it."""

    name: str
    path: Path
    task: str
    """`detect`, `face-detect`, `face-encode`, `segment`, `style`, ..."""
    input: InputSpec = field(default_factory=InputSpec)
    head: str | None = None
    """Output layout, a name from `pipeline.postprocess.heads`; None: recognised from the outputs."""
    labels: tuple[str, ...] = ()
    sha256: str | None = None
    licence: str = "unknown"
    commercial_use: bool | None = None
    """Whether the weights may be used commercially; None: not stated."""
    precision: Precision = "auto"
    """What `auto` means for this model (encoders ask for fp32, so that galleries mean the same everywhere)."""
