"""Pictures to learn from: photos, frames of videos, and textures that nobody took.

A crop follows from the seed and its number alone, so a training that was resumed sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.errors import ConfigError

PHOTOS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")
FRAMES = 12
"""Taken of each video, spread over it; nearly black first and last frames are not among them."""
UNKNOWN_LENGTH = 360
"""Frames that are looked at of a video that does not say how many it has."""
NEAR = 250
"""Frames ahead from which on a video is not decoded but sought: 250 are the most between two of x264's keyframes."""
LEAST_PICTURE = 64
"""Pixels of the short side: smaller ones are icons, and teach only what enlarging does."""
MOST_PICTURES = 1000
"""Kept in memory, up to 3 GB; 3000 iterations see no more than 3000 crops."""
LARGEST = 1024
"""Long side of a picture that is kept in memory: 3 MB each."""
SYNTHETIC = 0.1
"""Part of the crops that are textures: they teach flat areas and hard edges, which photos have few of."""
LEAST_SIDE = 0.4
"""Of a crop, as a part of the picture's short side: what is small in one crop is large in another."""


def read_pictures(places: Sequence[Path], leave_out: Path, say: Callable[[str], None]) -> list[Image]:
    """Read photos and a few frames of each video, H x W x 3 uint8 BGR, from files and folders.

    Args:
        places: files, and folders with all that is below them.
        leave_out: a folder below them that is not looked into: a training's own previews.
        say: told what was not read.

    Raises:
        ConfigError: a place is not there, or there is nothing to read in any of them.
    """
    files = _files(places, leave_out)
    step = max(1, -(-sum(FRAMES if _is_video(file) else 1 for file in files) // MOST_PICTURES))
    if step > 1:
        say(f"note: one in {step} of the {len(files)} files is read: {MOST_PICTURES} pictures are enough")
    each = [_frames(file) if _is_video(file) else _photo(file) for file in files[::step]]
    if useless := sum(not pictures for pictures in each):
        say(f"note: {useless} of {len(each)} files cannot be read, or are smaller than {LEAST_PICTURE} pixels")
    if useless == len(each):
        raise ConfigError(f"no picture in {', '.join(map(str, places))}: give folders of photos, or videos")
    return [picture for pictures in each for picture in pictures]


def _files(places: Sequence[Path], leave_out: Path) -> list[Path]:
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            within = sorted(each for each in place.rglob("*") if each.suffix.lower() in (*PHOTOS, *VIDEOS))
            files += [each for each in within if each.is_file() and leave_out.resolve() not in each.resolve().parents]
        elif place.is_file():
            files.append(place)
        else:
            raise ConfigError(f"{place}: there is no such file or folder")
    return files


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEOS


def _photo(file: Path) -> list[Image]:
    return _usable(cv2.imread(str(file), cv2.IMREAD_COLOR))


def _frames(file: Path) -> list[Image]:
    """Read from the middles of equal parts of a video."""
    video = cv2.VideoCapture(str(file))
    try:
        stated = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        total = stated if stated > 0 else UNKNOWN_LENGTH
        frames: list[Image] = []
        for number in sorted({(2 * part + 1) * total // (2 * FRAMES) for part in range(FRAMES)}):
            frames += _usable(_frame_at(video, number))
        return frames
    finally:
        video.release()


def _frame_at(video: cv2.VideoCapture, number: int) -> cv2.typing.MatLike | None:
    """Return a frame further on in a video; None where it is not to be had."""
    ahead = number - int(video.get(cv2.CAP_PROP_POS_FRAMES))
    if ahead > NEAR:
        video.set(cv2.CAP_PROP_POS_FRAMES, number)
        ahead = 0
    are_there = all(video.grab() for _ in range(ahead))
    is_whole, frame = video.read() if are_there else (False, None)
    return frame if is_whole else None


def _usable(picture: cv2.typing.MatLike | None) -> list[Image]:
    """Return a picture, made smaller where it is larger than needed; nothing where there is none, or a tiny one."""
    if picture is None or min(picture.shape[:2]) < LEAST_PICTURE:
        return []
    scale = LARGEST / max(picture.shape[:2])
    return [np.asarray(picture if scale >= 1 else cv2.resize(picture, None, fx=scale, fy=scale), np.uint8)]


def crop(pictures: Sequence[Image], size: int, seed: int, number: int) -> Image:
    """Return one crop to learn from, size x size x 3 uint8 BGR: of any place and scale, mirrored, lighter or darker."""
    chance = np.random.default_rng([seed, number])
    if chance.random() < SYNTHETIC:
        return texture(size, chance)
    picture = pictures[int(chance.integers(len(pictures)))]
    height, width = picture.shape[:2]
    side = max(1, round(min(height, width) * chance.uniform(LEAST_SIDE, 1)))
    top, left = chance.integers(height - side + 1), chance.integers(width - side + 1)
    part = _to_size(picture[top : top + side, left : left + side], size)
    if chance.random() < 0.5:
        part = part[:, ::-1]
    contrast, light = chance.uniform(0.7, 1.2), chance.uniform(-25, 25)
    return np.asarray(np.clip((part.astype(np.float32) - 128) * contrast + 128 + light, 0, 255), np.uint8)


def centre(picture: Image, size: int) -> Image:
    """Return the middle of a picture, size x size x 3: to be tested on."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _to_size(picture[top : top + side, left : left + side], size)


def _to_size(picture: Image, size: int) -> Image:
    how = cv2.INTER_AREA if picture.shape[0] > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (size, size), interpolation=how), np.uint8)


def texture(size: int, chance: np.random.Generator) -> Image:
    """Draw clouds of noise in several sizes, or shapes of one colour on another."""
    if chance.random() < 0.5:
        clouds = np.zeros((size, size, 3), np.float32)
        for octave in range(1, 6):
            cells = chance.random((2**octave + 1, 2**octave + 1, 3), np.float32)
            cloud = np.asarray(cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)
            clouds += cloud / 2 ** (0.7 * octave)
        low, high = clouds.min(), clouds.max()
        return np.asarray((clouds - low) / max(high - low, 1e-6) * 255, np.uint8)
    picture = np.full((size, size, 3), chance.integers(0, 256, 3), np.uint8)
    for _ in range(int(chance.integers(2, 9))):
        points = chance.integers(0, size, (int(chance.integers(3, 7)), 2)).astype(np.int32)
        cv2.fillPoly(picture, [points], chance.integers(0, 256, 3).tolist(), cv2.LINE_AA)
    return picture
