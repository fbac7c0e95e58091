"""From a trained style network to a model of the zoo: an ONNX file for any size, compared with the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.spec import InputSpec, ModelSpec
from pipeline.arrays import Image
from tools.train.onnx_file import differences, export
from tools.train.style_loop import to_tensor
from tools.train.style_network import STRIDE, StyleNetwork
from tools.train.style_settings import StyleSettings

MAX_DIFFERENCE = 10.0
"""Between the values, 0..255, of PyTorch and those of the file, at any place.

Of photos 0.04 was measured. Of drawings with large flat areas, single pixels differed by 2 in ONNX Runtime and by 8 in
OpenVINO (means 0.02 and 0.13): where a channel hardly varies, instance normalisation magnifies what is rounded.
"""


def export_style(network: StyleNetwork, path: Path) -> None:
    """Write a network that takes (N, 3, H, W) RGB 0..255, of any size that is a multiple of 4.

    Raises:
        ModelError: the file cannot be written.
    """
    open_axes = {0: "N", 2: "H", 3: "W"}
    example = torch.full((1, 3, 64, 96), 128.0)
    names = ("picture", "styled")
    export(network, example, path, names=names, dynamic=dict.fromkeys(names, open_axes))


def spec_of(name: str, path: Path) -> ModelSpec:
    """Describe an exported file."""
    return ModelSpec(name, path, "stylize", input=input_spec())


def input_spec() -> InputSpec:
    """How the exported file is fed."""
    return InputSpec(colour="rgb", fit="stretch", multiple=STRIDE)


def compared(network: StyleNetwork, spec: ModelSpec, pictures: list[Image]) -> dict[str, float]:
    """Return by how much runtimes differ from PyTorch on pictures of one size, in levels of 255.

    Raises:
        ParityFailed: by too much.
    """
    with torch.no_grad():
        wanted = network(to_tensor(pictures)).contiguous().numpy()
    return differences(spec, np.stack(pictures), wanted, MAX_DIFFERENCE)


def describe(
    name: str, painting: str, settings: StyleSettings, iterations: int, drift: dict[str, float]
) -> dict[str, Any]:
    """Return the fields of the zoo's entry."""
    differs = ", ".join(f"{value:.1g} ({runtime})" for runtime, value in drift.items())
    return {
        "name": name,
        "task": "stylize",
        "licence": "your own",
        "commercial_use": None,
        "note": (
            f"The style of {painting}; {iterations} iterations, {settings.batch} crop(s) of {settings.size} pixels in "
            f"each; differs from PyTorch by {differs} of 255. What may be done with it depends on the painting and the "
            "pictures."
        ),
        "input": input_spec(),
    }
