"""Optional stages between finding and recognising faces: is it alive, and where are its 68 points?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.frame import Frame
from pipeline.infer.face_points import FacePoints
from pipeline.infer.liveness import Liveness
from pipeline.stage import Stage

if TYPE_CHECKING:
    from engines.engine import EngineOptions
    from engines.spec import ModelSpec


class CheckLiveness(Stage):
    """Adds how sure it is that each face is no photo or screen."""

    name = "liveness"

    def __init__(self, specs: Sequence[ModelSpec], engine: EngineOptions) -> None:
        """Nothing is compiled before `open`."""
        self._specs, self._engine = specs, engine
        self._liveness: Liveness | None = None

    def open(self) -> None:
        """Compile the models."""
        self._liveness = Liveness(self._specs, self._engine)

    def process(self, frame: Frame) -> None:
        """Look at each face."""
        if frame.faces is not None and self._liveness is not None:
            frame.faces.liveness = self._liveness(frame.picture, frame.faces.boxes)

    def describe(self) -> str | None:
        """Name the models and what runs them."""
        return f"liveness: {self._liveness.describe()}" if self._liveness else None

    def close(self) -> None:
        """Give the engines back."""
        if self._liveness:
            self._liveness.close()


class FindPoints(Stage):
    """Adds the 68 landmarks of each face."""

    name = "face_points"

    def __init__(self, spec: ModelSpec, engine: EngineOptions) -> None:
        """Nothing is compiled before `open`."""
        self._spec, self._engine = spec, engine
        self._points: FacePoints | None = None

    def open(self) -> None:
        """Compile the model."""
        self._points = FacePoints(self._spec, self._engine)

    def process(self, frame: Frame) -> None:
        """Look at each face."""
        if frame.faces is not None and self._points is not None:
            frame.faces.points = self._points(frame.picture, frame.faces.boxes)

    def describe(self) -> str | None:
        """Name the model and what runs it."""
        return f"face points: {self._points.describe()}" if self._points else None

    def close(self) -> None:
        """Give the engine back."""
        if self._points:
            self._points.close()
