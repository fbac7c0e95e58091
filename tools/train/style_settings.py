"""How a style network is trained. Nothing here needs PyTorch, so the command can be listed without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StyleSettings:
    """Everything that decides what is learnt: the same settings and pictures give the same network (on a CPU)."""

    size: int = 256
    """Height and width of the crops to learn from."""
    style_size: int = 384
    """Short side of the painting while it is looked at: larger, finer strokes."""
    iterations: int = 3000
    batch: int = 1
    width: int = 16
    """Channels of the first layer; the inner layers have twice and four times as many. Johnson et al.: 32."""
    depthwise: bool = True
    """Whether the residual blocks are depthwise-separable: a quarter of the arithmetic."""
    learning_rate: float = 2e-3
    """At the start; it falls to a tenth by a half cosine."""
    content_layer: str = "conv2_2"
    content_weight: float = 1.0
    """Losses are relative, of a picture that has nothing of the content, or of the style, about 1 each."""
    style_layers: tuple[str, ...] = ("conv1_2", "conv2_2", "conv3_3", "conv4_1")
    style_weights: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0)
    """One for each of the layers: with equal ones a light network weaves a fine regular pattern instead of strokes."""
    style_weight: float = 12.0
    smooth_weight: float = 8.0
    """Of total variation, values taken as 0..1."""
    stable_weight: float = 2.0
    """Of the same picture moved; 0: not asked for."""
    stable_every: int = 4
    """Iterations; each costs the network twice."""
    mixed_precision: bool = True
    """Whether to compute in bfloat16: twice as fast on CPUs and GPUs that have it."""
    clip: float = 10.0
    """Longest gradient, as its norm: single crops are far apart."""
    held_out: int = 4
    """Pictures that are only tested on."""
    test_every: int = 250
    """Iterations between two tests, checkpoints and previews."""
    seed: int = 0
