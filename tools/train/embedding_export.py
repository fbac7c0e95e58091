"""From a trained network to a model of the zoo: written as ONNX, compared with the original, described, registered."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.engine import EngineOptions, open_engine
from engines.errors import ModelError, ParityFailed
from engines.spec import EncoderSpec, InputSpec, ModelSpec
from engines.trust.reference import PlainFile
from pipeline.arrays import Image
from tools.train.embedding_data import template
from tools.train.embedding_loop import MEAN, STD, encode
from tools.train.embedding_network import FaceNetwork
from tools.train.embedding_scores import Scores

OPSET = 17
MAX_DIFFERENCE = 1e-3
"""Between the encodings of PyTorch and those of the file; of numbers up to 1. 2e-6 was measured."""
COMPARED = 64
"""Pictures that are compared."""


def export(network: FaceNetwork, size: int, path: Path) -> None:
    """Write the network as an ONNX file that takes any number of (3, size, size) normalised RGB pictures.

    Raises:
        ModelError: the file cannot be written.
    """
    example = torch.zeros(2, 3, size, size)
    try:
        with warnings.catch_warnings():
            # the newer exporter needs one more package (onnxscript) and writes no opset below 18
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                network,
                (example,),
                str(path),
                opset_version=OPSET,
                input_names=["face"],
                output_names=["encoding"],
                dynamic_axes={"face": {0: "N"}, "encoding": {0: "N"}},
                dynamo=False,
            )
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}") from error


def largest_difference(network: FaceNetwork, spec: ModelSpec, chips: Image) -> dict[str, float]:
    """Return the largest difference of an encoding's value from PyTorch's: ONNX Runtime's and OpenVINO's.

    Args:
        network: the original, on the CPU.
        spec: the exported file.
        chips: (N, size, size, 3) uint8 BGR, real faces.

    Raises:
        ParityFailed: one is too large; do not use the file.
    """
    wanted = encode(network, chips[:COMPARED])
    engine = open_engine(spec, EngineOptions(backend="openvino", precision="fp32"))
    try:
        outputs = {"ONNX Runtime": PlainFile(spec).infer(chips[:COMPARED]), "OpenVINO": engine.infer(chips[:COMPARED])}
    finally:
        engine.close()
    found = {name: float(np.abs(values["encoding"] - wanted).max()) for name, values in outputs.items()}
    for name, difference in found.items():
        if not difference <= MAX_DIFFERENCE:
            raise ParityFailed(
                f"{spec.path} is not what was trained: {name} differs by {difference:.2g}, allowed {MAX_DIFFERENCE:g}"
            )
    return found


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
