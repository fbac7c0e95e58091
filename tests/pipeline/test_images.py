"""Images as a source: folders, globs, order, orientation, depth, damage."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture import Images, SourceOptions, make_source
from pipeline.capture.images import find_images, read_image
from pipeline.capture.source import Damaged
from pipeline.errors import SourceError
from pipeline.frame import Frame
from tests.pipeline.videos import corners_picture, grey_picture


def save(path: Path, level: int = 90) -> Path:
    ok, data = cv2.imencode(path.suffix, grey_picture(32, 24, level))
    assert ok
    path.write_bytes(data.tobytes())
    return path


def read(place: str | Path, rotate: int | None = None) -> tuple[Images, list[Frame | Damaged]]:
    source = make_source("images", str(place), SourceOptions(rotate=rotate))
    assert isinstance(source, Images)
    source.open()
    items = list(source.frames())
    source.close()
    return source, items


def names(items: list[Frame | Damaged]) -> list[str]:
    return [item.file.name for item in items if isinstance(item, Frame) and item.file is not None]


def with_exif_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Put an APP1 segment with one TIFF tag, 0x0112, behind the start of a JPEG (Exif 2.3, 4.5.4)."""
    tiff = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


# --- which and in what order ------------------------------------------------------------------------------------


def test_a_folder_gives_its_images_in_natural_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("img10.png", "img2.png", "img1.bmp", "IMG3.PNG", "img02.png"):
        save(tmp_path / name.lower()).rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.png").mkdir()
    source, items = read(tmp_path)
    assert names(items) == ["IMG3.PNG", "img1.bmp", "img02.png", "img2.png", "img10.png"]
    assert [item.pts for item in items if isinstance(item, Frame)] == [0, 0.04, 0.08, 0.12, 0.16]
    assert (source.info.frames, source.info.width, source.info.height) == (5, 32, 24)
    assert source.remark() is None


def test_a_glob_gives_the_images_that_match_also_below_folders(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a1.png", "a2.png", "b1.png", "deep/a3.png", "a4.txt.png"):
        save(tmp_path / name)
    assert names(read(tmp_path / "a[12].png")[1]) == ["a1.png", "a2.png"]
    assert len(read(tmp_path / "**" / "*.png")[1]) == 5


def test_an_existing_name_with_glob_characters_is_the_file(tmp_path: Path) -> None:
    save(tmp_path / "a1.png", 10)
    save(tmp_path / "a[1].png", 200)
    _, items = read(tmp_path / "a[1].png")
    assert names(items) == ["a[1].png"]
    assert isinstance(items[0], Frame)
    assert items[0].image[0, 0, 0] == 200


@pytest.mark.parametrize("name", ["ü ñ 猫.png", "a b.jpg", "c:d.png", "100%.png"])
def test_odd_names_are_read(tmp_path: Path, name: str) -> None:
    assert names(read(save(tmp_path / name))[1]) == [name]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("empty", "holds no images"),
        ("*.png", "no image matches"),
        ("*.txt", r"of a glob only images are taken"),
        ("nothing.png", "no such file"),
        ("text.png", "is not an image that can be read"),
        ("zero.png", r"is empty \(0 bytes\)"),
        ("broken", "none of the 2 images can be read"),
    ],
)
def test_where_there_is_no_image_the_address_is_refused(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("x")
    (tmp_path / "broken" / "b.jpg").symlink_to("nowhere")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "text.png").write_text("hello " * 100) if place == "text.png" else None
    (tmp_path / "zero.png").touch() if place == "zero.png" else None
    with pytest.raises(SourceError, match=message) as caught:
        make_source("a", str(tmp_path / place)).open()
    assert caught.value.request_was_wrong


# --- damage -----------------------------------------------------------------------------------------------------


def test_an_unreadable_image_in_a_folder_counts_as_damaged_and_is_named(tmp_path: Path) -> None:
    for number in (2, 4):
        save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_text("text")
    (tmp_path / "3.jpg").touch()
    (tmp_path / "5.png").symlink_to("nowhere")
    source, items = read(tmp_path)
    assert [isinstance(item, Damaged) for item in items] == [True, False, True, False, True]
    assert [item.index for item in items if isinstance(item, Frame)] == [1, 3]
    assert source.remark() == f"{tmp_path}: 3 of 5 images cannot be read: 1.png, 3.jpg, 5.png"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm"])
def test_a_torn_image_is_unreadable_and_no_library_writes_about_it(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    (tmp_path / f"torn{suffix}").write_bytes(data[: len(data) // 2])
    save(tmp_path / f"whole{suffix}")
    script = (
        "import sys; from pipeline.capture import make_source; s = make_source('a', sys.argv[1]); s.open();"
        "print([type(item).__name__ for item in s.frames()])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "['Damaged', 'Frame']\n"
    assert done.stderr == ""


def test_a_png_with_a_flipped_byte_is_unreadable(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    data = bytearray(cv2.imencode(".png", noise)[1].tobytes())
    (tmp_path / "a.png").write_bytes(data)
    assert read_image(tmp_path / "a.png") is not None
    data[len(data) // 2] ^= 0x40
    (tmp_path / "a.png").write_bytes(data)
    assert read_image(tmp_path / "a.png") is None


# --- orientation, depth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("orientation", "clockwise"), [(1, 0), (3, 180), (6, 90), (8, 270)])
def test_exif_orientation_is_followed_unless_a_rotation_is_asked_for(
    tmp_path: Path, orientation: int, clockwise: int
) -> None:
    plain = corners_picture(64, 32)
    jpeg = cv2.imencode(".jpg", plain, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif_orientation(jpeg, orientation))
    for rotate in (None, 0, 90):
        source, items = read(path, rotate)
        assert isinstance(items[0], Frame)
        turn = clockwise if rotate is None else rotate
        expected = np.rot90(plain, -turn // 90)
        assert items[0].image.shape == expected.shape
        assert (source.info.height, source.info.width) == expected.shape[:2]
        assert np.abs(items[0].image.astype(int) - expected).mean() < 6


def test_alpha_grey_and_sixteen_bit_images_become_bgr_in_eight(tmp_path: Path) -> None:
    pictures: dict[str, np.ndarray] = {
        "alpha.png": np.full((8, 8, 4), (30, 60, 200, 10), np.uint8),
        "grey.png": np.full((8, 8), 77, np.uint8),
        "deep.png": np.full((8, 8, 3), 200 * 257, np.uint16),
        "deepgrey.tif": np.full((8, 8), 100 * 257, np.uint16),
    }
    for name, picture in pictures.items():
        assert cv2.imwrite(str(tmp_path / name), picture)
    _, items = read(tmp_path)
    found = {item.file.name: item.image[4, 4].tolist() for item in items if isinstance(item, Frame) and item.file}
    assert found == {"alpha.png": [30, 60, 200], "grey.png": [77] * 3, "deep.png": [200] * 3, "deepgrey.tif": [100] * 3}
    assert all(item.image.dtype == np.uint8 for item in items if isinstance(item, Frame))


def test_images_are_read_as_cv2_imread_reads_them(shared: Path) -> None:
    for path in find_images(str(shared / "data" / "images")):
        assert np.array_equal(read_image(path), cv2.imread(str(path)))  # type: ignore[arg-type]
