"""fp16: a model whose tensors and weights are half as large, with float32 inputs and outputs.

The conversion is ONNX Runtime's. What it needs beforehand, or leaves to be done afterwards:

- Shapes and types must be known, or a Resize ends up with operands of two types.
- Constants as nodes, and weights that old files list as inputs, must become plain initializers, or they are converted
  whoever reads them, or not at all.
- Weights beyond 65504 would be clipped: the nodes that read them stay in fp32.
- Sums of squares overflow where the values themselves do not (a feature of 300, squared): operators that make such
  sums stay in fp32. So does what comes behind the last layers with weights: there a detector computes pixels, and
  between 512 and 1024 fp16 only knows every half pixel.
- Its casts come twice, go there and back between two nodes in fp32, and stand at the end of the list of nodes.
"""

from __future__ import annotations

import logging
import warnings

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from engines.errors import ModelError
from engines.graph import attributes, free_inputs, name_nodes

logger = logging.getLogger(__name__)

LARGEST = float(np.finfo(np.float16).max)
HAVE_WEIGHTS = frozenset({"Conv", "ConvTranspose", "Gemm", "InstanceNormalization", "LSTM", "MatMul"})
SUMS_OF_SQUARES = (
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "LpNormalization",
    "Pow",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceSum",
    "ReduceSumSquare",
)


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in fp16; names and types of its inputs and outputs stay. `model` is left as it is.

    Raises:
        ModelError: its graph runs in a circle.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    name_nodes(prepared.graph)
    _make_plain_initializers(prepared)
    prepared = onnx.shape_inference.infer_shapes(prepared)
    large = _readers_of_large_weights(prepared.graph)
    if large:
        logger.info("kept in fp32, for they have weights beyond what fp16 can say: %s", ", ".join(large))
    with warnings.catch_warnings():  # some versions warn of every weight that is nearly 0
        warnings.simplefilter("ignore")
        half: onnx.ModelProto = convert_float_to_float16(
            prepared,
            keep_io_types=True,
            disable_shape_infer=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *SUMS_OF_SQUARES],
            node_block_list=[*large, *_tail(prepared.graph)],
        )
    _tidy_casts(half.graph)
    return half


def _make_plain_initializers(model: onnx.ModelProto) -> None:
    """Make initializers of Constant nodes, and mere initializers of weights that are listed as inputs, too."""
    graph = model.graph
    free = free_inputs(model)
    del graph.input[:]
    graph.input.extend(free)
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        value = attributes(node)
        if "value" in value:
            tensor = TensorProto()
            tensor.CopyFrom(value["value"])
        elif "value_float" in value or "value_floats" in value:
            numbers = value.get("value_float", value.get("value_floats"))
            tensor = numpy_helper.from_array(np.array(numbers, np.float32))
        else:
            continue
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)
    _separate_scales(graph)


def _separate_scales(graph: onnx.GraphProto) -> None:
    """Give the scales of Resize, which are float32 in any model, names of their own: other operands may be the same."""
    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        place = 1 if len(node.input) == 2 else 2
        if node.op_type != "Resize" or place >= len(node.input) or node.input[place] not in known:
            continue
        tensor = TensorProto()
        tensor.CopyFrom(known[node.input[place]])
        tensor.name = node.input[place] = f"{node.name}#scales"
        graph.initializer.append(tensor)


def _readers_of_large_weights(graph: onnx.GraphProto) -> list[str]:
    floats = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT]
    large = {tensor.name for tensor in floats if _is_beyond_fp16(tensor)}
    return [node.name for node in graph.node if not large.isdisjoint(node.input)]


def _is_beyond_fp16(tensor: onnx.TensorProto) -> bool:
    values = np.abs(numpy_helper.to_array(tensor))
    return bool((values[np.isfinite(values)] > LARGEST).any())


def _tail(graph: onnx.GraphProto) -> list[str]:
    """Return the nodes behind the last layers with weights: those that lead to no other such layer."""
    read_by_layers: set[str] = set()
    tail = []
    for node in reversed(graph.node):
        if node.op_type in HAVE_WEIGHTS or not read_by_layers.isdisjoint(node.output):
            read_by_layers.update(node.input)
        else:
            tail.append(node.name)
    return tail


def _tidy_casts(graph: onnx.GraphProto) -> None:
    """Let each cast be there once, none undo another, and all stand in the order of computation."""
    once = {node.output[0]: node for node in graph.node}
    casts = {name: node for name, node in once.items() if node.op_type == "Cast"}
    narrowed = {name: node.input[0] for name, node in casts.items() if _casts_to(node, TensorProto.FLOAT16)}
    widened = {name: node.input[0] for name, node in casts.items() if _casts_to(node, TensorProto.FLOAT)}
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    same = {
        name: narrowed[source]
        for name, source in widened.items()
        if source in narrowed and kinds.get(narrowed[source]) == TensorProto.FLOAT
    }
    outputs = {value.name for value in graph.output}
    for node in once.values():
        node.input[:] = [same.get(name, name) for name in node.input]
    for name in outputs.intersection(same):  # its cast stays, as a copy
        casts[name].input[0] = same[name]
    _replace_nodes(graph, _in_order([node for node in once.values() if node.output[0] not in same.keys() - outputs]))


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return bool(attributes(node)["to"] == kind)


def _in_order(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return nodes in the order of computation; those that are in it already keep their places."""
    made_here = {output for node in nodes for output in node.output}
    made: set[str] = set()
    waiting, done = nodes, []
    while waiting:
        later = []
        for node in waiting:
            if made_here.intersection(node.input) <= made:
                done.append(node)
                made.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ModelError(f"the model's graph runs in a circle through {later[0].op_type} {later[0].name!r}")
        waiting = later
    return done


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
