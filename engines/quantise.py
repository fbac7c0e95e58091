"""int8: convolutions behind QuantizeLinear and DequantizeLinear, calibrated on pictures of the place of use.

TensorRT takes no other recipe: symmetric signed activations, weights per channel, no quantised bias. The graph is
first simplified by ONNX Runtime (a BatchNormalization becomes part of its convolution). What else was chosen, by how
far the scores of yolox-nano move on 40 COCO pictures (mean over 1199 rows above 0.3; 32 others for calibration):

    every convolution, inputs and outputs, range of all pictures     0.61, nothing is found any more
    depthwise ones left alone                                        0.37
    outputs left alone: a SiLU sees the value unrounded              0.071
    range: the mean of each picture's own, for outliers weigh less   0.053
    the first two others left alone, too                             0.035

A depthwise convolution has one range for channels that have nothing to do with each other, and gains nothing by int8.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx
from onnx import version_converter

from engines.errors import EngineBuildError
from engines.graph import attributes, dimensions, name_nodes, picture_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engines.engine import Batch
    from engines.spec import InputSpec

FEWEST_PICTURES = 16
"""Fewer say too little of how large activations get: what a picture has beyond them is cut off."""
FEWEST_VALUES = 16
"""A picture with fewer different bytes shows nothing: a lens cap, one colour, with or without bars around it."""
FIRST_LAYERS = 2
"""So many convolutions at the beginning stay as they are, depthwise ones not counted."""
PER_CHANNEL_OPSET = 13
"""The first in which a weight may have a scale per channel."""
SCRATCH = "frameloom-int8-"
"""How the names of folders begin that hold the steps of a model meanwhile."""
FORGOTTEN_S = 86400.0
"""A scratch folder of this age was left by a process that was killed."""


def to_int8(model: onnx.ModelProto, spec: InputSpec, frames: Iterable[Batch]) -> onnx.ModelProto:
    """Return the model with its convolutions in int8. `model` is left as it is; the same frames give the same bytes.

    Args:
        model: prepared, with float32 N x 3 x H x W as its input.
        spec: how a picture becomes that input.
        frames: batches of uint8 N x H x W x 3 BGR of that size, read once; at least `FEWEST_PICTURES` pictures
            that show something.

    Raises:
        EngineBuildError: too few pictures, or too few that show something, pictures of another size, or ONNX Runtime
            cannot run or convert the model.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    pictures = _Pictures(model, spec, frames)
    _remove_forgotten()
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as folder:
        plain, simplified, quantised = (Path(folder, f"{step}.onnx") for step in ("plain", "simplified", "int8"))
        try:
            onnx.save(_at_least(model, PER_CHANNEL_OPSET), plain)
            quant_pre_process(plain, simplified, skip_symbolic_shape=True)
            graph = _with_names(simplified)
            quantize_static(
                simplified,
                quantised,
                pictures,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=_worthwhile(graph),
                extra_options={
                    "ActivationSymmetric": True,
                    "QuantizeBias": False,
                    "OpTypesToExcludeOutputQuantization": ["Conv"],
                    "CalibMovingAverage": True,
                },
            )
            result = onnx.load(quantised)
        except EngineBuildError:
            raise
        except Exception as error:  # its exceptions share no public base
            raise EngineBuildError(f"onnxruntime cannot quantise the model: {str(error).strip()}") from error
    _leave_out_unused_domains(result)
    return result


def _remove_forgotten() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):  # another process may be removing it
            if time.time() - folder.lstat().st_mtime > FORGOTTEN_S:
                shutil.rmtree(folder)


def _with_names(path: Path) -> onnx.GraphProto:
    """Name the nodes of a file, and return its graph."""
    model = onnx.load(path)
    name_nodes(model.graph)
    onnx.save(model, path)
    return model.graph


def _worthwhile(graph: onnx.GraphProto) -> list[str]:
    """Return the convolutions that are to be int8."""
    dense = [node.name for node in graph.node if node.op_type == "Conv" and attributes(node).get("group", 1) == 1]
    if len(dense) <= FIRST_LAYERS:
        raise EngineBuildError(
            f"int8 has nothing to gain here: beside depthwise ones the model has {len(dense)} convolutions, "
            f"and the first {FIRST_LAYERS} stay as they are"
        )
    return dense[FIRST_LAYERS:]


def _leave_out_unused_domains(model: onnx.ModelProto) -> None:
    """ONNX Runtime names all it knows."""
    used = {"", "ai.onnx"}.union(node.domain for node in model.graph.node)
    kept = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _at_least(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    found = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy if found >= opset else version_converter.convert_version(copy, opset)


def _shows_nothing(picture: Batch) -> bool:
    return int(np.count_nonzero(np.bincount(picture.ravel(), minlength=256))) < FEWEST_VALUES


class _Pictures:
    """Gives ONNX Runtime's calibration one normalised picture after the other (its `CalibrationDataReader`)."""

    def __init__(self, model: onnx.ModelProto, spec: InputSpec, frames: Iterable[Batch]) -> None:
        value = picture_input(model)
        self._name = value.name
        self._height, self._width = dimensions(value)[2:]
        self._spec = spec
        self._planes = self._read(frames)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """Return the next input; None where there is no more."""
        planes = next(self._planes, None)
        return None if planes is None else {self._name: planes}

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        return iter(self.get_next, None)

    def _read(self, frames: Iterable[Batch]) -> Iterator[npt.NDArray[np.float32]]:
        count = blank = 0
        for batch in frames:
            if batch.dtype != np.uint8 or batch.shape[1:] != (self._height, self._width, 3):
                raise EngineBuildError(
                    f"int8 is calibrated on uint8 N x {self._height} x {self._width} x 3 pictures, "
                    f"not {batch.dtype} {' x '.join(map(str, batch.shape))}"
                )
            count += len(batch)
            blank += sum(_shows_nothing(picture) for picture in batch)
            yield from (self._normalised(picture) for picture in batch)
        if count - blank < FEWEST_PICTURES:
            among = f" that show something: of {count}, {blank} are of one colour" if blank else f", not {count}"
            raise EngineBuildError(
                f"int8 needs at least {FEWEST_PICTURES} pictures of the place of use to be calibrated on{among}"
            )

    def _normalised(self, picture: Batch) -> npt.NDArray[np.float32]:
        """H x W x 3 BGR -> 1 x 3 x H x W."""
        pixels = picture[..., ::-1] if self._spec.colour == "rgb" else picture
        mean, deviation = (np.array(each, np.float32) for each in (self._spec.mean, self._spec.std))
        return np.ascontiguousarray(((pixels - mean) / deviation).transpose(2, 0, 1)[None], dtype=np.float32)
