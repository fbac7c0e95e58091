"""What a U-Net has learnt so far, to look at: its curves, and pictures beside their labels and what it says of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from engines.errors import FrameloomError
from pipeline.arrays import Image
from pipeline.render.colours import colours_of
from pipeline.render.theme import VIVID
from tools.figures import new_figure, save_figure

if TYPE_CHECKING:
    from tools.train.segment_loop import SegmentTraining

SHOWN = 4
"""Held-out pictures, spread over all."""
WIDTH = 320
"""Of each, pixels."""
INCHES = (7.0, 4.5)


def draw_curves(path: Path, training: SegmentTraining) -> None:
    """Write how the loss fell and the mean IoU rose, as PNG.

    Raises:
        ConfigError: it cannot be written.
    """
    figure = new_figure(*INCHES, "U-Net: loss, and what it does on held-out pictures")
    left = figure.add_subplot()
    epochs = [tested.epoch for tested in training.history]
    left.plot(epochs, [tested.loss for tested in training.history], "C1.-", label=f"loss ({training.settings.loss})")
    left.set_xlabel("epochs")
    left.set_ylabel("loss")
    right = left.twinx()
    right.plot(epochs, [tested.mean_iou for tested in training.history], "C0.-", label="mIoU")
    right.plot(epochs, [tested.accuracy for tested in training.history], "C2.-", label="part of the pixels right")
    right.set_ylim(0, 1)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    save_figure(figure, path)


def draw_preview(path: Path, training: SegmentTraining) -> None:
    """Write a few held-out pictures, each beside its label and what the network says; black: not labelled.

    Raises:
        FrameloomError: it cannot be written.
    """
    names = training.classes.names
    colours = np.zeros((256, 3), np.uint8)  # IGNORED is black
    colours[: len(names)] = colours_of(names, VIVID)
    held_out = training.held_out
    rows = []
    for number in np.linspace(0, len(held_out) - 1, min(SHOWN, len(held_out))).astype(int).tolist():
        picture, label = held_out[number]
        row = [_sized(each) for each in (picture, colours[label], colours[training.segment(picture)])]
        rows.append(cv2.hconcat(row))
    if not cv2.imwrite(str(path), cv2.vconcat(rows)):
        raise FrameloomError(f"{path} cannot be written: is the disk full?")


def _sized(picture: Image) -> Image:
    height = max(1, round(picture.shape[0] * WIDTH / picture.shape[1]))
    return np.asarray(cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_NEAREST), np.uint8)
