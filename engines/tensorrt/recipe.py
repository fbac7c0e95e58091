"""Recipe: everything about a plan that is chosen, apart from the model and the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engines.engine import Candidates

VERSION = 2
"""Raised whenever the same recipe makes another network: plans of an older one are built again."""

PlanPrecision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Recipe:
    """How a model becomes a plan."""

    precision: PlanPrecision = "fp16"
    input_size: tuple[int, int] | None = None
    """Height and width; None: the model's own."""
    batch: int = 1
    """Most pictures at once; 1 where the network cannot take more."""
    usual_batch: int = 1
    """The number that the plan is tuned for."""
    candidates: Candidates | None = None
    compute_capabilities: tuple[str, ...] = ()
    """TensorRT-RTX: the GPUs that the plan is for, such as `8.6`; empty: those it chooses itself."""
    workspace_bytes: int | None = None
    """Most device memory that tactics may use while running; None: what TensorRT chooses."""
