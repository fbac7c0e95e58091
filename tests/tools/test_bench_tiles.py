"""`frameloom bench tiles`: pictures are put side by side as they are, and what is found goes back to the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.frame import Detections
from tools.bench_tiles import compose, inside, parse_tiles

SIZES = [(40, 60), (50, 30), (20, 60), (90, 90), (300, 20), (30, 100)]


def pictures(folder: Path) -> list[dict[str, Any]]:
    for number, size in enumerate(SIZES):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((*size, 3), 10 + number, np.uint8))
    return [{"id": number, "file_name": f"{number}.png"} for number in range(len(SIZES))]


def test_pictures_lie_side_by_side_whole_and_apart_and_too_large_ones_are_left_out(tmp_path: Path) -> None:
    missing = {"id": 99, "file_name": "missing.png"}
    sheets = list(compose([*pictures(tmp_path), missing], tmp_path, (100, 100)))
    assert [[number for number, _ in sheet.places] for sheet in sheets] == [[0, 1, 2], [3], [5]]
    for sheet in sheets:
        rest = sheet.pixels.copy()
        for number, (left, top, width, height) in sheet.places:
            assert (height, width) == SIZES[number]
            assert (sheet.pixels[top : top + height, left : left + width] == 10 + number).all()
            rest[top : top + height, left : left + width] = 114
        assert (rest == 114).all()


def test_no_picture_that_fits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none of the 6 pictures can be read and is smaller than \(10, 10\)"):
        list(compose(pictures(tmp_path), tmp_path, (10, 10)))


def test_what_is_found_belongs_to_the_picture_that_its_centre_lies_in() -> None:
    boxes = np.array([[10, 10, 30, 30], [90, 10, 120, 30], [60, 10, 110, 30]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.arange(3, dtype=np.int32))
    left, right = inside(found, (0, 0, 100, 50)), inside(found, (100, 0, 100, 50))
    assert (left.class_ids.tolist(), right.class_ids.tolist()) == ([0, 2], [1])
    assert left.boxes.tolist() == [[10, 10, 30, 30], [60, 10, 100, 30]]
    assert right.boxes.tolist() == [[0, 10, 20, 30]]


def test_ways_to_cut_are_written_as_in_the_settings() -> None:
    assert [parse_tiles(text) for text in ("none", "auto", "2x3", "640")] == [None, "auto", (2, 3), 640]
    with pytest.raises(ConfigError, match=r"--tiles 9: must be auto, ROWSxCOLUMNS"):
        parse_tiles("9")
