"""One picture goes downhill: L-BFGS or Adam, an iteration at a time.

Source: Liu and Nocedal, "On the limited memory BFGS method for large scale optimization" (1989), with a line search
that keeps the strong Wolfe conditions (PyTorch's): no step is taken that does not lower J. After each iteration it can
be left, saved, and gone on with. An iteration of L-BFGS costs one or two evaluations: the point at which a step begins
was evaluated by the line search that found it.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from engines.errors import FrameloomError
from tools.style.objective import Evaluation
from tools.style.settings import PaintSettings

MOST_EVALUATIONS = 25
"""In one line search."""
LAST_RATE = 0.1
"""Part of Adam's learning rate at the end."""


class Judge(Protocol):
    """What evaluates a picture."""

    def __call__(self, picture: Tensor) -> Evaluation:
        """Return J and its gradient."""
        ...


class NotFinite(FrameloomError):
    """J, or its gradient, is no number any more."""


class Descent:
    """The optimisation of one picture at one size.

    Args:
        objective: J.
        picture: (1, 3, H, W) to begin with; it is left alone.
        settings: which optimiser, and how.
        iterations: of all, for Adam's learning rate.

    Raises:
        NotFinite: J is not finite at that picture.
    """

    def __init__(self, objective: Judge, picture: Tensor, settings: PaintSettings, iterations: int) -> None:
        self._objective, self._settings, self._iterations = objective, settings, iterations
        self._picture = picture.detach().clone().contiguous().requires_grad_()
        self.iteration = 0
        if settings.optimiser == "lbfgs":
            self._optimiser: torch.optim.Optimizer = torch.optim.LBFGS(
                [self._picture],
                max_iter=1,
                max_eval=MOST_EVALUATIONS,
                tolerance_grad=0,
                tolerance_change=0,
                history_size=settings.history,
                line_search_fn="strong_wolfe",
            )
        else:
            self._optimiser = torch.optim.Adam([self._picture], settings.learning_rate)
        self.at = self._evaluate()
        """The last picture whose J is finite."""

    def step(self) -> bool:
        """Do one iteration; False where L-BFGS finds nothing lower, and is done.

        Raises:
            NotFinite: J is not finite there; `at` is the picture before.
        """
        self.iteration += 1
        if self._settings.optimiser == "adam":
            self._step_of_adam()
            return True
        before = self.at.picture
        self._optimiser.step(self._closure)
        if not torch.equal(self.at.picture, self._picture):
            self.at = self._evaluate()
        return not torch.equal(before, self.at.picture)

    def _closure(self) -> float:
        """Tell L-BFGS J and its gradient where it has put the picture; the lowest of a line search is kept."""
        here = self.at
        if not torch.equal(here.picture, self._picture):
            here = self._evaluate()
            if here.total < self.at.total:
                self.at = here
        self._picture.grad = here.gradient.clone()
        return here.total

    def _step_of_adam(self) -> None:
        progress = (self.iteration - 1) / max(1, self._iterations - 1)
        part = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * progress)) / 2
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.learning_rate * part
        self._picture.grad = self.at.gradient
        self._optimiser.step()
        self.at = self._evaluate()

    def _evaluate(self) -> Evaluation:
        found = self._objective(self._picture)
        if not (math.isfinite(found.total) and bool(torch.isfinite(found.gradient).all())):
            parts = found.losses
            raise NotFinite(
                f"J is {found.total} (content {parts.content:g}, style {parts.style:g}, "
                f"smooth {parts.smooth:g}, outside {parts.outside:g})"
                + ("" if not math.isfinite(found.total) else ", with a gradient that is not finite")
            )
        return found

    def state(self) -> dict[str, Any]:
        """Return all there is, to be saved."""
        return {"picture": self.at.picture, "optimiser": self._optimiser.state_dict(), "iteration": self.iteration}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            NotFinite: J is not finite at its picture.
            KeyError, RuntimeError, TypeError, ValueError: it is not that of such a descent.
        """
        with torch.no_grad():
            self._picture.copy_(state["picture"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.iteration = int(state["iteration"])
        self.at = self._evaluate()
