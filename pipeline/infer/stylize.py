"""Stylize: the stage that paints the picture in the style of a painting, with several requests in flight.

What is painted is small (`stylize.short_side`), and so is all that keeps it steady; only the last step, the blend into
the frame's own planes, has the frame's size. Frames are collected in order, so each source's last painting is at hand.

A frame that a camera's overload lets pass without the network (`bypass`) gets the last painting, moved to it: style
that comes and goes from frame to frame would be worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.infer.picture_stylizer import PictureStylizer, Styling
from pipeline.infer.style_budget import fit_budget
from pipeline.postprocess.flow import small_luma
from pipeline.postprocess.steady import FLOW_WIDTH, Steady
from pipeline.render.blend import blend, in_form_of, side_by_side
from pipeline.stage import AsyncStage

if TYPE_CHECKING:
    from engines.engine import EngineOptions
    from engines.spec import ModelSpec
    from pipeline.arrays import Image
    from pipeline.config.look_settings import StylizeSettings
    from pipeline.frame import Frame
    from pipeline.picture import Matrix

LIKELY_SIZE = (720, 1280)
"""Height and width of frames of a source that does not say."""
NOWHERE = np.zeros((1, 1), np.uint8)


@dataclass
class _Source:
    """What is kept for one source."""

    form: tuple[Matrix, bool] | None
    """What its planes' values mean; None: it is BGR."""
    steady: Steady


class Stylize(AsyncStage[Styling]):
    """Paints `frame.output` into `frame.rendered`."""

    name = "stylize"

    def __init__(
        self,
        spec: ModelSpec,
        engine: EngineOptions,
        settings: StylizeSettings,
        *,
        sizes: Sequence[tuple[int, int]] = (),
        bypass: bool = False,
    ) -> None:
        """Nothing is compiled before `open`.

        Args:
            spec: the style network, from `find_stylizer`.
            engine: how to run it.
            settings: how much of it is to be seen, and where.
            sizes: heights and widths of the frames to expect, so that the first ones are not late.
            bypass: as in `AsyncStage`.
        """
        self._spec, self._engine, self._settings = spec, engine, settings
        self._sizes = sizes or [LIKELY_SIZE]
        self.bypass = bypass
        self.is_off = False
        self._stylizer: PictureStylizer | None = None
        self._sources: dict[str, _Source] = {}
        self._ended: list[tuple[int, float]] = []
        """Of sources that are over: pictures with a warping error, and its mean."""
        self._carried = 0
        self._budget = self._description = ""

    @property
    def stylizer(self) -> PictureStylizer:
        """What paints, once open."""
        assert self._stylizer is not None
        return self._stylizer

    def suspend(self, is_off: bool) -> None:
        """Let frames pass as they are from now on, or paint them again; from any thread."""
        self.is_off = is_off

    def open(self) -> None:
        """Compile the network; find the size that fits the budget."""
        self._stylizer = PictureStylizer(self._spec, self._engine, self._settings.short_side)
        if self._settings.budget_ms is not None:
            self._stylizer.most_pixels = self._measured(self._settings.budget_ms)
        for height, width in self._sizes:
            self._stylizer.prepare(height, width)
        self.in_flight = self._stylizer.requests

    def _measured(self, budget_ms: float) -> float | None:
        """Return the pixels that fit the budget, and give the engines that were measured back."""
        measured = PictureStylizer(self._spec, self._engine, self._settings.short_side)
        try:
            self._budget = fit_budget(measured, budget_ms, self._sizes[0])
            return measured.most_pixels
        finally:
            measured.close()

    def wants(self, frame: Frame) -> bool:
        """Return whether anything of the painting would be seen."""
        if self.is_off or self._settings.strength == 0:
            return False
        where = self._where(frame)
        return where is None or cv2.countNonZero(where) > 0

    def submit(self, frame: Frame) -> Styling:
        """Start to paint."""
        return self.stylizer.start(frame.output)

    def collect(self, frame: Frame, ticket: Styling) -> None:
        """Wait for the painting, keep it steady, and put it over the picture."""
        painted = self.stylizer.finish(ticket)
        if painted is None:
            self._pass(frame)
            return
        layers = in_form_of(frame.output, painted, self._settings.keep_colours)
        if frame.file is None and (self._settings.stable or self.bypass):  # images have nothing to do with each other
            layers = self._steady_of(frame).update(small_luma(frame.output, FLOW_WIDTH), layers)
        self._show(frame, layers)

    def skip(self, frame: Frame) -> None:
        """Let a frame pass: as it is, or with the last painting where the network had no time."""
        layers = None
        if self.wants(frame) and frame.file is None:
            layers = self._steady_of(frame).carry(small_luma(frame.output, FLOW_WIDTH))
        if layers is None:
            self._pass(frame)
        else:
            self._carried += 1
            self._show(frame, layers)

    def _steady_of(self, frame: Frame) -> Steady:
        """Return what keeps a frame's source steady; of pixels in another form, nothing is kept."""
        planes = frame.output.planes
        form = None if planes is None else (planes.matrix, planes.full_range)
        if frame.source not in self._sources:
            self._sources[frame.source] = _Source(form, Steady(self._settings.stable))
        source = self._sources[frame.source]
        if source.form != form:
            source.form = form
            source.steady.forget()
        return source.steady

    def _pass(self, frame: Frame) -> None:
        """Let a frame be as it is; beside itself where paintings are beside pictures, so that the size stays."""
        if frame.source in self._sources:
            self._sources[frame.source].steady.forget()
        if self._settings.where == "side-by-side":
            frame.rendered = side_by_side(frame.output, frame.output)

    def _show(self, frame: Frame, layers: tuple[Image, ...]) -> None:
        picture, where = frame.output, self._where(frame)
        styled = blend(picture, layers, self._settings.strength, where)
        frame.rendered = side_by_side(picture, styled) if self._settings.where == "side-by-side" else styled

    def _where(self, frame: Frame) -> Image | None:
        """Return the (H, W) uint8 map of where the painting is to be seen; None: everywhere."""
        if self._settings.where not in ("inside", "outside"):
            return None
        if frame.segmentation is None:
            return NOWHERE if self._settings.where == "inside" else None
        alpha = frame.segmentation.alpha
        return alpha if self._settings.where == "inside" else np.invert(alpha)

    def end(self, source: str) -> None:
        """Forget the source, but for how steady it was."""
        if source in self._sources:
            steady = self._sources.pop(source).steady
            self._ended.append((steady.errors, steady.warping_error))

    def describe(self) -> str | None:
        """Name the network and what runs it, the size that the budget gave, and how steady paintings were."""
        if self._stylizer is None:
            return None
        parts = [f"stylize: {self._description or self._stylizer.describe()}", self._budget]
        measured = [*self._ended, *((each.steady.errors, each.steady.warping_error) for each in self._sources.values())]
        if count := sum(errors for errors, _ in measured):
            parts.append(f"warping error {sum(errors * error for errors, error in measured) / count:.5f}")
        if self._carried:
            parts.append(f"{self._carried} frames got the last painting, moved: the network had no time")
        if self._stylizer.broken:
            parts.append(f"{self._stylizer.broken} paintings with values that are no numbers, not shown")
        return ", ".join(filter(None, parts))

    def close(self) -> None:
        """Give the engines back."""
        if self._stylizer is not None:
            self._description = self._stylizer.describe()
            self._stylizer.close()
