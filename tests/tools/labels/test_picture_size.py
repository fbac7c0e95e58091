"""The size from the header is the size of the decoded picture, for every kind of file that OpenCV writes."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.capture.images import PNG, read_image
from tools.labels.picture_size import picture_size

NOISE = np.random.default_rng(1).integers(0, 255, (31, 47, 3), np.uint8)


def with_exif(jpeg: bytes, orientation: int, order: str) -> bytes:
    """Return the JPEG with an APP1 segment of one EXIF field in front."""
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff + jpeg[2:]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm"])
def test_the_size_is_width_and_height_of_any_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), NOISE)
    assert picture_size(path) == (47, 31)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_size_is_that_of_the_turned_picture(tmp_path: Path, orientation: int, order: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(cv2.imencode(".jpg", NOISE)[1].tobytes(), orientation, order))
    image = read_image(path)
    assert image is not None
    assert picture_size(path) == image.shape[1::-1]
    assert picture_size(path) == ((31, 47) if orientation >= 5 else (47, 31))


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_and_png_are_not_decoded(tmp_path: Path, progressive: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), NOISE, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    cv2.imwrite(str(tmp_path / "a.png"), NOISE)
    monkeypatch.setattr("tools.labels.picture_size.read_image", lambda path: pytest.fail("decoded"))
    assert picture_size(tmp_path / "a.jpg") == picture_size(tmp_path / "a.png") == (47, 31)


def test_what_is_no_picture_has_no_size(tmp_path: Path) -> None:
    whole = cv2.imencode(".jpg", NOISE)[1].tobytes()
    for number, content in enumerate((b"", b"torn", whole[:1], whole[:30], b"\xff\xd8\xff\xe0\0\0", whole[:2] * 9)):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(content)
        assert picture_size(path) is None
    assert picture_size(tmp_path / "gone.jpg") is None


@given(start=st.sampled_from([b"", b"\xff\xd8", PNG]), rest=st.binary(max_size=80))
def test_no_header_however_damaged_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(start + rest)
    size = picture_size(path)
    assert size is None or min(size) >= 0


@given(tiff=st.binary(max_size=60), order=st.sampled_from([b"II*\0", b"MM\0*"]))
def test_damaged_exif_data_leaves_the_picture_as_it_lies(
    tmp_path_factory: pytest.TempPathFactory, tiff: bytes, order: bytes
) -> None:
    exif = b"Exif\0\0" + order + tiff
    path = tmp_path_factory.getbasetemp() / "exif.jpg"
    jpeg = cv2.imencode(".jpg", NOISE)[1].tobytes()
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    assert picture_size(path) in ((47, 31), (31, 47))
