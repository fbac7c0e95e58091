"""The layers of a Darknet network become nodes of an ONNX graph; the weights are taken as the layers come.

Batch normalisation becomes part of the convolution. What keeps its division from zero differs between Darknet's own
kernels; 1e-5 below the root is what its networks are trained with on a GPU (blas_kernels.cu).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.importers.darknet_layers import (
    PICTURE,
    Convolution,
    Layer,
    MaxPool,
    Plan,
    Route,
    Shortcut,
    Upsample,
    Yolo,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from engines.importers.darknet_weights import Weights

EPSILON = 1e-5
LEAK = 0.1
"""Slope of the activation `leaky` below zero."""
INPUT = "images"
OPSET, IR_VERSION = 17, 8


def build(network: Plan, weights: Weights, name: str) -> onnx.ModelProto:
    """Return the model; its outputs are what the [yolo] layers read, the finest first."""
    graph = _Graph(weights)
    for number, layer in enumerate(network.layers):
        graph.add(number, layer)
    picture, ends = network.picture, network.ends
    taken = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, picture.height, picture.width])
    given = []
    for number, end in enumerate(ends):
        output = graph.node("Identity", [graph.names[end.sources[0]]], output=f"map{number}")
        given.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", *end.maps]))
    made = helper.make_graph(graph.nodes, name, [taken], given, graph.constants)
    return helper.make_model(
        made, producer_name="Darknet", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


class _Graph:
    """Appends the nodes that layers become."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.names = {PICTURE: INPUT}
        """What the output of each layer is called."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, number: int, layer: Layer) -> None:
        """Append one layer, whose sources are there."""
        inputs = [self.names[source] for source in layer.sources]
        if isinstance(layer, Convolution):
            name = self._convolution(inputs[0], layer)
        elif isinstance(layer, MaxPool):
            before, behind = layer.padding
            pads = [before] * 2 + [behind] * 2
            name = self.node("MaxPool", inputs, kernel_shape=[layer.kernel] * 2, strides=layer.strides, pads=pads)
        elif isinstance(layer, Route):
            name = self._route(inputs, layer)
        elif isinstance(layer, Shortcut):
            name = self._shortcut(inputs, layer)
        elif isinstance(layer, Upsample):
            name = self._upsample(inputs[0], layer.factor)
        else:
            assert isinstance(layer, Yolo), layer
            return  # its source is an output of the model; nothing reads it
        self.names[number] = name

    def _convolution(self, maps: str, layer: Convolution) -> str:
        """Read biases, then scales, means and variances, then weights."""
        filters = layer.weights[0]
        biases = self._weights.take(filters)
        if not layer.normalised:
            weights = self._weights.take(*layer.weights)
        else:
            scales, means, variances = (self._weights.take(filters) for _ in range(3))
            with np.errstate(all="ignore"):  # `darknet.read` refuses what is not finite
                scales = scales / np.sqrt(variances + EPSILON)
                weights = self._weights.take(*layer.weights) * scales.reshape(-1, 1, 1, 1)
                biases = biases - means * scales
        operands = [maps, self._constant(weights.astype(np.float32)), self._constant(biases.astype(np.float32))]
        name = self.node("Conv", operands, strides=layer.strides, pads=[layer.padding] * 4, group=layer.groups)
        return self._activation(layer.activation, name)

    def _activation(self, activation: str, maps: str) -> str:
        if activation == "leaky":
            return self.node("LeakyRelu", [maps], alpha=LEAK)
        if activation == "relu":
            return self.node("Relu", [maps])
        if activation == "logistic":
            return self.node("Sigmoid", [maps])
        if activation == "swish":
            return self.node("Mul", [maps, self.node("Sigmoid", [maps])])
        if activation == "mish":
            return self.node("Mul", [maps, self.node("Tanh", [self.node("Softplus", [maps])])])
        assert activation == "linear", activation
        return maps

    def _route(self, inputs: list[str], layer: Route) -> str:
        if layer.channels is not None:
            inputs = [self._slice(each, *part) for each, part in zip(inputs, layer.channels, strict=True)]
        return inputs[0] if len(inputs) == 1 else self.node("Concat", inputs, axis=1)

    def _slice(self, maps: str, first: int, end: int) -> str:
        operands = [self._constant(np.array([each], np.int64)) for each in (first, end, 1)]
        return self.node("Slice", [maps, *operands])

    def _shortcut(self, inputs: list[str], layer: Shortcut) -> str:
        name, *others = inputs
        for other in others:
            name = self.node("Add", [name, other])
        return self._activation(layer.activation, name)

    def _upsample(self, maps: str, factor: int) -> str:
        scales = self._constant(np.array([1, 1, factor, factor], np.float32))
        places: dict[str, Any] = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", [maps, "", scales], mode="nearest", **places)

    def _constant(self, values: npt.NDArray[Any]) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Append one node and return what its output is called."""
        name = output or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name
