"""A Darknet network says as ONNX what its layers say in torch."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engines.errors import ModelError
from engines.graph import load
from engines.prepare import set_input_size
from tests.engines.importers.darknet_networks import POINT, YOLO, Array, metadata, net, outputs, written

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "leaky": lambda x: functional.leaky_relu(x, 0.1),
    "relu": functional.relu,
    "logistic": torch.sigmoid,
    "mish": functional.mish,
    "swish": functional.silu,
}


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(0)


def normal(chance: np.random.Generator, *shape: int) -> Array:
    return chance.normal(size=shape).astype(np.float32)


def pictures(chance: np.random.Generator, height: int = 16, width: int = 24) -> Array:
    return chance.random((2, 3, height, width), np.float32)


def same(found: Array, wanted: Tensor) -> None:
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)


# ---- each kind of layer


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalised", [False, True])
def test_a_convolution_is_that_of_torch(
    normalised: bool, activation: str, chance: np.random.Generator, tmp_path: Path
) -> None:
    biases, weights = normal(chance, 18), normal(chance, 18, 3, 3, 3)
    scales, means, variances = normal(chance, 18), normal(chance, 18), chance.random(18, np.float32) + 0.01
    kept = [biases, scales, means, variances, weights] if normalised else [biases, weights]
    text = f"[convolutional]\nbatch_normalize={int(normalised)}\nfilters=18\nsize=3\nstride=1\npad=1\n"
    model = load(written(tmp_path, f"{net()}{text}activation={activation}\n{YOLO}", kept))
    seen = pictures(chance)
    maps = functional.conv2d(torch.from_numpy(seen), torch.from_numpy(weights), padding=1)
    if normalised:
        mean, variance, scale = (torch.from_numpy(each) for each in (means, variances, scales))
        maps = functional.batch_norm(maps, mean, variance, scale, torch.from_numpy(biases), eps=1e-5)
    else:
        maps = maps + torch.from_numpy(biases).reshape(1, -1, 1, 1)
    (found,) = outputs(model, seen)
    same(found, ACTIVATIONS[activation](maps))


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ("size=3\npad=1\nstride=2", {"padding": 1, "stride": 2}),
        ("size=3", {}),
        ("size=3\npadding=2", {"padding": 2}),
        ("size=5\npad=1\npadding=7", {"padding": 2}),
        ("size=2\npad=1\nstride=3", {"padding": 1, "stride": 3}),
        ("size=3\npad=1\ngroups=3", {"padding": 1, "groups": 3}),
        ("size=3\nstride_x=2\nstride_y=1", {"stride": (1, 2)}),
    ],
)
def test_a_convolution_is_padded_and_grouped_as_it_says(
    options: str, arguments: dict[str, Any], chance: np.random.Generator, tmp_path: Path
) -> None:
    size, groups = int(options[5]), arguments.get("groups", 1)
    biases, weights = normal(chance, 18), normal(chance, 18, 3 // groups, size, size)
    text = f"{net(15, 23)}[convolutional]\nfilters=18\n{options}\nactivation=linear\n{YOLO}"
    seen = pictures(chance, 15, 23)
    (found,) = outputs(load(written(tmp_path, text, [biases, weights])), seen)
    picture, kernel, bias = (torch.from_numpy(each) for each in (seen, weights, biases))
    same(found, functional.conv2d(picture, kernel, bias, **arguments))


@pytest.mark.parametrize("side", [(16, 24), (15, 23), (13, 13)])
@pytest.mark.parametrize(
    ("options", "size", "stride", "padding"),
    [
        ("size=2\nstride=2", 2, 2, (0, 1)),
        ("size=2\nstride=1", 2, 1, (0, 1)),
        ("size=3\nstride=2", 3, 2, (1, 1)),
        ("size=5\nstride=1", 5, 1, (2, 2)),
        ("size=9\nstride=1", 9, 1, (4, 4)),
        ("size=13\nstride=1", 13, 1, (6, 6)),
        ("size=4\nstride=2", 4, 2, (1, 2)),
        ("size=2\nstride=2\npadding=0", 2, 2, (0, 0)),
        ("stride=2", 2, 2, (0, 1)),
    ],
)
def test_a_pool_is_padded_as_in_darknet(
    options: str,
    size: int,
    stride: int,
    padding: tuple[int, int],
    side: tuple[int, int],
    chance: np.random.Generator,
    tmp_path: Path,
) -> None:
    biases, weights = normal(chance, 18), normal(chance, 18, 3, 1, 1)
    seen = pictures(chance, *side) - 2  # below zero, where padding by zeros would show
    (found,) = outputs(
        load(written(tmp_path, f"{net(*side)}[maxpool]\n{options}\n{POINT}{YOLO}", [biases, weights])), seen
    )
    padded = functional.pad(torch.from_numpy(seen), (*padding, *padding), value=-math.inf)
    pooled = functional.max_pool2d(padded, size, stride)
    same(found, functional.conv2d(pooled, torch.from_numpy(weights), torch.from_numpy(biases)))
    if stride == 1:
        assert found.shape[2:] == side


def test_routes_shortcuts_and_upsampling_join_layers(chance: np.random.Generator, tmp_path: Path) -> None:
    text = (
        net()
        + "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"  # 0
        + "[convolutional]\nfilters=4\nsize=3\npad=1\nstride=2\nactivation=linear\n"  # 1
        + "[dropout]\nprobability=.5\n"  # 2
        + "[upsample]\nstride=2\n"  # 3
        + "[shortcut]\nfrom=0\nactivation=leaky\n"  # 4
        + "[route]\nlayers=-1, 3\ngroups=2\ngroup_id=1\n"  # 5
        + "[shortcut]\nfrom=-2,0\n"  # 6
        + "[route]\nlayers=-1,-2,0\n"  # 7
        + POINT
        + YOLO
    )
    shapes = [(4,), (4, 3, 1, 1), (4,), (4, 4, 3, 3), (18,), (18, 12, 1, 1)]
    values = [normal(chance, *shape) for shape in shapes]
    seen = pictures(chance)
    (found,) = outputs(load(written(tmp_path, text, values)), seen)

    b0, w0, b1, w1, b2, w2 = (torch.from_numpy(each) for each in values)
    first = functional.conv2d(torch.from_numpy(seen), w0, b0)
    small = functional.conv2d(first, w1, b1, stride=2, padding=1)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    added = functional.leaky_relu(large + first, 0.1)
    halves = torch.cat([added[:, 2:], large[:, 2:]], 1)
    three = halves + added + first
    same(found, functional.conv2d(torch.cat([three, halves, first], 1), w2, b2))


# ---- the model as a whole

TWO_ENDS = (
    net(32, 64)
    + "[convolutional]\nfilters=18\nsize=1\nactivation=linear\n"
    + "[maxpool]\nsize=2\nstride=2\n"
    + "[yolo]\nmask=3,4,5\nanchors=1,2, 3,4, 5,6, 7,8, 9,10, 11.5,12\nclasses=1\nnum=6\n"
    + "[route]\nlayers=0\n"
    + "[yolo]\nmask=0,1,2\nanchors=1,2, 3,4, 5,6, 7,8, 9,10, 11.5,12\nclasses=1\nnum=6\nscale_x_y=1.05\n"
)


def test_the_finest_map_comes_first_with_its_anchors(tmp_path: Path) -> None:
    model = load(written(tmp_path, TWO_ENDS, 72))
    assert [[axis.dim_value for axis in output.type.tensor_type.shape.dim] for output in model.graph.output] == [
        [0, 18, 32, 64],
        [0, 18, 16, 32],
    ]
    said = metadata(model)
    assert json.loads(said["anchors"]) == [[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [11.5, 12]]]
    assert json.loads(said["scale_x_y"]) == [1.05, 1]
    assert (said["arithmetic"], said["task"], said["stride"]) == ("yolov3", "detect", "2")
    assert "names" not in said


def test_both_files_open_the_same_model(tmp_path: Path) -> None:
    network = written(tmp_path, TWO_ENDS, 72)
    assert load(network) == load(network.with_suffix(".weights"))


def test_another_input_size_may_be_set(chance: np.random.Generator, tmp_path: Path) -> None:
    model = load(written(tmp_path, TWO_ENDS, 72))
    set_input_size(model, 64, 32)
    fine, coarse = outputs(model, pictures(chance, 64, 32))
    assert fine.shape == (2, 18, 64, 32)
    assert coarse.shape == (2, 18, 32, 16)


@pytest.mark.parametrize("version", [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 5)])
def test_the_header_is_as_long_as_its_version_says(
    version: tuple[int, int], chance: np.random.Generator, tmp_path: Path
) -> None:
    values = [normal(chance, 18), normal(chance, 18, 3, 1, 1)]
    model = load(written(tmp_path, net() + POINT + YOLO, values, version=version))
    weights, biases = (onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    np.testing.assert_array_equal(biases, values[0])
    np.testing.assert_array_equal(weights, values[1])


def test_keys_that_nobody_asks_for_comments_and_spaces_mean_nothing(tmp_path: Path) -> None:
    network = written(tmp_path, net() + POINT + YOLO, 72)
    plain = load(network)
    network.write_text(
        "\ufeff# a comment\n; another\n\n[ net ]\n height = 16 # of the picture\nwidth=24\nwidth=999\nburn_in=1000\n"
        "[conv]\r\nfilters = 1 8\nsize=1\nactivation=Linear\nlearning=1\n" + YOLO.replace(",", " , ") + "jitter=.3\n"
    )
    assert load(network) == plain


# ---- names of the classes


@pytest.mark.parametrize("name", ["own.names", "coco.names"])
def test_names_are_read_from_the_file_beside(name: str, tmp_path: Path) -> None:
    network = written(tmp_path, net() + POINT + YOLO, 72)
    (tmp_path / name).write_text("d'Artagnan\n\n")
    assert ast.literal_eval(metadata(load(network))["names"]) == {0: "d'Artagnan"}


def test_a_file_of_names_with_another_number_is_refused_where_it_is_called_like_the_network(tmp_path: Path) -> None:
    network = written(tmp_path, net() + POINT + YOLO, 72)
    (tmp_path / "own.names").write_text("cat\ndog\n")
    with pytest.raises(ModelError, match=r"own\.names has 2 names, .*own\.cfg has 1 classes: correct one"):
        load(network)


@pytest.mark.parametrize("others", [{"coco.names": "cat\ndog\n"}, {"a.names": "cat\n", "b.names": "cat\n"}])
def test_names_of_something_else_are_left_alone(others: dict[str, str], tmp_path: Path) -> None:
    network = written(tmp_path, net() + POINT + YOLO, 72)
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    assert "names" not in metadata(load(network))
