"""What the tests of style training share: a judge with random weights, pictures that were drawn, and small settings."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch

from pipeline.arrays import Image
from tools.train.style_data import texture
from tools.train.style_loop import StyleTraining, Tested
from tools.train.style_network import StyleNetwork
from tools.train.style_settings import StyleSettings
from tools.train.vgg import BLOCKS, Vgg16

SMALL = StyleSettings(
    size=64,
    style_size=64,
    iterations=6,
    width=4,
    content_layer="conv1_2",
    style_layers=("conv1_1", "conv1_2"),
    style_weights=(1.0, 1.0),
    stable_every=2,
    held_out=2,
    test_every=3,
)


def random_weights(convolutions: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weights of VGG16's first convolutions, of the size at which features neither vanish nor grow."""
    chance = torch.Generator().manual_seed(0)
    widths = [3, *(width for block in BLOCKS for width in block)]
    return [
        (torch.randn(after, before, 3, 3, generator=chance) * (2 / (9 * before)) ** 0.5, torch.full((after,), 0.1))
        for before, after in list(pairwise(widths))[:convolutions]
    ]


def write_vgg(path: Path) -> Path:
    """Write random weights up to conv4_1 and zeros after it, named as torchvision names them."""
    state = {}
    widths = [width for block in BLOCKS for width in block]
    nothing = torch.zeros(1)  # which takes no room in the file, however large it is made
    unused = [(nothing.expand(512, 512, 3, 3), nothing.expand(512)) for _ in widths[8:]]
    for number, (kernel, bias) in enumerate([*random_weights(8), *unused]):
        state[f"features.{2 * number}.weight"], state[f"features.{2 * number}.bias"] = kernel, bias
    torch.save({**state, "classifier.0.weight": torch.zeros(1)}, path)
    return path


def drawn(count: int, height: int = 80, width: int = 96) -> list[Image]:
    """Pictures of clouds and shapes in colour."""
    return [
        np.asarray(cv2.resize(texture(96, np.random.default_rng(number)), (width, height))) for number in range(count)
    ]


def new_training(settings: StyleSettings = SMALL, pictures: int = 6, painting: int = 99) -> StyleTraining:
    style = texture(64, np.random.default_rng(painting))
    return StyleTraining(style, drawn(pictures), Vgg16(random_weights(2), from_caffe=False), settings)


def trained(settings: StyleSettings = SMALL, path: Path | None = None) -> StyleTraining:
    training = new_training(settings)
    training.run(path, lambda tested: None, lambda done, total: None)
    return training


def without_times(history: list[Tested]) -> list[Tested]:
    return [replace(tested, seconds=0.0) for tested in history]


def same_weights(a: StyleNetwork, b: StyleNetwork) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)
