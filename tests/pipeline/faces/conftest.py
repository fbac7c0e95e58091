"""What tests of faces share: real models that are at hand, and real faces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from engines.engine import EngineOptions
from engines.spec import ModelSpec
from engines.zoo import Zoo
from pipeline.arrays import FloatArray
from pipeline.infer.face_finder import FaceFinder, FinderOptions
from pipeline.picture import Picture
from tests.pipeline.face_photos import load


class Portrait(NamedTuple):
    """A picture and the face in it."""

    picture: Picture
    landmarks: FloatArray
    """(1, 5, 2)."""


@pytest.fixture(scope="session")
def small_models(shared: Path) -> Iterator[dict[str, ModelSpec]]:
    """MobileFaceNet and YuNet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
        patch.setenv("FRAMELOOM_OFFLINE", "1")
        yield {name: Zoo.load().spec(name) for name in ("mobilefacenet", "yunet")}


@pytest.fixture(scope="session")
def portraits(shared: Path, small_models: dict[str, ModelSpec]) -> list[Portrait]:
    """30 people of LFW, each with the face nearest to the picture's centre."""
    folder = shared / "data" / "faces" / "lfw" / "images_deepfunneled"
    finder = FaceFinder(small_models["yunet"], EngineOptions("onnxruntime"), FinderOptions(short_side=256))
    try:
        found = []
        for person in sorted(folder.iterdir())[:30]:
            picture = load(min(person.iterdir()))
            faces = finder(picture)
            away = np.abs(faces.boxes.reshape(-1, 2, 2).mean(axis=1) - 125).sum(axis=1)
            found.append(Portrait(picture, faces.landmarks[away.argmin()][None]))
        return found
    finally:
        finder.close()
