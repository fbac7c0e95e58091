"""What TensorRT has nothing for is refused before anything is built, with the nodes and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import EngineBuildError, ModelError
from engines.tensorrt.network import network_of
from engines.tensorrt.recipe import Recipe
from engines.tensorrt.refusals import refuse_unbuildable
from tests.engines.onnx_files import identity, spec_of, value

Nodes = list[onnx.NodeProto]


def written(folder: Path, nodes: Nodes, kind: int = TensorProto.FLOAT, **tensors: Any) -> Path:
    """A file that no checker has seen; each node's last output is y."""
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    graph = helper.make_graph(
        nodes, "made", [value("x", (1, 3, 8, 6), kind)], [value("y", (None,) * 4, kind)], initializers
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("own", 1)]
    path = folder / "made.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def node(operator: str, *inputs: str, name: str = "tail", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), ["y"], name=name, **attributes)


BRANCH = helper.make_graph([helper.make_node("Neg", ["x"], ["n"])], "b", [], [value("n", (1, 3, 8, 6))])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            node("NonMaxSuppression", "x", "x"),
            "non-maximum suppression itself (NonMaxSuppression 'tail'); export it with",
        ),
        (node("EfficientNMS_TRT", "x"), "non-maximum suppression itself (EfficientNMS_TRT 'tail')"),
        (node("BatchedNMSDynamic_TRT", "x", domain="own"), "(BatchedNMSDynamic_TRT 'tail'); export it without NMS"),
        (
            node("FusedConv", "x", domain="com.microsoft"),
            "not ONNX's own (FusedConv 'tail'), which would need a plugin",
        ),
        (node("DCNv2", "x"), "not ONNX's own (DCNv2 'tail')"),
        (node("If", "yes", then_branch=BRANCH, else_branch=BRANCH), "branches or loops (If 'tail')"),
        (node("QLinearConv", "x"), "quantised operators (QLinearConv 'tail')"),
    ],
    ids=lambda case: case.op_type if isinstance(case, onnx.NodeProto) else "",
)
def test_nodes_are_named_with_what_to_do(wrong: onnx.NodeProto, words: str, tmp_path: Path) -> None:
    path = written(tmp_path, [wrong], yes=True)
    with pytest.raises(EngineBuildError) as refusal:
        network_of(spec_of(path), Recipe("fp32"))
    assert words in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert "export it with" in str(refusal.value)


def test_many_nodes_are_counted(tmp_path: Path) -> None:
    nodes = [node("NonMaxSuppression", "x", "x", name=f"n{number}") for number in range(8)]
    with pytest.raises(EngineBuildError, match=r"'n4' and 3 more\)"):
        refuse_unbuildable(written(tmp_path, nodes), "fp32")


def test_functions_of_the_file_itself_are_no_plugins(tmp_path: Path) -> None:
    opset = [helper.make_opsetid("", 17)]
    twice = helper.make_function("own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opset)
    path = written(tmp_path, [node("Twice", "x", domain="own")])
    model = onnx.load(path)
    model.functions.append(twice)
    onnx.save(model, path)
    refuse_unbuildable(path, "fp32")


# ---- files that are in int8 already


def quantised(folder: Path, zero: Any, bias: bool = False) -> Path:
    """A pair around the picture, and, if asked for, a bias in int32."""
    operands = ["scale"] if zero is None else ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *operands], ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", *operands], ["d"], name="dequantise"),
    ]
    tensors = {"scale": np.float32(0.5), "w": np.ones((3, 3, 1, 1), np.float32)}
    if zero is not None:
        tensors["zero"] = zero
    if bias:
        tensors["b"] = np.ones(3, np.int32)
        nodes.append(helper.make_node("DequantizeLinear", ["b", "scale"], ["bias"], name="of bias"))
    nodes.append(node("Conv", "d", "w", *(["bias"] if bias else [])))
    return written(folder, nodes, **tensors)


@pytest.mark.parametrize(
    ("zero", "bias", "words"),
    [
        (np.int8(3), False, "its zero points are not 0 (QuantizeLinear 'quantise', DequantizeLinear 'dequantise')"),
        (np.uint8(0), False, "its activations are uint8 (QuantizeLinear 'quantise'"),
        (None, False, "its activations are uint8 (QuantizeLinear 'quantise')"),
        (np.int8(0), True, "its biases are quantised (DequantizeLinear 'of bias'); quantise it without them"),
    ],
)
def test_quantised_files_that_tensorrt_has_no_kernels_for_are_refused(
    zero: Any, bias: bool, words: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineBuildError) as refusal:
        refuse_unbuildable(quantised(tmp_path, zero, bias), "int8")
    assert words in str(refusal.value)


def test_a_symmetric_quantised_file_is_taken_as_it_is_and_only_as_int8(tmp_path: Path) -> None:
    path = quantised(tmp_path, np.int8(0))
    network = network_of(spec_of(path), Recipe("int8"))
    assert [each.op_type for each in network.graph.node].count("QuantizeLinear") == 1
    with pytest.raises(EngineBuildError, match="is in int8 already: build it with precision int8, not fp16"):
        network_of(spec_of(path), Recipe("fp16"))


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.DOUBLE, "double"), (TensorProto.UINT8, "uint8")])
def test_pictures_in_another_type_are_refused(kind: int, name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=f"its input x is {name}; export it in float32"):
        refuse_unbuildable(written(tmp_path, [node("Identity", "x")], kind), "fp32")


def test_what_is_no_onnx_file_is_left_to_who_loads_it(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    refuse_unbuildable(path, "fp32")
    with pytest.raises(ModelError, match="not an ONNX model"):
        network_of(spec_of(path), Recipe("fp32"))


def test_a_plain_file_is_not_refused(tmp_path: Path) -> None:
    refuse_unbuildable(identity(tmp_path), "fp16")
