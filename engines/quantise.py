"""int8 for TensorRT: convolutions behind QuantizeLinear and DequantizeLinear, calibrated on pictures.

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

from typing import TYPE_CHECKING

import onnx

from engines.errors import EngineBuildError
from engines.int8.pictures import CalibrationPictures
from engines.int8.simplified import dense_convolutions, leave_out_unused_domains, simplified

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engines.engine import Batch
    from engines.spec import InputSpec

FIRST_LAYERS = 2
"""So many convolutions at the beginning stay as they are, depthwise ones not counted."""


def to_int8(model: onnx.ModelProto, spec: InputSpec, frames: Iterable[Batch]) -> onnx.ModelProto:
    """Return the model with its convolutions in int8. `model` is left as it is; the same frames give the same bytes.

    Args:
        model: prepared, with float32 N x 3 x H x W as its input.
        spec: how a picture becomes that input.
        frames: batches of uint8 N x H x W x 3 BGR of that size, read once; see
            `engines.int8.pictures` for how many are enough.

    Raises:
        EngineBuildError: too few pictures, or too few that show something, pictures of another size, or ONNX Runtime
            cannot run or convert the model.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with simplified(model) as path:
        quantised = path.with_name("int8.onnx")
        quantize_static(
            path,
            quantised,
            CalibrationPictures(model, spec, frames),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=_worthwhile(onnx.load(path).graph),
            extra_options={
                "ActivationSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
                "CalibMovingAverage": True,
            },
        )
        result = onnx.load(quantised)
    leave_out_unused_domains(result)
    return result


def _worthwhile(graph: onnx.GraphProto) -> list[str]:
    """Return the convolutions that are to be int8."""
    dense = dense_convolutions(graph)
    if len(dense) <= FIRST_LAYERS:
        raise EngineBuildError(
            f"int8 has nothing to gain here: beside depthwise ones the model has {len(dense)} convolutions, "
            f"and the first {FIRST_LAYERS} stay as they are"
        )
    return dense[FIRST_LAYERS:]
