"""The worst pictures on one sheet: what is labelled in green, what was found in red, and what is wrong named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.capture.images import read_image
from pipeline.errors import ConfigError
from pipeline.render.canvas import BGRCanvas, Canvas, Colour
from pipeline.render.theme import VIVID
from tools.eval_confusion import Picture
from tools.labels.labelled_set import Record
from tools.sheets import CAPTION, PAPER, TEXT, save_sheet, typeface, write_line

COLUMNS = 3
TILE_WIDTH, TILE_HEIGHT = 480, 360
"""Pixels."""
LABELLED: Colour = (60, 200, 60)
FOUND: Colour = (50, 50, 240)
BAR = 4
"""Pixels of the colour at the left of letters."""
LEGEND = "green: labelled, red: found; thin: right; thick and named: missed (green) or false (red)"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def check_format(option: str, path: Path | None) -> None:
    """See that OpenCV can write such a file.

    Raises:
        ConfigError: it cannot.
    """
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{option} {path}: name a picture, such as worst.jpg ({', '.join(SUFFIXES)})")


def worst(pictures: Sequence[Picture], count: int) -> list[Picture]:
    """Return the pictures with the most errors, worst first; those without errors are none of them."""
    wrong = [picture for picture in pictures if picture.missed + picture.false]
    return sorted(wrong, key=lambda picture: -(picture.missed + picture.false))[:count]


def draw_sheet(path: Path, pictures: Sequence[Picture], folder: Path, names: Mapping[int, str]) -> None:
    """Draw pictures side by side.

    Args:
        path: of the sheet.
        pictures: in the order in which they appear.
        folder: of their files.
        names: of the categories.

    Raises:
        ConfigError: the file cannot be written.
    """
    columns = min(COLUMNS, max(1, len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    size = (CAPTION + rows * (TILE_HEIGHT + CAPTION), columns * TILE_WIDTH, 3)
    sheet = np.full(size, PAPER, np.uint8)
    write_line(sheet, 0, 0, LEGEND if pictures else "no picture has an error")
    for number, picture in enumerate(pictures):
        top, left = CAPTION + number // columns * (TILE_HEIGHT + CAPTION), number % columns * TILE_WIDTH
        tile = _tile(picture, folder, names)
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        caption = f"{Path(picture.image['file_name']).name}: {picture.missed} missed, {picture.false} false"
        write_line(sheet, left, top + TILE_HEIGHT, caption)
    save_sheet("--worst", path, sheet)


def _tile(picture: Picture, folder: Path, names: Mapping[int, str]) -> Image:
    """Return one picture made small, with its boxes: those that are right first, so that errors lie on top."""
    pixels = read_image(folder / picture.image["file_name"])
    if pixels is None:
        raise ConfigError(f"{folder / picture.image['file_name']} cannot be read any more")
    scale = min((TILE_WIDTH - 4) / pixels.shape[1], (TILE_HEIGHT - 4) / pixels.shape[0])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    canvas = BGRCanvas(np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8))
    for pair in sorted(picture.pairs, key=lambda pair: not pair.right):
        if pair.truth is not None:
            label = None if pair.right else names[pair.truth["category_id"]]
            _draw(canvas, pair.truth, scale, LABELLED, label)
        if pair.found is not None:
            label = None if pair.right else f"{names[pair.found['category_id']]} {pair.found['score']:.2f}"
            _draw(canvas, pair.found, scale, FOUND, label)
    return canvas.picture().bgr


def _draw(canvas: Canvas, record: Record, scale: float, colour: Colour, label: str | None) -> None:
    left, top, width, height = (value * scale for value in record["bbox"])
    corner, opposite = (round(left), round(top)), (round(left + width) - 1, round(top + height) - 1)
    canvas.rectangle(corner, opposite, colour, 1 if label is None else 2)
    if label is None:
        return
    text = typeface().patch(label, TEXT, canvas.grey(VIVID.paper), canvas.grey(VIVID.ink))
    patch = text.shape[0]
    # a missed object is named at its upper edge, a false box at its lower one: they often lie on each other
    y = max(0, corner[1] - patch) if colour == LABELLED else opposite[1] + 1 - patch
    canvas.write((corner[0], y), text, BAR, colour)
