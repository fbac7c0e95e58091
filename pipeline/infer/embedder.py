"""FaceEmbedder: aligned faces -> encodings, in the metric of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engines.engine import Engine, EngineOptions, Outputs, Pending, open_engine
from engines.errors import ModelError
from pipeline.infer.alignment import align

if TYPE_CHECKING:
    from engines.spec import ModelSpec
    from pipeline.arrays import FloatArray, Image
    from pipeline.picture import Picture


class Encoding(NamedTuple):
    """Encodings that have been started."""

    pending: Pending | None
    faces: int


class FaceEmbedder:
    """A face encoder for single pictures: what the stage, the gallery and the evaluation share."""

    def __init__(self, spec: ModelSpec, engine: EngineOptions | None = None, *, mirrored: bool = False) -> None:
        """Compile the encoder.

        Args:
            spec: the model; its `encoder` says how faces lie in it and how encodings are compared.
            engine: how to run it.
            mirrored: whether an encoding is the mean over the face and its mirror image: twice the work.

        Raises:
            ModelError: the model is no face encoder.
        """
        if spec.encoder is None:
            raise ModelError(
                f"{spec.path.name}: nothing says how faces lie in this encoder and how its encodings are compared: "
                f"describe it in {spec.path.with_suffix('.yaml').name} beside it (see docs/faces.md)"
            )
        self.spec, self.encoder, self.mirrored = spec, spec.encoder, mirrored
        self.engine: Engine = open_engine(spec, engine)
        try:
            blank = np.zeros((1, *self.engine.input_size, 3), np.uint8)
            self.dimensions = _only_row(self.engine.infer(blank), spec).shape[1]
        except BaseException:
            self.engine.close()
            raise

    def chips(self, picture: Picture, landmarks: FloatArray) -> Image:
        """Cut (N, 5, 2) landmarks' faces out; return (N, height, width, 3) uint8 BGR."""
        return align(picture, landmarks, self.encoder.template, self.engine.input_size)

    def submit(self, chips: Image) -> Encoding:
        """Start encoding N chips as one request."""
        if not len(chips):
            return Encoding(None, 0)
        batch = np.concatenate([chips, chips[:, :, ::-1]]) if self.mirrored else chips
        return Encoding(self.engine.submit(batch), len(chips))

    def collect(self, started: Encoding) -> FloatArray:
        """Wait; return (N, D) float32, of length 1 where the metric is `cosine`, else as they are."""
        if started.pending is None:
            return np.empty((0, self.dimensions), np.float32)
        rows = _only_row(started.pending.result(), self.spec).astype(np.float32)
        return self._finished(rows, started.faces)

    def __call__(self, chips: Image) -> FloatArray:
        """Encode (N, height, width, 3) chips; return (N, D) float32."""
        return self.collect(self.submit(chips))

    def _finished(self, rows: FloatArray, count: int) -> FloatArray:
        if self.encoder.metric == "cosine":
            rows = _normalised(rows)
        if not self.mirrored:
            return rows
        mean = np.asarray((rows[:count] + rows[count:]) / 2, np.float32)
        return _normalised(mean) if self.encoder.metric == "cosine" else mean

    def describe(self) -> str:
        """Name the model and what runs it."""
        return str(self.engine.describe())

    def close(self) -> None:
        """Give the engine back."""
        self.engine.close()


def _normalised(rows: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0), np.float32)


def _only_row(outputs: Outputs, spec: ModelSpec) -> FloatArray:
    """Return the one output, (N, D).

    Raises:
        ModelError: there are others, or it has another shape.
    """
    shapes = {name: list(array.shape) for name, array in outputs.items()}
    if len(outputs) != 1 or next(iter(outputs.values())).ndim != 2:
        raise ModelError(f"{spec.name} is no face encoder: it gives {shapes}, not one output [N, dimensions]")
    rows: FloatArray = next(iter(outputs.values()))
    return rows
