"""A Darknet network (`.cfg` and `.weights`: YOLOv3, YOLOv4 and their kin) becomes an ONNX model.

OpenCV 5 has dropped its reader. The model's outputs are the feature maps from which boxes are read, as they come, the
finest first. What their values mean is in its metadata: `anchors` (JSON: for each map the width and height of its
anchors in pixels of the input), `arithmetic`, `names`, `stride`, and `scale_x_y` (JSON: a number for each map) where a
centre may lie beyond its cell.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper

from engines.errors import ModelError
from engines.importers.darknet_cfg import read_sections
from engines.importers.darknet_files import Files, files_of, names_of
from engines.importers.darknet_graph import build
from engines.importers.darknet_layers import Convolution, Plan
from engines.importers.darknet_plan import plan
from engines.importers.darknet_weights import Weights

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

MOST_NAMES_BYTES = 1 << 20


def read(path: Path) -> onnx.ModelProto:
    """Read a network, given either of its files.

    The model's input `images` is N x 3 x height x width: red, green, blue, divided by 255. Height and width are those
    of the `.cfg`; other multiples of the metadata's `stride` do as well.

    Raises:
        ModelNotFound: the other file is not there.
        ModelError: a file cannot be read, is damaged, or asks for what is not supported; or the two, or a file of
            names beside them, do not belong together.
    """
    files = files_of(path)
    network = plan(read_sections(files.network))
    wanted = [layer.count for layer in network.layers if isinstance(layer, Convolution)]
    model = build(network, Weights(files.weights, wanted, str(files.network)), files.network.stem)
    if not all(np.isfinite(numpy_helper.to_array(tensor)).all() for tensor in model.graph.initializer):
        raise ModelError(f"{files.weights} is damaged: with it some weights are not finite")
    helper.set_model_props(model, _metadata(network, _names(files, network.ends[0].classes)))
    return model


def _metadata(network: Plan, names: list[str]) -> dict[str, str]:
    """Return what the file says beside its graph, in the words of the usual exporters."""
    entries = {
        "task": "detect",
        "anchors": json.dumps([end.anchors for end in network.ends]),
        "arithmetic": "yolov3",
        "stride": str(network.picture.width // network.ends[-1].maps.width),
    }
    if names:
        entries["names"] = repr(dict(enumerate(names)))
    if any(end.scale != 1 for end in network.ends):
        entries["scale_x_y"] = json.dumps([end.scale for end in network.ends])
    return entries


def _names(files: Files, classes: int) -> list[str]:
    """Return the names of the classes from the file beside; empty where there is none that fits.

    Raises:
        ModelError: it cannot be read, or is called like the network and has another number of names.
    """
    path, own = names_of(files)
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            text = file.read(MOST_NAMES_BYTES).decode("utf-8-sig", "replace")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    names = [line.strip() for line in text.rstrip().splitlines()]
    if len(names) == classes:
        return names
    if own:
        raise ModelError(f"{path} has {len(names)} names, {files.network} has {classes} classes: correct one of them")
    return []
