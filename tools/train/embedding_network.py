"""A compact face encoder in the manner of MobileNetV2 (Sandler et al., 2018) and MobileFaceNet (Chen et al., 2018).

Inverted residual blocks of depthwise separable convolutions; at the end not an average over the picture but a depthwise
convolution of its whole size (MobileFaceNet, section 3.1), for in an aligned face every place has a meaning of its own.
0.37 million parameters for 112 x 112 pictures and 128 dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

STRIDE = 16
"""Of the whole network: a picture must have at least this many pixels a side."""
FIRST_CHANNELS = 32
STAGES = ((48, 1, 2), (96, 3, 2), (128, 3, 2))
"""Channels, blocks, and stride of the first block."""
EXPANSION = 2
LAST_CHANNELS = 256


class FaceNetwork(nn.Module):
    """(N, 3, size, size) normalised pixels -> (N, dimensions) encodings of length 1.

    Its batch normalisation keeps no running mean of past weights: `settle` before it is used or tested.

    Args:
        size: height and width of the pictures.
        dimensions: of an encoding.
        seed: the weights it starts with; torch's own random numbers are left as they are.
    """

    def __init__(self, size: int, dimensions: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers: list[nn.Module] = [*_convolution(3, FIRST_CHANNELS, 3, stride=2)]
            channels = FIRST_CHANNELS
            for wider, blocks, stride in STAGES:
                for number in range(blocks):
                    layers.append(_InvertedResidual(channels, wider, stride if number == 0 else 1))
                    channels = wider
            layers += _convolution(channels, LAST_CHANNELS, 1)
            side = -(-size // STRIDE)
            layers += [
                nn.Conv2d(LAST_CHANNELS, LAST_CHANNELS, side, groups=LAST_CHANNELS, bias=False),
                nn.BatchNorm2d(LAST_CHANNELS, momentum=None),
                nn.Flatten(),
                nn.Linear(LAST_CHANNELS, dimensions, bias=False),
                nn.BatchNorm1d(dimensions, momentum=None),
            ]
            self.layers = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode a batch."""
        return normalize(self.layers(pictures))

    def settle(self, batches: Iterable[Tensor]) -> None:
        """Measure the statistics of batch normalisation anew, with the weights as they are now.

        A running mean, as is usual, lags behind by many steps: after an epoch of a few hundred pictures it made all
        encodings nearly equal. Source: Wu and Johnson, Rethinking "Batch" in BatchNorm (2021), section 3.

        Args:
            batches: pictures as they are in training, two or more each.
        """
        for layer in self.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.reset_running_stats()
        self.train()
        with torch.no_grad():
            for pictures in batches:
                self(pictures)


class _InvertedResidual(nn.Module):
    """Widen by 1 x 1, filter each channel by 3 x 3, narrow by 1 x 1; added to its input where the shape stays."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        hidden = EXPANSION * channels
        self._residual = stride == 1 and channels == wider
        self._layers = nn.Sequential(
            *_convolution(channels, hidden, 1),
            *_convolution(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, wider, 1, bias=False),
            nn.BatchNorm2d(wider, momentum=None),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Apply the block."""
        changed: Tensor = self._layers(pictures)
        return pictures + changed if self._residual else changed


def _convolution(channels: int, wider: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, wider, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(wider, momentum=None),
        nn.PReLU(wider),
    ]
