"""Pictures and labels to learn from, and how each is changed every time it is shown.

The order, and what is done to each picture, follow from the seed, the epoch and the place in it alone, so that a
resumed training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.errors import ConfigError
from tools.labelled_maps import read_pair
from tools.train.segment_losses import IGNORED
from tools.train.segment_settings import SegmentSettings

KEPT_BYTES = 2 << 30
"""Of pictures and labels in memory; what is more is read again each time (5 ms for 480x360)."""
STRETCHED = 1.1
"""Most that a picture is made wider or narrower than it is."""
GREY = 114
"""Of what is around a picture that was made smaller, all channels; it does not count."""
ORDER = 1
"""Apart from the numbers of pictures, which are drawn from `[seed, epoch, place]`."""


@dataclass(frozen=True)
class Classes:
    """What there is to tell apart."""

    names: tuple[str, ...]
    ignore: int | None = None
    """Value of a label that does not count."""


class Maps:
    """Pictures with labels, in memory as far as they fit.

    Args:
        pairs: picture file and label file.
        classes: what the labels may say.

    Raises:
        ConfigError: a file cannot be used; all are read once, before the work.
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]], classes: Classes) -> None:
        self.pairs, self.classes = list(pairs), classes
        self._kept: dict[int, tuple[Image, Image]] = {}
        room = KEPT_BYTES
        for number in range(len(self.pairs)):
            picture, label = self._read(number)
            room -= picture.nbytes + label.nbytes
            if room >= 0:
                self._kept[number] = picture, label

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> tuple[Image, Image]:
        """Return H x W x 3 uint8 BGR and H x W uint8, `IGNORED` where no class is."""
        return self._kept.get(number) or self._read(number)

    def labels(self) -> Iterator[Image]:
        """Yield the labels."""
        for number in range(len(self)):
            yield self[number][1]

    def unseen(self) -> list[str]:
        """Return the classes that no label shows.

        Raises:
            ConfigError: that is all of them.
        """
        seen = np.zeros(IGNORED + 1, np.int64)
        for label in self.labels():
            seen += np.bincount(label.reshape(-1), minlength=IGNORED + 1)
        unseen = [name for name, pixels in zip(self.classes.names, seen.tolist(), strict=False) if not pixels]
        if len(unseen) == len(self.classes.names):
            first, last = self.pairs[0][1], self.pairs[-1][1].name
            raise ConfigError(f"no pixel of the labels {first} to {last} counts: all are {self.classes.ignore}")
        return unseen

    def _read(self, number: int) -> tuple[Image, Image]:
        picture, label = read_pair(*self.pairs[number], len(self.classes.names), self.classes.ignore)
        if self.classes.ignore is not None:
            label[label == self.classes.ignore] = IGNORED
        return picture, label


def hold_out(
    pairs: Sequence[tuple[Path, Path]], part: float, seed: int
) -> tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]]:
    """Split into what is learnt from and what is tested on.

    Raises:
        ConfigError: there is only one.
    """
    if len(pairs) < 2:
        raise ConfigError("one picture is too few: one part is to learn from, another to test on")
    count = min(len(pairs) - 1, max(1, round(len(pairs) * part)))
    apart = set(np.random.default_rng(seed).permutation(len(pairs))[:count].tolist())
    learn = [pair for number, pair in enumerate(pairs) if number not in apart]
    return learn, [pairs[number] for number in sorted(apart)]


def batches(maps: Maps, settings: SegmentSettings, epoch: int) -> Iterator[tuple[Image, Image]]:
    """Yield the batches of one epoch: (N, H, W, 3) uint8 BGR and (N, H, W) uint8 labels. The last may be smaller."""
    order = np.random.default_rng([settings.seed, epoch, 0, ORDER]).permutation(len(maps)).tolist()
    for first in range(0, len(order), settings.batch):
        drawn = [
            changed(*maps[number], settings, np.random.default_rng([settings.seed, epoch, first + place]))
            for place, number in enumerate(order[first : first + settings.batch])
        ]
        pictures, labels = zip(*drawn, strict=True)
        yield np.stack(pictures), np.stack(labels)


def changed(
    picture: Image, label: Image, settings: SegmentSettings, chance: np.random.Generator
) -> tuple[Image, Image]:
    """Return a part of a picture in the network's size: any place, larger or smaller, mirrored, in other colours."""
    height, width = picture.shape[:2]
    seen = np.exp(chance.uniform(-1, 1) * np.log(settings.zoom))  # part of the picture's sides that is seen
    wider = STRETCHED ** (chance.uniform(-1, 1) if settings.zoom > 1 else 0)
    seen_width, seen_height = width * seen * wider, height * seen / wider
    left, top = chance.uniform(*_places(width, seen_width)), chance.uniform(*_places(height, seen_height))
    across, down = seen_width / settings.width, seen_height / settings.height
    flipped = settings.flip and chance.random() < 0.5
    # pixel centres: output (x + 0.5) * scale + start = input + 0.5
    place = np.array([[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]])
    if flipped:
        place[0] = [-across, 0, left + seen_width - across / 2 - 0.5]
    size = settings.width, settings.height
    how = {"borderMode": cv2.BORDER_CONSTANT}
    part = cv2.warpAffine(
        picture, place, size, None, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, **how, borderValue=(GREY,) * 3
    )
    classes = cv2.warpAffine(
        label, place, size, None, cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, **how, borderValue=IGNORED
    )
    return _recoloured(np.asarray(part, np.uint8), settings.colour, chance), np.asarray(classes, np.uint8)


def _places(side: float, seen: float) -> tuple[float, float]:
    """Between which values a window of `seen` pixels may begin: inside the picture, or around all of it."""
    return min(0.0, side - seen), max(0.0, side - seen)


def _recoloured(picture: Image, most: float, chance: np.random.Generator) -> Image:
    """Change light, contrast, saturation, and the balance of the channels, each by up to a part."""
    if most == 0:
        return picture
    light, contrast, saturation = chance.uniform(-most, most, 3)
    balance = 1 + chance.uniform(-most, most, 3) / 3
    pixels = picture.astype(np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = (grey + (pixels - grey) * (1 + saturation)) * balance.astype(np.float32)
    mean = pixels.mean()
    return np.asarray(np.clip((pixels - mean) * (1 + contrast) + mean * (1 + light), 0, 255), np.uint8)
