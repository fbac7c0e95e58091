"""From a trained network to a model of the zoo: written as ONNX, compared with the original, described, registered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engines.spec import EncoderSpec, InputSpec, ModelSpec
from pipeline.arrays import Image
from tools.train import onnx_file
from tools.train.embedding_data import template
from tools.train.embedding_loop import MEAN, STD, encode
from tools.train.embedding_network import FaceNetwork
from tools.train.embedding_scores import Scores

MAX_DIFFERENCE = 1e-3
"""Between the encodings of PyTorch and those of the file; of numbers up to 1. 2e-6 was measured."""
COMPARED = 64
"""Pictures that are compared."""


def export(network: FaceNetwork, size: int, path: Path) -> None:
    """Write the network as an ONNX file that takes any number of (3, size, size) normalised RGB pictures.

    Raises:
        ModelError: the file cannot be written.
    """
    names = ("face", "encoding")
    example = torch.zeros(2, 3, size, size)
    onnx_file.export(network, example, path, names=names, dynamic={name: {0: "N"} for name in names})


def largest_difference(network: FaceNetwork, spec: ModelSpec, chips: Image) -> dict[str, float]:
    """Return the largest difference of an encoding's value from PyTorch's: ONNX Runtime's and OpenVINO's.

    Args:
        network: the original, on the CPU.
        spec: the exported file.
        chips: (N, size, size, 3) uint8 BGR, real faces.

    Raises:
        ParityFailed: one is too large; do not use the file.
    """
    compared = chips[:COMPARED]
    return onnx_file.differences(spec, compared, encode(network, compared), MAX_DIFFERENCE)


def input_spec(size: int) -> InputSpec:
    """How the exported file is fed."""
    return InputSpec(size, size, colour="rgb", mean=(MEAN,) * 3, std=(STD,) * 3, fit="stretch")


def describe(name: str, size: int, scores: Scores, people: int, differences: dict[str, float]) -> dict[str, Any]:
    """Return the fields of the zoo's entry.

    Args:
        name: of the model.
        size: of its input.
        scores: measured on held-out people.
        people: how many of those.
        differences: of the exported file from the original.
    """
    drift = ", ".join(f"{value:.1g} ({backend})" for backend, value in differences.items())
    return {
        "name": name,
        "task": "face-encode",
        "licence": "your own",
        "commercial_use": None,
        "note": "Trained on your own pictures; what may be done with it depends on what those people agreed to.",
        "input": input_spec(size),
        "encoder": EncoderSpec(
            template=template(size),
            metric="cosine",
            verify_threshold=round(scores.verify_threshold, 4),
            identify_threshold=round(scores.identify_threshold, 4),
        ),
        "accuracy": (
            f"AUC {scores.auc:.4f}, accuracy {scores.accuracy:.1%} on {people} held-out people "
            f"({scores.same_pairs} same and {scores.different_pairs} different pairs); differs from PyTorch by {drift}"
        ),
        "precision": "fp32",
    }


def spec_of(name: str, path: Path, size: int) -> ModelSpec:
    """Describe an exported file that is not registered yet."""
    return replace(ModelSpec(name, path, "face-encode"), input=input_spec(size), precision="fp32")
