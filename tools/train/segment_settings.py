"""How a U-Net is trained. Nothing here needs PyTorch, so the command can be listed without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Loss = Literal["cross-entropy", "weighted", "focal", "dice"]


@dataclass(frozen=True)
class SegmentSettings:
    """Everything that decides what is learnt: the same settings and pictures give the same network (on a CPU)."""

    height: int = 256
    """Of the network's input; width too. Pictures are stretched to it."""
    width: int = 256
    channels: int = 16
    """Of the first level; each level below has twice as many. Ronneberger et al.: 64."""
    depth: int = 4
    """How many times the picture is halved."""
    loss: Loss = "cross-entropy"
    epochs: int = 60
    batch: int = 8
    learning_rate: float = 3e-3
    """The highest, three tenths of the way; it begins at a 25th and ends at nothing (one cycle)."""
    weight_decay: float = 1e-2
    flip: bool = True
    """Mirror half of the pictures."""
    zoom: float = 1.5
    """Show pictures up to so many times larger, or smaller with nothing around, and cut out of any place; 1: do not."""
    colour: float = 0.3
    """Change light, contrast and colours by up to this part; 0: do not."""
    mixed_precision: bool = True
    """Whether to compute in bfloat16: twice as fast on CPUs and GPUs that have it."""
    test_every: int = 1
    """Epochs between two tests and checkpoints."""
    seed: int = 0
