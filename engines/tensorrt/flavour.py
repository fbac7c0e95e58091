"""The flavours of TensorRT: which module, what it can do here, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

TensorRTBackend = Literal["tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True)
class Flavour:
    """An installed TensorRT."""

    backend: TensorRTBackend
    trt: Any
    """The module, `tensorrt` or `tensorrt_rtx`."""
    version: str
