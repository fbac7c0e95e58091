"""AppearanceModel: what things look like to an encoder for re-identification, such as OSNet (Zhou et al., 2019).

Its file is used as torchreid and its kin export it: one picture in, RGB and normalised as for ImageNet; a vector out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.engine import Engine, EngineOptions, open_engine
from engines.errors import ModelError, ModelNotFound
from engines.graph import declared_size
from engines.onnx_file import read
from engines.spec import InputSpec, ModelSpec
from pipeline.postprocess.tracker.appearance import COLOUR, Appearance, crops_of

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.arrays import FloatArray, Image
    from pipeline.picture import Picture

SIZE = (256, 128)
"""Height and width that such encoders are trained with, where a file leaves them open."""
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of ImageNet, for pixels of 0..255."""


class AppearanceModel(Appearance):
    """An encoder from an ONNX file: pictures N x 3 x H x W, RGB, normalised as for ImageNet; one output, N x D."""

    same = 0.7
    different = 0.4

    def __init__(self, path: Path, engine: EngineOptions | None = None) -> None:
        """Read what the encoder takes; nothing is compiled before `open`.

        Args:
            path: the ONNX file; where it leaves the size of its pictures open, they are 256 x 128.
            engine: how to run it.

        Raises:
            ModelError: there is no such file, or it takes no pictures.
        """
        if not path.is_file():
            raise ModelNotFound(
                f"track.appearance: there is no file {path}; give {COLOUR!r}, or the path of an ONNX encoder"
            )
        height, width = declared_size(read(path))
        self._spec = ModelSpec(
            name=path.stem,
            path=path,
            task="appearance",
            input=InputSpec(height or SIZE[0], width or SIZE[1], "rgb", MEAN, STD, fit="stretch"),
        )
        self._options = engine
        self._engine: Engine | None = None
        self._dimensions = 0

    @property
    def engine(self) -> Engine:
        """What runs it, once open."""
        assert self._engine is not None
        return self._engine

    def open(self) -> None:
        """Compile the encoder, and try it.

        Raises:
            ModelError: it gives something else than one vector for a picture.
            EngineError: it cannot be run here.
        """
        self._engine = open_engine(self._spec, self._options)
        self._dimensions = self._run(np.zeros((1, *self.engine.input_size, 3), np.uint8)).shape[1]

    def encode(self, picture: Picture, boxes: FloatArray) -> FloatArray:
        """Return (N, D)."""
        if not len(boxes):
            return np.empty((0, self._dimensions), np.float32)
        rows = self._run(np.stack(crops_of(picture, boxes, self.engine.input_size)))
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0), np.float32)

    def close(self) -> None:
        """Give the engine back."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _run(self, crops: Image) -> FloatArray:
        takes_any = self.engine.describe().input_shape[0] is None
        parts = [crops] if takes_any else [crops[index : index + 1] for index in range(len(crops))]
        outputs = [self.engine.infer(part) for part in parts]
        shapes = {name: list(array.shape) for name, array in outputs[0].items()}
        if len(shapes) != 1 or len(next(iter(shapes.values()))) != 2:
            name = self.engine.describe().model
            raise ModelError(f"{name} is no encoder of looks: it gives {shapes}, not one output [N, dimensions]")
        return np.concatenate([next(iter(each.values())) for each in outputs]).astype(np.float32)
