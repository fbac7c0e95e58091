"""dlib's face recognition network (`dlib_face_recognition_resnet_model_v1.dat`) becomes an ONNX model.

The file holds layers in the order in which a picture passes them, but not how they are connected: that is in the type
`anet_type` of dlib's dnn_face_recognition_ex.cpp, and here in `read`. A stem is followed by fourteen residual blocks in
five levels, a mean and a matrix. So file and network are walked together, and each layer becomes nodes as it is read.

Two habits of dlib matter. A layer of stride 2 has no padding, so a picture of 150 becomes 72, 35, 17, 8, 4, 2. And a
sum takes the larger size on every axis: the smaller summand is padded at the end, with zeros, after its affine layer.

The ONNX model agrees with dlib's own answers to 5e-7.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelError
from engines.importers.dlib_bytes import DlibBytes

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

SIDE = 150
MEAN = (122.782, 117.001, 104.298)
"""Of red, green and blue, written in the file; dlib subtracts it and divides by 256."""
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""Filters and number of residual blocks of each level; all levels but the first begin by halving the picture."""
ENCODING = 128
MOST_BYTES = 32 << 20
"""The file has 22.5 MB."""
OPSET, IR_VERSION = 17, 8
FACES, ENCODINGS = "faces", "encodings"


class _Maps(NamedTuple):
    """A tensor of the graph: N x channels x side x side."""

    name: str
    channels: int
    side: int


def read(path: Path) -> onnx.ModelProto:
    """Read the file.

    The model's input `faces` is N x 3 x 150 x 150: red, green, blue, minus `MEAN`, divided by 256. Its output
    `encodings` is N x 128, as it comes: dlib does not normalise it.

    Raises:
        ModelError: it cannot be read, is another file, or is damaged.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    network = _Network(DlibBytes(content, str(path)))
    maps = network.convolution(network.opening(), LEVELS[0][0], kernel=7, stride=2, first=True)
    maps = network.pool("max_pool_2", "MaxPool", network.relu(maps), kernel=3)
    for level, (filters, blocks) in enumerate(LEVELS):
        for block in range(blocks):
            maps = network.residual_block(maps, filters, stride=2 if level and not block else 1)
    network.head(maps)
    model = network.model()
    if not all(np.isfinite(numpy_helper.to_array(tensor)).all() for tensor in model.graph.initializer):
        raise ModelError(f"{path} is damaged: some of its weights are not finite")
    return model


def _versions() -> list[int]:
    """Return the version numbers that open the file: of all layers, from the last to the first.

    Layers have version 2, the first one 3, and marks (where a connection begins, or is used) 1.
    """
    stem, head = [3, 2, 2, 2], [2, 2]
    block = [1, 2, 2, 2, 2, 2, 2, 2]
    halving = [1, 2, 2, 2, 2, 2, 1, 1, 2, 2, 2]
    (_, blocks), *others = LEVELS
    levels = block * blocks + [version for _, count in others for version in halving + block * (count - 1)]
    return (stem + levels + head)[::-1]


class _Network:
    """Reads the layers one after the other and appends the nodes that they become."""

    def __init__(self, file: DlibBytes) -> None:
        self._file = file
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def opening(self) -> _Maps:
        """Read what stands before the first layer: the loss, the versions of all layers, the input layer."""
        file = self._file
        file.integers("the loss layer's version", 1)
        file.text("loss_metric_2")
        for _ in ("margin", "threshold"):
            file.number()
        file.integers("the list of layers", *_versions())
        file.text("input_rgb_image_sized")
        file.numbers("the mean", *MEAN)
        file.integers("the input's size", SIDE, SIDE)
        return _Maps(FACES, 3, SIDE)

    def residual_block(self, maps: _Maps, filters: int, stride: int) -> _Maps:
        """Read two convolutions, around which the input is led (halved, where they halve) and added."""
        inner = self.relu(self.convolution(maps, filters, kernel=3, stride=stride))
        inner = self.convolution(inner, filters, kernel=3, stride=1)
        around = maps if stride == 1 else self.pool("avg_pool_2", "AveragePool", maps, kernel=2)
        return self.relu(self.add(inner, around))

    def convolution(self, maps: _Maps, filters: int, kernel: int, stride: int, *, first: bool = False) -> _Maps:
        """Read a convolution and the affine layer behind it: together one Conv."""
        file, padding = self._file, kernel // 2 if stride == 1 else 0
        shape = (filters, maps.channels, kernel, kernel)
        file.text("con_4")
        values = file.tensor(math.prod(shape) + filters, 1, 1, 1)
        file.integers("a convolution", filters, kernel, kernel, stride, stride, padding, padding)
        file.alias(*shape)
        file.alias(1, filters, 1, 1)
        self._end_of_weights()
        if first:
            file.integers("the sample expansion factor", 1)
        weights, biases = np.split(values.reshape(-1).astype(np.float64), [-filters])
        gamma, beta = self._affine(filters)
        with np.errstate(all="ignore"):  # `read` refuses what is not finite
            weights = weights.reshape(shape) * gamma.reshape(-1, 1, 1, 1)
            operands = [self._constant(weights), self._constant(biases * gamma + beta)]
        name = self._node("Conv", [maps.name, *operands], strides=[stride] * 2, pads=[padding] * 4)
        return _Maps(name, filters, (maps.side + 2 * padding - kernel) // stride + 1)

    def _affine(self, filters: int) -> npt.NDArray[np.float64]:
        self._file.text("affine_")
        factors = self._file.tensor(2 * filters, 1, 1, 1)
        self._file.alias(1, filters, 1, 1)
        self._file.alias(1, filters, 1, 1)
        self._file.integers("an affine layer's mode", 0)
        self._end_of_layer()
        return factors.reshape(2, filters).astype(np.float64)

    def relu(self, maps: _Maps) -> _Maps:
        """Read a ReLU."""
        self._file.text("relu_")
        self._end_of_layer()
        return maps._replace(name=self._node("Relu", [maps.name]))

    def pool(self, text: str, operator: str, maps: _Maps, kernel: int) -> _Maps:
        """Read a pooling layer of stride 2."""
        self._file.text(text)
        self._file.integers("a pooling layer", kernel, kernel, 2, 2, 0, 0)
        self._end_of_layer()
        name = self._node(operator, [maps.name], kernel_shape=[kernel] * 2, strides=[2, 2])
        return _Maps(name, maps.channels, (maps.side - kernel) // 2 + 1)

    def add(self, first: _Maps, second: _Maps) -> _Maps:
        """Read a sum."""
        self._file.text("add_prev_")
        self._end_of_layer()
        channels, side = max(first.channels, second.channels), max(first.side, second.side)
        names = [self._padded(maps, channels, side) for maps in (first, second)]
        return _Maps(self._node("Add", names), channels, side)

    def _padded(self, maps: _Maps, channels: int, side: int) -> str:
        if (maps.channels, maps.side) == (channels, side):
            return maps.name
        more = np.array([0] * 5 + [channels - maps.channels] + [side - maps.side] * 2, np.int64)
        return self._node("Pad", [maps.name, self._constant(more)])

    def head(self, maps: _Maps) -> None:
        """Read the mean over each map and the matrix that makes encodings of it, and the end of the file."""
        file = self._file
        file.text("avg_pool_2")
        file.integers("the last pooling layer", 0, 0, 1, 1, 0, 0)
        self._end_of_layer()
        file.text("fc_2")
        file.integers("the matrix", ENCODING, maps.channels)
        matrix = file.tensor(maps.channels, ENCODING, 1, 1).reshape(maps.channels, ENCODING)
        file.alias(maps.channels, ENCODING, 1, 1)
        file.alias(0, 0, 0, 0)
        file.integers("the matrix's bias mode (1: none)", 1)
        self._end_of_weights()
        file.end()
        means = self._node("Flatten", [self._node("GlobalAveragePool", [maps.name])])
        self._node("MatMul", [means, self._constant(matrix)], output=ENCODINGS)

    def _end_of_weights(self) -> None:
        """Read the factors of learning rate and weight decay, for weights and biases."""
        for _ in range(4):
            self._file.number()
        self._end_of_layer()

    def _end_of_layer(self) -> None:
        """Read what training left behind: three flags, and the tensors of gradients and outputs, which are empty."""
        self._file.flags(3)
        for _ in range(3):
            self._file.tensor(0, 0, 0, 0)

    def _constant(self, values: npt.NDArray[Any]) -> str:
        name = f"constant{len(self._constants)}"
        kept = values.astype(np.float32) if values.dtype.kind == "f" else values
        self._constants.append(numpy_helper.from_array(kept, name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        name = output or f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def model(self) -> onnx.ModelProto:
        """Put the nodes together."""
        faces = helper.make_tensor_value_info(FACES, TensorProto.FLOAT, ["N", 3, SIDE, SIDE])
        encodings = helper.make_tensor_value_info(ENCODINGS, TensorProto.FLOAT, ["N", ENCODING])
        graph = helper.make_graph(self._nodes, "dlib-face-recognition", [faces], [encodings], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
