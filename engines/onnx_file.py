"""Reading an ONNX file, with the weights that lie in files beside it; what is wrong with one is said in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from engines.errors import ModelError
from engines.file_kinds import MOST_BYTES, refuse_foreign, what_is_wrong
from engines.operators import OWN_DOMAINS, foreign, named, opset_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; weights beside it become part of the model.

    Raises:
        ModelError: it is none, is damaged, does not hold together, or its weights are not all there.
    """
    refuse_foreign(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # protobuf's errors share no public base
        raise ModelError(f"{path} {what_is_wrong(path)}") from error
    _refuse_empty(model, path)
    _take_in_weights(model, path)
    _check(model, path)
    return model


def _refuse_empty(model: onnx.ModelProto, path: Path) -> None:
    """Refuse what is read without an error and says nothing: other formats are protobuf, too."""
    if not model.graph.node and not model.graph.output:
        raise ModelError(
            f"{path} is not an ONNX model: it holds no graph; if it is TensorFlow's, Paddle's or Core ML's, export the "
            "model to ONNX and give that file"
        )
    if not model.graph.output:
        raise ModelError(f"{path} is a model without outputs: export it again, with what is to be had from it")


def _take_in_weights(model: onnx.ModelProto, path: Path) -> None:
    """Load the weights that lie in other files, found relative to the model's own folder.

    What all of it would take is added up first: a model of more than 2 GB cannot be handed on in one piece.
    """
    needed: dict[str, int] = {}
    total = path.stat().st_size
    for tensor in filter(uses_external_data, tensors_of(model.graph)):
        info = ExternalDataInfo(tensor)
        needed[info.location] = max(needed.get(info.location, 0), (info.offset or 0) + (info.length or 0))
        total += info.length or 0
    if not needed:
        return
    for location, size in needed.items():
        file = path.parent / location
        if not file.is_file():
            raise ModelError(f"{path} keeps its weights in {location!r}, which is not in {path.parent}: put it there")
        if (there := file.stat().st_size) < size:
            raise ModelError(
                f"{file} is cut off: {path.name} needs {size} bytes of it, {there} are there: copy it again"
            )
    if total > MOST_BYTES:
        raise ModelError(
            f"{path} has {total / 1e9:.1f} GB with its weights, and a model can have 2 GB at most here: export it in "
            "fp16, or choose a smaller one"
        )
    try:
        load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"the weights of {path} cannot be read: {first_line(error)}") from error


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors that a graph holds: its initializers, and those of its constants."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


def _check(model: onnx.ModelProto, path: Path) -> None:
    known = onnx.defs.onnx_opset_version()
    stated = opset_of(model)
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"{path} is of version {model.ir_version} of ONNX's file format (IR), and onnx {onnx.__version__} here "
            f"knows {onnx.IR_VERSION} at most: pip install --upgrade onnx, or export the model for an older version"
        )
    if stated is None:
        raise ModelError(f"{path} does not say which version of ONNX's operators (opset) it uses: export it again")
    if unknown := [node for node in foreign(model) if node.domain in OWN_DOMAINS]:
        if stated > known:
            raise ModelError(
                f"{path} uses version {stated} of ONNX's operators (opset), and onnx {onnx.__version__} here knows "
                f"{known} at most: pip install --upgrade onnx, or export the model with opset {known} or lower"
            )
        raise ModelError(
            f"{path} has operators that ONNX does not have ({named(unknown)}); export it with ONNX's own operators "
            "alone, and without NMS: Frameloom does that itself"
        )
    shapeless = [value for value in model.graph.output if not value.type.tensor_type.HasField("shape")]
    for value in shapeless:  # which the checker refuses, and every runtime takes
        value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker's errors and protobuf's share no base
        raise ModelError(f"{path} is not a valid ONNX model: {first_line(error)}") from error
    for value in shapeless:
        value.type.tensor_type.ClearField("shape")


def first_line(error: Exception) -> str:
    """Return the first line of an error's words that says anything, or its kind."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
