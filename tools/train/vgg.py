"""The trunk of VGG16, as the judge of content and style: fixed weights, features at named layers.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014),
configuration D. Weights come from the zoo (`vgg16-hed`: fine-tuned for edges, which serves as well), or from
torchvision's file (`vgg16-397923af.pth`) where the user has it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engines.errors import BackendUnavailable, ModelError
from pipeline.errors import ConfigError
from tools.train.checkpoint import UNREADABLE

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
LAYERS = tuple(f"conv{b}_{n}" for b, widths in enumerate(BLOCKS, 1) for n in range(1, len(widths) + 1))
"""`conv1_1` to `conv5_3`; features are taken after the ReLU."""
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
"""Of weights that came from Caffe (Oxford's own, `vgg16-hed`): input BGR 0..255 minus this."""
TORCH_MEAN_RGB, TORCH_STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's: RGB 0..1, (x - mean) / std."""

Features = dict[str, Tensor]


class Vgg16(nn.Module):
    """The 13 convolutions, or the first of them, up to the last layer that is asked for.

    Args:
        weights: (out, in, 3, 3) and (out,) of each convolution, in the order of `LAYERS`.
        from_caffe: whether they expect BGR 0..255 minus the mean, else torchvision's RGB.
        pooling: `max`, as trained, or `average`, which Gatys et al. found to give smoother pictures.

    Raises:
        ModelError: the weights have other shapes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Sequence[tuple[Tensor, Tensor]], *, from_caffe: bool, pooling: str = "max") -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        widths = [width for block in BLOCKS for width in block]
        for (kernel, bias), before, width in zip(weights, (3, *widths), widths, strict=False):
            if kernel.shape != (width, before, 3, 3) or bias.shape != (width,):
                raise ModelError(
                    f"no VGG16: a convolution has weights {tuple(kernel.shape)}, not {width, before, 3, 3}"
                )
            layer = nn.Conv2d(before, width, 3, padding=1)
            layer.weight.data, layer.bias.data = kernel, bias  # type: ignore[union-attr]
            self.convolutions.append(layer)
        self.requires_grad_(False)
        self._pool = nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)
        mean, std = [255 * x for x in TORCH_MEAN_RGB], [255 * x for x in TORCH_STD_RGB]
        if from_caffe:
            mean, std = list(CAFFE_MEAN_BGR[::-1]), [1.0, 1.0, 1.0]
        self._flips = from_caffe
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, rgb: Tensor, layers: Sequence[str]) -> Features:
        """Return the features of (N, 3, H, W) RGB 0..255 after the named layers' ReLU, computed no further than needed.

        Raises:
            KeyError: a layer that VGG16 has not, or for which there are no weights.
        """
        for layer in layers:
            if layer not in LAYERS[: len(self.convolutions)]:
                raise KeyError(layer)
        at = (rgb - self.mean) / self.std
        if self._flips:
            at = at.flip(1)
        at = at.contiguous(memory_format=torch.channels_last)
        found: Features = {}
        for name, convolution in zip(LAYERS, self.convolutions, strict=False):
            if name.endswith("_1") and name != "conv1_1":
                at = self._pool(at)
            at = torch.relu(convolution(at))
            if name in layers:
                found[name] = at
                if len(found) == len(set(layers)):
                    break
        return found


def load_vgg16(path: Path, pooling: str = "max") -> Vgg16:
    """Read VGG16's weights: the zoo's `.h5` (Keras), or torchvision's `.pth`.

    Raises:
        BackendUnavailable: h5py, which reads the first, is not installed.
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        weights = _from_keras(path) if path.suffix == ".h5" else _from_torchvision(path)
        if len(weights) != len(LAYERS):
            raise ValueError(f"{len(weights)} convolutions, not {len(LAYERS)}")
        if not all(bool(torch.isfinite(each).all()) for pair in weights for each in pair):
            raise ValueError("some are not finite")
        return Vgg16(weights, from_caffe=path.suffix == ".h5", pooling=pooling)
    except (*UNREADABLE, ModelError) as error:
        raise ConfigError(f"{path} holds no weights of VGG16: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return the first sentence of an error: PyTorch's and h5py's go on for lines."""
    if isinstance(error, pickle.UnpicklingError | EOFError):
        return "it is no file of PyTorch"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip("'\"").splitlines() or [type(error).__name__])[0]


def _from_keras(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Read `block{b}/layers/conv2d[_j]/vars/{0, 1}`: kernels are (3, 3, in, out)."""
    try:
        import h5py
    except ImportError as error:
        raise BackendUnavailable(f"reading {path.name} needs h5py ({error}): pip install 'frameloom[train]'") from error
    weights = []
    with h5py.File(path, "r") as file:
        for block, widths in enumerate(BLOCKS, 1):
            for number in range(len(widths)):
                place = file[f"block{block}/layers/conv2d{f'_{number}' if number else ''}/vars"]
                kernel = np.asarray(place["0"], np.float32).transpose(3, 2, 0, 1)
                weights.append((torch.from_numpy(np.ascontiguousarray(kernel)), torch.from_numpy(place["1"][:])))
    return weights


def _from_torchvision(path: Path) -> list[tuple[Tensor, Tensor]]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("it has no names of layers")
    numbers = sorted({int(key.split(".")[1]) for key in state if str(key).startswith("features.")})
    return [(state[f"features.{n}.weight"].float(), state[f"features.{n}.bias"].float()) for n in numbers]
