"""The losses of Gatys et al. and Johnson et al., against cases worked out by hand and the papers' own derivatives."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

import torch

from tools.train.style_losses import (
    gatys_content,
    gatys_style,
    gram,
    johnson_content,
    johnson_style,
    normal_gram,
    shifted,
    stability,
    total_variation,
)

F = torch.tensor([[[[1.0, 2.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 3.0]]]])
"""Two channels at four places: [1 2 0 1] and [0 1 1 3]."""
G = [[6.0, 5.0], [5.0, 11.0]]
"""1+4+0+1, 0+2+0+3, 0+1+1+9."""


def features(channels: int, height: int, width: int, seed: int) -> torch.Tensor:
    """Like what comes out of a ReLU, in double precision; no value near 0 is positive by a hair."""
    return torch.rand(1, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_gram_sums_products_of_channels_over_places() -> None:
    assert gram(F).tolist() == [G]
    assert normal_gram(F).tolist() == (torch.tensor([G]) / 4).tolist()


def test_gram_does_not_depend_on_where_in_the_picture() -> None:
    assert torch.equal(gram(F), gram(F.flip(2, 3)))


def test_gram_of_channels_last_memory_is_the_same() -> None:
    each = features(8, 6, 5, 0).float()
    assert torch.allclose(gram(each), gram(each.contiguous(memory_format=torch.channels_last)))


def test_content_is_half_the_sum_of_squares() -> None:
    wanted = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]], [[2.0, 1.0], [1.0, 0.0]]]])
    assert float(gatys_content(F, wanted)) == 0.5 * (4 + 1 + 4 + 9)
    assert float(gatys_content(F, F)) == 0


def test_style_has_the_papers_normalisation() -> None:
    """1 / (4 N^2 M^2) sum (G - A)^2 with N = 2 channels, M = 4 places, A of [1 1 0 0] and [0 0 1 1]."""
    painting = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]]])  # A = [[2, 0], [0, 2]]
    by_hand = ((6 - 2) ** 2 + 5**2 + 5**2 + (11 - 2) ** 2) / (4 * 2**2 * 4**2)
    assert float(gatys_style(F, normal_gram(painting))) == pytest.approx(by_hand)
    assert float(gatys_style(F, normal_gram(F))) == 0


def test_style_of_a_painting_twice_as_large_is_the_same() -> None:
    """Tiled, a painting has more places and no other style."""
    tiled = F.repeat(1, 1, 2, 3)
    assert float(gatys_style(F, normal_gram(tiled))) == pytest.approx(0, abs=1e-12)
    assert float(gatys_style(tiled, normal_gram(F))) == pytest.approx(0, abs=1e-12)


def test_losses_of_a_batch_are_the_mean_of_its_pictures() -> None:
    other = features(2, 2, 2, 3).float()
    both, wanted = torch.cat([F, other]), normal_gram(features(2, 5, 4, 4).float())
    mean = (gatys_style(F, wanted) + gatys_style(other, wanted)) / 2
    assert float(gatys_style(both, wanted)) == pytest.approx(float(mean))
    mean = (gatys_content(F, torch.zeros_like(F)) + gatys_content(other, torch.zeros_like(other))) / 2
    assert float(gatys_content(both, torch.zeros_like(both))) == pytest.approx(float(mean))


def test_gradient_of_content_is_equation_2() -> None:
    """F - P where F > 0, else 0: through the ReLU that F came out of."""
    before = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    wanted = features(3, 4, 5, 1).float()
    after = torch.relu(before)
    (gradient,) = torch.autograd.grad(gatys_content(after, wanted), before)
    assert (before <= 0).any()
    assert torch.allclose(gradient, torch.where(before > 0, after - wanted, torch.zeros(())))


def test_gradient_of_style_is_equation_6() -> None:
    """1 / (N^2 M^2) (F^T (G - A))^T where F > 0, else 0: worked out with numpy."""
    before = torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    painting = features(4, 3, 5, 1).float()
    after = torch.relu(before)
    (gradient,) = torch.autograd.grad(gatys_style(after, normal_gram(painting)), before)

    f, p = after.detach().numpy().reshape(4, 15), painting.numpy().reshape(4, 15)
    of_paper = (f.T @ (f @ f.T - p @ p.T)).T / (4**2 * 15**2)
    of_paper[f <= 0] = 0
    np.testing.assert_allclose(gradient.numpy().reshape(4, 15), of_paper, rtol=1e-4, atol=1e-7)


def test_johnsons_losses_are_means() -> None:
    wanted = torch.zeros_like(F)
    assert float(johnson_content(F, wanted)) == pytest.approx(17 / 8)  # 6 + 11 over C H W
    by_hand = (6**2 + 2 * 5**2 + 11**2) / (2 * 4) ** 2  # the squared Frobenius norm of G / (C H W)
    assert float(johnson_style(F, normal_gram(wanted))) == pytest.approx(by_hand)


def test_total_variation_by_hand() -> None:
    picture = torch.tensor([[[[0.0, 1.0, 3.0], [2.0, 2.0, 2.0]]]])
    down, across = (4 + 1 + 1) / 3, (1 + 4 + 0 + 0) / 4
    assert float(total_variation(picture)) == pytest.approx(down + across)
    assert float(total_variation(torch.full((1, 3, 4, 4), 7.0))) == 0


def test_half_precision_features_are_summed_in_single() -> None:
    many = torch.full((1, 2, 64, 64), 3.0, dtype=torch.bfloat16)
    assert gram(many).tolist() == [[[9.0 * 4096] * 2] * 2]


def test_a_network_that_moves_with_the_picture_is_stable() -> None:
    picture = features(3, 20, 24, 0).float()
    moved = shifted(picture, 2, -3, 4)  # what the network sees next
    assert moved.shape[-2:] == (12, 16)
    styled, styled_of_moved = picture * 2, torch.nn.functional.pad(moved * 2, (4, 4, 4, 4))
    assert float(stability(styled, styled_of_moved, 2, -3, 4)) == 0
    assert float(stability(styled, styled_of_moved, 2, -2, 4)) > 0
    with pytest.raises(ValueError, match="more than the margin of 4"):
        shifted(picture, 5, 0, 4)
