"""What is in a model file, as it says itself: inputs, outputs, versions, metadata; for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from engines import graph
from engines.metadata import read_metadata
from engines.operators import opset_of

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

MOST_SHOWN = 200
"""Characters of a metadata value for people; JSON has all."""

Shape = Sequence["int | None"]


@dataclass(frozen=True)
class Tensor:
    """An input or output as it is declared."""

    name: str
    kind: str
    shape: Shape

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"name": self.name, "type": self.kind, "shape": list(self.shape)}

    def __str__(self) -> str:
        return f"{self.name} {self.kind} {words(self.shape)}"


@dataclass(frozen=True)
class Facts:
    """What a file says."""

    path: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    opset: int | None
    ir_version: int
    producer: str
    nodes: int
    entries: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """Size of the file, without weights that lie in others."""
        return self.path.stat().st_size

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "file": str(self.path),
            "bytes": self.bytes,
            "opset": self.opset,
            "ir_version": self.ir_version,
            "producer": self.producer,
            "nodes": self.nodes,
            "inputs": [each.as_dict() for each in self.inputs],
            "outputs": [each.as_dict() for each in self.outputs],
            "metadata": dict(self.entries),
        }

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield it for people."""
        yield "file", f"{self.path} ({self.bytes / 1e6:.1f} MB)"
        by = f" by {self.producer}" if self.producer else ""
        yield "written", f"opset {self.opset}, IR {self.ir_version}{by}; {self.nodes} nodes"
        for each in self.inputs:
            yield "input", str(each)
        for each in self.outputs:
            yield "output", str(each)
        for key, value in self.entries.items():
            text = " ".join(value.split())
            yield "metadata", f"{key}: {text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 4] + ' ...'}"


def facts_of(path: Path) -> Facts:
    """Read a model file.

    Raises:
        ModelError: it cannot be read.
    """
    model = graph.load(path)
    return Facts(
        path,
        tuple(_tensor(value) for value in graph.free_inputs(model)),
        tuple(_tensor(value) for value in model.graph.output),
        opset_of(model),
        model.ir_version,
        read_metadata(model).producer,
        len(model.graph.node),
        {each.key: each.value for each in model.metadata_props},
    )


def words(shape: Shape) -> str:
    """Return a shape in words: `[?, 3, 640, 640]`."""
    return f"[{', '.join('?' if side is None else str(side) for side in shape)}]"


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return Tensor(value.name, {"float": "float32"}.get(kind, kind), tuple(graph.dimensions(value)))
