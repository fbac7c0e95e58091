"""Content, style and smoothness of a picture, as two papers define them.

Gatys, Ecker and Bethge, "Image Style Transfer Using Convolutional Neural Networks" (2016): a picture is optimised.
Johnson, Alahi and Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution" (2016): a network is
trained; losses are means rather than sums, so that they do not depend on the picture's size.

Features are (N, C, H, W); of a batch, the mean over its pictures is returned.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gram(features: Tensor) -> Tensor:
    """Return (N, C, C) sums over all places of the products of each two channels (Gatys, equation 3)."""
    flat = features.float().flatten(2)
    return flat @ flat.transpose(1, 2)


def gatys_content(features: Tensor, wanted: Tensor) -> Tensor:
    """1/2 sum (F - P)^2 (Gatys, equation 1)."""
    return 0.5 * (features.float() - wanted.float()).square().sum() / len(features)


def gatys_style(features: Tensor, wanted: Tensor) -> Tensor:
    """1 / (4 C^2 M^2) sum (G - A)^2, M being the number of places (Gatys, equation 4); one layer's share of the style.

    Args:
        features: (N, C, H, W).
        wanted: (1 or N, C, C) Gram matrix per place squared: `normal_gram` of the painting, of any size.
    """
    channels, places = features.shape[1], features.shape[2] * features.shape[3]
    difference = gram(features) / places - wanted
    return difference.square().sum() / (4 * channels**2) / len(features)


def normal_gram(features: Tensor) -> Tensor:
    """Return the Gram matrix divided by the number of places: what pictures of two sizes can be compared by."""
    return gram(features) / (features.shape[2] * features.shape[3])


def johnson_content(features: Tensor, wanted: Tensor) -> Tensor:
    """1 / (C H W) sum (F - P)^2 (Johnson, equation 2)."""
    return (features.float() - wanted.float()).square().mean()


def johnson_style(features: Tensor, wanted: Tensor) -> Tensor:
    """Sum over C x C of (G - A)^2, Gram matrices divided by C H W (Johnson, equations 3 and 4).

    Args:
        features: (N, C, H, W).
        wanted: (1 or N, C, C), `normal_gram` of the painting.
    """
    channels = features.shape[1]
    difference = (normal_gram(features) - wanted) / channels
    return difference.square().sum() / len(features)


def total_variation(pictures: Tensor) -> Tensor:
    """Mean over pixels of the squared differences to the neighbours below and at the right (Johnson, section 3.2)."""
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).square().mean()
    across = (pictures[..., :, 1:] - pictures[..., :, :-1]).square().mean()
    return down + across


def shifted(pictures: Tensor, down: int, right: int, margin: int) -> Tensor:
    """Cut (N, 3, H, W) at all sides by `margin`, after moving the frame by up to so many pixels."""
    height, width = pictures.shape[-2:]
    if max(abs(down), abs(right)) > margin:
        raise ValueError(f"a shift of {down, right} is more than the margin of {margin}")
    return pictures[..., margin + down : height - margin + down, margin + right : width - margin + right]


def stability(styled: Tensor, styled_of_shifted: Tensor, down: int, right: int, margin: int) -> Tensor:
    """Mean squared difference of a styled picture, moved, and the styled picture of the moved one.

    A network for which it is small does the same to an object wherever it is: less flicker when the camera moves. A
    stand-in for the optical flow of Huang et al., "Real-Time Neural Style Transfer for Videos" (2017), that needs no
    video.
    """
    there = shifted(styled, down, right, margin)
    return torch.nn.functional.mse_loss(there, shifted(styled_of_shifted, 0, 0, margin))
