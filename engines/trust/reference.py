"""The reference of the parity check: an ONNX file as it is, in fp32, fed float pixels made by numpy.

No step on the graph, no pre-processing compiled into it, no optimisation by the runtime: an error in any of those
must not be in both of what is compared. So numpy also does what `engines.prepare` does by nodes: axes in the order of
the file, pixels in its type (uint8, float16), numbers for its other inputs, outputs as float32. What is shared is only
how a file is understood: which axes are which (`picture_layout`), and what a second input means (`other_inputs`).

Two exceptions: a file in another format (dlib's, Darknet's) is converted, and where the zoo knows that the size a file
declares means nothing (`InputSpec.batch` is a number), the declaration is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engines.errors import BackendUnavailable, EngineBuildError, ModelError
from engines.file_kinds import IMPORTED
from engines.graph import dimensions, load, picture_input
from engines.other_inputs import numbers_of
from engines.picture_layout import layout_of

if TYPE_CHECKING:
    from engines.engine import Batch, Outputs
    from engines.picture_layout import PictureLayout
    from engines.spec import ModelSpec

KINDS: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
"""Numpy's types by ONNX Runtime's names."""
FLOATS = (np.float16, np.float64)
RANKS = frozenset({"TopK", "NonMaxSuppression"})


class PlainFile:
    """A model file run by ONNX Runtime, without any of this project's preparations.

    One of its inputs must take pictures; where their size is fixed, it is that of the batches given to `infer`, and
    where their number is, or where there is no axis for it, pictures are run one by one.
    """

    def __init__(self, spec: ModelSpec, size: tuple[int, int] | None = None) -> None:
        """Load the file.

        Args:
            spec: the model.
            size: height and width of the pictures; where the file declares others, what it declares is left out.

        Raises:
            BackendUnavailable: onnxruntime is not installed.
            ModelError: the file cannot be converted, or takes no pictures.
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
        except ModelError:
            raise
        except Exception as error:  # its exceptions share no public base
            raise EngineBuildError(f"onnxruntime refused {spec.path}: {str(error).strip()}") from error
        self._names = [output.name for output in self._session.get_outputs()]
        self._inputs = {each.name: each for each in self._session.get_inputs()}
        self._picture, self._layout = self._find_picture(spec)
        self._spec = spec.input
        self.ranked = any(node.op_type in RANKS for node in load(spec.path).graph.node)
        """Whether the model itself puts candidates in the order of their scores, as DETR and NMS-free exports do."""

    def _find_picture(self, spec: ModelSpec) -> tuple[str, PictureLayout]:
        for name, each in self._inputs.items():
            shape = [side if isinstance(side, int) else None for side in each.shape]
            if (layout := layout_of(shape)) is not None:
                return name, layout
        raise ModelError(f"{spec.path} takes no pictures")

    def infer(self, batch: Batch) -> Outputs:
        """Run the file."""
        pixels = batch[..., ::-1] if self._spec.colour == "rgb" else batch
        values = (pixels.astype(np.float64) - self._spec.mean) / self._spec.std
        first = self._layout.batch
        if first is not None and not isinstance(self._inputs[self._picture].shape[first], int):
            return self._run(values)
        each = [self._run(values[i : i + 1]) for i in range(len(values))]
        return {name: np.concatenate([outputs[name] for outputs in each]) for name in self._names}

    def _run(self, values: npt.NDArray[np.float64]) -> Outputs:
        """Run it on N x H x W x 3, N being 1 where the file has no axis for it."""
        size = (values.shape[1], values.shape[2])
        given = {name: self._numbers(name, size, len(values)) for name in self._inputs if name != self._picture}
        given[self._picture] = self._as_file_wants(values)
        outputs: list[npt.NDArray[Any]] = self._session.run(self._names, given)
        as_floats = [array.astype(np.float32) if array.dtype in FLOATS else array for array in outputs]
        return dict(zip(self._names, as_floats, strict=True))

    def _as_file_wants(self, values: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        layout = self._layout
        places = {0: layout.batch, 1: layout.height, 2: layout.width, 3: layout.channels}
        if layout.batch is None:
            places, values = {0: layout.height, 1: layout.width, 2: layout.channels}, values[0]
        ordered = np.moveaxis(values, list(places), [place for place in places.values() if place is not None])
        return np.ascontiguousarray(ordered, dtype=KINDS[self._inputs[self._picture].type])

    def _numbers(self, name: str, size: tuple[int, int], pictures: int) -> npt.NDArray[Any]:
        wanted = self._inputs[name]
        numbers = numbers_of(name, size)
        if numbers is None:
            raise ModelError(f"what the input {name} is to be given is not known")
        row = np.array(numbers, KINDS[wanted.type])
        return row if len(wanted.shape) == 1 else np.stack([row] * pictures)


def _content(spec: ModelSpec, size: tuple[int, int] | None) -> str | bytes:
    """Return what ONNX Runtime is to load: the file's path, where it can be loaded as it is."""
    undeclared = isinstance(spec.input.batch, int)
    if size is None and not undeclared and spec.path.suffix not in IMPORTED:
        return str(spec.path)
    model = load(spec.path)
    picture = picture_input(model)
    shape = dimensions(picture)
    layout = layout_of(shape)
    assert layout is not None
    declared = shape[layout.height], shape[layout.width]
    resized = size is not None and any(own not in (None, side) for own, side in zip(declared, size, strict=True))
    axes = picture.type.tensor_type.shape.dim
    if undeclared and layout.batch is not None:
        axes[layout.batch].Clear()
    if undeclared or resized:
        axes[layout.height].Clear()
        axes[layout.width].Clear()
    for output in model.graph.output:
        for number, axis in enumerate(output.type.tensor_type.shape.dim):
            if (number > 1 and (undeclared or resized)) or (number == 0 and undeclared):
                axis.Clear()
    content: bytes = model.SerializeToString()
    return content
