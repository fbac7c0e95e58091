"""The styles that come with the package: small, known by name, and each unlike the picture and unlike the others."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from engines.engine import EngineOptions
from engines.trust.pictures import FOLDER
from engines.zoo import Zoo
from pipeline.arrays import Image
from pipeline.infer.picture_stylizer import PictureStylizer, find_stylizer
from pipeline.picture import Picture
from tools.cli import app

LARGEST = 1_000_000
"""Bytes."""
STYLES = [entry.name for entry in Zoo.load() if entry.task == "stylize" and entry.shipped]


def photo() -> Image:
    """A street with bicycles, 192 x 128."""
    picture = cv2.imread(str(FOLDER / "street-135.jpg"))
    assert picture is not None
    return np.asarray(cv2.resize(picture, (192, 128), interpolation=cv2.INTER_AREA), np.uint8)


def painted(name: str, picture: Image, backend: str = "openvino") -> Image:
    stylizer = PictureStylizer(find_stylizer(name), EngineOptions(backend, "fp32"), short_side=128)  # type: ignore[arg-type]
    try:
        answer = stylizer(Picture(bgr=picture))
    finally:
        stylizer.close()
    assert answer is not None
    return answer


def test_at_least_three_styles_come_with_the_package_and_can_be_listed() -> None:
    assert len(STYLES) >= 3
    answer = CliRunner().invoke(app, ["models", "list", "--task", "stylize", "--names"])
    assert set(STYLES) <= set(answer.output.split())


@pytest.mark.parametrize("name", STYLES)
def test_a_style_is_small_and_says_which_painting_it_is_after(name: str) -> None:
    entry = Zoo.load().entry(name)
    path = Zoo.load().locate(name)
    assert path is not None
    assert path.stat().st_size < LARGEST
    assert entry.commercial_use
    assert "iterations" in entry.note
    assert "public domain" in entry.licence


def test_styles_are_unlike_the_picture_and_unlike_each_other() -> None:
    picture = photo()
    pictures = {"the picture": picture, **{name: painted(name, picture) for name in STYLES}}
    for (one, a), (other, b) in combinations(pictures.items(), 2):
        assert np.abs(a.astype(int) - b).mean() > 12, f"{one} and {other}"


@pytest.mark.parametrize("name", STYLES)
def test_both_cpu_backends_paint_alike(name: str) -> None:
    picture = photo()
    difference = np.abs(painted(name, picture).astype(int) - painted(name, picture, "onnxruntime"))
    assert difference.mean() < 0.5
