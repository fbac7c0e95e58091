"""Painting for real: J falls, a stopped painting goes on along the same curve, and what breaks keeps what was good.

The judge is the first two blocks of VGG16 with weights drawn by chance: Gram matrices of such features tell textures
apart as well (Ustyuzhaninov et al., "What does it take to generate natural textures?", 2017), and need no download.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

import torch

from engines.errors import FrameloomError
from pipeline.arrays import Image
from pipeline.errors import ConfigError
from tools.style.descent import Descent, NotFinite
from tools.style.objective import Evaluation, Losses, Objective
from tools.style.painter import Moment, Painter
from tools.style.settings import Optimiser, PaintSettings
from tools.train.style_loop import to_tensor
from tools.train.style_losses import gatys_content, gatys_style, normal_gram
from tools.train.vgg import BLOCKS, Vgg16

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = PaintSettings(
    size=48,
    iterations=12,
    levels=1,
    content_layers=("conv2_1",),
    style_layers=("conv1_1", "conv2_1"),
    layer_weights=(1.0, 3.0),
    beta=20.0,
    smooth_weight=0.0,
)


def judge(pooling: str = "average") -> Vgg16:
    """The first three convolutions."""
    chance = torch.Generator().manual_seed(0)
    widths = [width for block in BLOCKS for width in block][:3]
    weights = [
        (torch.randn(width, before, 3, 3, generator=chance) * (2 / (9 * before)) ** 0.5, torch.zeros(width))
        for before, width in zip((3, *widths), widths, strict=False)
    ]
    return Vgg16(weights, from_caffe=True, pooling=pooling)


@pytest.fixture(scope="module")
def content() -> Image:
    """A disk on a slope of grey, 64 x 48."""
    picture = np.repeat(np.linspace(40, 200, 64).astype(np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    return np.asarray(cv2.circle(np.ascontiguousarray(picture), (30, 24), 14, (30, 60, 220), -1), np.uint8)


@pytest.fixture(scope="module")
def painting() -> Image:
    """Blue and yellow stripes, 96 x 80."""
    rows = (np.arange(80)[:, None] + np.arange(96)[None]) // 5 % 2
    return np.where(rows[..., None] == 0, np.array([160, 60, 20]), np.array([40, 200, 230])).astype(np.uint8)


def curve(painter: Painter) -> list[float]:
    painter.run(lambda moment: None)
    return [moment.losses.total for moment in painter.history]


def test_j_falls_at_every_iteration_of_lbfgs(content: Image, painting: Image) -> None:
    for start in ("content", "noise"):
        painter = Painter(content, painting, judge(), replace(SMALL, start=start, iterations=25))
        totals = curve(painter)
        assert len(totals) == 26
        assert all(after < before for before, after in pairwise(totals)), (start, totals)
        assert totals[-1] < totals[0] / 5, start


def test_j_falls_with_adam_all_in_all(content: Image, painting: Image) -> None:
    painter = Painter(content, painting, judge(), replace(SMALL, optimiser="adam", iterations=40))
    totals = curve(painter)
    assert len(totals) == 41
    assert totals[-1] < min(totals[:20]) < totals[0], totals


def test_the_picture_gets_the_paintings_colours_and_keeps_what_it_shows(content: Image, painting: Image) -> None:
    painter = Painter(content, painting, judge(), replace(SMALL, iterations=30, beta=8.0))
    curve(painter)
    picture = painter.picture()
    assert picture is not None
    height, width = picture.shape[:2]
    wanted = painting.reshape(-1, 3).mean(0)
    before = np.abs(content.reshape(-1, 3).mean(0) - wanted).mean()
    assert np.abs(picture.reshape(-1, 3).mean(0) - wanted).mean() < before / 2
    disk = cv2.circle(np.zeros((height, width), np.uint8), (round(30 * width / 64), round(24 * height / 48)), 9, 1, -1)
    contrast = np.abs(picture[disk == 1].mean(0) - picture[disk == 0].mean(0)).max()
    assert contrast > 12


def test_alpha_and_beta_pull_to_content_and_style(content: Image, painting: Image) -> None:
    def parts(alpha: float, beta: float) -> tuple[float, float]:
        painter = Painter(content, painting, judge(), replace(SMALL, alpha=alpha, beta=beta, start="noise"))
        painter.run(lambda moment: None)
        last = painter.history[-1].losses
        return last.content / alpha, last.style / beta

    faithful, painted = parts(20, 1), parts(1, 20)
    assert faithful[0] < painted[0]
    assert painted[1] < faithful[1]


def test_j_is_what_the_formula_says(content: Image, painting: Image) -> None:
    """Equation 7 on the paper's scale, and relative to a picture that has nothing of content or style."""
    vgg, settings = judge(), replace(SMALL, alpha=3.0, beta=5.0, paper_scale=True)
    shown, painted, picture = to_tensor([content]), to_tensor([painting]), torch.rand(1, 3, 48, 64) * 255
    looked, wanted = vgg(picture, settings.style_layers), vgg(painted, settings.style_layers)
    of_content, layer = vgg(shown, ["conv2_1"])["conv2_1"], looked["conv2_1"]
    each = [gatys_style(looked[name], normal_gram(wanted[name])) for name in settings.style_layers]

    found = Objective(vgg, shown, painted, settings)(picture)
    assert found.losses.content == pytest.approx(float(3 * gatys_content(layer, of_content)), rel=1e-5)
    assert found.losses.style == pytest.approx(float(5 * (each[0] * 1 + each[1] * 3) / 4), rel=1e-5)
    assert found.losses.smooth == found.losses.outside == 0
    assert found.total == pytest.approx(found.losses.total, rel=1e-5)

    relative = Objective(vgg, shown, painted, replace(settings, paper_scale=False))(picture)
    squares = (layer - of_content).square().sum() / of_content.square().sum()
    assert relative.losses.content == pytest.approx(float(3 * squares), rel=1e-4)
    of_black = [normal_gram(wanted[name]).square().sum() / (4 * wanted[name].shape[1] ** 2) for name in looked]
    assert relative.losses.style == pytest.approx(
        float(5 * (each[0] / of_black[0] + 3 * each[1] / of_black[1]) / 4), rel=1e-4
    )
    smooth = Objective(vgg, shown, painted, replace(settings, smooth_weight=2.0))(picture)
    assert smooth.losses.smooth > 0
    assert smooth.total == pytest.approx(found.total + smooth.losses.smooth, rel=1e-5)
    brighter = Objective(vgg, shown, painted, settings)(picture + 51)
    assert brighter.losses.outside == pytest.approx(
        100 * float(((picture + 51 - 255).clamp(0) / 255).square().mean()), rel=1e-4
    )


def test_the_gradient_is_that_of_j(content: Image, painting: Image) -> None:
    objective = Objective(judge(), to_tensor([content]), to_tensor([painting]), replace(SMALL, smooth_weight=1.0))
    picture = to_tensor([content]) * 0.8 + 10
    there = objective(picture)
    towards = there.gradient / there.gradient.norm()
    far = 3.0
    slope = (objective(picture + far * towards).total - objective(picture - far * towards).total) / (2 * far)
    assert slope == pytest.approx(float(there.gradient.norm()), rel=0.02)


def test_a_content_without_features_does_not_divide_by_zero(painting: Image) -> None:
    dark = np.zeros((48, 64, 3), np.uint8)
    weights = [(torch.rand(64, 3, 3, 3), torch.full((64,), -1e6))]
    settings = replace(SMALL, content_layers=("conv1_1",), style_layers=("conv1_1",), layer_weights=(1.0,))
    painter = Painter(dark, painting, Vgg16(weights, from_caffe=True), settings)
    assert curve(painter) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("optimiser", "stop"), [("lbfgs", (0, 0)), ("lbfgs", (0, 7)), ("lbfgs", (1, 0)), ("adam", (1, 3))]
)
def test_a_stopped_painting_goes_on_along_the_same_curve(
    tmp_path: Path, content: Image, painting: Image, optimiser: Optimiser, stop: tuple[int, int]
) -> None:
    settings = replace(SMALL, optimiser=optimiser, levels=2, size=64, history=4, start="noise")
    whole = Painter(content, painting, judge(), settings)
    wanted = curve(whole)

    def leave(moment: Moment) -> None:
        if (moment.level, moment.iteration) == stop:
            raise KeyboardInterrupt

    stopped = Painter(content, painting, judge(), settings)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(leave)
    stopped.save(tmp_path / "c")
    gone_on = Painter(content, painting, judge(), settings)
    gone_on.resume(tmp_path / "c")
    assert gone_on.done == stopped.done < gone_on.total
    gone_on.run(lambda moment: None)
    again = {(each.level, each.iteration): each.losses.total for each in gone_on.history}
    first = {(each.level, each.iteration): each.losses.total for each in whole.history}
    assert again == first
    assert len(wanted) == 12 + 6 + 2
    assert np.array_equal(np.asarray(gone_on.picture()), np.asarray(whole.picture()))


def test_another_painting_is_not_gone_on_with(tmp_path: Path, content: Image, painting: Image) -> None:
    identity = {"content_sha256": "aa", "style_sha256": "bb"}
    painter = Painter(content, painting, judge(), replace(SMALL, iterations=1), identity=identity)
    painter.run(lambda moment: None)
    painter.save(tmp_path / "c")
    for other, word in (
        (Painter(content, painting, judge(), replace(SMALL, iterations=1, beta=7.0), identity=identity), "beta: 20"),
        (
            Painter(content, painting, judge(), painter.settings, identity={**identity, "style_sha256": "cc"}),
            "style-sha",
        ),
        (Painter(content[:40], painting, judge(), painter.settings, identity=identity), "sizes"),
    ):
        with pytest.raises(ConfigError, match=f"made with other {word}"):
            other.resume(tmp_path / "c")
    (tmp_path / "c").write_bytes(b"this is no checkpoint")
    with pytest.raises(ConfigError, match="damaged"):
        painter.resume(tmp_path / "c")


def test_levels_go_from_coarse_to_fine_and_begin_lower_than_the_content_would(content: Image, painting: Image) -> None:
    larger = np.asarray(cv2.resize(content, (128, 96)), np.uint8)
    painter = Painter(larger, painting, judge(), replace(SMALL, size=128, levels=2))
    painter.run(lambda moment: None)
    assert painter.sizes == [(64, 48), (128, 96)]
    first = [next(each.losses.total for each in painter.history if each.level == level) for level in (0, 1)]
    assert first[1] < first[0] / 2


class Bowl:
    """J of a picture: its squares; not finite from some evaluation on, or beyond some distance."""

    def __init__(self, breaks_at: int) -> None:
        self.count, self.breaks_at = 0, breaks_at

    def __call__(self, picture: torch.Tensor) -> Evaluation:
        self.count += 1
        total = float(picture.detach().square().sum()) if self.count < self.breaks_at else float("nan")
        return Evaluation(picture.detach().clone(), Losses(total, 0.0, 0.0, 0.0), total, 2 * picture.detach())


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_a_picture_before_j_was_not_finite_is_kept(optimiser: Optimiser) -> None:
    descent = Descent(Bowl(5), torch.full((1, 3, 2, 2), 100.0), replace(SMALL, optimiser=optimiser), 10)
    with pytest.raises(NotFinite, match="J is nan"):
        all(descent.step() for _ in range(10))
    assert bool(torch.isfinite(descent.at.picture).all())
    assert descent.at.total <= 12 * 100.0**2


def test_lbfgs_ends_where_nothing_is_lower() -> None:
    descent = Descent(Bowl(1000), torch.full((1, 3, 2, 2), 100.0), SMALL, 10)
    steps = 0
    while descent.step():
        steps += 1
    assert steps < 10
    assert descent.at.total == pytest.approx(0, abs=1e-6)


def test_j_that_is_not_finite_says_where_and_keeps_the_picture(content: Image, painting: Image) -> None:
    """Adam with steps so long that features overflow."""
    settings = replace(SMALL, optimiser="adam", learning_rate=1e20, iterations=5)
    painter = Painter(content, painting, judge(), settings)
    with pytest.raises(FrameloomError, match=r"J is (inf|nan).* at iteration 1 of level 1 of 1: try a smaller --learn"):
        painter.run(lambda moment: None)
    assert np.array_equal(np.asarray(painter.picture()), cv2.resize(content, (48, 36), interpolation=cv2.INTER_AREA))
