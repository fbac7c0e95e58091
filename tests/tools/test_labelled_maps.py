"""Pictures and their labels: what belongs together is found, what is no label is refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.errors import ConfigError
from tools.labelled_maps import find_pairs, read_classes, read_label, read_pair

LABEL = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)


def write(path: Path, pixels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def png(path: Path, bits: int, kind: int, rows: bytes, *more: tuple[bytes, bytes]) -> Path:
    """Write a PNG 8 pixels wide and 1 high that OpenCV does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, bits, kind, 0, 0, 0))
    parts = (*(chunk(*each) for each in more), chunk(b"IDAT", zlib.compress(b"\0" + rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + b"".join(parts))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for stem, suffix in (("b", "png"), ("a", "jpg")):
        write(tmp_path / "images" / f"{stem}.{suffix}", np.zeros((2, 3, 3), np.uint8))
        write(tmp_path / "labels" / f"{stem}.png", LABEL)
    return tmp_path / "images", tmp_path / "labels"


def test_pairs_are_files_of_one_stem_in_the_order_of_their_names(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    (images / "notes.txt").write_text("not a picture")
    pairs = find_pairs(images, labels)
    assert pairs == [(images / "a.jpg", labels / "a.png"), (images / "b.png", labels / "b.png")]


def test_files_without_partner_are_named(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    for name in "cdef":
        write(images / f"{name}.png", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(
        ConfigError, match=r"^4 pictures of .* have no label in .*labels of the same name: c, d, e, \.+$"
    ):
        find_pairs(images, labels)
    for file in images.iterdir():
        if file.stem in "bcdef":
            file.unlink()
    with pytest.raises(ConfigError, match=r"^1 labels of .* have no picture in .* of the same name: b$"):
        find_pairs(images, labels)


def test_folders_that_do_not_do_are_said(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = folders
    with pytest.raises(ConfigError, match="absent is no folder"):
        find_pairs(tmp_path / "absent", labels)
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty has no labels \(8-bit PNG\)"):
        find_pairs(images, empty)
    write(images / "a.png", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"a\.jpg and .*a\.png have one name"):
        find_pairs(images, labels)


def test_a_label_is_read_as_it_is(folders: tuple[Path, Path]) -> None:
    picture, label = read_pair(folders[0] / "a.jpg", folders[1] / "a.png", 3, ignore=255)
    assert picture.shape == (2, 3, 3)
    np.testing.assert_array_equal(label, LABEL)


def test_an_index_beyond_the_classes_is_said_with_its_place(folders: tuple[Path, Path]) -> None:
    file = folders[1] / "a.png"
    words = r"a\.png has the value 255 \(row 1, column 2\), but there are 3 classes, 0\.\.2: .* --ignore 255"
    with pytest.raises(ConfigError, match=words):
        read_label(file, 3)
    with pytest.raises(ConfigError, match=r"has the value 2 \(row 0, column 2\), but there are 2 classes"):
        read_label(file, 2, ignore=255)


def test_sizes_that_differ_are_said(folders: tuple[Path, Path]) -> None:
    write(folders[1] / "a.png", LABEL[:, :2])
    with pytest.raises(ConfigError, match=r"a\.jpg is 3x2, but its label .*a\.png is 2x2"):
        read_pair(folders[0] / "a.jpg", folders[1] / "a.png", 3, 255)


def test_what_is_no_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"colours\.png has 3 channels \(colours\) of 8 bits: give class indices as 8"
    ):
        read_label(write(tmp_path / "colours.png", np.zeros((2, 3, 3), np.uint8)), 3)
    with pytest.raises(ConfigError, match=r"has one channel of 16 bits"):
        read_label(write(tmp_path / "deep.png", np.zeros((2, 3), np.uint16)), 3)
    # OpenCV would give the colours of the palette, and 255 for a bit that is 1
    palette = png(tmp_path / "palette.png", 8, 3, bytes(range(8)), (b"PLTE", bytes(24)))
    with pytest.raises(ConfigError, match=r"has a palette of 8 bits"):
        read_label(palette, 8)
    with pytest.raises(ConfigError, match=r"has one channel of 1 bits"):
        read_label(png(tmp_path / "bits.png", 1, 0, b"\xf0"), 2)
    (jpeg := tmp_path / "jpeg.png").write_bytes(write(tmp_path / "x.jpg", LABEL).read_bytes())
    with pytest.raises(ConfigError, match=r"jpeg\.png is no PNG"):
        read_label(jpeg, 3)
    (torn := tmp_path / "torn.png").write_bytes(write(tmp_path / "whole.png", LABEL).read_bytes()[:40])
    with pytest.raises(ConfigError, match=r"torn\.png is damaged"):
        read_label(torn, 3)
    with pytest.raises(ConfigError, match=r"absent\.png cannot be read: No such file"):
        read_label(tmp_path / "absent.png", 3)


def test_a_picture_that_is_none_is_said(folders: tuple[Path, Path]) -> None:
    (folders[0] / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"a\.jpg is no picture that can be read"):
        read_pair(folders[0] / "a.jpg", folders[1] / "a.png", 3, 255)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sky\nroad sign\n", ("sky", "road sign")),
        ("0 sky\n1  road sign \n\n", ("sky", "road sign")),
        ("4x4\nsky\n", ("4x4", "sky")),
        ("1\n2\n3\n", ("1", "2", "3")),
    ],
)
def test_classes_are_lines_with_or_without_their_index(tmp_path: Path, text: str, wanted: tuple[str, ...]) -> None:
    (file := tmp_path / "classes.txt").write_text(text)
    assert read_classes(file) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "classes.txt cannot be read: No such file"),
        ("", "names 0 classes"),
        ("\n".join(f"class {number}" for number in range(300)), "names 300 classes: give 1 to 255"),
        ("0 sky\n2 road\n", "the class '2 road' is number 1"),
        ("sky\nroad\nsky\n", "names 'sky' twice"),
    ],
)
def test_a_list_of_classes_that_does_not_do_is_said(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_classes(tmp_path / "classes.txt")
