"""The training of a U-Net: it can be left and resumed, and ends with the last good network where it breaks.

Every `test_every` epochs the network is tested on held-out pictures in their own size, and if all is finite a
checkpoint is written, with the best network so far beside the one of now. Pictures follow from the seed and the epoch,
the learning rate from the iteration, so a resumed training computes what an uninterrupted one would have.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from engines.errors import FrameloomError
from pipeline.arrays import Image
from tools.segment_scores import Matrix, confusion, mean_iou, pixel_accuracy
from tools.train import checkpoint
from tools.train.device import memory_said
from tools.train.segment_data import Maps, batches
from tools.train.segment_losses import IGNORED, loss_of, median_frequency_weights
from tools.train.segment_settings import SegmentSettings
from tools.train.unet import UNet

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""A pixel's value becomes (value - MEAN) / STD, red, green, blue: those of ImageNet, as is usual."""
RISING, FIRST_RATE, LAST_RATE = 0.3, 1 / 25, 1e-4
"""Part of the training in which the learning rate rises; parts of its highest value that it begins and ends with."""
LONGEST_GRADIENT = 5.0
"""As its norm: a step after an odd batch is not larger than after any other."""
CHANGEABLE = ("epochs", "learning_rate")
"""Settings that a training may go on with another value of: there is more time or less, or the loss broke."""


@dataclass(frozen=True)
class Tested:
    """The network after some epochs."""

    epoch: int
    loss: float
    """Mean over the batches since the last test."""
    mean_iou: float
    """On held-out pictures; accuracy (part of the pixels) too."""
    accuracy: float
    seconds: float
    """Since the last test."""


class SegmentTraining:
    """A U-Net that is being trained.

    Args:
        learn: pictures to learn from.
        test: pictures to test on.
        settings: how.
        device: `cpu`, or `cuda`.
    """

    def __init__(self, learn: Maps, test: Maps, settings: SegmentSettings, device: str = "cpu") -> None:
        self.settings, self.held_out, self._learn, self._device = settings, test, learn, device
        self.classes = learn.classes
        self.network = self._new_network().to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._weights: Tensor | None = None
        if settings.loss == "weighted":
            weights = median_frequency_weights(learn.labels(), len(self.classes.names))
            self._weights = torch.from_numpy(weights).to(device)
        self.history: list[Tested] = []
        self._best: dict[str, Tensor] = {}

    @property
    def best(self) -> Tested:
        """The test with the largest mean IoU; the first of equals."""
        return max(self.history, key=lambda tested: tested.mean_iou)

    @property
    def iterations(self) -> int:
        """Of all epochs together."""
        return self._per_epoch * self.settings.epochs

    @property
    def _per_epoch(self) -> int:
        return -(-len(self._learn) // self.settings.batch)

    def best_network(self) -> UNet:
        """Return the best network so far, on the CPU, ready to be used."""
        network = self._new_network()
        network.load_state_dict(self._best)
        return network.eval()

    def _new_network(self) -> UNet:
        return UNet(len(self.classes.names), self.settings.channels, self.settings.depth, self.settings.seed)

    def run(self, path: Path | None, report: Callable[[Tested], None], step: Callable[[int, int], None]) -> None:
        """Train to the end.

        Args:
            path: of the checkpoint.
            report: called after every test.
            step: called after every iteration with its number and that of all.

        Raises:
            FrameloomError: the loss is no number any more, memory was not enough, or the checkpoint cannot be written.
                The last checkpoint is good.
        """
        begun, losses = time.monotonic(), list[float]()
        wanted = self.settings
        batch = f"{wanted.batch} pictures of {wanted.width}x{wanted.height} with {wanted.channels} channels"
        with memory_said(batch, "--batch, --size or --width"):
            for epoch in range(self.history[-1].epoch if self.history else 0, self.settings.epochs):
                for number, (pictures, labels) in enumerate(batches(self._learn, self.settings, epoch)):
                    iteration = epoch * self._per_epoch + number
                    losses.append(self._learn_batch(pictures, labels, iteration))
                    step(iteration + 1, self.iterations)
                if (epoch + 1) % self.settings.test_every == 0 or epoch + 1 == self.settings.epochs:
                    matrix = self.test()
                    seconds = time.monotonic() - begun
                    scores = mean_iou(matrix), pixel_accuracy(matrix)
                    self._keep(Tested(epoch + 1, fmean(losses), *scores, seconds), path)
                    report(self.history[-1])
                    begun, losses = time.monotonic(), []

    def _keep(self, tested: Tested, path: Path | None) -> None:
        if not self.history or tested.mean_iou > self.best.mean_iou:
            self._best = copy.deepcopy({name: value.cpu() for name, value in self.network.state_dict().items()})
        self.history.append(tested)
        if path is not None:
            self._save(path)

    def _learn_batch(self, pictures: Image, labels: Image, iteration: int) -> float:
        """Return the loss."""
        for group in self._optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * one_cycle(iteration / max(1, self.iterations - 1))
        where = f"epoch {iteration // self._per_epoch + 1}, iteration {iteration + 1}"
        self.network.train()
        logits = self._look(to_input(pictures).to(self._device))
        wanted = torch.from_numpy(labels).to(self._device, torch.int64)
        loss = loss_of(self.settings.loss, logits, wanted, self._weights)
        value = float(loss.detach())
        self._refuse_broken(f"the loss is {value} in {where}", value)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        length = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), LONGEST_GRADIENT))
        self._refuse_broken(f"the gradient's length is {length} in {where}", length)
        self._optimiser.step()
        return value

    def _look(self, pictures: Tensor) -> Tensor:
        """Return the logits, as float32."""
        with torch.autocast(self._device, torch.bfloat16, enabled=self.settings.mixed_precision):
            logits: Tensor = self.network(pictures)
        return logits.float()

    def test(self, network: UNet | None = None) -> Matrix:
        """Return the confusion matrix of the held-out pictures, logits scaled up to the labels' own sizes.

        Args:
            network: on the CPU, computing in float32; None: the one that is being trained, as it is trained.

        Raises:
            FrameloomError: the network says what is no number.
        """
        size = len(self.classes.names)
        total = np.zeros((size, size), np.int64)
        for number in range(len(self.held_out)):
            picture, label = self.held_out[number]
            total += confusion(self.segment(picture, network), label, size, IGNORED)
        return total

    def segment(self, picture: Image, network: UNet | None = None) -> Image:
        """Return the class of every pixel of an H x W x 3 uint8 BGR picture, H x W uint8, by a network as in `test`."""
        pixels = to_input(stretched(picture, self.settings)[None])
        with torch.no_grad():
            if network is None:
                self.network.eval()
                logits = self._look(pixels.to(self._device))
            else:
                logits = network(pixels)
            if not torch.isfinite(logits).all():
                self._refuse_broken("what the network says of a held-out picture is no number", math.nan)
            full = interpolate(logits, picture.shape[:2], mode="bilinear", align_corners=False)
            return np.asarray(full[0].argmax(dim=0).to(torch.uint8).cpu().numpy(), np.uint8)

    def _refuse_broken(self, what: str, value: float) -> None:
        if math.isfinite(value):
            return
        if not self.history:
            raise FrameloomError(f"{what}, before there was anything to keep: choose a smaller --learning-rate")
        raise FrameloomError(
            f"{what}; the checkpoint of epoch {self.history[-1].epoch} is kept: "
            "go on from it with --resume and a smaller --learning-rate"
        )

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with."""
        settings = {name: value for name, value in asdict(self.settings).items() if name not in CHANGEABLE}
        return {
            **settings,
            "classes": list(self.classes.names),
            "ignored label": self.classes.ignore,
            "number of pictures": len(self._learn),
            "pictures": _digest(self._learn),
            "held-out pictures": _digest(self.held_out),
        }

    def _save(self, path: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "history": [asdict(each) for each in self.history],
            "best": self._best,
        }
        checkpoint.save(path, self._identity(), state)

    def resume(self, path: Path) -> None:
        """Go on where a checkpoint was written.

        Raises:
            ConfigError: there is none, it is damaged, or it was made with other settings or pictures.
        """
        state = checkpoint.load(path, self._device)
        checkpoint.check_identity(path, state["identity"], self._identity(), quiet="pictures")
        try:
            self.network.load_state_dict(state["network"])
            self._optimiser.load_state_dict(state["optimiser"])
            self.history = [Tested(**each) for each in state["history"]]
            self._best = {name: value.cpu() for name, value in state["best"].items()}
            self.best_network()  # raises where the weights do not fit
            if not self.history:
                raise ValueError("no history")
        except checkpoint.UNREADABLE as error:
            raise checkpoint.damaged(path) from error


def _digest(maps: Maps) -> str:
    """Return a short hash of the pictures' names, in their order."""
    names = "\n".join(picture.name for picture, _ in maps.pairs)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def one_cycle(progress: float) -> float:
    """Return the part of the highest learning rate at a part of the training, 0..1: up, then down, by half cosines.

    Source: Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates",
    2018.
    """
    if progress < RISING:
        return _between(FIRST_RATE, 1.0, progress / RISING)
    return _between(1.0, FIRST_RATE * LAST_RATE, (progress - RISING) / (1 - RISING))


def _between(first: float, last: float, progress: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


def to_input(pictures: Image) -> Tensor:
    """Return (N, H, W, 3) uint8 BGR as the (N, 3, H, W) float32 RGB that the network takes."""
    planes = torch.from_numpy(np.ascontiguousarray(pictures[..., ::-1])).permute(0, 3, 1, 2)  # channels stay last
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return (planes.float() - mean) / std


def stretched(picture: Image, settings: SegmentSettings) -> Image:
    """Return a picture in the network's size, as a run stretches it."""
    size = settings.width, settings.height
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)
