"""Picture: pixels as they came, converted at most once.

A decoder gives YUV 4:2:0 planes, an image file gives BGR. Cutting the model's input, drawing and encoding can
all work on planes, which saved 9 % of a whole run against converting every frame to BGR (186 against 170 fps),
so the conversion waits until somebody asks for `bgr`, happens once under a lock, and is kept.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Literal

# OpenCV first: loaded after PyAV, whose libxcb differs, its windows hang (PyAV issue 978)
import cv2

# isort: split
import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from pipeline.arrays import Image

Matrix = Literal["bt601", "bt709"]
Rectangle = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""

HD_WIDTH, SD_HEIGHT = 1280, 576
"""Untagged video as wide as HD, or higher than SD ever was, is taken as BT.709, the rest as BT.601: as players do
(mpv). The height alone would take a 1280 x 544 film for SD."""


LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
"""Kr and Kb (ITU-R BT.601-7 section 2.5.1, BT.709-6 section 3.2)."""


def default_matrix(width: int, height: int) -> Matrix:
    """Return the colour matrix of untagged video of this size."""
    return "bt709" if width >= HD_WIDTH or height > SD_HEIGHT else "bt601"


@dataclass(frozen=True, slots=True)
class Planes:
    """An 8-bit YUV 4:2:0 picture of even size in one array.

    `data` is (H * 3 // 2, W) uint8, C-contiguous: H rows of luma, then the U plane and the V plane
    (each H/2 x W/2) row after row: the layout known as I420.
    """

    data: Image
    matrix: Matrix = "bt601"
    full_range: bool = False

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return int(self.data.shape[0]) * 2 // 3

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return int(self.data.shape[1])

    @property
    def y(self) -> Image:
        """Luma, H x W, a view."""
        return self.data[: self.height]

    @property
    def u(self) -> Image:
        """Blue difference, H/2 x W/2, a view."""
        return self._chroma(0)

    @property
    def v(self) -> Image:
        """Red difference, H/2 x W/2, a view."""
        return self._chroma(1)

    def _chroma(self, which: int) -> Image:
        rows, columns = self.height // 2, self.width // 2
        start = self.height * self.width + which * rows * columns
        return self.data.reshape(-1)[start : start + rows * columns].reshape(rows, columns)

    def to_video_frame(self) -> av.VideoFrame:
        """Put the planes into a frame that carries their colour tags; copied only where PyAV cannot wrap them.

        Its `from_numpy_buffer` takes the height for `rows // 6 * 4`, which loses two rows of a height like 270.
        """
        wrap = av.VideoFrame.from_ndarray if self.height % 4 else av.VideoFrame.from_numpy_buffer
        frame = wrap(self.data, format="yuv420p")
        frame.colorspace = Colorspace.ITU709 if self.matrix == "bt709" else Colorspace.ITU601
        frame.color_range = ColorRange.JPEG if self.full_range else ColorRange.MPEG
        return frame


def planes_to_bgr(planes: Planes) -> Image:
    """Convert to H x W x 3 uint8 BGR by the picture's own matrix and range."""
    if planes.matrix == "bt601" and not planes.full_range:  # what OpenCV's constants are; its loop is the fastest
        return np.asarray(cv2.cvtColor(planes.data, cv2.COLOR_YUV2BGR_I420), dtype=np.uint8)
    frame = planes.to_video_frame()
    converted = VideoReformatter().reformat(
        frame, format="bgr24", src_colorspace=frame.colorspace, src_color_range=frame.color_range, threads=1
    )
    assert converted is not None
    return np.asarray(converted.to_ndarray(), dtype=np.uint8)


def bgr_to_planes(bgr: Image) -> Planes:
    """Convert H x W x 3 uint8 BGR to BT.601 planes; an odd last row or column is doubled first."""
    height, width = bgr.shape[:2]
    if height % 2 or width % 2:
        bgr = np.asarray(cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), dtype=np.uint8)
    return Planes(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420), dtype=np.uint8))


def yuv_to_bgr(matrix: Matrix, full_range: bool) -> npt.NDArray[np.float32]:
    """Return the 3 x 4 matrix that takes (Y, U, V, 1) in 0..255 to B, G, R.

    Source: ITU-R BT.601-7 and BT.709-6, inverse of E'y = Kr R + Kg G + Kb B with 8-bit quantisation (full range as
    in JFIF).
    """
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    luma, chroma = (1.0, 1.0) if full_range else (255 / 219, 255 / 224)
    black = 0 if full_range else 16
    rows = np.array(
        [
            [luma, 2 * (1 - blue) * chroma, 0],
            [luma, -2 * blue * (1 - blue) / green * chroma, -2 * red * (1 - red) / green * chroma],
            [luma, 0, 2 * (1 - red) * chroma],
        ]
    )
    shift = -rows @ np.array([black, 128, 128])
    result: npt.NDArray[np.float32] = np.column_stack([rows, shift]).astype(np.float32)
    return result


class Picture:
    """One picture, shared by all who hold it: nobody writes to its pixels; to draw, take a `copy`.

    Made from either `planes` or `bgr` (H x W x 3 uint8); the arrays are marked read-only.
    """

    def __init__(self, *, planes: Planes | None = None, bgr: Image | None = None) -> None:
        if (planes is None) == (bgr is None):
            raise ValueError("a Picture is made from planes or from bgr, one of them")
        if bgr is not None and (bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8):
            raise ValueError(f"bgr must be H x W x 3 uint8, not {bgr.shape} {bgr.dtype}")
        self.planes = planes
        self._bgr = bgr
        self._lock = threading.Lock()
        source: Any = bgr if planes is None else planes.data
        source.flags.writeable = False
        self.height: int = source.shape[0] if planes is None else planes.height
        self.width: int = source.shape[1]

    @property
    def bgr(self) -> Image:
        """H x W x 3 uint8 BGR, converted on first use, then kept; read-only."""
        with self._lock:
            if self._bgr is None:
                assert self.planes is not None
                self._bgr = planes_to_bgr(self.planes)
                self._bgr.flags.writeable = False
            return self._bgr

    def as_planes(self) -> Planes:
        """Return the planes, converting where the picture came as BGR (odd sizes grow to even)."""
        return self.planes if self.planes is not None else bgr_to_planes(self.bgr)


def cropped(picture: Picture, box: Rectangle) -> Picture:
    """Return a part of a picture; planes stay planes where all four numbers are even."""
    left, top, width, height = box
    planes = picture.planes
    if planes is None or any(side % 2 for side in box):
        return Picture(bgr=np.ascontiguousarray(picture.bgr[top : top + height, left : left + width]))

    def cut(plane: Image, scale: int) -> Image:
        part = plane[top // scale : (top + height) // scale, left // scale : (left + width) // scale]
        return np.ascontiguousarray(part).reshape(-1)

    data = np.concatenate([cut(planes.y, 1), cut(planes.u, 2), cut(planes.v, 2)]).reshape(-1, width)
    return Picture(planes=Planes(data, planes.matrix, planes.full_range))
