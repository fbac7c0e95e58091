"""Pictures: which frames are written, as what, and what happens where they cannot be."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.capture import make_source
from pipeline.errors import ConfigError, SinkError
from pipeline.frame import Frame
from pipeline.picture import Picture, bgr_to_planes
from pipeline.sinks.pictures import PictureOptions, Pictures
from tests.pipeline.videos import corners_picture, grey_picture


def frame(index: int, picture: Picture | None = None) -> Frame:
    return Frame("a", index, index / 25, 0.0, picture or Picture(bgr=grey_picture(32, 24, 90)))


def sink(folder: Path, **how: Any) -> Pictures:
    pictures = Pictures(PictureOptions(folder, **how))
    pictures.check([])
    return pictures


def test_each_nth_frame_is_written_under_its_number(tmp_path: Path) -> None:
    pictures = sink(tmp_path / "new" / "folder", every=3)
    for index in range(8):
        pictures.consume(frame(index))
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "a-000000.jpg", "a-000003.jpg", "a-000006.jpg",
    ]  # fmt: skip
    assert pictures.files == [tmp_path / "new" / "folder"]


def test_png_is_exact_and_jpeg_follows_its_quality(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    sizes = []
    for quality in (10, 95):
        sink(tmp_path, quality=quality).consume(frame(1, Picture(bgr=image.copy())))
        sizes.append((tmp_path / "a-000001.jpg").stat().st_size)
    assert sizes[0] * 2 < sizes[1]
    sink(tmp_path, format="png").consume(frame(1, Picture(bgr=image.copy())))
    assert np.array_equal(cv2.imread(str(tmp_path / "a-000001.png")), image)  # type: ignore[arg-type]


def test_the_annotated_picture_is_what_is_written(tmp_path: Path) -> None:
    one = frame(0, Picture(planes=bgr_to_planes(grey_picture(32, 24, 10))))
    one.rendered = Picture(bgr=corners_picture(32, 24))
    sink(tmp_path, format="png").consume(one)
    assert np.array_equal(cv2.imread(str(tmp_path / "a-000000.png")), corners_picture(32, 24))  # type: ignore[arg-type]


def test_a_picture_beyond_the_format_fails_clearly(tmp_path: Path) -> None:
    wide = Picture(bgr=np.zeros((1, 70_000, 3), np.uint8))
    with pytest.raises(SinkError, match="70000 x 1 is no jpg"):
        sink(tmp_path).consume(frame(0, wide))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file/x", "/proc/frameloom"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"sinks\.frames: cannot write to folder"):
        sink(tmp_path / place)


def test_on_a_full_disk_no_part_of_a_picture_is_left(disk_of: Callable[[str], Path]) -> None:
    disk = disk_of("64k")
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8)
    pictures = sink(disk, quality=95)
    frames = (frame(index, Picture(bgr=noise.copy())) for index in range(50))
    with pytest.raises(SinkError, match="No space left on device"):
        collections.deque(map(pictures.consume, frames), maxlen=0)
    written = list(disk.iterdir())
    assert written
    assert all(cv2.imread(str(path)) is not None for path in written)


def test_a_folder_that_a_source_reads_its_images_from_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
    source = make_source("photos", str(tmp_path / "*.jpg"))
    source.open()
    with pytest.raises(ConfigError, match=r"sinks\.frames: source photos reads its images from"):
        Pictures(PictureOptions(tmp_path / ".")).check([source.info])
