"""From a trained network to an ONNX file, and the proof that the file says the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from engines.engine import EngineOptions, open_engine
from engines.errors import ModelError, ParityFailed
from engines.spec import ModelSpec
from engines.trust.reference import PlainFile
from pipeline.arrays import FloatArray, Image

OPSET = 17
HARMLESS = (
    "Constant folding - Only steps=1",  # what PyTorch does not fold, `fold_constants` does
    "ONNX export mode is set to TrainingMode.EVAL, but operator 'instance_norm'",  # it has no other mode
    "Converting a tensor to a Python boolean",  # a check in instance normalisation, of sizes that the network has
)
"""How PyTorch's warnings begin that come although nothing is wrong."""


def export(
    network: nn.Module, example: Tensor, path: Path, *, names: tuple[str, str], dynamic: dict[str, dict[int, str]]
) -> None:
    """Write a network as an ONNX file.

    Args:
        network: on the CPU, ready to be used.
        example: an input.
        path: of the file.
        names: of the input and the output.
        dynamic: the axes of each that are left open, and what they are called.

    Raises:
        ModelError: the file cannot be written.
    """
    try:
        with _without_harmless_warnings():
            torch.onnx.export(
                network,
                (example,),
                str(path),
                opset_version=OPSET,
                input_names=[names[0]],
                output_names=[names[1]],
                dynamic_axes=dynamic,
                dynamo=False,
            )
        model = onnx.load(path)
        fold_constants(model.graph)
        onnx.save(model, path)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def _without_harmless_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # the newer exporter needs one more package (onnxscript) and writes no opset below 18
        warnings.simplefilter("ignore", DeprecationWarning)
        for begins in HARMLESS:
            warnings.filterwarnings("ignore", begins)
        yield


def fold_constants(graph: onnx.GraphProto) -> None:
    """Compute once what does not depend on the input; PyTorch writes a padding's widths as eight nodes.

    A style network has 509 nodes before and 79 after, and none that a compiler must evaluate to know a shape.
    """
    known = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    nodes = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type == "Constant" or (inputs and all(name in known for name in inputs)):
            values = ReferenceEvaluator(node).run(None, {name: known[name] for name in inputs})
            known.update(zip(node.output, map(np.asarray, values), strict=True))
        else:
            nodes.append(node)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {each.name for each in graph.output}
    graph.initializer.extend(onnx.numpy_helper.from_array(known[name], name) for name in sorted(used & known.keys()))


def differences(spec: ModelSpec, pictures: Image, wanted: FloatArray, allowed: float) -> dict[str, float]:
    """Return the largest difference of a file's output from PyTorch's: ONNX Runtime's and OpenVINO's.

    Args:
        spec: the exported file; its first output is compared.
        pictures: (N, H, W, 3) uint8 BGR.
        wanted: PyTorch's outputs for them.
        allowed: the most that is accepted.

    Raises:
        ParityFailed: one is too large; do not use the file.
    """
    size = (pictures.shape[1], pictures.shape[2])
    engine = open_engine(spec, EngineOptions(backend="openvino", precision="fp32", input_size=size))
    try:
        outputs = {"ONNX Runtime": PlainFile(spec, size).infer(pictures), "OpenVINO": engine.infer(pictures)}
    finally:
        engine.close()
    found = {name: float(np.abs(next(iter(each.values())) - wanted).max()) for name, each in outputs.items()}
    for name, difference in found.items():
        if not difference <= allowed:
            raise ParityFailed(
                f"{spec.path} is not what was trained: {name} differs by {difference:.2g}, allowed {allowed:g}"
            )
    return found
