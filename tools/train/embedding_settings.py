"""How a face encoder is trained. Nothing here needs PyTorch, so the command can be listed without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mining = Literal["semi-hard", "batch-hard"]


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides what is learnt: the same settings and pictures give the same network (on a CPU)."""

    size: int = 112
    """Height and width of the pictures."""
    dimensions: int = 128
    epochs: int = 60
    margin: float = 0.2
    """In squared distance; FaceNet's."""
    mining: Mining = "semi-hard"
    people_per_batch: int = 16
    images_per_person: int = 4
    learning_rate: float = 2e-3
    """At the start; it falls to zero by a half cosine."""
    weight_decay: float = 1e-2
    held_out: float = 0.2
    """Part of the people that is only tested on."""
    patience: int = 15
    """Epochs without a better AUC on held-out people after which training ends."""
    seed: int = 0
