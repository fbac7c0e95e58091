"""What is exported: a plain file for pictures of any size that says what PyTorch says."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from engines.engine import EngineOptions, open_engine
from engines.errors import ModelError, ParityFailed
from engines.trust.reference import PlainFile
from tests.tools.train.style_parts import drawn
from tools.train import onnx_file
from tools.train.style_export import compared, export_style, spec_of
from tools.train.style_loop import to_tensor
from tools.train.style_network import StyleNetwork

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> StyleNetwork:
    """One that has moved away from its first weights, so that nothing is 0 or 1."""
    network = StyleNetwork(4, seed=1)
    chance = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(torch.randn(weights.shape, generator=chance), alpha=0.1)
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def file(network: StyleNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "s.onnx"
    export_style(network, path)
    return path


@pytest.mark.parametrize(("height", "width"), [(64, 96), (64, 64), (180, 320), (212, 36)])
def test_the_file_says_what_pytorch_says_of_pictures_of_any_size(
    height: int, width: int, network: StyleNetwork, file: Path
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    with torch.no_grad():
        wanted = network(to_tensor(list(pictures))).contiguous().numpy()
    assert wanted.shape == (2, 3, height, width)
    assert float(wanted.std()) > 10
    spec = spec_of("s", file)
    np.testing.assert_allclose(PlainFile(spec, (height, width)).infer(pictures)["styled"], wanted, atol=0.05)
    engine = open_engine(spec, EngineOptions(backend="openvino", precision="fp32", input_size=(height, width)))
    np.testing.assert_allclose(engine.infer(pictures)["styled"], wanted, atol=0.05)
    engine.close()


def test_one_engine_of_an_exact_size_is_fed_red_first(network: StyleNetwork, file: Path) -> None:
    picture = np.zeros((1, 32, 48, 3), np.uint8)
    picture[..., 2] = 255  # red as BGR
    red = torch.zeros(1, 3, 32, 48)
    red[:, 0] = 255
    with torch.no_grad():
        wanted = network(red).numpy()
    np.testing.assert_allclose(PlainFile(spec_of("s", file), (32, 48)).infer(picture)["styled"], wanted, atol=0.05)


def test_the_file_holds_nothing_but_the_network(file: Path) -> None:
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert dict(kinds) == {
        "Add": 6,
        "Conv": 26,
        "Div": 1,
        "InstanceNormalization": 15,
        "Mul": 1,
        "Pad": 16,
        "Relu": 10,
        "Resize": 2,
        "Sub": 1,
        "Tanh": 1,
    }
    constants = {each.name: onnx.numpy_helper.to_array(each).tolist() for each in model.graph.initializer}
    for pad in (node for node in model.graph.node if node.op_type == "Pad"):
        assert pad.attribute[0].s == b"reflect"
        above, *_ = widths = [width for width in constants[pad.input[1]] if width]
        assert constants[pad.input[1]] == [0, 0, above, above, 0, 0, above, above]
        assert len(widths) == 4
    for axis, name in ((0, "N"), (2, "H"), (3, "W")):
        for value in (model.graph.input[0], model.graph.output[0]):
            assert value.type.tensor_type.shape.dim[axis].dim_param == name


def test_a_network_of_the_usual_width_is_half_a_megabyte_at_most(tmp_path: Path) -> None:
    export_style(StyleNetwork().eval(), tmp_path / "s.onnx")
    assert (tmp_path / "s.onnx").stat().st_size < 500_000


def test_exporting_warns_of_nothing_but_what_is_not_known_to_be_harmless(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, rgb: Tensor) -> Tensor:
            warnings.warn("something new", UserWarning, stacklevel=2)
            return nn.functional.pad(rgb, (1, 1, 1, 1), "reflect")

    names = ("a", "b")
    with pytest.warns(UserWarning, match="something new") as said:
        onnx_file.export(Odd(), torch.zeros(1, 3, 8, 8), tmp_path / "o.onnx", names=names, dynamic={})
    assert {str(warning.message) for warning in said} == {"something new"}


def test_a_file_that_differs_is_refused(file: Path) -> None:
    with pytest.raises(ParityFailed, match=r"s.onnx is not what was trained: ONNX Runtime differs by .*, allowed 10$"):
        compared(StyleNetwork(4, seed=5).eval(), spec_of("s", file), drawn(2, 64, 64))


def test_the_difference_is_told_of_both_runtimes(network: StyleNetwork, file: Path) -> None:
    found = compared(network, spec_of("s", file), drawn(2, 64, 64))
    assert list(found) == ["ONNX Runtime", "OpenVINO"]
    assert all(0 <= value < 1 for value in found.values())


def test_a_file_that_cannot_be_written_is_said(network: StyleNetwork, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent/s.onnx cannot be written"):
        export_style(network, tmp_path / "absent" / "s.onnx")


def test_what_does_not_depend_on_the_input_is_computed_once_and_what_does_is_left() -> None:
    """(x + (2 * 3)) * shape(x): the product of constants goes, the shape stays; an unused constant goes, too."""
    of = onnx.helper
    graph = of.make_graph(
        [
            of.make_node("Constant", [], ["two"], value_floats=[2.0]),
            of.make_node("Mul", ["two", "three"], ["six"]),
            of.make_node("Add", ["x", "six"], ["sum"]),
            of.make_node("Shape", ["x"], ["shape"]),
            of.make_node("Cast", ["shape"], ["length"], to=onnx.TensorProto.FLOAT),
            of.make_node("Mul", ["sum", "length"], ["y"]),
        ],
        "g",
        [of.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N"])],
        [of.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N"])],
        [onnx.numpy_helper.from_array(np.array([3.0], np.float32), "three")],
    )
    onnx_file.fold_constants(graph)
    assert [node.op_type for node in graph.node] == ["Add", "Shape", "Cast", "Mul"]
    assert {each.name: onnx.numpy_helper.to_array(each).tolist() for each in graph.initializer} == {"six": [6.0]}
    (y,) = ReferenceEvaluator(of.make_model(graph)).run(["y"], {"x": np.array([1, 2, 3], np.float32)})
    np.testing.assert_array_equal(y, [21, 24, 27])
