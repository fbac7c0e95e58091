"""What an ONNX file says of itself beside its graph: class names, task, sizes; as the usual exporters write it.

Ultralytics writes Python literals as text (`{0: 'person', 1: 'bicycle'}`); they are parsed, never evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from engines.spec import Anchors


@dataclass(frozen=True)
class Metadata:
    """What the file says; what it does not say is None or empty."""

    labels: tuple[str, ...] = ()
    """Names of the classes, by their number."""
    task: str | None = None
    """In the words of the exporter: `detect`, `segment`, `pose`, `classify`, `obb`."""
    size: tuple[int, int] | None = None
    """Height and width of the input that the model was exported for."""
    stride: int | None = None
    """Sides of an input must be multiples of it."""
    end_to_end: bool = False
    """Whether NMS is done, or needless, inside the model."""
    keypoints: tuple[int, int] | None = None
    anchors: Anchors | None = None
    producer: str = ""
    """What wrote the file, in its own words."""
    entries: Mapping[str, str] = field(default_factory=dict)
    """Everything that is there, as it is."""


def read_metadata(model: onnx.ModelProto) -> Metadata:
    """Return what a model's metadata says; what cannot be understood is left out."""
    entries = {each.key: each.value for each in model.metadata_props}
    return Metadata(producer=f"{model.producer_name} {model.producer_version}".strip(), entries=entries)
