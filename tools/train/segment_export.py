"""From a trained U-Net to a model of the zoo: an ONNX file for any number of pictures, compared with the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.spec import HeadOptions, InputSpec, ModelSpec
from pipeline.arrays import Image
from tools.segment_scores import Matrix, iou_per_class, mean_iou, pixel_accuracy
from tools.train.onnx_file import differences, export
from tools.train.segment_loop import MEAN, STD, to_input
from tools.train.segment_settings import SegmentSettings
from tools.train.unet import UNet

MAX_DIFFERENCE = 1e-2
"""Between the logits of PyTorch and those of the file, which go to about 20. 3e-5 was measured."""
HEAD, HEAD_OPTIONS = "classes", HeadOptions(scores="logits")
COMPARED = 4
"""Pictures that are compared."""


def export_unet(network: UNet, settings: SegmentSettings, path: Path) -> None:
    """Write a network that takes (N, 3, H, W) normalised RGB and gives (N, classes, H, W) logits.

    Height and width are left open: any multiple of 2^depth. The zoo's entry says what it was trained for.

    Raises:
        ModelError: the file cannot be written.
    """
    open_axes = {0: "N", 2: "H", 3: "W"}
    names = ("picture", "logits")
    example = torch.zeros(2, 3, settings.height, settings.width)
    export(network, example, path, names=names, dynamic=dict.fromkeys(names, open_axes))


def input_spec(settings: SegmentSettings) -> InputSpec:
    """How the exported file is fed."""
    return InputSpec(
        settings.height,
        settings.width,
        colour="rgb",
        mean=MEAN,
        std=STD,
        fit="stretch",
        multiple=2**settings.depth,
    )


def spec_of(name: str, path: Path, settings: SegmentSettings, labels: tuple[str, ...]) -> ModelSpec:
    """Describe an exported file that is not registered yet."""
    return ModelSpec(
        name, path, "segment", input=input_spec(settings), head=HEAD, head_options=HEAD_OPTIONS, labels=labels
    )


def compared(network: UNet, spec: ModelSpec, pictures: list[Image]) -> dict[str, float]:
    """Return by how much runtimes' logits differ from PyTorch's, on pictures of the network's size (H x W x 3 BGR).

    Raises:
        ParityFailed: by too much; do not use the file.
    """
    shown = np.stack(pictures[:COMPARED])
    with torch.no_grad():
        wanted = network(to_input(shown)).contiguous().numpy()
    return differences(spec, shown, wanted, MAX_DIFFERENCE)


def describe(
    name: str,
    settings: SegmentSettings,
    labels: tuple[str, ...],
    matrix: Matrix,
    pictures: int,
    drift: dict[str, float],
) -> dict[str, Any]:
    """Return the fields of the zoo's entry.

    Args:
        name: of the model.
        settings: it was trained with.
        labels: names of the classes.
        matrix: confusion on held-out pictures.
        pictures: how many of those.
        drift: of the exported file from the original.
    """
    differs = ", ".join(f"{value:.1g} ({runtime})" for runtime, value in drift.items())
    return {
        "name": name,
        "task": "segment",
        "licence": "your own",
        "commercial_use": None,
        "note": "Trained on your own pictures; what may be done with it depends on the terms that they came under.",
        "input": input_spec(settings),
        "head": HEAD,
        "head_options": HEAD_OPTIONS,
        "labels": labels,
        "accuracy": (
            f"mIoU {mean_iou(matrix):.3f}, pixels {pixel_accuracy(matrix):.1%} on {pictures} held-out pictures, in "
            f"their own size; differs from PyTorch by {differs}"
        ),
    }


def scores_by_class(labels: tuple[str, ...], matrix: Matrix) -> str:
    """Return the IoU of each class in one line."""
    scores = zip(labels, iou_per_class(matrix).tolist(), strict=True)
    return ", ".join(f"{label} {'-' if score != score else f'{score:.3f}'}" for label, score in scores)
