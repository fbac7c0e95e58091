"""A network's layers: every tensor of its graph that depends on the picture, found, listed, and run up to one of them.

A layer is known by the name of its tensor; the name of the node that makes it does as well.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper

from engines.backend_words import in_one_line
from engines.engine import EngineOptions
from engines.errors import ModelError
from engines.graph import constants, picture_input
from engines.onnxruntime import QUIET, ONNXRuntimeEngine
from engines.prepare import prepare
from engines.spec import ModelSpec
from pipeline.arrays import FloatArray, Image
from pipeline.errors import ConfigError
from tools.visual.fields import NUMBERS, Field, Fields, Shape, fields_of

FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE})
NEAREST = 5
"""Names that are shown of a layer that does not exist."""


@dataclass(frozen=True)
class Layer:
    """A tensor of channels, each with a map of units or with one unit."""

    name: str
    operator: str
    node: str
    shape: Shape
    """For one picture."""
    fields: Fields

    @property
    def places(self) -> tuple[int, ...]:
        """The axes of height and width; none: its units see the whole picture."""
        found = {field.axis: axis for axis, field in enumerate(self.fields) if field is not None}
        return (found["height"], found["width"]) if len(found) == 2 else ()

    @property
    def field(self) -> tuple[Field, Field] | None:
        """What its units see of height and width; None: the whole picture."""
        if not self.places:
            return None
        height, width = (self.fields[axis] for axis in self.places)
        return (height, width) if height is not None and width is not None else None

    @property
    def channels(self) -> int:
        """How many channels it has."""
        return math.prod(self.shape) // math.prod(self.shape[axis] for axis in self._map)

    @property
    def _map(self) -> tuple[int, ...]:
        """The axes over which a channel stretches: its places; else all but one: channels come second, or, of three
        axes, last (tokens, candidates).
        """
        if self.places:
            return self.places
        return {3: (1,)}.get(len(self.shape), tuple(range(2, len(self.shape))))

    def maps(self, values: FloatArray) -> FloatArray:
        """Return (channels, rows, columns) of the layer's values for one picture; without places one column."""
        values = values.reshape(self.shape)
        stretch = self._map
        values = np.moveaxis(values, stretch, range(-len(stretch), 0))
        if self.places:
            return values.reshape(self.channels, *values.shape[-2:])
        return values.reshape(self.channels, -1, 1)

    def describe(self) -> str:
        """Say what a unit sees, in a few words."""
        if self.field is None:
            return "each unit sees the whole picture, or has no place in it"
        height, width = self.field
        return f"each unit sees {height.side} x {width.side} pixels of the input, one every {height.step:g}"


class Network:
    """A network whose layers can be looked at, run by ONNX Runtime in fp32.

    Args:
        spec: the model.
        size: height and width of its input; None: its own.

    Raises:
        ModelError: it cannot be read, or leaves its input size open and none was given.
        EngineBuildError: ONNX Runtime refuses it.
    """

    def __init__(self, spec: ModelSpec, size: tuple[int, int] | None) -> None:
        self.spec = spec
        self._model = prepare(spec, size)
        picture = picture_input(self._model)
        axes = picture.type.tensor_type.shape.dim
        axes[0].dim_value = 1
        self.input_size = int(axes[2].dim_value), int(axes[3].dim_value)
        shapes, floats = _shapes(self._model)
        unknown = [name for name in _made(self._model) if name not in shapes]
        worked_out = _numbers(self._model)
        values = self._run([*unknown, *worked_out]) if unknown or worked_out else {}
        shapes |= {name: values[name].shape for name in unknown}
        floats |= {name for name in unknown if np.issubdtype(values[name].dtype, np.floating)}
        fields = fields_of(self._model, picture.name, shapes, {name: values[name] for name in worked_out})
        self.layers = tuple(
            Layer(name, node.op_type, node.name, shapes[name], fields[name])
            for node in self._model.graph.node
            for name in node.output
            if name in fields and name in floats and _has_channels(shapes.get(name, ()))
        )
        """In the order in which they are computed."""

    def layer(self, name: str) -> Layer:
        """Return the layer of a name.

        Raises:
            ConfigError: there is none; the message has the nearest names.
        """
        for layer in self.layers:
            if name == layer.name:
                return layer
        for layer in reversed(self.layers):  # of several tensors of a node the first
            if name == layer.node:
                return layer
        names = [layer.name for layer in self.layers]
        near = [each for each in names if name.lower() in each.lower()] or difflib.get_close_matches(
            name, names, cutoff=0.4
        )
        hint = (
            f"did you mean {' or '.join(near[:NEAREST])}?" if near else f"there are {', '.join(names[:NEAREST])}, ..."
        )
        raise ConfigError(f"--layer {name}: {self.spec.name} has no such layer; {hint} --list-layers shows all")

    def up_to(self, layer: Layer) -> ONNXRuntimeEngine:
        """Open the part of the network that makes a layer."""
        part = _part(self._model, [layer.name])
        options = EngineOptions("onnxruntime", "fp32", input_size=self.input_size)
        return ONNXRuntimeEngine(self.spec, options, part)

    def _run(self, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Return the values of tensors for a black picture: for their shapes, or because only the input's size decides.

        What is no array (a sequence) is an empty one.
        """
        part = _part(self._model, list(dict.fromkeys(names)))
        settings = ort.SessionOptions()
        settings.log_severity_level = QUIET
        try:
            session = ort.InferenceSession(part.SerializeToString(), settings, providers=["CPUExecutionProvider"])
            taken = {each.name: np.zeros((1, 3, *self.input_size), np.float32) for each in session.get_inputs()}
            values = session.run([each.name for each in part.graph.output], taken)
        except Exception as error:  # its exceptions share no public base
            raise ModelError(f"{self.spec.path} cannot be run: {in_one_line(error)}") from error
        arrays = (value if isinstance(value, np.ndarray) else np.zeros(0, np.int64) for value in values)
        return dict(zip((each.name for each in part.graph.output), arrays, strict=True))


def run(engine: ONNXRuntimeEngine, layer: Layer, picture: Image) -> FloatArray:
    """Return a layer's maps, (channels, rows, columns), for one picture of the input's size."""
    values = engine.infer(picture[None])[layer.name]
    return layer.maps(np.asarray(values, np.float32))


def _has_channels(shape: Shape) -> bool:
    """Whether a tensor of one picture has channels: not a number, nor a shape."""
    return len(shape) >= 2 and shape[0] == 1 and math.prod(shape) > 1


def _made(model: onnx.ModelProto) -> list[str]:
    return [name for node in model.graph.node if node.op_type != "Constant" for name in node.output if name]


def _numbers(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that hold places or sizes and that nodes work out."""
    known = constants(model).keys()
    return [
        node.input[place]
        for node in model.graph.node
        for place in NUMBERS.get(node.op_type, ())
        if place < len(node.input) and node.input[place] and node.input[place] not in known
    ]


def _shapes(model: onnx.ModelProto) -> tuple[dict[str, Shape], set[str]]:
    """Return the shapes of tensors that follow from the input's, and which of all tensors are floating-point."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]  # they may be those of another size or number of pictures
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    shapes, floats = {}, set()
    for value in (*graph.value_info, *graph.output, *graph.input):
        tensor = value.type.tensor_type
        if tensor.elem_type in FLOATS:
            floats.add(value.name)
        if tensor.HasField("shape") and all(axis.HasField("dim_value") for axis in tensor.shape.dim):
            shapes[value.name] = tuple(int(axis.dim_value) for axis in tensor.shape.dim)
    return shapes, floats


def _part(model: onnx.ModelProto, wanted: Sequence[str]) -> onnx.ModelProto:
    """Return the nodes that some tensors need, with those as outputs; their shapes are left to the backend."""
    makers = {name: node for node in model.graph.node for name in node.output}
    needed, waiting = set[str](), list(wanted)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += _inputs(makers[name]) if name in makers else []
    part = onnx.ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    nodes = [node for node in graph.node if needed.intersection(node.output)]
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted]  # ONNX Runtime infers their types
    for field, kept in (("node", nodes), ("initializer", weights), ("output", outputs), ("value_info", [])):
        copies = [type(each).FromString(each.SerializeToString()) for each in kept]
        graph.ClearField(field)
        getattr(graph, field).extend(copies)
    return part


def _inputs(node: onnx.NodeProto) -> list[str]:
    """Return what a node needs, its branches' needs among it."""
    names = list(node.input)
    for attribute in node.attribute:
        for branch in (attribute.g, *attribute.graphs):
            names += [name for inner in branch.node for name in _inputs(inner)]
    return names
