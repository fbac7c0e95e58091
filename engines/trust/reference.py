"""The reference of the parity check: an ONNX file as it is, in fp32, fed float pixels made by numpy.

No step on the graph, no pre-processing compiled into it, no optimisation by the runtime: an error in any of those
must not be in both of what is compared. Two exceptions: a file in another format (dlib's) is converted, and where the
zoo knows that the size a file declares means nothing (`InputSpec.batch` is a number), the declaration is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engines.errors import BackendUnavailable, EngineBuildError
from engines.graph import dimensions, load, picture_input

if TYPE_CHECKING:
    from engines.engine import Batch, Outputs
    from engines.spec import ModelSpec


class PlainFile:
    """A model file run by ONNX Runtime, without any of this project's preparations.

    Its first input must be N x 3 x height x width; where that is fixed, it is the size of the pictures, and where N is
    fixed, pictures are run one by one.
    """

    def __init__(self, spec: ModelSpec, size: tuple[int, int] | None = None) -> None:
        """Load the file.

        Args:
            spec: the model.
            size: height and width of the pictures; where the file declares others, what it declares is left out.

        Raises:
            BackendUnavailable: onnxruntime is not installed.
            ModelError: the file cannot be converted.
            EngineBuildError: onnxruntime refuses it.
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise BackendUnavailable(f"the reference needs onnxruntime ({error}): pip install onnxruntime") from error
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(_content(spec, size), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no public base
            raise EngineBuildError(f"onnxruntime refused {spec.path}: {str(error).strip()}") from error
        self._input = self._session.get_inputs()[0]
        self._names = [output.name for output in self._session.get_outputs()]
        self._spec = spec.input

    def infer(self, batch: Batch) -> Outputs:
        """Run the file."""
        pixels = batch[..., ::-1] if self._spec.colour == "rgb" else batch
        values = (pixels.astype(np.float64) - self._spec.mean) / self._spec.std
        planes = np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)
        if not isinstance(self._input.shape[0], int):
            return self._run(planes)
        each = [self._run(planes[i : i + 1]) for i in range(len(planes))]
        return {name: np.concatenate([outputs[name] for outputs in each]) for name in self._names}

    def _run(self, planes: npt.NDArray[np.float32]) -> Outputs:
        return dict(zip(self._names, self._session.run(self._names, {self._input.name: planes}), strict=True))


def _content(spec: ModelSpec, size: tuple[int, int] | None) -> str | bytes:
    """Return what ONNX Runtime is to load: the file's path, where it can be loaded as it is."""
    undeclared = isinstance(spec.input.batch, int)
    if size is None and not undeclared and spec.path.suffix != ".dat":
        return str(spec.path)
    model = load(spec.path)
    declared = dimensions(picture_input(model))[2:]
    resized = size is not None and any(own not in (None, side) for own, side in zip(declared, size, strict=True))
    for value in (picture_input(model), *model.graph.output):
        for number, axis in enumerate(value.type.tensor_type.shape.dim):
            if (number > 1 and (undeclared or resized)) or (number == 0 and undeclared):
                axis.Clear()
    content: bytes = model.SerializeToString()
    return content
