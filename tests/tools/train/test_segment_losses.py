"""Losses and class weights, against cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

import torch
from torch import Tensor

from tools.train.segment_losses import (
    IGNORED,
    LARGEST_WEIGHT,
    cross_entropy,
    dice,
    focal,
    loss_of,
    median_frequency_weights,
)
from tools.train.segment_settings import Loss

LABELS = torch.tensor([[[0, 0, 1, IGNORED]]])
CHANCES = torch.tensor([0.8, 0.4, 0.5, 0.9])
"""Of class 0, a pixel each; class 1 has the rest."""
LOGITS = torch.stack([CHANCES.log(), (1 - CHANCES).log()]).reshape(1, 2, 1, 4)
NOTHING = torch.full((1, 1, 4), IGNORED)


def test_cross_entropy_is_the_mean_over_the_pixels_that_count() -> None:
    assert float(cross_entropy(LOGITS, LABELS)) == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.5)) / 3)


def test_weighted_cross_entropy_is_the_weighted_mean() -> None:
    wanted = -(2 * math.log(0.8) + 2 * math.log(0.4) + 6 * math.log(0.5)) / 10
    assert float(cross_entropy(LOGITS, LABELS, torch.tensor([2.0, 6.0]))) == pytest.approx(wanted)


def test_the_focal_loss_makes_little_of_what_is_surely_right() -> None:
    wanted = -(0.2**2 * math.log(0.8) + 0.6**2 * math.log(0.4) + 0.5**2 * math.log(0.5)) / 3
    assert float(focal(LOGITS, LABELS)) == pytest.approx(wanted)
    assert float(focal(LOGITS, LABELS, gamma=0)) == pytest.approx(float(cross_entropy(LOGITS, LABELS)))


def test_dice_is_one_minus_the_mean_overlap_of_the_classes() -> None:
    first = 2 * (0.8 + 0.4) / ((0.8 + 0.4 + 0.5) + 2)
    second = 2 * 0.5 / ((0.2 + 0.6 + 0.5) + 1)
    assert float(dice(LOGITS, LABELS)) == pytest.approx(1 - (first + second) / 2)


def test_dice_is_over_the_classes_that_are_labelled() -> None:
    three = torch.cat([LOGITS, torch.full((1, 1, 1, 4), -1e4)], dim=1)
    assert float(dice(three, LABELS)) == pytest.approx(float(dice(LOGITS, LABELS)))
    sure = torch.where(LABELS.unsqueeze(1) == torch.tensor([0, 1]).reshape(1, 2, 1, 1), 50.0, -50.0)
    assert float(dice(sure, LABELS)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["cross-entropy", "weighted", "focal", "dice"])
def test_a_batch_without_a_pixel_that_counts_moves_nothing(kind: Loss) -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = loss_of(kind, logits, NOTHING, torch.tensor([1.0, 2.0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert isinstance(logits.grad, Tensor)
    assert torch.equal(logits.grad, torch.zeros_like(LOGITS))


def test_the_option_names_the_loss() -> None:
    weights = torch.tensor([2.0, 6.0])
    found = {kind: float(loss_of(kind, LOGITS, LABELS, weights)) for kind in ("cross-entropy", "weighted", "dice")}
    plain = float(cross_entropy(LOGITS, LABELS))
    wanted = {
        "cross-entropy": plain,
        "weighted": float(cross_entropy(LOGITS, LABELS, weights)),
        "dice": plain + float(dice(LOGITS, LABELS)),
    }
    assert found == pytest.approx(wanted)


def test_weights_are_median_frequency_by_frequency_among_pictures_that_show_the_class() -> None:
    first = np.array([[0, 0, 0, 1], [0, 0, 0, IGNORED]], np.uint8)  # 7 pixels count: six 0, one 1
    second = np.array([[0, 0, 2, 2], [0, 0, IGNORED, IGNORED]], np.uint8)  # 6 count: four 0, two 2
    frequencies = [10 / 13, 1 / 7, 2 / 6]
    wanted = [(2 / 6) / each for each in frequencies] + [1.0]  # the last is shown nowhere
    np.testing.assert_allclose(median_frequency_weights([first, second], 4), wanted, rtol=1e-6)


def test_a_class_of_a_handful_of_pixels_does_not_drown_the_others() -> None:
    label = np.zeros((100, 100), np.uint8)
    label[0, 0], label[50:] = 1, 2
    assert median_frequency_weights([label], 3)[1] == LARGEST_WEIGHT
