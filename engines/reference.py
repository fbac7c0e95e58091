"""The reference of the parity check: an ONNX file as it is, in fp32, fed float pixels made by numpy.

No step on the graph, no pre-processing compiled into it, no optimisation by the runtime: an error in any of those
must not be in both of what is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engines.errors import BackendUnavailable, EngineBuildError

if TYPE_CHECKING:
    from engines.engine import Batch, Outputs
    from engines.spec import ModelSpec


class PlainFile:
    """A model file run by ONNX Runtime, without any of this project's preparations.

    Its first input must be N x 3 x height x width; where that is fixed, it is the size of the pictures.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Load the file.

        Raises:
            BackendUnavailable: onnxruntime is not installed.
            EngineBuildError: it refuses the file.
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
            self._session = ort.InferenceSession(str(spec.path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no public base
            raise EngineBuildError(f"onnxruntime refused {spec.path}: {str(error).strip()}") from error
        self._input = self._session.get_inputs()[0]
        self._names = [output.name for output in self._session.get_outputs()]
        self._spec = spec.input

    def infer(self, batch: Batch) -> Outputs:
        """Run the file; pictures one by one where its batch is fixed."""
        pixels = batch[..., ::-1] if self._spec.colour == "rgb" else batch
        values = (pixels.astype(np.float64) - self._spec.mean) / self._spec.std
        planes = np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)
        if not isinstance(self._input.shape[0], int):
            return self._run(planes)
        each = [self._run(planes[i : i + 1]) for i in range(len(planes))]
        return {name: np.concatenate([outputs[name] for outputs in each]) for name in self._names}

    def _run(self, planes: npt.NDArray[np.float32]) -> Outputs:
        return dict(zip(self._names, self._session.run(self._names, {self._input.name: planes}), strict=True))
