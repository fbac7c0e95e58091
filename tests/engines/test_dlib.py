"""dlib's face recognition network says as ONNX what it says in dlib; a damaged file is refused."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from engines.engine import Batch, EngineOptions, open_engine
from engines.errors import ModelError
from engines.graph import load
from engines.importers import dlib as importer
from engines.spec import ModelSpec
from engines.trust.reference import PlainFile
from engines.zoo import Zoo

OPENING = 334
"""Bytes before the first layer."""


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return Zoo.load().spec("dlib-resnet")


@pytest.fixture(scope="module")
def chips(shared: Path) -> Batch:
    """The middle of pictures in which a face fills about as much as in dlib's own chips; BGR."""
    paths = sorted((shared / "data" / "faces" / "lfw").rglob("*.jpg"))[::150]
    pictures = [np.asarray(cv2.imread(str(path)), np.uint8) for path in paths]
    return np.stack([picture[50:200, 50:200] for picture in pictures])


@pytest.fixture(scope="module")
def encodings(spec: ModelSpec, chips: Batch) -> npt.NDArray[np.float64]:
    """What dlib says of the chips."""
    dlib: Any = pytest.importorskip("dlib")
    network = dlib.face_recognition_model_v1(str(spec.path))
    return np.array([network.compute_face_descriptor(np.ascontiguousarray(chip[..., ::-1])) for chip in chips])


# ---- the same answers as dlib


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_encodings_are_those_of_dlib(
    backend: Any, spec: ModelSpec, chips: Batch, encodings: npt.NDArray[np.float64]
) -> None:
    engine = open_engine(spec, EngineOptions(backend, "fp32"))
    try:
        assert engine.describe().input_shape == (None, 150, 150, 3)
        together = engine.infer(chips)["encodings"]
        alone = engine.infer(chips[:1])["encodings"]
    finally:
        engine.close()
    assert together.shape == (13, 128)
    np.testing.assert_allclose(together, encodings, rtol=0, atol=1e-5)
    np.testing.assert_allclose(alone, encodings[:1], rtol=0, atol=1e-5)


def test_the_reference_of_the_parity_check_is_dlib(
    spec: ModelSpec, chips: Batch, encodings: npt.NDArray[np.float64]
) -> None:
    np.testing.assert_allclose(PlainFile(spec).infer(chips)["encodings"], encodings, rtol=0, atol=1e-5)


# ---- what is refused


@pytest.fixture
def copy(spec: ModelSpec, tmp_path: Path) -> Path:
    path = tmp_path / "network.dat"
    path.write_bytes(spec.path.read_bytes())
    return path


def overwrite(path: Path, position: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(content)


def is_refused(path: Path) -> bool:
    """Whether the file is refused, in one sentence that names it; if not, it must be a valid model."""
    try:
        model = importer.read(path)
    except ModelError as error:
        refusal = str(error)
    else:
        onnx.checker.check_model(model, full_check=True)
        return False
    assert refusal.startswith(str(path))
    assert "\n" not in refusal
    return True


def test_a_file_that_ends_too_early_is_refused_wherever_it_ends(copy: Path) -> None:
    whole = copy.stat().st_size
    places = [whole - 1, *range(whole - 15, 0, -1_700_003), *range(OPENING + 20, -1, -7)]
    for place in places:
        os.truncate(copy, place)
        with pytest.raises(ModelError, match=r"damaged: at byte \d+ .*"):
            importer.read(copy)


def test_a_damaged_byte_gives_a_refusal_or_other_weights(copy: Path) -> None:
    content = copy.read_bytes()
    chance = random.Random(0)
    refused = 0
    places = [*range(0, OPENING, 5), *(chance.randrange(len(content)) for _ in range(25))]
    for place in places:
        overwrite(copy, place, bytes([content[place] ^ 1 << chance.randrange(8)]))
        refused += is_refused(copy)
        overwrite(copy, place, content[place : place + 1])
    assert refused >= OPENING // 5 - 10  # margin and threshold of the loss may be anything
    assert not is_refused(copy)


@pytest.mark.parametrize("control", [0x00, 0x09, 0x0F, 0x11, 0x71])
def test_what_is_no_integer_is_refused(control: int, copy: Path) -> None:
    overwrite(copy, 0, bytes([control]))
    with pytest.raises(ModelError, match=f"at byte 0 no integer begins with 0x{control:02x}"):
        importer.read(copy)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x0dloss_metric_2", b"\x0dloss_metric_3", "'loss_metric_2' should be here"),
        (b"\x0dloss_metric_2", b"\xfdloss_metric_2", "'loss_metric_2' should be here"),
        (b"\x01\x96\x01\x96", b"\x01\x96\x01\x97", "input's size should be 150 x 150, not 150 x 151"),
        (
            b"\x03\x62\x90\xf5\x81\x11",
            b"\x03\x63\x90\xf4\x81\x11",
            r"mean should be \[122.782, 117.001, 104.298\], not",
        ),
        (b"\x03\x62\x90\xf5\x81\x11", b"\x01\x01\x02\x00\x7f\x00", "a number has the exponent 32512"),
        (
            b"con_4\x01\x02\x02\x80\x12",
            b"con_4\x01\x02\x02\x80\x7f",
            "tensor's shape should be 4736 x 1 x 1 x 1, not 32640",
        ),
        (b"con_4\x01\x02\x02\x80\x12", b"con_5\x01\x02\x02\x80\x12", "'con_4' should be here"),
        (b"con_4\x01\x02", b"con_4\x01\x01", "tensor's version should be 2, not 1"),
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else "",
)
def test_another_network_of_dlib_is_refused_with_what_was_expected(
    old: bytes, new: bytes, words: str, copy: Path
) -> None:
    overwrite(copy, copy.read_bytes().index(old), new)
    with pytest.raises(ModelError, match=words):
        importer.read(copy)


def test_weights_that_are_not_finite_are_refused(copy: Path) -> None:
    first = copy.read_bytes().index(b"con_4") + 16
    overwrite(copy, first, np.array([np.inf], "<f4").tobytes())
    with pytest.raises(ModelError, match="some of its weights are not finite"):
        importer.read(copy)


def test_what_follows_the_end_is_refused(copy: Path) -> None:
    with copy.open("ab") as file:
        file.write(b"\x01")
    with pytest.raises(ModelError, match="should end here, but has 1 bytes more"):
        importer.read(copy)


@pytest.mark.parametrize("content", [b"", b"\x01", b"PK\x03\x04", bytes(5000), b"\xff" * 5000])
def test_another_file_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.dat"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"other\.dat is not dlib's face recognition network"):
        load(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.dat cannot be read: No such file"):
        load(tmp_path / "none.dat")
