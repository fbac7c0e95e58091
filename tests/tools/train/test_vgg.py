"""VGG16 as the judge: the same features as an independent computation, and files that are something else refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from engines.errors import BackendUnavailable, ModelError
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from tools.train.vgg import BLOCKS, LAYERS, Vgg16, load_vgg16

pytestmark = pytest.mark.usefixtures("one_thread")

Weights = list[tuple[torch.Tensor, torch.Tensor]]
Array = npt.NDArray[np.float32]
WIDTHS = [width for block in BLOCKS for width in block]


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Of all 13 convolutions, drawn so that features keep their size from layer to layer."""
    chance = torch.Generator().manual_seed(0)
    found = []
    for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
        kernel = torch.randn(width, before, 3, 3, generator=chance) * (2 / (9 * before)) ** 0.5
        found.append((kernel, torch.randn(width, generator=chance) * 0.1))
    return found


@pytest.fixture(scope="module")
def trunk(face_models: dict[str, str]) -> Path:
    """The zoo's weights."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in face_models.items():
                patch.setenv(name, value)
            return Zoo.load().fetch("vgg16-hed")
    except ModelError as error:
        pytest.skip(f"no weights of VGG16: {error}")


def features_by_onnx(picture: Array, weights: Weights, pool: str) -> dict[str, Array]:
    """Run a graph of convolutions, ReLU and pooling that is written here, on (1, 3, H, W) as the weights expect it."""
    nodes, constants, at = [], [], "x"
    for name, (kernel, bias) in zip(LAYERS, weights, strict=True):
        if name.endswith("_1") and name != "conv1_1":
            nodes.append(helper.make_node(pool, [at], [f"pooled_{name}"], kernel_shape=[2, 2], strides=[2, 2]))
            at = f"pooled_{name}"
        constants += [
            numpy_helper.from_array(kernel.numpy(), f"{name}_w"),
            numpy_helper.from_array(bias.numpy(), f"{name}_b"),
        ]
        nodes.append(helper.make_node("Conv", [at, f"{name}_w", f"{name}_b"], [f"{name}_c"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"{name}_c"], [name]))
        at = name
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in LAYERS]
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(picture.shape))
    graph = helper.make_graph(nodes, "vgg", [shape], values, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(LAYERS, session.run(list(LAYERS), {"x": picture}), strict=True))


def a_picture() -> Array:
    """(1, 3, 32, 48) RGB 0..255."""
    return np.random.default_rng(0).uniform(0, 255, (1, 3, 32, 48)).astype(np.float32)


@pytest.mark.parametrize(("pooling", "pool"), [("max", "MaxPool"), ("average", "AveragePool")])
def test_features_of_all_layers_are_those_of_onnx_runtime(weights: Weights, pooling: str, pool: str) -> None:
    rgb = a_picture()
    bgr = rgb[:, ::-1] - np.array([103.939, 116.779, 123.68], np.float32).reshape(1, 3, 1, 1)
    by_onnx = features_by_onnx(np.ascontiguousarray(bgr), weights, pool)
    found = Vgg16(weights, from_caffe=True, pooling=pooling)(torch.from_numpy(rgb), LAYERS)
    assert tuple(found) == LAYERS
    for name in LAYERS:
        largest = float(np.abs(by_onnx[name]).max())
        np.testing.assert_allclose(found[name].numpy(), by_onnx[name], atol=1e-4 * largest, err_msg=name)


def test_torchvisions_weights_get_torchvisions_input(weights: Weights) -> None:
    rgb = a_picture()
    mean, std = (
        np.array(each, np.float32).reshape(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    by_onnx = features_by_onnx(((rgb / 255 - mean) / std).astype(np.float32), weights, "MaxPool")
    found = Vgg16(weights, from_caffe=False)(torch.from_numpy(rgb), ["conv1_1", "conv3_2"])
    for name, each in found.items():
        np.testing.assert_allclose(each.numpy(), by_onnx[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_layers_are_computed_no_further_than_needed(weights: Weights) -> None:
    """The first four convolutions are all that conv2_2 takes: a network of only these gives it, and nothing more."""
    network = Vgg16(weights[:4], from_caffe=True)
    found = network(torch.from_numpy(a_picture()), ["conv2_2", "conv1_2"])
    assert [(name, tuple(each.shape)) for name, each in found.items()] == [
        ("conv1_2", (1, 64, 32, 48)),
        ("conv2_2", (1, 128, 16, 24)),
    ]
    with pytest.raises(KeyError, match="conv3_1"):
        network(torch.from_numpy(a_picture()), ["conv3_1"])
    with pytest.raises(KeyError, match="conv2_3"):
        network(torch.from_numpy(a_picture()), ["conv2_3"])


def test_the_zoos_weights_are_taken_layer_by_layer(trunk: Path) -> None:
    h5py = pytest.importorskip("h5py")
    network = load_vgg16(trunk)
    places = [
        f"block{block}/layers/conv2d{'' if number == 0 else f'_{number}'}/vars"
        for block, count in enumerate((2, 2, 3, 3, 3), 1)
        for number in range(count)
    ]
    with h5py.File(trunk, "r") as file:
        for name, layer, place in zip(LAYERS, network.convolutions, places, strict=True):
            kernel = file[place]["0"][:]
            out, before = 7, 2  # one kernel of each: (3, 3, in, out) in the file
            assert isinstance(layer, torch.nn.Conv2d)
            assert layer.bias is not None
            assert np.array_equal(layer.weight[out, before].numpy(), kernel[:, :, before, out]), name
            assert np.array_equal(layer.bias.numpy(), file[place]["1"][:]), name


def save_as_torchvision(path: Path, weights: Weights) -> Path:
    """Write a state dictionary with torchvision's keys: numbers of layers, ReLU and pooling counted."""
    state: dict[str, torch.Tensor] = {}
    number = 0
    for name, (kernel, bias) in zip(LAYERS, weights, strict=False):
        number += 1 if name.endswith("_1") and name != "conv1_1" else 0
        state |= {f"features.{number}.weight": kernel, f"features.{number}.bias": bias}
        number += 2
    state["classifier.0.weight"] = torch.zeros(2, 2)
    torch.save(state, path)
    return path


def test_torchvisions_file_is_read(tmp_path: Path, weights: Weights) -> None:
    path = save_as_torchvision(tmp_path / "vgg16.pth", weights)
    assert sorted(torch.load(path, weights_only=True))[1] == "features.0.bias"
    assert "features.28.weight" in torch.load(path, weights_only=True)  # conv5_3, as torchvision numbers it
    rgb = torch.from_numpy(a_picture())
    wanted = Vgg16(weights, from_caffe=False)(rgb, ["conv3_1"])["conv3_1"]
    assert torch.equal(load_vgg16(path)(rgb, ["conv3_1"])["conv3_1"], wanted)


def of_vgg11(path: Path, weights: Weights) -> None:
    save_as_torchvision(path, [weights[0], weights[2], weights[4]])


def of_four_layers(path: Path, weights: Weights) -> None:
    save_as_torchvision(path, weights[:4])


def of_text(path: Path, weights: Weights) -> None:
    path.write_text("these are no weights\n")


def of_nothing(path: Path, weights: Weights) -> None:
    path.write_bytes(b"")


def of_a_list(path: Path, weights: Weights) -> None:
    torch.save([1, 2, 3], path)


def of_half_a_file(path: Path, weights: Weights) -> None:
    save_as_torchvision(path, weights)
    path.write_bytes(path.read_bytes()[:100_000])


def of_a_number_that_is_none(path: Path, weights: Weights) -> None:
    broken = weights[0][0].clone()
    broken[3, 1, 1, 1] = float("nan")
    save_as_torchvision(path, [(broken, weights[0][1]), *weights[1:]])


WRONG: list[Callable[[Path, Weights], None]] = [
    of_vgg11,
    of_four_layers,
    of_text,
    of_nothing,
    of_a_list,
    of_half_a_file,
    of_a_number_that_is_none,
]


@pytest.mark.parametrize("write", WRONG, ids=lambda write: write.__name__)
@pytest.mark.parametrize("ending", ["pth", "h5"])
def test_a_file_of_something_else_is_refused_by_name(
    tmp_path: Path, weights: Weights, write: Callable[[Path, Weights], None], ending: str
) -> None:
    path = tmp_path / f"other.{ending}"
    write(path, weights)
    with pytest.raises(ConfigError, match=rf"other\.{ending} holds no weights of VGG16: .+"):
        load_vgg16(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in ("none.pth", "none.h5"):
        with pytest.raises(ConfigError, match=f"{name} holds no weights of VGG16"):
            load_vgg16(tmp_path / name)


def test_another_h5_file_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["block1/layers/conv2d/vars/0"] = np.zeros((5, 5, 3, 64), np.float32)
    with pytest.raises(ConfigError, match="holds no weights of VGG16"):
        load_vgg16(tmp_path / "other.h5")


def test_without_h5py_the_command_that_installs_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BackendUnavailable, match=r"needs h5py .*pip install 'frameloom\[train\]'"):
        load_vgg16(tmp_path / "weights.h5")
