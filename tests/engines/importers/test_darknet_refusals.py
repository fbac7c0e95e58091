"""What is wrong with the files of a Darknet network is said with file, line and numbers."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from engines.errors import ModelError, ModelNotFound
from engines.graph import load
from engines.importers.darknet_cfg import read_sections
from engines.importers.darknet_files import files_of
from engines.importers.darknet_plan import plan
from tests.engines.importers.darknet_networks import POINT, YOLO, net, written

GOOD = net() + POINT + YOLO
HELD = 72
"""Weights of `GOOD`."""


# ---- the network


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"is not a Darknet network: it should begin with \[net\], not nothing"),
        ("[convolutional]\n", r"it should begin with \[net\], not \[convolutional\] on line 1"),
        ("height=3\n[net]\n", r"line 1 should be \[net\], not 'height=3'"),
        ("[net]\nheight\n", "line 2 should be key = value, not 'height'"),
        ("[net\n", r"line 1: a section should end with \], not '\[net'"),
        ("\0", "no text of at most"),
        ("[net]\n", r"line 1, \[net\]: width and height should say the input's size, not 0 and 0"),
        ("[net]\nheight=-1\n", r"line 2, \[net\]: height should be 0 to 65536, not -1"),
        ("[net]\nheight=1e3\n", r"line 2, \[net\]: height should be a whole number, not '1e3'"),
        ("[net]\nchannels=1\n", "only networks for pictures of 3 channels are supported, not 1"),
        (net() + POINT, r"line 1, \[net\]: the network has no \[yolo\] layer, so it finds no objects"),
        (net() + "[region]\n", r"line 5, \[region\]: this kind of layer is not supported; supported are convolutional"),
        (net() + "[Gaussian_yolo]\n", r"line 5, \[gaussian_yolo\]: this kind of layer"),
        (net() + "[crnn]\n", r"line 5, \[crnn\]: this kind of layer"),
        (net() + "[avgpool]\n", r"line 5, \[avgpool\]: this kind of layer"),
        (net() + POINT + "groups=5\n", "line 9, .* 5 groups do not divide 3 channels and 18 filters"),
        (net() + POINT + "dilation=2\n", r"line 9, \[convolutional\]: dilation = 2 is not supported, only 1"),
        (net() + POINT.replace("linear", "elu"), r"line 8, .* activation elu is not supported; supported are linear,"),
        (net() + POINT.replace("size=1", "size=17"), "a window of 17 does not fit into 24 x 16 pixels"),
        (net() + "[maxpool]\nsize=2\npadding=4\n", "padding 4 is too much for a window of 2"),
        (net() + "[maxpool]\nmaxpool_depth=1\n", "maxpool_depth = 1 is not supported, only 0"),
        (net() + "[upsample]\nscale=0.5\n", "scale = 0.5 is not supported, only 1"),
        (net() + POINT + "[route]\n", "layers should name at least one layer"),
        (net() + POINT + "[route]\nlayers=1\n", "line 10, .* layers names layer 1, but only 1 stand before it"),
        (net() + POINT + "[route]\nlayers=-2\n", "layers names layer -2, but only 1 stand before it"),
        (
            net() + POINT + "[maxpool]\nstride=2\n[route]\nlayers=0,1\n",
            "differ in height and width: 18 x 16 x 24",
        ),
        (net() + POINT + "[route]\nlayers=0\ngroups=2\ngroup_id=2\n", "there is no group 2 of 2 in 18 x 16 x 24"),
        (net() + POINT + "[maxpool]\nstride=2\n[shortcut]\nfrom=0\n", "layers of different shapes are not supported"),
        (
            net() + POINT + "[shortcut]\nfrom=0\nweights_type=per_channel\n",
            "weights_type = per_channel is not",
        ),
        (
            GOOD.replace("18", "21"),
            "3 anchors and 1 classes need 18 channels, the layer before gives 21",
        ),
        (GOOD + "new_coords=1\n", r"line 14, \[yolo\]: new_coords = 1 is not supported, only 0"),
        (GOOD.replace("mask=0,1,2", "mask=0,1,3"), r"line 10, .* mask should name anchors 0 to 2, not \[0, 1, 3\]"),
        (GOOD.replace("8,9", "8"), "line 11, .* anchors should be 3 widths and heights above 0"),
        (GOOD.replace("8,9", "8,-9"), "anchors should be 3 widths and heights above 0"),
        (GOOD.replace("8,9", "8,nan"), "anchors should be numbers with commas between them, not 'nan'"),
        (GOOD + POINT, r"line 14, \[convolutional\]: it reads layer 1, a \[yolo\] layer, which is an end"),
        (
            GOOD + "[route]\nlayers=0\n[convolutional]\nfilters=7\nactivation=linear\n[yolo]\nclasses=2\nanchors=1,1\n",
            r"its \[yolo\] layers disagree on the number of classes: \[1, 2\]",
        ),
    ],
)
def test_a_network_that_is_not_understood_is_refused_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    network = written(tmp_path, text, HELD)
    with pytest.raises(ModelError, match=words) as caught:
        load(network)
    assert str(network) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_for_a_network_is_refused(tmp_path: Path) -> None:
    network = written(tmp_path, "# " + "x" * (1 << 20), HELD)
    with pytest.raises(ModelError, match="no text of at most 1048576 bytes"):
        load(network)


def test_a_damaged_network_is_refused_or_another_network(tmp_path: Path) -> None:
    chance = random.Random(0)
    text = net() + POINT + "[maxpool]\n[shortcut]\nfrom=0\n[route]\nlayers=-1,0\ngroups=2\n[upsample]\n" + POINT + YOLO
    lines = text.split("\n")
    network = tmp_path / "own.cfg"
    accepted = 0
    for _ in range(400):
        place = chance.randrange(len(lines))
        line = lines[place]
        column = chance.randrange(len(line) + 1)
        something = chance.choice(["", "0", "-", "9999999999", ",", "]", "[", "\ufffd"])
        damaged = [*lines[:place], line[:column] + something + line[column + 1 :], *lines[place + 1 :]]
        network.write_text("\n".join(damaged))
        accepted += not is_refused(network)
    assert 40 < accepted < 360


def is_refused(network: Path) -> bool:
    """Whether the network is refused, in a sentence that names it."""
    try:
        plan(read_sections(network))
    except ModelError as error:
        return str(error).startswith(str(network)) or pytest.fail(str(error))
    return False


# ---- the weights


def test_fewer_weights_than_the_network_asks_for_are_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"own\.weights holds 50 weights, .*own\.cfg asks for 72: the file is cut off"):
        load(written(tmp_path, GOOD, 50))


def test_more_weights_than_the_network_asks_for_are_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"own\.weights holds 73 weights, .*own\.cfg asks for 72: it belongs to"):
        load(written(tmp_path, GOOD, 73))


def test_weights_to_begin_a_training_with_are_named_as_such(tmp_path: Path) -> None:
    text = net() + "[convolutional]\nfilters=4\nsize=3\nactivation=leaky\n" * 2 + POINT + YOLO
    first_two = 4 + 4 * 27 + 4 + 4 * 36
    with pytest.raises(ModelError, match="these are the first 2 of 3 layers with weights, to begin a training with"):
        load(written(tmp_path, text, first_two))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a file of Darknet weights: it has only 0 bytes"),
        (b"PK\3\4" * 30, "that can be read here: its version would be"),
        (struct.pack(">3iq", 0, 2, 0, 7) + bytes(4 * HELD), "it was written by a big-endian machine"),
        (struct.pack("<3iq", 0, 2, 0, 7) + bytes(4 * HELD - 2), "ends in the middle of a value, after 71 of 72"),
        (struct.pack("<3i", 0, 2, 0), "holds 0 weights|ends in the middle|cut off"),
    ],
)
def test_another_file_than_weights_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    network = written(tmp_path, GOOD, HELD)
    network.with_suffix(".weights").write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        load(network)
    assert str(caught.value).startswith(str(network.with_suffix(".weights")))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is damaged: some of its weights are not finite"):
        load(written(tmp_path, GOOD, [np.full(HELD, value, np.float32)]))


def test_variances_below_zero_are_refused(tmp_path: Path) -> None:
    values = np.ones(HELD + 3 * 18, np.float32)
    values[3 * 18] = -1
    with pytest.raises(ModelError, match="is damaged: with it some weights are not finite"):
        load(written(tmp_path, GOOD.replace("filters=18", "filters=18\nbatch_normalize=1"), [values]))


# ---- which files belong together


def test_weights_take_the_only_network_beside_them(tmp_path: Path) -> None:
    network = written(tmp_path, GOOD, HELD)
    weights = network.with_suffix(".weights").rename(tmp_path / "own_best.weights")
    assert files_of(weights) == (network, weights)
    assert load(weights).graph.name == "own"


def test_weights_without_a_network_or_with_several_are_refused(tmp_path: Path) -> None:
    weights = written(tmp_path, GOOD, HELD).rename(tmp_path / "gone").with_name("own.weights")
    with pytest.raises(ModelNotFound, match=r"own\.cfg is not there, and there is no other \.cfg"):
        load(weights)
    for name in ("b.cfg", "a.cfg"):
        (tmp_path / name).write_text(GOOD)
    with pytest.raises(ModelNotFound, match=r"own\.cfg is not there, and there are a\.cfg, b\.cfg"):
        load(weights)


def test_a_network_without_weights_is_refused(tmp_path: Path) -> None:
    (network := tmp_path / "own.cfg").write_text(GOOD)
    with pytest.raises(ModelNotFound, match=r"is a Darknet network without weights: put own\.weights beside it"):
        load(network)
