"""The training itself: epochs of triplets, each followed by a test on held-out people; it can be left and resumed.

After every epoch a checkpoint is written that holds all there is: weights, the optimiser, the history, and the best
weights so far (those with the largest AUC on held-out people). As the batches follow from the seed and the epoch's
number, a resumed training computes what an uninterrupted one would have.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from engines.errors import FrameloomError
from pipeline.arrays import FloatArray, Image
from tools.train import checkpoint
from tools.train.device import memory_said
from tools.train.embedding_data import Faces, batches
from tools.train.embedding_network import FaceNetwork
from tools.train.embedding_scores import Scores, score
from tools.train.embedding_settings import TrainingSettings
from tools.train.triplets import mine, triplet_loss

MEAN, STD = 127.5, 128.0
"""A pixel's value becomes (value - MEAN) / STD."""
TESTED_AT_ONCE = 64
SETTLED_ON = 256
"""Pictures that the statistics of batch normalisation are measured on after each epoch."""
MAX_TESTED = 3000
"""Held-out pictures that are tested after each epoch: 4.5 million pairs take half a second."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought; number 0 is the network before it has learnt anything."""

    number: int
    loss: float
    """Mean over the epoch's batches; 0 for number 0, as `active` and `seconds`."""
    active: float
    """Share of the mined triplets that were not satisfied."""
    auc: float
    accuracy: float
    separation: float
    seconds: float

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better."""
        return self.auc, self.separation


class Training:
    """A network that is being trained.

    Args:
        learn: the faces to learn from.
        test: faces of other people.
        settings: how.
        device: `cpu`, or `cuda`.
    """

    def __init__(self, learn: Faces, test: Faces, settings: TrainingSettings, device: str = "cpu") -> None:
        self._learn, self._settings, self._device = learn, settings, device
        self.held_out = Faces(test.chips[:MAX_TESTED], test.people[:MAX_TESTED], test.names)
        """The faces that it is tested on."""
        self._network = FaceNetwork(settings.size, settings.dimensions, settings.seed).to(device)
        self._optimiser = torch.optim.AdamW(
            self._network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimiser, settings.epochs)
        self.history: list[Epoch] = []
        self._best = copy.deepcopy(self._network.state_dict())

    @property
    def best(self) -> Epoch:
        """The epoch whose network tells held-out people apart best; the first of equals."""
        return max(self.history, key=lambda epoch: epoch.rank)

    def run(self, path: Path | None, report: Callable[[Epoch], None]) -> None:
        """Train until the last epoch, or until nothing has become better for a while.

        Args:
            path: of the checkpoint, written after every epoch.
            report: called after every epoch, also with number 0.

        Raises:
            FrameloomError: the loss is no number any more, memory was not enough, or the checkpoint cannot be written.
        """
        wanted = self._settings
        batch = f"{wanted.people_per_batch} x {wanted.images_per_person} pictures of {wanted.size} x {wanted.size}"
        with memory_said(batch, "--people-per-batch or --size"):
            if not self.history:
                self._finish_epoch(0, 0.0, 0.0, time.monotonic(), path, report)
            while not self.is_over:
                begun = time.monotonic()
                loss, active = self._learn_epoch(self.history[-1].number + 1)
                self._finish_epoch(self.history[-1].number + 1, loss, active, begun, path, report)

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or nothing has become better for a while."""
        last = self.history[-1].number
        return last >= self._settings.epochs or last - self.best.number >= self._settings.patience

    def best_network(self) -> FaceNetwork:
        """Return the best network so far, on the CPU, ready to be used."""
        network = FaceNetwork(self._settings.size, self._settings.dimensions, self._settings.seed)
        network.load_state_dict(self._best)
        return network.eval()

    def _learn_epoch(self, number: int) -> tuple[float, float]:
        """Return the means of the loss and of the share of active triplets."""
        wanted, steps = self._settings, []
        self._network.train()
        drawn = batches(self._learn, wanted.people_per_batch, wanted.images_per_person, wanted.seed, number)
        for chips, people in drawn:
            encodings = self._network(to_input(chips).to(self._device))
            triplets = mine(encodings, torch.from_numpy(people).to(self._device), wanted.mining)
            loss, active = triplet_loss(encodings, triplets, wanted.margin)
            if not math.isfinite(value := float(loss.detach())):
                raise FrameloomError(f"the loss of epoch {number} is {value}: choose a smaller --learning-rate")
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            steps.append((value, active))
        self._schedule.step()
        losses, shares = zip(*steps, strict=True)
        return fmean(losses), fmean(shares)

    def _settle(self) -> None:
        chips = self._learn.chips
        rows = np.linspace(0, len(chips) - 1, min(len(chips), SETTLED_ON)).astype(int)
        parts = np.array_split(rows, -(-len(rows) // TESTED_AT_ONCE))
        self._network.settle(to_input(chips[part]).to(self._device) for part in parts)

    def _finish_epoch(
        self,
        number: int,
        loss: float,
        active: float,
        begun: float,
        path: Path | None,
        report: Callable[[Epoch], None],
    ) -> None:
        self._settle()
        scores = self.test()
        seconds = time.monotonic() - begun if number else 0.0
        epoch = Epoch(number, loss, active, scores.auc, scores.accuracy, scores.separation, seconds)
        if not self.history or epoch.rank > self.best.rank:
            self._best = copy.deepcopy(self._network.state_dict())
        self.history.append(epoch)
        if path is not None:
            self._save(path)
        report(epoch)

    def test(self, network: FaceNetwork | None = None) -> Scores:
        """Measure a network (default: as it is now) on the held-out people."""
        return score(encode(network or self._network, self.held_out.chips), self.held_out.people)

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with."""
        people = {name: int((self._learn.people == number).sum()) for number, name in enumerate(self._learn.names)}
        return {**asdict(self._settings), "people": people, "held-out people": list(self.held_out.names)}

    def _save(self, path: Path) -> None:
        state = {
            "network": self._network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
            "best": self._best,
        }
        checkpoint.save(path, self._identity(), state, private=True)  # it names people

    def resume(self, path: Path) -> None:
        """Go on where a checkpoint was written.

        Raises:
            ConfigError: there is none, it is damaged, or it was made with other settings or pictures.
        """
        state = checkpoint.load(path, self._device)
        checkpoint.check_identity(path, state["identity"], self._identity(), quiet="people")
        try:
            self._network.load_state_dict(state["network"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._schedule.load_state_dict(state["schedule"])
            self.history, self._best = [Epoch(**epoch) for epoch in state["history"]], state["best"]
        except checkpoint.UNREADABLE as error:
            raise checkpoint.damaged(path) from error


def to_input(chips: Image) -> Tensor:
    """Return (N, size, size, 3) uint8 BGR as the (N, 3, size, size) float32 RGB that the network takes."""
    rgb = np.ascontiguousarray(chips[..., ::-1].transpose(0, 3, 1, 2))
    return (torch.from_numpy(rgb).float() - MEAN) / STD


def encode(network: FaceNetwork, chips: Image) -> FloatArray:
    """Return the (N, dimensions) encodings of (N, size, size, 3) uint8 BGR chips."""
    network.eval()
    device = next(network.parameters()).device
    parts: Iterator[Image] = (chips[i : i + TESTED_AT_ONCE] for i in range(0, len(chips), TESTED_AT_ONCE))
    with torch.no_grad():
        encodings = torch.cat([network(to_input(part).to(device)).cpu() for part in parts])
    return cast(FloatArray, encodings.numpy())
