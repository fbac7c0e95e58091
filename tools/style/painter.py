"""From coarse to fine: each level begins with the one before, enlarged.

Strokes larger than what VGG16 sees at once come only from coarse levels, and there an iteration costs a quarter.
Source: Gatys, Ecker, Bethge, Hertzmann and Shechtman, "Controlling Perceptual Factors in Neural Style Transfer" (2017),
section 6. A painting can be left after any iteration; what a checkpoint has goes on along the same curve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines.errors import FrameloomError
from pipeline.arrays import Image
from tools.style.descent import Descent, NotFinite
from tools.style.objective import Losses, Objective
from tools.style.pictures import resized
from tools.style.settings import PaintSettings, level_sizes
from tools.train import checkpoint
from tools.train.style_loop import to_picture, to_tensor
from tools.train.vgg import Vgg16

LEAST_SIDE = 48
"""Pixels: the painting's short side at a coarse level is at least this (three places of conv5_1)."""


@dataclass(frozen=True)
class Moment:
    """How far it is."""

    level: int
    """0 is the coarsest."""
    iteration: int
    """Done at this level; 0: it begins."""
    losses: Losses


class Painter:
    """One picture that is being painted.

    Args:
        content: H x W x 3 uint8 BGR.
        painting: of any size.
        vgg: the judge.
        settings: how.
        device: `cpu`, or `cuda`.
        identity: of the files, for the checkpoint.
    """

    def __init__(
        self,
        content: Image,
        painting: Image,
        vgg: Vgg16,
        settings: PaintSettings,
        device: str = "cpu",
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.sizes = level_sizes(content.shape[1], content.shape[0], settings)
        self._content, self._painting, self._device = content, painting, device
        self._vgg = vgg.to(device)
        self._identity = {**_plain(settings), "sizes": [list(size) for size in self.sizes], **(identity or {})}
        self.history: list[Moment] = []
        self._level = 0
        self._descent: Descent | None = None

    @property
    def total(self) -> int:
        """Iterations of all levels."""
        return sum(map(self.settings.iterations_at, range(len(self.sizes))))

    @property
    def done(self) -> int:
        """Iterations that are behind; a level that ended early has done all of its."""
        before = sum(map(self.settings.iterations_at, range(self._level)))
        return before + (self._descent.iteration if self._descent else 0)

    def picture(self) -> Image | None:
        """Return the picture as it is, H x W x 3 uint8 BGR in the level's size; None before the first evaluation."""
        return None if self._descent is None else to_picture(self._descent.at.picture)

    def run(self, report: Callable[[Moment], None]) -> None:
        """Paint to the end.

        Args:
            report: called as each level begins, and after each iteration.

        Raises:
            FrameloomError: J is not finite any more. `picture` is the last good one.
        """
        try:
            while True:
                descent = self._descent or self._begin()
                self._descend(descent, report)
                if self._level + 1 == len(self.sizes):
                    return
                picture = descent.at.picture
                self._level += 1
                self._descent = self._at_level(picture)
        except NotFinite as error:
            advice = "a smaller --learning-rate" if self.settings.optimiser == "adam" else "a smaller --beta"
            where = f"at iteration {self._descent.iteration if self._descent else 0} of level {self._level + 1}"
            raise FrameloomError(f"{error} {where} of {len(self.sizes)}: try {advice}") from error

    def _descend(self, descent: Descent, report: Callable[[Moment], None]) -> None:
        if descent.iteration == 0:
            self._note(descent, report)
        while descent.iteration < self.settings.iterations_at(self._level):
            is_lower = descent.step()
            self._note(descent, report)
            if not is_lower:
                return

    def _note(self, descent: Descent, report: Callable[[Moment], None]) -> None:
        moment = Moment(self._level, descent.iteration, descent.at.losses)
        self.history.append(moment)
        report(moment)

    def _begin(self) -> Descent:
        content = self._resized_content()
        start = content
        if self.settings.start == "noise":
            chance = torch.Generator().manual_seed(self.settings.seed)
            start = (torch.rand(content.shape, generator=chance) * 255).to(self._device)
        self._descent = self._at_level(start)
        return self._descent

    def _at_level(self, start: Tensor) -> Descent:
        """Begin the current level with a picture of any size."""
        width, height = self.sizes[self._level]
        if start.shape[-2:] != (height, width):
            start = torch.nn.functional.interpolate(start, (height, width), mode="bicubic", align_corners=False)
        objective = Objective(self._vgg, self._resized_content(), self._resized_painting(), self.settings)
        return Descent(objective, start, self.settings, self.settings.iterations_at(self._level))

    def _resized_content(self) -> Tensor:
        return to_tensor([resized(self._content, *self.sizes[self._level])]).to(self._device)

    def _resized_painting(self) -> Tensor:
        """Return the painting with as many pixels as the level, times the style's scale squared; never enlarged."""
        width, height = self.sizes[self._level]
        high, wide = self._painting.shape[:2]
        scale = min(1.0, self.settings.style_scale * ((width * height) / (wide * high)) ** 0.5)
        scale = min(1.0, max(scale, LEAST_SIDE / min(wide, high)))
        return to_tensor([resized(self._painting, round(wide * scale), round(high * scale))]).to(self._device)

    def save(self, path: Path) -> None:
        """Write a checkpoint; nothing where nothing has been done.

        Raises:
            FrameloomError: it cannot be written; the last one is as it was.
        """
        if self._descent is not None:
            history = [[each.level, each.iteration, *_parts(each.losses)] for each in self.history]
            state = {"level": self._level, "descent": self._descent.state(), "history": history}
            checkpoint.save(path, self._identity, state)

    def resume(self, path: Path) -> None:
        """Go on where a checkpoint was written.

        Raises:
            ConfigError: there is none, it is damaged, or it was made with other settings or pictures.
        """
        state = checkpoint.load(path, self._device)
        checkpoint.check_identity(path, state["identity"], self._identity)
        try:
            self._level = int(state["level"])
            self._descent = self._at_level(state["descent"]["picture"])
            self._descent.restore(state["descent"])
            self.history = [Moment(level, number, Losses(*parts)) for level, number, *parts in state["history"]]
        except (NotFinite, IndexError, *checkpoint.UNREADABLE) as error:
            raise checkpoint.damaged(path) from error


def _parts(losses: Losses) -> tuple[float, ...]:
    return losses.content, losses.style, losses.smooth, losses.outside


def _plain(settings: PaintSettings) -> dict[str, Any]:
    return {name: list(each) if isinstance(each, tuple) else each for name, each in vars(settings).items()}
