"""U-Net: an encoder that sees ever more at ever less detail, a decoder that brings the detail back.

Source: Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015), figure
1: two 3 x 3 convolutions a level, 2 x 2 max pooling, channels doubled; back up by 2 x 2 transposed convolutions that
halve them, each result concatenated with the encoder's of the same level; 1 x 1 convolution to the classes.

Where this one differs: convolutions are padded, so that the map has the picture's size and nothing is cropped where
levels are concatenated (the paper's are not, and it tiles pictures with mirrored margins instead); batch normalisation
after each convolution (Ioffe and Szegedy, 2015), without which learning from scratch takes many times as long; and a
width of 16 channels in place of 64 unless asked for: a sixteenth of the arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class UNet(nn.Module):
    """(N, 3, H, W) normalised pixels -> (N, classes, H, W) logits; H and W are multiples of 2^depth.

    Args:
        classes: how many.
        width: channels of the first level.
        depth: how many times the picture is halved; the paper's is 4.
        seed: the weights it starts with; torch's own random numbers are left as they are.
    """

    def __init__(self, classes: int, width: int = 16, depth: int = 4, seed: int = 0) -> None:
        super().__init__()
        channels = [width << level for level in range(depth + 1)]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder = nn.ModuleList(
                _two_convolutions(*each) for each in zip([3, *channels], channels, strict=False)
            )
            upwards = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
            self.up = nn.ModuleList(nn.ConvTranspose2d(below, level, 2, stride=2) for below, level in upwards)
            self.decoder = nn.ModuleList(_two_convolutions(2 * level, level) for _, level in upwards)
            self.classify = nn.Conv2d(width, classes, 1)
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d):
                    # the paper, section 3: a standard deviation of sqrt(2 / N), N = incoming nodes (He et al., 2015)
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits of every pixel."""
        levels: list[Tensor] = []
        x = pictures
        for number, convolve in enumerate(self.encoder):
            x = convolve(x if number == 0 else max_pool2d(x, 2))
            levels.append(x)
        for up, convolve, level in zip(self.up, self.decoder, levels[-2::-1], strict=True):
            x = convolve(torch.cat([level, up(x)], dim=1))
        logits: Tensor = self.classify(x)
        return logits


def _two_convolutions(channels: int, wider: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for each in (channels, wider):
        layers += [nn.Conv2d(each, wider, 3, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
