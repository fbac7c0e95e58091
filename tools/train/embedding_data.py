"""The pictures a face encoder learns from: a folder per person, split by person, drawn in batches of P x K.

Held-out people are never seen in training, for what counts is how strangers are told apart. Everything random follows
from the seed and the epoch's number alone, so a resumed training draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import psutil

from engines.spec import ARCFACE_TEMPLATE, Points
from pipeline.arrays import Image, IntArray
from pipeline.capture.images import is_image, read_image
from pipeline.errors import ConfigError

Progress = Callable[[int, int], None]
"""Called with the pictures done and in all."""
ChipReader = Callable[[Sequence[Path], Progress], Mapping[Path, "Image | None"]]
"""Cuts the face out of each picture, size x size x 3 uint8 BGR; None where it cannot."""

LEAST_IMAGES = 2
"""Of a person: an anchor and a positive."""
LEAST_PEOPLE = 2
"""In each of the two parts: an anchor needs somebody else."""
MAX_SHIFT = 0.04
"""Part of the side by which a chip is moved at most."""
MAX_CONTRAST, MAX_BRIGHTNESS = 0.2, 25.0
"""How much of a pixel's value is added or taken, and how much on top of that (of 255)."""
HELD_OUT_STREAM = 1_000_000
"""Beside the epochs' numbers: the split draws from a stream of its own."""


@dataclass(frozen=True)
class Faces:
    """Chips of people."""

    chips: Image
    """(N, size, size, 3) uint8 BGR."""
    people: IntArray
    """(N,) index into `names`."""
    names: tuple[str, ...]

    def of(self, people: Sequence[int]) -> Faces:
        """Return the faces of some people, numbered anew."""
        kept = np.isin(self.people, people)
        numbers = np.searchsorted(np.sort(people), self.people[kept]).astype(np.int32)
        return Faces(self.chips[kept], numbers, tuple(self.names[i] for i in sorted(people)))


def find_people(folder: Path) -> dict[str, list[Path]]:
    """Return the images of every person's folder, by name, in order.

    Raises:
        ConfigError: there is no such folder, or it holds no folders with images.
    """
    try:
        folders = sorted(place for place in folder.iterdir() if place.is_dir())
        found = {each.name: sorted(path for path in each.iterdir() if is_image(path)) for each in folders}
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}; give a folder per person") from error
    people = {name: images for name, images in found.items() if images}
    if not people:
        raise ConfigError(f"{folder} holds no folders with images: make one folder per person, named after them")
    return people


def read_faces(people: Mapping[str, Sequence[Path]], size: int, chips_of: ChipReader, progress: Progress) -> Faces:
    """Read every person's chips; who is left with fewer than two is left out.

    Raises:
        ConfigError: fewer than four people are left, or the chips do not fit into memory.
    """
    paths = [path for images in people.values() for path in images]
    check_memory(len(paths), size)
    chips = chips_of(paths, progress)
    read = {name: [chip for path in images if (chip := chips[path]) is not None] for name, images in people.items()}
    kept = {name: images for name, images in read.items() if len(images) >= LEAST_IMAGES}
    if len(kept) < 2 * LEAST_PEOPLE:
        raise ConfigError(
            f"{len(kept)} of {len(people)} people have {LEAST_IMAGES} or more usable pictures "
            f"({sum(map(len, read.values()))} of {len(paths)} pictures are usable); "
            f"at least {2 * LEAST_PEOPLE} such people are needed: half of them to learn from, half to test on"
        )
    numbers = np.repeat(np.arange(len(kept), dtype=np.int32), [len(images) for images in kept.values()])
    return Faces(np.stack([chip for images in kept.values() for chip in images]), numbers, tuple(kept))


def check_memory(images: int, size: int) -> None:
    """Refuse what would not fit.

    Raises:
        ConfigError: with both sizes.
    """
    wanted, free = 2 * images * size * size * 3, psutil.virtual_memory().available
    if wanted > free:
        raise ConfigError(
            f"{images} pictures of {size} x {size} take {wanted / 1e9:.1f} GB of memory while they are read, and "
            f"{free / 1e9:.1f} GB are free: choose a smaller --size, or fewer pictures"
        )


def read_aligned(size: int) -> ChipReader:
    """Return a reader of pictures that are aligned chips already: they are only resized."""

    def read(paths: Sequence[Path], progress: Progress) -> dict[Path, Image | None]:
        chips: dict[Path, Image | None] = {}
        for done, path in enumerate(paths, 1):
            image = read_image(path)
            chips[path] = None if image is None else resized(image, size)
            progress(done, len(paths))
        return chips

    return read


def resized(image: Image, size: int) -> Image:
    """Return a picture as size x size."""
    smaller = min(image.shape[:2]) > size
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))


def template(size: int) -> Points:
    """Return where ArcFace puts the five landmarks, for a chip of another size than its 112."""
    return tuple((round(x * size / 112, 4), round(y * size / 112, 4)) for x, y in ARCFACE_TEMPLATE)


def left_out(people: Mapping[str, Sequence[Path]], faces: Faces) -> list[str]:
    """Return a sentence for pictures that could not be used, and one for people with too few."""
    remarks = []
    wanted = sum(len(images) for name, images in people.items() if name in faces.names)
    if unusable := wanted - len(faces.chips):
        remarks.append(f"{unusable} of {wanted} pictures were left out: unreadable, or no face was found")
    if few := [name for name in people if name not in faces.names]:
        more = f" and {len(few) - 3} more" if len(few) > 3 else ""
        remarks.append(f"left out, with fewer than {LEAST_IMAGES} usable pictures: {', '.join(few[:3])}{more}")
    return remarks


def split(faces: Faces, held_out: float, seed: int) -> tuple[Faces, Faces]:
    """Split by person into those to learn from and those to test on, two of each at least."""
    count = len(faces.names)
    apart = min(max(round(held_out * count), LEAST_PEOPLE), count - LEAST_PEOPLE)
    order = np.random.default_rng((seed, HELD_OUT_STREAM)).permutation(count)
    return faces.of(sorted(order[apart:])), faces.of(sorted(order[:apart]))


def batches(
    faces: Faces, people_per_batch: int, images_per_person: int, seed: int, epoch: int
) -> Iterator[tuple[Image, IntArray]]:
    """Yield an epoch's batches: chips of P people with K pictures each, varied, and who they are.

    Everybody comes up, and as many pictures as there are, or more. Who has fewer than K is shown several times, each
    time varied in another way.
    """
    random = np.random.default_rng((seed, epoch))
    of_person = [np.flatnonzero(faces.people == person) for person in range(len(faces.names))]
    together = min(people_per_batch, len(of_person))
    for group in _groups(len(of_person), together, len(faces.people) / images_per_person, random):
        rows = np.concatenate([_draw(of_person[person], images_per_person, random) for person in group])
        yield np.stack([varied(chip, random) for chip in faces.chips[rows]]), faces.people[rows]


def _groups(people: int, together: int, turns: float, random: np.random.Generator) -> Iterator[IntArray]:
    """Yield groups of different people until everybody has come up, and `turns` have been taken."""
    waiting = np.empty(0, np.int32)
    for _ in range(max(-(-people // together), round(turns / together))):
        if len(waiting) < together:
            rest = np.setdiff1d(np.arange(people, dtype=np.int32), waiting)
            waiting = np.concatenate([waiting, random.permutation(rest)])
        group, waiting = waiting[:together], waiting[together:]
        yield group


def _draw(rows: npt.NDArray[np.intp], count: int, random: np.random.Generator) -> npt.NDArray[np.intp]:
    return np.concatenate([random.permutation(rows) for _ in range(-(-count // len(rows)))])[:count]


def varied(chip: Image, random: np.random.Generator) -> Image:
    """Return a chip as it could also have looked: mirrored, moved a little, brighter or darker."""
    side = chip.shape[0]
    if random.random() < 0.5:
        chip = chip[:, ::-1]
    shift = random.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * side
    moved = cv2.warpAffine(
        np.ascontiguousarray(chip),
        np.array([[1, 0, shift[0]], [0, 1, shift[1]]]),
        (side, side),
        borderMode=cv2.BORDER_REPLICATE,
    )
    gain, more = 1 + random.uniform(-MAX_CONTRAST, MAX_CONTRAST), random.uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS)
    changed: Image = np.rint((moved * gain + more).clip(0, 255)).astype(np.uint8)
    return changed
