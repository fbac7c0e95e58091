"""Small Darknet networks for tests: their two files, and what the models that they become say."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

Array = npt.NDArray[np.float32]
YOLO = "[yolo]\nmask=0,1,2\nanchors=4,5, 6,7, 8,9\nclasses=1\nnum=3\n"
"""The end of a branch that takes 18 channels."""
POINT = "[convolutional]\nfilters=18\nsize=1\nactivation=linear\n"
"""A convolution that gives them."""


def net(height: int = 16, width: int = 24) -> str:
    return f"[net]\nheight={height}\nwidth={width}\nchannels=3\n"


def written(
    folder: Path, text: str, values: Sequence[Array] | int = (), *, version: tuple[int, int] = (0, 2), name: str = "own"
) -> Path:
    """Write both files and return the path of the network.

    Args:
        folder: where to write them.
        text: of the network.
        values: the weights, one after the other; a number: so many ones.
        version: of the weights.
        name: of both files, without suffix.
    """
    (network := folder / f"{name}.cfg").write_text(text)
    major, minor = version
    seen = struct.pack("<q" if 10 * major + minor >= 2 else "<i", 1234567)
    arrays = [np.ones(values, np.float32)] if isinstance(values, int) else values
    weights = b"".join(array.astype("<f4").tobytes() for array in arrays)
    (folder / f"{name}.weights").write_bytes(struct.pack("<3i", major, minor, 0) + seen + weights)
    return network


def outputs(model: onnx.ModelProto, pictures: Array) -> list[Array]:
    """Run a model, checked first."""
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(each) for each in session.run(None, {"images": pictures})]


def metadata(model: onnx.ModelProto) -> dict[str, Any]:
    return {entry.key: entry.value for entry in model.metadata_props}
