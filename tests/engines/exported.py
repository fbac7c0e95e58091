"""Networks that are to be had as no file: a style network after Johnson and a small U-Net, exported from torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.spec import InputSpec, ModelSpec


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_layer(channels, channels, 3), nn.ReLU(), _layer(channels, channels, 3))

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = self.layers(maps)
        return maps + changed


def _layer(before: int, after: int, kernel: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(before, after, kernel, stride)
    return nn.Sequential(nn.ReflectionPad2d(kernel // 2), convolution, nn.InstanceNorm2d(after, affine=True))


class Style(nn.Module):
    """Down, residual blocks, up by nearest neighbour: RGB 0..255 in and out (Johnson et al. 2016, narrower)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(_layer(3, 16, 9), nn.ReLU(), _layer(16, 32, 3, 2), nn.ReLU(), _layer(32, 64, 3, 2), nn.ReLU()),
            *(_Residual(64) for _ in range(3)),
            *(nn.Upsample(scale_factor=2), _layer(64, 32, 3), nn.ReLU()),
            *(nn.Upsample(scale_factor=2), _layer(32, 16, 3), nn.ReLU()),
            *(nn.ReflectionPad2d(4), nn.Conv2d(16, 3, 9)),
        )

    def forward(self, picture: Tensor) -> Tensor:
        stylized: Tensor = self.layers(picture)
        return (stylized + 128).clamp(0, 255)


class UNet(nn.Module):
    """Two levels down and up with shortcuts; three classes (Ronneberger et al. 2015, smaller)."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = _double(3, 16), _double(16, 32), _double(32, 64)
        self.up2, self.join2 = nn.ConvTranspose2d(64, 32, 2, 2), _double(64, 32)
        self.up1, self.join1 = nn.ConvTranspose2d(32, 16, 2, 2), _double(32, 16)
        self.classes = nn.Conv2d(16, 3, 1)

    def forward(self, picture: Tensor) -> Tensor:
        first = self.down1(picture)
        second = self.down2(nn.functional.max_pool2d(first, 2))
        bottom = self.bottom(nn.functional.max_pool2d(second, 2))
        second = self.join2(torch.cat([self.up2(bottom), second], 1))
        first = self.join1(torch.cat([self.up1(second), first], 1))
        maps: Tensor = self.classes(first)
        return maps.softmax(1)


def _double(before: int, after: int) -> nn.Module:
    first, second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(after), nn.ReLU(), second, nn.BatchNorm2d(after), nn.ReLU())


def style_network(folder: Path) -> ModelSpec:
    """RGB 0..255, 64 x 96 in and out."""
    path = folder / "style.onnx"
    return ModelSpec("style", _export(Style(), path), "stylize", InputSpec(colour="rgb"))


def u_net(folder: Path) -> ModelSpec:
    """RGB 0..1, 64 x 96 to three classes."""
    path = folder / "u-net.onnx"
    return ModelSpec("u-net", _export(UNet(), path), "segment", InputSpec(colour="rgb", std=(255.0, 255.0, 255.0)))


def _export(network: nn.Module, path: Path) -> Path:
    torch.manual_seed(0)
    for weights in network.parameters():
        if weights.dim() > 1:
            nn.init.kaiming_normal_(weights, nonlinearity="relu")
    with warnings.catch_warnings():  # it says that it is the old exporter
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 3, 64, 96),),
            str(path),
            input_names=["image"],
            output_names=["out"],
            opset_version=17,
            dynamo=False,
        )
    return path
