"""The recipe for CPUs: u8s8. Activations are unsigned with a zero point, weights signed with a scale per channel.

It is the recipe that both ONNX Runtime and OpenVINO compute in 8 bits, and compute alike. Measured on 131 COCO pictures
with 28 others for calibration, AP of yolox-nano (float: 34.9; OpenVINO | ONNX Runtime):

    symmetric signed activations, as TensorRT takes them        2.2 | 34.6
    the same by nncf on the ONNX file                           0.1 | 35.0
    u8s8, every convolution, inputs and outputs                24.3 | 23.8
    depthwise ones left alone                                  25.8 | 26.2
    outputs left alone, too                                    33.9 | 34.1
    nncf's own recipe on OpenVINO's graph                      23.8
    nncf, all but dense convolutions left alone                33.5

So one file is not one answer, and a file is only trusted on the backend that it was judged on. nncf gains nothing over
the same layers here and takes three times as long, so it is not needed. Outputs are left alone for OpenVINO; ONNX
Runtime computes a convolution in 8 bits only where its output is in 8 bits, too, and is slower than fp32 otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from engines.errors import EngineBuildError
from engines.int8.pictures import CalibrationPictures
from engines.int8.simplified import dense_convolutions, leave_out_unused_domains, simplified

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from engines.engine import Batch
    from engines.spec import InputSpec

OUTPUTS = {"openvino": False, "onnxruntime": True}
"""Whether the outputs of convolutions are in 8 bits."""
FIRST_LAYERS = {"openvino": 1, "onnxruntime": 0}
"""So many convolutions at the beginning stay in float. OpenVINO 2026.4 spoils one that reads the picture, not each time
that it compiles it: 7 of 150 times for a 1 x 1 convolution, and never where the first one was left alone.
"""


class Calibrated:
    """A model whose ranges are known: any of its layers can be put into int8 in a moment.

    Args:
        model: prepared, with float32 N x 3 x H x W as its input; it stays as it is.
        spec: how a picture becomes that input.
        frames: batches of uint8 N x H x W x 3 BGR of that size, read once.
        backend: what is to run it.

    Raises:
        EngineBuildError: too few pictures, no dense convolution, or ONNX Runtime cannot run or convert the model.
    """

    def __init__(self, model: onnx.ModelProto, spec: InputSpec, frames: Iterable[Batch], backend: str) -> None:
        from onnxruntime.quantization import CalibrationMethod, create_calibrator

        pictures = CalibrationPictures(model, spec, frames)
        with simplified(model) as path:
            calibrator = create_calibrator(
                path,
                ["Conv"],
                augmented_model_path=str(path.with_name("ranges.onnx")),
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"moving_average": True},  # the mean of each picture's range: outliers weigh less
            )
            calibrator.collect_data(pictures)
            self._ranges = calibrator.compute_data()
            self._simplified = onnx.shape_inference.infer_shapes(onnx.load(path))
        self._outputs = OUTPUTS[backend]
        self.layers = tuple(dense_convolutions(self._simplified.graph))[FIRST_LAYERS[backend] :]
        """What can be int8, in the order of the graph."""
        self.others = sum(node.op_type == "Conv" for node in self._simplified.graph.node) - len(self.layers)
        """Convolutions that cannot: depthwise, in groups, or one of `FIRST_LAYERS`."""
        self.pictures, self.pictures_sha256 = pictures.count, pictures.sha256
        if not self.layers:
            raise EngineBuildError(
                "int8 has nothing to gain here: the model has no convolutions but depthwise and first ones"
            )

    def in_int8(self, layers: Collection[str]) -> onnx.ModelProto:
        """Return the model with these layers in int8, its input and outputs as they are.

        Raises:
            EngineBuildError: ONNX Runtime cannot convert it.
        """
        from onnxruntime.quantization import QDQQuantizer, QuantType

        model = onnx.ModelProto()
        model.CopyFrom(self._simplified)
        if not layers:  # ONNX Runtime takes no names for all of them
            return model
        options: dict[str, Any] = {"OpTypesToExcludeOutputQuantization": [] if self._outputs else ["Conv"]}
        try:
            quantizer = QDQQuantizer(
                model, True, False, QuantType.QInt8, QuantType.QUInt8, self._ranges, list(layers), [], ["Conv"], options
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        except Exception as error:  # its exceptions share no public base
            raise EngineBuildError(f"onnxruntime cannot quantise the model: {str(error).strip()}") from error
        result: onnx.ModelProto = quantizer.model.model
        leave_out_unused_domains(result)
        return result
