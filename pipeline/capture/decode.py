"""From a decoder's frame to a Picture: which matrix and range it is in, which way up it stands."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from pipeline.arrays import Image
from pipeline.picture import Matrix, Picture, Planes, default_matrix

PLANAR_420 = ("yuv420p", "yuvj420p")
HARDWARE_420 = ("nv12",)
"""What hardware decoders give: the same with U and V interleaved."""
MATRICES: dict[int, Matrix] = {
    Colorspace.ITU709: "bt709",
    Colorspace.SMPTE240M: "bt709",  # its constants differ from BT.709's by 0.03 at most
    Colorspace.FCC: "bt601",
    Colorspace.SMPTE170M: "bt601",  # the same number as ITU601
}
TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
"""A display matrix of +90 degrees turns the picture anticlockwise (FFmpeg, libavutil/display.h)."""


def to_picture(decoded: Any, reformatter: VideoReformatter) -> Picture:
    """Copy a decoder's frame: 8-bit 4:2:0 of even size as planes, everything else converted to BGR.

    Args:
        decoded: an `av.VideoFrame`; PyAV's own copy, so that the decoder's reference pictures stay untouched.
        reformatter: kept by the caller, because setting one up costs more than using it.
    """
    if decoded.format.name in HARDWARE_420:
        decoded = reformatter.reformat(decoded, format="yuv420p", threads=1)
    matrix = MATRICES.get(int(decoded.colorspace)) or default_matrix(decoded.width, decoded.height)
    if decoded.format.name in PLANAR_420 and decoded.width % 2 == 0 and decoded.height % 2 == 0:
        full_range = decoded.format.name == "yuvj420p" or decoded.color_range == ColorRange.JPEG
        return Picture(planes=Planes(decoded.to_ndarray(), matrix, full_range))
    colours = Colorspace.ITU709 if matrix == "bt709" else Colorspace.ITU601
    converted = reformatter.reformat(decoded, format="bgr24", src_colorspace=colours, threads=1)
    assert converted is not None
    return Picture(bgr=np.asarray(converted.to_ndarray(), dtype=np.uint8))


def use_threads(stream: Any, threads: int) -> None:
    """Let a stream's decoder use so many threads; one adds no latency."""
    stream.thread_type = "NONE" if threads == 1 else "AUTO"
    stream.codec_context.thread_count = threads


def turn_of(decoded: Any) -> int:
    """Return the turn that the frame's display matrix asks for: 0, 90, 180 or 270 degrees anticlockwise."""
    return round(int(decoded.rotation) / 90) * 90 % 360


def turned(picture: Picture, degrees: int) -> Picture:
    """Return the picture turned anticlockwise by 0, 90, 180 or 270 degrees."""
    if degrees not in TURNS:
        return picture
    turn = TURNS[degrees]

    def rotate(array: Image) -> Image:
        return np.asarray(cv2.rotate(array, turn), dtype=np.uint8)

    planes = picture.planes
    if planes is None:
        return Picture(bgr=rotate(picture.bgr))
    parts = [rotate(plane) for plane in (planes.y, planes.u, planes.v)]
    data = np.concatenate([part.reshape(-1) for part in parts]).reshape(-1, parts[0].shape[1])
    return Picture(planes=Planes(data, planes.matrix, planes.full_range))
