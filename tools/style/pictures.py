"""The two pictures that go in, and the one that comes out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import FloatArray, Image
from pipeline.capture.images import read_image
from pipeline.errors import ConfigError, SinkError
from pipeline.picture import Picture
from pipeline.render.blend import blend, in_form_of
from tools.targets import check_target

LEAST_CONTENT = 32
"""Pixels of the short side, after resizing: VGG16 halves it four times up to conv5_1, which leaves two places."""
LEAST_PAINTING = 64
"""Pixels of the short side: of less, nothing can be learnt about strokes."""
GREY = 1.25
"""Mean difference of a pixel's channels, of 255, below which a painting has no colours to give.

Grey photos as JPEG have up to 0.9, an ink drawing with a red seal on a hundredth of it 1.7, faint sepia 4 to 8.
"""
FLAT = 2.0
"""Standard deviation of the brightness, of 255, below which a painting shows nothing."""
WHITE = np.float32(255)
JPEG_QUALITY = 95
JPEG, PNG = (".jpg", ".jpeg"), (".png",)


@dataclass(frozen=True)
class Content:
    """The picture that is painted."""

    picture: Image
    """H x W x 3 uint8 BGR, on white where it is transparent."""
    alpha: Image | None
    """H x W uint8, 255 is opaque; None: all of it is."""


def read_content(path: Path) -> Content:
    """Read a picture; one of 16 bits a channel is taken with 8.

    Raises:
        ConfigError: there is none that can be read.
    """
    picture = _read("--content", path)
    alpha = _alpha(path, picture)
    if alpha is None:
        return Content(picture, None)
    return Content(_on_white(picture, alpha), alpha)


def read_painting(path: Path, *, if_grey: str | None) -> Image:
    """Read a painting, H x W x 3 uint8 BGR.

    Args:
        path: of the file.
        if_grey: what to do where it has no colours; None: they are not needed, a drawing will do.

    Raises:
        ConfigError: it is no picture, too small, without colours that are needed, or all of one colour.
    """
    painting = _read("--style", path)
    height, width = painting.shape[:2]
    if min(width, height) < LEAST_PAINTING:
        raise ConfigError(
            f"--style {path} is {width}x{height}: a painting of at least {LEAST_PAINTING}x{LEAST_PAINTING} is needed "
            "for its strokes to be seen"
        )
    if float(cv2.cvtColor(painting, cv2.COLOR_BGR2GRAY).std()) < FLAT:
        raise ConfigError(f"--style {path} is of one colour all over: it has no style to give")
    if if_grey is not None and float(np.ptp(painting.astype(np.int16), axis=2).mean()) < GREY:
        raise ConfigError(f"--style {path} is grey, and would take all colours away: {if_grey}")
    return painting


def _read(option: str, path: Path) -> Image:
    if not path.is_file():
        raise ConfigError(f"{option} {path}: there is no such file")
    picture = read_image(path)
    if picture is None:
        raise ConfigError(f"{option} {path} is no picture that can be read (PNG, JPEG, WebP, TIFF and BMP can)")
    return picture


def _alpha(path: Path, picture: Image) -> Image | None:
    """Return how opaque each pixel is, H x W uint8; None: all are."""
    whole = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if whole is None or whole.ndim != 3 or whole.shape[2] != 4 or whole.shape[:2] != picture.shape[:2]:
        return None
    largest = {"uint8": 255.0, "uint16": 65535.0}.get(whole.dtype.name, 1.0)
    alpha = _to_bytes(whole[..., 3].astype(np.float32) * (255 / largest))
    return None if alpha.min() == 255 else np.ascontiguousarray(alpha)


def resized(picture: Image, width: int, height: int) -> Image:
    """Return a picture in another size: averaged where it gets smaller, cubic where larger."""
    if picture.shape[:2] == (height, width):
        return picture
    smaller = width * height < picture.shape[0] * picture.shape[1]
    return np.asarray(
        cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.uint8
    )


def with_colours_of(painted: Image, content: Image) -> Image:
    """Return what was painted with only its brightness, in the content's colours: as in a run with `keep_colours`."""
    picture = Picture(bgr=resized(content, painted.shape[1], painted.shape[0]))
    return blend(picture, in_form_of(picture, painted, keep_colours=True), 1.0).bgr


def with_alpha_of(painted: Image, content: Content, path: Path) -> Image:
    """Return what was painted, as transparent as the content: on white where the file's format has no transparency."""
    if content.alpha is None:
        return painted
    alpha = resized(content.alpha, painted.shape[1], painted.shape[0])
    if path.suffix.lower() in PNG:
        return np.dstack([painted, alpha])
    return _on_white(painted, alpha)


def check_output(path: Path, *inputs: Path) -> None:
    """See that the result can be written, and is none of the pictures that go in.

    Raises:
        ConfigError: it is one of them, has an ending that says no format, or cannot be written.
    """
    if path.suffix.lower() not in (*JPEG, *PNG):
        raise ConfigError(f"--out {path}: end the name in .png or .jpg, which says the format")
    check_target("--out", path)
    for each in inputs:
        if path.exists() and each.exists() and path.samefile(each):
            raise ConfigError(f"--out {path} is a picture that goes in: it would be overwritten, choose another name")


def write_picture(path: Path, picture: Image) -> None:
    """Write H x W x 3 or 4 uint8 BGR(A), whole or not at all: beside the place first, then renamed.

    Raises:
        SinkError: it cannot be written; what was there is as it was.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix.lower() in JPEG else []
    whole, data = cv2.imencode(path.suffix.lower(), picture, options)
    if not whole:
        raise SinkError(f"{path} cannot be written: {picture.shape[1]}x{picture.shape[0]} does not do for its format")
    beside = path.with_name(f".{path.name}.unfinished")
    try:
        with beside.open("wb") as file:
            file.write(data.tobytes())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)


def _on_white(picture: Image, alpha: Image) -> Image:
    opacity = alpha[..., None].astype(np.float32) / 255
    return _to_bytes(picture.astype(np.float32) * opacity + WHITE * (1 - opacity))


def _to_bytes(values: FloatArray) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
