"""What comes before and after any int8 recipe: a model as ONNX Runtime's quantisation wants it, in a folder of its own.

The graph is simplified by ONNX Runtime (a BatchNormalization becomes part of its convolution) and its nodes get names.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import version_converter

from engines.errors import EngineBuildError
from engines.graph import attributes, name_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

PER_CHANNEL_OPSET = 13
"""The first in which a weight may have a scale per channel."""
SCRATCH = "frameloom-int8-"
"""How the names of folders begin that hold the steps of a model meanwhile."""
FORGOTTEN_S = 86400.0
"""A scratch folder of this age was left by a process that was killed."""


@contextlib.contextmanager
def simplified(model: onnx.ModelProto) -> Iterator[Path]:
    """Give the path of the simplified model; other files beside it go with it in the end. `model` stays as it is.

    Raises:
        EngineBuildError: ONNX Runtime cannot simplify the model, or do what is done meanwhile.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    _remove_forgotten()
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as folder:
        plain, path = Path(folder, "plain.onnx"), Path(folder, "simplified.onnx")
        try:
            onnx.save(_at_least(model, PER_CHANNEL_OPSET), plain)
            quant_pre_process(plain, path, skip_symbolic_shape=True)
            named = onnx.load(path)
            name_nodes(named.graph)
            onnx.save(named, path)
            yield path
        except EngineBuildError:
            raise
        except Exception as error:  # its exceptions share no public base
            raise EngineBuildError(f"onnxruntime cannot quantise the model: {str(error).strip()}") from error


def dense_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the convolutions that are not depthwise, or in groups, in the order of the graph.

    Those have one range for channels that have nothing to do with each other, and gain nothing by int8.
    """
    return [node.name for node in graph.node if node.op_type == "Conv" and attributes(node).get("group", 1) == 1]


def leave_out_unused_domains(model: onnx.ModelProto) -> None:
    """Name only the operator domains that are used; ONNX Runtime names all it knows."""
    used = {"", "ai.onnx"}.union(node.domain for node in model.graph.node)
    kept = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _remove_forgotten() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):  # another process may be removing it
            if time.time() - folder.lstat().st_mtime > FORGOTTEN_S:
                shutil.rmtree(folder)


def _at_least(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    found = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy if found >= opset else version_converter.convert_version(copy, opset)
