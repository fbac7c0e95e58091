"""From a camera's bytes to a Picture: MJPEG, and the raw formats that cameras give.

Measured at 1280 x 720 on one core: YUYV to planes by swscale 0.22 ms, to BGR by OpenCV 0.37 ms; MJPEG of 4:2:2 to BGR
by FFmpeg 3.4 ms, by OpenCV 3.1 ms. FFmpeg decodes because it notices what got lost on the way: of JPEGs with a part
cut out, in the middle or at the end, it refuses all, while OpenCV paints over the hole and gives all.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

# OpenCV first: loaded after PyAV, whose libxcb differs, its windows hang (PyAV issue 978)
import cv2  # noqa: F401

# isort: split
import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from pipeline.capture.decode import to_picture
from pipeline.capture.live.v4l2 import Layout
from pipeline.picture import Picture

logger = logging.getLogger(__name__)

JPEG = ("MJPG", "JPEG")
BT709_COLORSPACES, BT709_ENCODINGS = (2, 3, 10, 12), (2, 4, 6, 7, 8)
"""What is BT.709 or near it (SMPTE 240M, BT.2020, DCI-P3), by V4L2's numbers; the rest is BT.601."""
JPEG_COLORSPACE, FULL_RANGE = 7, 1
LENIENT_AFTER = 10
"""A camera whose first so many JPEGs are all refused is taken to write them so (a last byte short, for example)."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A raw format: FFmpeg's name of it, and of each plane the bytes of two pixels in a row and the rows of two."""

    name: str
    planes: tuple[tuple[int, int], ...]
    order: tuple[int, ...] = (0, 1, 2)
    """Which of FFmpeg's planes each is."""
    is_yuv: bool = True


PLANAR = ((2, 2), (1, 1), (1, 1))
RAW = {
    "YUYV": Raw("yuyv422", ((4, 2),)),
    "UYVY": Raw("uyvy422", ((4, 2),)),
    "NV12": Raw("nv12", ((2, 2), (2, 1))),
    "YU12": Raw("yuv420p", PLANAR),
    "YV12": Raw("yuv420p", PLANAR, (0, 2, 1)),
    "BGR3": Raw("bgr24", ((6, 2),), is_yuv=False),
    "RGB3": Raw("rgb24", ((6, 2),), is_yuv=False),
    "GREY": Raw("gray", ((2, 2),), is_yuv=False),
}
PREFERRED = (*JPEG, *RAW)
"""JPEG first: raw pictures of 1280 x 720 fill a USB 2 bus at 10 fps, compressed ones come at 30."""


def best_of(fourccs: Collection[str]) -> str | None:
    """Return the format to take from a camera that has these; None: none of them can be read here."""
    return next((each for each in PREFERRED if each in fourccs), None)


class Converter(Protocol):
    """Makes pictures of one connection's buffers."""

    def picture(self, data: bytes) -> Picture | None:
        """Return the picture, None where it is damaged."""


def converter_for(layout: Layout) -> Converter:
    """Return what reads a camera's pictures; their format must be one of `PREFERRED`."""
    return JpegConverter() if layout.fourcc in JPEG else RawConverter(layout)


class RawConverter:
    """Pictures that are as the sensor gave them: 4:2:2 and 4:2:0 of even size become planes, the rest BGR."""

    def __init__(self, layout: Layout) -> None:
        raw = RAW[layout.fourcc]
        self._raw, self._width, self._height = raw, layout.width, layout.height
        self._parts = list(_parts(raw, layout))
        self._least = self._parts[-1].end
        encoding, colorspace = layout.encoding, layout.colorspace
        is_hd = encoding in BT709_ENCODINGS if encoding else colorspace in BT709_COLORSPACES
        self._matrix = Colorspace.ITU709 if is_hd else Colorspace.ITU601
        is_full = layout.quantization == FULL_RANGE if layout.quantization else colorspace == JPEG_COLORSPACE
        self._range = ColorRange.JPEG if is_full else ColorRange.MPEG
        self._reformatter = VideoReformatter()

    def picture(self, data: bytes) -> Picture | None:
        """Return the picture, None where bytes are missing."""
        if len(data) < self._least:
            return None
        frame: Any = av.VideoFrame(self._width, self._height, self._raw.name)
        for part, index in zip(self._parts, self._raw.order, strict=False):
            plane = frame.planes[index]
            rows = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)
            rows[: part.rows, : part.width] = part.of(data)
        return to_picture(self._prepared(frame), self._reformatter)

    def _prepared(self, frame: Any) -> Any:
        """Make 4:2:0 planes of what is YUV in another order; the numbers stay, so does what they mean."""
        if not self._raw.is_yuv:
            return frame
        if self._raw.name != "yuv420p" and self._width % 2 == self._height % 2 == 0:
            frame = self._reformatter.reformat(frame, format="yuv420p", threads=1)
        frame.colorspace, frame.color_range = self._matrix, self._range
        return frame


@dataclass(frozen=True, slots=True)
class Part:
    """Where a plane lies in a buffer, bytes."""

    start: int
    stride: int
    rows: int
    width: int

    @property
    def end(self) -> int:
        """Behind the last byte that is needed: drivers leave out the last row's padding."""
        return self.start + self.stride * (self.rows - 1) + self.width

    def of(self, data: bytes) -> Any:
        """Return the plane without its padding, rows x width uint8, a view."""
        return np.ndarray((self.rows, self.width), np.uint8, data, self.start, (self.stride, 1))


def _parts(raw: Raw, layout: Layout) -> Iterator[Part]:
    """Yield where the planes are: one behind the other, their padding in proportion."""
    start, first = 0, raw.planes[0][0]
    for pair, rows in raw.planes:
        width = layout.width * pair // 2
        stride = layout.stride * pair // first or width
        part = Part(start, stride, layout.height * rows // 2, width)
        yield part
        start += part.stride * part.rows


class JpegConverter:
    """Motion JPEG. A damaged picture is refused, unless a camera's pictures all seem to be."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._refused = 0
        self._decoder = _decoder("explode")

    def picture(self, data: bytes) -> Picture | None:
        """Return the picture, None where it is damaged."""
        decoded = self._decode(data)
        if decoded is not None:
            self._refused = LENIENT_AFTER + 1  # it can, so this stays as it is
            return to_picture(decoded, self._reformatter)
        self._refused += 1
        if self._refused == LENIENT_AFTER:
            logger.info("the camera's first %d JPEGs all have errors: they are shown from now on", LENIENT_AFTER)
            self._decoder = _decoder("careful")
        return None

    def _decode(self, data: bytes) -> Any:
        try:
            decoded = self._decoder.decode(av.Packet(data))
        except av.FFmpegError:
            return None
        return None if not decoded or decoded[0].is_corrupt else decoded[0]


def _decoder(detection: str) -> Any:
    """Return a decoder of JPEG; detection: FFmpeg's `err_detect`."""
    decoder: Any = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count = 1  # more would each hold a picture back
    decoder.options = {"err_detect": detection}
    return decoder
