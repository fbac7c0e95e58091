"""PyTorch's models as ONNX, so that they are looked at as all others are.

What can be read is what holds its own network: a program by `torch.export.save` (`.pt2`), TorchScript by
`torch.jit.save` (`.pt`), and the weights of VGG16, whose network is known here (the zoo's `vgg16-hed`, torchvision's
`vgg16-397923af.pth`). Other weights, and pickled networks, need code that is not in the file.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import BackendUnavailable, ModelError
from engines.spec import InputSpec
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

SUFFIXES = frozenset({".pt", ".pth", ".pt2", ".ts", ".torchscript", ".h5"})
OPSET = 17
VGG_INPUT = InputSpec(colour="rgb")
"""RGB 0..255: the network subtracts its mean itself."""


def is_torch(path: Path) -> bool:
    """Whether the name is that of a PyTorch file, or of VGG16's weights."""
    return path.suffix.lower() in SUFFIXES


def is_vgg(path: Path) -> bool:
    """Whether a file can only be weights of VGG16."""
    return path.suffix.lower() == ".h5" or (path.suffix.lower() != ".pt2" and _kind(path) == "weights")


def to_onnx(path: Path, size: tuple[int, int], target: Path) -> None:
    """Write a PyTorch file's network as ONNX.

    Args:
        path: of the file.
        size: height and width of the pictures; a program that was exported for one size only takes that.
        target: of what is written.

    Raises:
        BackendUnavailable: PyTorch is not installed.
        ConfigError: the file holds no network, or one that does not take a picture of that size.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailable(
            f"{path.name} is read by PyTorch, which cannot be imported ({error}): pip install 'frameloom[train]'"
        ) from error
    names: list[str] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch on its own functions, and on what a trace does not follow
        if is_vgg(path):
            network, names = _vgg(path)
        else:
            network = _program(path)
        try:
            torch.onnx.export(
                network,
                (torch.zeros(1, 3, *size),),
                str(target),
                opset_version=OPSET,
                input_names=["picture"],
                output_names=names,
                training=torch.onnx.TrainingMode.PRESERVE,  # a program from torch.export has only one mode
                dynamo=False,
            )
        except Exception as error:  # whatever the network's own code raises
            raise ConfigError(
                f"{path.name} cannot be run on a picture of {size[0]}x{size[1]} and written as ONNX: "
                f"{_first_line(error)}; say the size that it was made for by --input-size, or export it yourself by "
                "torch.onnx.export"
            ) from error


def _program(path: Path) -> Any:
    """Read a network with its own code.

    Raises:
        ConfigError: the file holds none.
    """
    import torch

    if not zipfile.is_zipfile(path):
        raise ConfigError(f"{path} is nothing that torch.export.save or torch.jit.save has written")
    try:
        if _kind(path) == "program":
            return torch.export.load(path).module()
        return torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:  # its exceptions share no public base
        raise ConfigError(f"{path} cannot be read as a PyTorch network: {_first_line(error)}") from error


def _vgg(path: Path) -> tuple[nn.Module, list[str]]:
    """Return VGG16 with an output for each layer, and their names."""
    from torch import Tensor, nn

    from tools.train.vgg import LAYERS, load_vgg16

    try:
        trunk = load_vgg16(path)
    except ConfigError as error:
        raise ConfigError(
            f"{path.name} holds weights and not the network that they belong to (and not those of VGG16, which is "
            "known here): save the network by torch.export.save or torch.jit.save, or export it to ONNX"
        ) from error

    class AllLayers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self, rgb: Tensor) -> list[Tensor]:
            found: Mapping[str, Tensor] = self.trunk(rgb, LAYERS)
            return [found[name] for name in LAYERS]

    return AllLayers().eval(), list(LAYERS)


def _kind(path: Path) -> str:
    """Return `script`, `program` or `weights` (or a pickled network: both need code from elsewhere).

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        if not zipfile.is_zipfile(path):
            return "weights"
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if any("/code/" in name for name in names):
        return "script"
    return "program" if any(name.endswith("models/model.json") for name in names) else "weights"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
