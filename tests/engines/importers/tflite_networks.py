"""TFLite files of a few operators, written by the tables of ai-edge-litert, and what ai-edge-litert says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from engines.graph import load

Array = npt.NDArray[np.float32]
CODE = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT32": np.int32, "INT8": np.int8}


def schema() -> Any:
    """The tables of TFLite's schema."""
    return pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs ai-edge-litert")


def interpreter(path: Path) -> Any:
    """ai-edge-litert, with the file loaded."""
    made = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert").Interpreter(str(path))
    made.allocate_tensors()
    return made


class Writer:
    """Collects tensors and operators; numbers of tensors are handed around."""

    def __init__(self) -> None:
        self._schema = schema()
        self._buffers = [self._schema.BufferT()]
        self._codes: list[Any] = []
        self.tensors: list[Any] = []
        self.operators: list[Any] = []

    def tensor(self, shape: tuple[int, ...], kind: str = "FLOAT32", name: str | None = None) -> int:
        """Add a tensor that is computed, or an input."""
        made = self._schema.TensorT()
        made.shape, made.type, made.buffer = list(shape), getattr(self._schema.TensorType, kind), 0
        made.name = f"tensor{len(self.tensors)}" if name is None else name
        self.tensors.append(made)
        return len(self.tensors) - 1

    def constant(self, values: npt.NDArray[Any]) -> int:
        """Add a constant."""
        kind = next(kind for kind, numpy in CODE.items() if values.dtype == numpy)
        number = self.tensor(values.shape, kind)
        held = self._schema.BufferT()
        held.data = np.frombuffer(values.tobytes(), np.uint8)
        self.tensors[number].buffer = len(self._buffers)
        self._buffers.append(held)
        return number

    def operator(
        self, kind: str, inputs: list[int], shape: tuple[int, ...], options: str | None = None, **values: Any
    ) -> int:
        """Add an operator with one output of this shape; `options` is the table of its options, less `OptionsT`."""
        table = None
        if options is not None:
            table = getattr(self._schema, f"{options}OptionsT")()
            for name, value in values.items():
                assert hasattr(table, name), name
                setattr(table, name, value)
        return self._add(getattr(self._schema.BuiltinOperator, kind), None, inputs, shape, options, table, None)

    def custom(self, name: str, inputs: list[int], shape: tuple[int, ...], options: bytes) -> int:
        """Add an operator of somebody's own."""
        return self._add(self._schema.BuiltinOperator.CUSTOM, name, inputs, shape, None, None, options)

    def _add(
        self,
        number: int,
        name: str | None,
        inputs: list[int],
        shape: tuple[int, ...],
        options: str | None,
        table: Any,
        custom: bytes | None,
    ) -> int:
        code = self._schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version = number, min(number, 127), name, 1
        self._codes.append(code)
        made = self._schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(self._codes) - 1, inputs, [self.tensor(shape)]
        if table is not None:
            made.builtinOptionsType = getattr(self._schema.BuiltinOptions, f"{options}Options")
            made.builtinOptions = table
        if custom is not None:
            made.customOptions = np.frombuffer(custom, np.uint8)
        self.operators.append(made)
        output: int = made.outputs[0]
        return output

    def written(self, path: Path, inputs: list[int], outputs: list[int]) -> Path:
        """Write the file."""
        flatbuffers: Any = pytest.importorskip("flatbuffers", reason="comes with ai-edge-litert")
        graph, model = self._schema.SubGraphT(), self._schema.ModelT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, self.operators, inputs, outputs
        model.version, model.operatorCodes, model.subgraphs = 3, self._codes, [graph]
        model.buffers = self._buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        path.write_bytes(builder.Output())
        return path

    def with_shapes_of_litert(self, path: Path, inputs: list[int], outputs: list[int]) -> Path:
        """Write the file, with the shapes of the outputs that ai-edge-litert itself works out."""
        each = interpreter(self.written(path, inputs, outputs)).get_output_details()
        for number, output in zip(outputs, each, strict=True):
            self.tensors[number].shape = [int(side) for side in output["shape"]]
        return self.written(path, inputs, outputs)


def of_litert(path: Path, *pictures: Array) -> Array:
    """Return what ai-edge-litert says of inputs in TensorFlow's layout: its first output."""
    running = interpreter(path)
    for details, picture in zip(running.get_input_details(), pictures, strict=True):
        running.set_tensor(details["index"], picture)
    running.invoke()
    answer: Array = running.get_tensor(running.get_output_details()[0]["index"])
    return answer


def of_import(path: Path, *pictures: Array) -> Array:
    """Return what ONNX Runtime says of the imported file; inputs and output in TensorFlow's layout."""
    session = ort.InferenceSession(load(path).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    given = {name: each.transpose(0, 3, 1, 2) for name, each in zip(names, pictures, strict=True)}
    answer: Array = session.run(None, given)[0].transpose(0, 2, 3, 1)
    return answer
