"""The U-Net has the shape of the paper's, and says something of every pixel."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

import torch
from torch import nn

from tools.train.unet import UNet


def test_with_the_papers_width_it_has_the_papers_layers() -> None:
    """Figure 1: 64 to 1024 channels and back; 23 convolutional layers in total (its section 2)."""
    network = UNet(classes=2, width=64, depth=4)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    upwards = [layer for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert len(convolutions) + len(upwards) == 23
    channels = [(layer.in_channels, layer.out_channels) for layer in convolutions]
    assert channels[:10:2] == [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    assert channels[10:18:2] == [(1024, 512), (512, 256), (256, 128), (128, 64)]  # half of them from the encoder
    assert channels[-1] == (64, 2)
    assert [(up.in_channels, up.out_channels) for up in upwards] == [(1024, 512), (512, 256), (256, 128), (128, 64)]


@pytest.mark.parametrize(("width", "depth", "size"), [(4, 1, (2, 6)), (2, 3, (24, 8)), (3, 5, (32, 64))])
def test_there_are_logits_for_every_pixel(width: int, depth: int, size: tuple[int, int]) -> None:
    network = UNet(5, width, depth).eval()
    assert network(torch.zeros(2, 3, *size)).shape == (2, 5, *size)


def test_the_encoders_levels_reach_the_decoder() -> None:
    """Without the lower levels, a pixel's logits still follow from its neighbours: the skip at full size is there."""
    network = UNet(3, 4, 2).eval()
    for layer in network.up:
        assert isinstance(layer, nn.ConvTranspose2d)
        nn.init.zeros_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    pictures = torch.zeros(1, 3, 16, 16)
    changed = pictures.clone()
    changed[0, :, 8, 8] = 5
    moved = (network(pictures) != network(changed)).any(dim=1)[0].nonzero()
    assert moved.min(dim=0).values.tolist() == [4, 4]  # four 3 x 3 convolutions reach four pixels
    assert moved.max(dim=0).values.tolist() == [12, 12]


def test_the_seed_decides_the_weights_and_torchs_own_numbers_stay() -> None:
    torch.manual_seed(9)
    wanted = torch.rand(3)
    torch.manual_seed(9)
    first, second, other = UNet(2, 2, 1, seed=1), UNet(2, 2, 1, seed=1), UNet(2, 2, 1, seed=2)
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(first.classify.weight, second.classify.weight)
    assert not torch.equal(first.classify.weight, other.classify.weight)
