"""The plot of a calibration is a readable PNG: its panels have titles, axes with units, and the thresholds."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline.errors import ConfigError
from pipeline.gallery.identification import Searches, search_strangers
from pipeline.gallery.verification import Verification
from tools.plot import draw_growth, draw_roc, draw_similarities, plot_calibration


@pytest.fixture
def verification() -> Verification:
    rng = np.random.default_rng(0)
    same = np.arange(600) % 2 == 0
    return Verification((0.1 * rng.normal(size=600) + 0.5 * same).astype(np.float32), same)


@pytest.fixture
def searches() -> Searches:
    return search_strangers(np.random.default_rng(1).normal(0, 0.1, (300, 40)).astype(np.float32))


def test_everything_is_drawn_side_by_side(verification: Verification, searches: Searches, tmp_path: Path) -> None:
    sizes = []
    for count in (1, 2, 3):
        path = tmp_path / f"{count}.png"
        plot_calibration(
            path,
            "a gallery",
            verification if count > 1 else None,
            verification.threshold_for(0.01),
            searches if count != 2 else None,
            searches.threshold_for(0.05, 40),
        )
        assert path.read_bytes().startswith(b"\x89PNG")
        image = cv2.imread(str(path))
        assert image is not None
        assert image.std() > 10
        sizes.append(image.shape[1])
    assert sizes[1] == 2 * sizes[0]
    assert sizes[2] == 3 * sizes[0]


def test_roc_has_a_logarithmic_far_axis_and_the_threshold(verification: Verification) -> None:
    axes = Figure().add_subplot()
    point = verification.threshold_for(0.01)
    draw_roc(axes, verification, point)
    assert axes.get_xscale() == "log"
    assert "FAR" in axes.get_xlabel()
    assert "TAR" in axes.get_ylabel()
    assert "EER" in axes.get_title()
    marked = [line for line in axes.lines if line.get_marker() == "o"]
    assert [np.asarray(each).item() for each in marked[0].get_data()] == [
        point.observed,
        verification.tar(point.threshold),
    ]
    assert axes.get_xlim()[0] <= 1 / 300


def test_histograms_have_both_thresholds(verification: Verification, searches: Searches) -> None:
    axes = Figure().add_subplot()
    points = verification.threshold_for(0.01), searches.threshold_for(0.05, 40)
    draw_similarities(axes, verification, *points)
    assert [line.get_xdata()[0] for line in axes.lines] == [point.threshold for point in points]  # type: ignore[index]
    heights = [patch.get_height() for patch in axes.patches]  # type: ignore[attr-defined]
    assert sum(heights) == pytest.approx(2)


def test_growth_is_the_curve_of_the_searches(searches: Searches) -> None:
    axes = Figure().add_subplot()
    point = searches.threshold_for(0.05, 40)
    draw_growth(axes, searches, point)
    measured = axes.lines[0]
    assert np.asarray(measured.get_xdata()).tolist() == [1, 2, 5, 10, 20, 40]
    assert np.asarray(measured.get_ydata())[-1] == pytest.approx(100 * point.observed)
    assert axes.get_ylabel() == "FPIR in %"
    assert axes.get_xlim()[1] == 400


def test_without_matplotlib_the_command_is_given(
    verification: Verification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pip install 'frameloom\[eval\]'"):
        plot_calibration(tmp_path / "plot.png", "a gallery", verification)


def test_what_cannot_be_drawn_or_written_is_said(verification: Verification, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to draw"):
        plot_calibration(tmp_path / "plot.png", "a gallery")
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        plot_calibration(tmp_path / "none" / "plot.png", "a gallery", verification)
