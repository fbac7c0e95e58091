"""J, what is to be small: far from the content in what is shown, from the painting in how (Gatys et al., equation 7).

    J = alpha sum_l L_content,l + beta sum_l lambda_l E_l / sum_l lambda_l + smooth_weight TV + RANGE_WEIGHT R

L_content is equation 1, E_l equation 4 with Gram matrices per place. Unless the paper's scale is asked for, each is
divided by its own value for features that are all 0: a picture with nothing of the content, or of the style, then has
1 of it. In the paper the network is rescaled so that its filters' mean activation is 1; this takes the rescaling's
place. R is the mean square by which values lie outside of what a picture can show, as a part of its range.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tools.style.settings import PaintSettings
from tools.train.style_losses import gatys_content, gatys_style, normal_gram, total_variation
from tools.train.vgg import Vgg16

RANGE_WEIGHT = 100.0
"""Without it 4.5 % of all values ended outside of 0..255, some by more than 100, and were cut off: white skies."""


@dataclass(frozen=True)
class Losses:
    """Weighted parts of J."""

    content: float
    style: float
    smooth: float
    outside: float
    """Of values that cannot be shown."""

    @property
    def total(self) -> float:
        """J."""
        return self.content + self.style + self.smooth + self.outside


@dataclass(frozen=True)
class Evaluation:
    """J at one picture, and where it falls fastest."""

    picture: Tensor
    """(1, 3, H, W) float32 RGB, 0..255 and somewhat beyond; a copy."""
    losses: Losses
    total: float
    """J, as the optimiser is told."""
    gradient: Tensor
    """Of J by the picture, of its shape."""


class Objective:
    """J of pictures of one size.

    Args:
        vgg: the judge, on the device of the pictures.
        content: (1, 3, H, W) float32 RGB 0..255.
        painting: (1, 3, h, w), of any size.
        settings: layers and weights.
    """

    def __init__(self, vgg: Vgg16, content: Tensor, painting: Tensor, settings: PaintSettings) -> None:
        self._vgg, self._settings = vgg, settings
        self._layers = (*settings.content_layers, *settings.style_layers)
        self.evaluations = 0
        with torch.no_grad():
            features = vgg(content, settings.content_layers)
            self._content = {name: features[name].clone() for name in settings.content_layers}
            features = vgg(painting, settings.style_layers)
            self._style = {name: normal_gram(features[name]) for name in settings.style_layers}
        total = sum(settings.layer_weights)
        self._alphas = {name: settings.alpha * self._scale(self._of_nothing(name)) for name in self._content}
        self._betas = {
            name: settings.beta * weight / total * self._scale(self._of_no_style(name))
            for name, weight in zip(settings.style_layers, settings.layer_weights, strict=True)
        }

    def _scale(self, of_nothing: float) -> float:
        """Return what a loss is multiplied by: 1, or what makes it relative; a layer that sees nothing has no say."""
        if self._settings.paper_scale:
            return 1.0
        return 1 / of_nothing if of_nothing > 0 else 0.0

    def _of_nothing(self, name: str) -> float:
        wanted = self._content[name]
        return float(gatys_content(torch.zeros_like(wanted), wanted))

    def _of_no_style(self, name: str) -> float:
        wanted = self._style[name]
        return float(gatys_style(wanted.new_zeros(1, wanted.shape[1], 1, 1), wanted))

    def __call__(self, picture: Tensor) -> Evaluation:
        """Evaluate (1, 3, H, W) RGB; what comes back may be not finite."""
        self.evaluations += 1
        at = picture.detach().clone().requires_grad_()
        with torch.enable_grad():
            features = self._vgg(at, self._layers)
            content = [
                alpha * gatys_content(features[name], self._content[name]) for name, alpha in self._alphas.items()
            ]
            style = [beta * gatys_style(features[name], self._style[name]) for name, beta in self._betas.items()]
            smooth = self._settings.smooth_weight * total_variation(at / 255)
            outside = RANGE_WEIGHT * ((at - at.clamp(0, 255)) / 255).square().mean()
            parts = (torch.stack(content).sum(), torch.stack(style).sum(), smooth, outside)
            total = torch.stack(parts).sum()
            (gradient,) = torch.autograd.grad(total, at)
        losses = Losses(*(float(part.detach()) for part in parts))
        return Evaluation(at.detach(), losses, float(total.detach()), gradient.contiguous())
