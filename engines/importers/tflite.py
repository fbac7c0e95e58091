"""A TensorFlow Lite file (`.tflite`) in float32, or with weights in float16, becomes an ONNX model.

It is for networks that segment pictures: MediaPipe's selfie segmentation, whose own operator no other converter knows,
and DeepLabV3. ai-edge-litert says the same to 1e-4 or better. Pictures and answers are N x channels x height x width.
What says how a picture is to be normalised is not read: the files at hand leave it out, or say it of another export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.errors import ModelError
from engines.file_kinds import refuse_foreign
from engines.importers.tflite_file import parse
from engines.importers.tflite_graph import GraphInMaking
from engines.importers.tflite_names import labels_of
from engines.importers.tflite_operators import KNOWN, convert

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".tflite"


def read(path: Path) -> onnx.ModelProto:
    """Read a network.

    Names of classes that the file carries become metadata (`names`), where there are as many as the last output has
    channels.

    Raises:
        ModelError: the file cannot be read, is none, is damaged, is quantised, or asks for what is not supported.
    """
    refuse_foreign(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    network = parse(content, str(path), KNOWN)
    graph = GraphInMaking(network)
    for operator in network.operators:
        convert(graph, operator)
    model = graph.model()
    if not all(np.isfinite(numpy_helper.to_array(tensor)).all() for tensor in model.graph.initializer):
        raise ModelError(f"{path} is damaged: some of its weights are not finite")
    names = labels_of(content)
    if len(names) == model.graph.output[-1].type.tensor_type.shape.dim[1].dim_value:
        helper.set_model_props(model, {"names": repr(dict(enumerate(names)))})
    return model
