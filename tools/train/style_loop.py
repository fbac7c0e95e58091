"""The training of a style network: it can be left and resumed, and ends with the last good network where it breaks.

Every `test_every` iterations the network is tested on held-out pictures, and if all is finite a checkpoint is written.
As crops follow from the seed and their number, a resumed training computes what an uninterrupted one would have.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from engines.errors import FrameloomError
from pipeline.arrays import Image
from pipeline.errors import ConfigError
from tools.train import checkpoint
from tools.train.style_data import centre, crop
from tools.train.style_losses import (
    johnson_content,
    johnson_style,
    normal_gram,
    shifted,
    stability,
    total_variation,
)
from tools.train.style_network import STRIDE, StyleNetwork
from tools.train.style_settings import StyleSettings
from tools.train.vgg import Features, Vgg16

MARGIN = 8
"""Pixels by which a picture is moved, at most, for `stable_weight`."""
LAST_RATE = 0.1
"""Part of the learning rate at the end."""


@dataclass(frozen=True)
class Losses:
    """Weighted parts of what is to be small, and their sum."""

    content: float
    style: float
    smooth: float
    stable: float

    @property
    def total(self) -> float:
        """The sum."""
        return self.content + self.style + self.smooth + self.stable


@dataclass(frozen=True)
class Tested:
    """The network after some iterations, on held-out pictures."""

    iteration: int
    losses: Losses
    seconds: float
    """Of all iterations since the last test."""


class StyleTraining:
    """A style network that is being trained.

    Args:
        painting: H x W x 3 uint8 BGR.
        pictures: to learn from, and the held-out ones: (H, W, 3) uint8 BGR.
        vgg: the judge.
        settings: how.
        device: `cpu`, or `cuda`.
        judge_name: of the weights of `vgg`, for the checkpoint.

    Raises:
        ConfigError: the pictures are too few, or the size of the crops is no multiple of 4.
    """

    def __init__(
        self,
        painting: Image,
        pictures: Sequence[Image],
        vgg: Vgg16,
        settings: StyleSettings,
        device: str = "cpu",
        judge_name: str = "",
    ) -> None:
        if len(pictures) <= settings.held_out:
            raise ConfigError(f"{len(pictures)} pictures are too few: {settings.held_out} of them are to be held out")
        if settings.size % STRIDE:
            raise ConfigError(f"--size {settings.size} is no multiple of {STRIDE}")
        self.settings, self._device = settings, device
        apart = np.linspace(0, len(pictures) - 1, settings.held_out).astype(int).tolist()
        self._tested_on = [centre(pictures[number], settings.size + 2 * MARGIN) for number in apart]
        self.held_out = [picture[MARGIN:-MARGIN, MARGIN:-MARGIN] for picture in self._tested_on]
        """Pictures that it does not learn from, (size, size, 3)."""
        self._pictures = [picture for number, picture in enumerate(pictures) if number not in apart]
        self._vgg = vgg.to(device)
        self.network = StyleNetwork(settings.width, depthwise=settings.depthwise, seed=settings.seed).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimiser = torch.optim.Adam(self.network.parameters(), settings.learning_rate)
        self.history: list[Tested] = []
        self._made_from = {"painting": _told([painting]), "pictures": _told(pictures), "vgg": judge_name}
        with torch.no_grad():
            features = self._look(to_tensor([painting]).to(device), settings.style_layers)
            self._wanted = {name: normal_gram(each) for name, each in features.items()}
            self._style_of_black = {  # features without any correlation: a relative loss of 1
                name: float(johnson_style(torch.zeros_like(each), self._wanted[name]))
                for name, each in features.items()
            }

    def run(self, path: Path | None, report: Callable[[Tested], None], step: Callable[[int, int], None]) -> None:
        """Train to the end.

        Args:
            path: of the checkpoint.
            report: called after every test.
            step: called after every iteration with its number and that of all.

        Raises:
            FrameloomError: the loss is no number any more, or the checkpoint cannot be written. The last one is good.
        """
        begun = time.monotonic()
        for iteration in range(self._last, self.settings.iterations):
            self._learn(iteration, path)
            step(iteration + 1, self.settings.iterations)
            if (iteration + 1) % self.settings.test_every == 0 or iteration + 1 == self.settings.iterations:
                tested = Tested(iteration + 1, self.test(), time.monotonic() - begun)
                self._refuse_broken(asdict(tested.losses), f"after iteration {iteration + 1}", path)
                self.history.append(tested)
                if path is not None:
                    self._save(path)
                report(tested)
                begun = time.monotonic()

    def _learn(self, iteration: int, path: Path | None) -> None:
        wanted = self.settings
        progress = iteration / max(1, wanted.iterations - 1)
        rate = wanted.learning_rate * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * progress)) / 2)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        first = iteration * wanted.batch
        is_moved = wanted.stable_weight > 0 and iteration % wanted.stable_every == 0
        side = wanted.size + 2 * MARGIN if is_moved else wanted.size
        crops = [crop(self._pictures, side, wanted.seed, first + number) for number in range(wanted.batch)]
        chance = np.random.default_rng([wanted.seed, iteration, 1])
        self.network.train()
        losses = self._losses(to_tensor(crops).to(self._device), _move(chance) if is_moved else None)
        each = torch.stack(list(losses.values()))
        self._refuse_broken(dict(zip(losses, each.tolist(), strict=True)), f"in iteration {iteration + 1}", path)
        self._optimiser.zero_grad()
        each.sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), wanted.clip)
        self._optimiser.step()

    def _losses(self, pictures: Tensor, move: tuple[int, int] | None) -> dict[str, Tensor]:
        """Return the weighted losses of one batch.

        Args:
            pictures: (N, 3, H, W) RGB 0..255, with `MARGIN` around them where they are moved.
            move: pixels down and right; None: do not ask for stability.
        """
        wanted, layer = self.settings, self.settings.content_layer
        moved = None if move is None else shifted(pictures, *move, MARGIN)
        if moved is not None:
            pictures = shifted(pictures, 0, 0, MARGIN)
        styled = self._style(pictures)
        features = self._look(styled, (layer, *wanted.style_layers))
        with torch.no_grad():
            content = self._look(pictures, (layer,))[layer]
        losses = {
            "content": wanted.content_weight
            * johnson_content(features[layer], content)
            / content.float().square().mean(),
            "style": wanted.style_weight * self._style_loss(features),
            "smooth": wanted.smooth_weight * total_variation(styled / 255),
        }
        if move is not None and moved is not None:
            styles = styled / 255, self._style(moved) / 255
            losses["stable"] = wanted.stable_weight * stability(*styles, *move, MARGIN)
        return losses

    def _style_loss(self, features: Features) -> Tensor:
        """Return the weighted mean of the layers' relative losses."""
        layers = zip(self.settings.style_layers, self.settings.style_weights, strict=True)
        each = [
            weight * johnson_style(features[name], self._wanted[name]) / self._style_of_black[name]
            for name, weight in layers
        ]
        return torch.stack(each).sum() / sum(self.settings.style_weights)

    def _style(self, pictures: Tensor) -> Tensor:
        with torch.autocast(self._device, torch.bfloat16, enabled=self.settings.mixed_precision):
            styled: Tensor = self.network(pictures)
        return styled.float()

    def _look(self, pictures: Tensor, layers: Sequence[str]) -> Features:
        with torch.autocast(self._device, torch.bfloat16, enabled=self.settings.mixed_precision):
            features: Features = self._vgg(pictures, layers)
        return features

    def test(self) -> Losses:
        """Return the losses on the held-out pictures, which always move alike."""
        self.network.eval()
        sums = dict.fromkeys(("content", "style", "smooth", "stable"), 0.0)
        for number, picture in enumerate(self._tested_on):
            pictures = to_tensor([picture]).to(self._device)
            with torch.no_grad():
                losses = self._losses(pictures, _move(np.random.default_rng(number)))
            for name, value in losses.items():
                sums[name] += float(value) / len(self.held_out)
        return Losses(**sums)

    def preview(self) -> Image:
        """Return the held-out pictures above what the network makes of them, one beside the other, as BGR."""
        self.network.eval()
        with torch.no_grad():
            styled = [to_picture(self.network(to_tensor([each]).to(self._device))) for each in self.held_out]
        return np.asarray(cv2.vconcat([cv2.hconcat(self.held_out), cv2.hconcat(styled)]), np.uint8)

    def _refuse_broken(self, losses: Mapping[str, float], where: str, path: Path | None) -> None:
        for name, loss in losses.items():
            if not math.isfinite(loss):
                said = f"the {name} loss {where} is {loss}: choose a smaller --learning-rate"
                if self.history and path is not None:
                    said += f" and another --out; --begin-with {path} goes on from iteration {self._last}"
                raise FrameloomError(said)

    @property
    def _last(self) -> int:
        """The iteration of the last test, and of the checkpoint."""
        return self.history[-1].iteration if self.history else 0

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with."""
        settings = asdict(self.settings)
        as_lists = {name: list(each) if isinstance(each, tuple) else each for name, each in settings.items()}
        return {**as_lists, **self._made_from}

    def begin_with(self, path: Path) -> None:
        """Take over the network of another style's checkpoint: most of what it knows is about pictures, not style.

        Raises:
            ConfigError: there is none, it is damaged, or its network has another shape.
        """
        try:
            state = checkpoint.load(path, self._device)
            width, depthwise = state["identity"]["width"], state["identity"]["depthwise"]
            network = state["network"]
        except (ConfigError, KeyError) as error:
            raise ConfigError(f"--begin-with {path} is not there, or no checkpoint of a style network") from error
        if (width, depthwise) != (self.settings.width, self.settings.depthwise):
            options = f"--width {width}{'' if depthwise else ' --full'}"
            raise ConfigError(f"--begin-with {path} is a network of another shape: it was made with {options}")
        self.network.load_state_dict(network)

    def _save(self, path: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "history": [asdict(each) for each in self.history],
        }
        checkpoint.save(path, self._identity(), state)

    def resume(self, path: Path) -> None:
        """Go on where a checkpoint was written.

        Raises:
            ConfigError: there is none, it is damaged, or it was made with other settings or pictures.
        """
        state = checkpoint.load(path, self._device)
        checkpoint.check_identity(path, state["identity"], self._identity())
        try:
            self.network.load_state_dict(state["network"])
            self._optimiser.load_state_dict(state["optimiser"])
            self.history = [Tested(**{**each, "losses": Losses(**each["losses"])}) for each in state["history"]]
        except checkpoint.UNREADABLE as error:
            raise checkpoint.damaged(path) from error


def _told(pictures: Sequence[Image]) -> str:
    """Tell pictures from others: how many they are, and a digest of what they show."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr(picture.shape).encode())
        digest.update(picture.tobytes())
    return f"{len(pictures)} ({digest.hexdigest()[:12]})"


def _move(chance: np.random.Generator) -> tuple[int, int]:
    """Draw by how many pixels a picture is moved, down and right."""
    down, right = chance.integers(-MARGIN, MARGIN + 1, 2).tolist()
    return down, right


def to_tensor(pictures: Sequence[Image]) -> Tensor:
    """Return pictures of one size, H x W x 3 uint8 BGR, as (N, 3, H, W) float32 RGB 0..255."""
    rgb = np.stack(pictures)[..., ::-1].transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(rgb)).float().contiguous(memory_format=torch.channels_last)


def to_picture(tensor: Tensor) -> Image:
    """Return the first of (N, 3, H, W) RGB 0..255 as H x W x 3 uint8 BGR."""
    rgb = tensor[0].detach().float().clamp(0, 255).round().to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(rgb[::-1].transpose(1, 2, 0))
