"""Faces that need no download: squares of coloured blocks, a pattern a person, and an ONNX encoder that knows them.

All blocks are equally bright, so `square_finder` finds the squares and says where their landmarks are. The encoder is
the mean colour, without its brightness, of 8 x 8 parts: nothing where the picture is black or grey.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.engine import EngineOptions
from engines.spec import ARCFACE_TEMPLATE, EncoderSpec, InputSpec, ModelSpec
from pipeline.arrays import FloatArray, Image
from pipeline.capture.source import Source, SourceInfo
from pipeline.frame import Frame
from pipeline.gallery.known import id_of
from pipeline.gallery.records import Encoding
from pipeline.gallery.store import GalleryFile
from pipeline.infer.embedder import FaceEmbedder
from pipeline.infer.face_finder import FinderOptions
from pipeline.picture import Picture
from tests.pipeline.face_models import FRACTIONS

CPU = EngineOptions("onnxruntime", "fp32", threads=1, requests=2)
SIZE = (384, 768)
"""Height and width of the scenes."""
SIDE = 64
"""Of a face, in pixels of a scene: the finder's squares are half of that, as its input is."""
OPTIONS = FinderOptions(short_side=192, confidence=0.55)
NAMES = ("ann", "bob", "eve", "zoe")
BLOCKS = 4
"""Along a side."""
COLOURS = np.array(list(itertools.permutations((60, 180, 255))), np.uint8)
CHIP = 112
Place = tuple[str, int, int]
"""Who, and x and y of the square's corner: 4 more than a multiple of 8 is what the finder can say exactly."""


def face(name: str) -> Image:
    """Return (SIDE, SIDE, 3) BGR."""
    blocks = COLOURS[np.random.default_rng(NAMES.index(name)).integers(0, len(COLOURS), (BLOCKS, BLOCKS))]
    return np.asarray(blocks.repeat(SIDE // BLOCKS, axis=0).repeat(SIDE // BLOCKS, axis=1))


def scene(*places: Place) -> Picture:
    """Return a black picture with faces in it."""
    pixels = np.zeros((*SIZE, 3), np.uint8)
    for name, x, y in places:
        pixels[y : y + SIDE, x : x + SIDE] = face(name)
    return Picture(bgr=pixels)


def landmarks(x: float, y: float, side: float = SIDE) -> FloatArray:
    """Return the (5, 2) landmarks that a square has."""
    return np.asarray(np.array(FRACTIONS) * side + (x, y), np.float32)


def encoder(folder: Path, metric: str = "cosine") -> ModelSpec:
    """Return a face encoder of 192 numbers; faces that are as they should lie are 1 alike, others about 0."""
    nodes = [
        helper.make_node("Conv", ["x", "less_grey"], ["colour"]),
        helper.make_node("AveragePool", ["colour"], ["parts"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["parts"], ["y"]),
    ]
    less_grey = (np.eye(3) - 1 / 3).astype(np.float32).reshape(3, 3, 1, 1)
    taken = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, CHIP, CHIP])
    given = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 192])
    graph = helper.make_graph(nodes, "patterns", [taken], [given], [numpy_helper.from_array(less_grey, "less_grey")])
    path = folder / "patterns.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    compared = EncoderSpec(ARCFACE_TEMPLATE, metric, 0.6, 0.7, 0.06)  # type: ignore[arg-type]
    fed = InputSpec(CHIP, CHIP, "bgr", batch="any")
    return ModelSpec("patterns", path, "face-encode", fed, encoder=compared, sha256="c" * 64, precision="fp32")


def encodings(embedder: FaceEmbedder, *names: str) -> FloatArray:
    """Encode people's faces as they are in a scene."""
    picture = scene(*((name, 36 + 128 * column, 68) for column, name in enumerate(names)))
    places = np.stack([landmarks(36 + 128 * column, 68) for column in range(len(names))])
    return embedder(embedder.chips(picture, places))


def enrol(path: Path, embedder: FaceEmbedder, *names: str) -> Path:
    """Put people into a gallery."""
    with GalleryFile.open(path, id_of(embedder), create=True) as gallery:
        for name, vector in zip(names, encodings(embedder, *names), strict=True):
            gallery.add(name, [Encoding(vector, 0.9, f"{name}.png", "", "2026-01-02T03:04:05+00:00")])
    return path


class Scenes(Source):
    """Pictures as a source: a file, or, with `every_s`, live."""

    def __init__(self, name: str, pictures: Sequence[Picture], every_s: float = 0.0, files: bool = False) -> None:
        self.info = SourceInfo(name, "scenes", every_s > 0, SIZE[1], SIZE[0], 30.0, len(pictures))
        self._pictures, self._every_s, self._files = pictures, every_s, files

    def frames(self) -> Iterator[Frame]:
        for index, picture in enumerate(self._pictures):
            time.sleep(self._every_s)
            yield frame(picture, index, self.info.name, Path(f"{index}.png") if self._files else None)


def frame(picture: Picture, index: int = 0, source: str = "cam", file: Path | None = None) -> Frame:
    return Frame(source, index, index / 30, time.monotonic(), picture, file=file)
