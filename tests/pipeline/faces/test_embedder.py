"""The face encoder: its numbers are the file's own, normalised or raw as its metric says, mirrored or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from engines.engine import EngineOptions
from engines.errors import ModelError
from engines.spec import Metric, ModelSpec
from engines.zoo import Zoo
from pipeline.arrays import FloatArray, Image
from pipeline.infer.alignment import align
from pipeline.infer.embedder import FaceEmbedder
from tests.pipeline.faces import patterns
from tests.pipeline.faces.conftest import Portrait

SAME = 5e-5
"""Between two runtimes, in numbers of an encoding of length 1."""


@pytest.fixture(scope="module")
def spec(small_models: dict[str, ModelSpec]) -> ModelSpec:
    return small_models["mobilefacenet"]


@pytest.fixture(scope="module")
def embedder(spec: ModelSpec) -> Iterator[FaceEmbedder]:
    opened = FaceEmbedder(spec, EngineOptions("openvino"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def chips(portraits: list[Portrait], embedder: FaceEmbedder) -> Image:
    return np.concatenate([embedder.chips(picture, landmarks) for picture, landmarks in portraits[:8]])


@pytest.fixture(scope="module")
def raw(spec: ModelSpec, chips: Image) -> tuple[FloatArray, FloatArray]:
    """What the file itself says of the chips and of their mirror images: RGB, ImageNet's mean and deviation, NCHW."""
    session = ort.InferenceSession(str(spec.path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Image) -> FloatArray:
        scaled = (images[..., ::-1].astype(np.float32) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        planes = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)
        return np.concatenate([np.asarray(session.run(None, {name: each[None]})[0]) for each in planes])

    return run(chips), run(chips[:, :, ::-1])


def unit(rows: FloatArray) -> FloatArray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_encodings_are_the_files_own_normalised(
    embedder: FaceEmbedder, chips: Image, raw: tuple[FloatArray, FloatArray]
) -> None:
    found = embedder(chips)
    assert found.dtype == np.float32
    assert found.shape == (8, 128) == (8, embedder.dimensions)
    np.testing.assert_allclose(found, unit(raw[0]), atol=SAME)


def test_an_encoding_does_not_depend_on_its_neighbours_in_the_batch(embedder: FaceEmbedder, chips: Image) -> None:
    one_by_one = np.concatenate([embedder(chips[row : row + 1]) for row in range(len(chips))])
    np.testing.assert_allclose(embedder(chips), one_by_one, atol=SAME)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mirrored_encoding_is_the_mean_of_both_in_the_metric_of_the_encoder(
    spec: ModelSpec, chips: Image, raw: tuple[FloatArray, FloatArray], metric: Metric, mirrored: bool
) -> None:
    assert spec.encoder is not None
    other = replace(spec, encoder=replace(spec.encoder, metric=metric))
    embedder = FaceEmbedder(other, EngineOptions("onnxruntime"), mirrored=mirrored)
    try:
        found = embedder(chips)
    finally:
        embedder.close()
    face, mirror = raw if metric == "l2" else map(unit, raw)
    expected = np.asarray((face + mirror) / 2 if mirrored else face, np.float32)
    if metric == "cosine":
        expected = unit(expected)
        assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-6)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=5 * SAME)


def test_a_mirrored_face_has_the_encoding_of_the_face(spec: ModelSpec, chips: Image) -> None:
    embedder = FaceEmbedder(spec, EngineOptions("onnxruntime"), mirrored=True)
    try:
        np.testing.assert_allclose(embedder(chips), embedder(chips[:, :, ::-1]), atol=SAME)
    finally:
        embedder.close()


@pytest.mark.parametrize("mirrored", [False, True])
def test_no_faces_have_no_encodings_and_ask_nothing_of_the_engine(tmp_path: Path, mirrored: bool) -> None:
    embedder = FaceEmbedder(patterns.encoder(tmp_path), patterns.CPU, mirrored=mirrored)
    embedder.engine.close()
    assert embedder(np.empty((0, 112, 112, 3), np.uint8)).shape == (0, 192)


def test_chips_are_faces_on_the_encoders_own_template(embedder: FaceEmbedder, portraits: list[Portrait]) -> None:
    assert embedder.spec.encoder is not None
    picture, landmarks = portraits[0]
    expected = align(picture, landmarks, embedder.spec.encoder.template, (112, 112))
    assert (embedder.chips(picture, landmarks) == expected).all()
    assert embedder.chips(picture, landmarks[:0]).shape == (0, 112, 112, 3)


def test_two_batches_may_be_on_their_way_at_once(embedder: FaceEmbedder, chips: Image) -> None:
    first, second = embedder.submit(chips[:2]), embedder.submit(chips[2:5])
    assert (first.faces, second.faces) == (2, 3)
    both = np.concatenate([embedder.collect(first), embedder.collect(second)])
    np.testing.assert_allclose(both, embedder(chips[:5]), atol=SAME)


def test_an_encoding_of_zeros_stays_zeros_and_is_no_nan(tmp_path: Path) -> None:
    """A chip of which the encoder says nothing cannot be normalised."""
    embedder = FaceEmbedder(patterns.encoder(tmp_path), patterns.CPU, mirrored=True)
    try:
        found = embedder(np.full((1, 112, 112, 3), 90, np.uint8))
    finally:
        embedder.close()
    assert (found == 0).all()


def test_a_finder_is_no_encoder(small_models: dict[str, ModelSpec]) -> None:
    finder = replace(small_models["yunet"], encoder=small_models["mobilefacenet"].encoder)
    options = EngineOptions("onnxruntime", input_size=(320, 320))
    with pytest.raises(
        ModelError, match=r"^yunet is no face encoder: it gives \{.*\}, not one output \[N, dimensions\]"
    ):
        FaceEmbedder(finder, options)


def test_an_encoder_that_nothing_describes_is_refused_and_told_where_to_describe_it(tmp_path: Path) -> None:
    patterns.encoder(tmp_path)
    spec = Zoo.load().spec(tmp_path / "patterns.onnx", task="face-encode")
    with pytest.raises(ModelError, match=r"^patterns\.onnx: nothing says .* describe it in patterns\.yaml beside it"):
        FaceEmbedder(spec)
