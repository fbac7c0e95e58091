"""Videos made for tests, and a second opinion on videos: PyAV asked directly."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.arrays import Image
from pipeline.picture import LUMA_WEIGHTS, Matrix, Planes

AV_MATRIX = {"bt709": 1, "bt601": 5}
RGB = (200, 60, 30)
"""A colour that the two matrices and ranges take far apart."""


def grey_picture(width: int, height: int, level: int) -> Image:
    return np.full((height, width, 3), level, np.uint8)


def corners_picture(width: int, height: int) -> Image:
    """Red, green, blue and white quarters: any turn or flip shows."""
    picture = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left], picture[:top, left:] = (0, 0, 255), (0, 255, 0)
    picture[top:, :left], picture[top:, left:] = (255, 0, 0), (255, 255, 255)
    return picture


def noise_planes(width: int, height: int, seed: int = 0) -> Planes:
    data = np.random.default_rng(seed).integers(0, 255, (height * 3 // 2, width)).astype(np.uint8)
    return Planes(data)


def encode(
    path: Path,
    pictures: Iterable[Image | av.VideoFrame],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    times_s: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    tags: tuple[Matrix, bool] | None = None,
    gop: int = 12,
) -> Path:
    """Write BGR pictures, or frames as they are, as a video; `times_s` instead of a constant rate."""
    with av.open(str(path), "w", options=container or {}) as output:
        stream: Any = None
        for index, picture in enumerate(pictures):
            if isinstance(picture, av.VideoFrame):
                frame = picture
            else:
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format=pix_fmt)
            if stream is None:
                stream = output.add_stream(codec, rate=rate)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                stream.codec_context.gop_size = gop
                stream.codec_context.options = options or {}
                if times_s is not None:
                    stream.codec_context.time_base = Fraction(1, 90_000)
                if tags is not None:
                    matrix, full = tags
                    stream.codec_context.colorspace = AV_MATRIX[matrix]
                    stream.codec_context.color_range = 2 if full else 1
            if tags is not None:
                frame.colorspace, frame.color_range = AV_MATRIX[tags[0]], 2 if tags[1] else 1
            frame.pts = index if times_s is None else round(times_s[index] * 90_000)
            frame.time_base = Fraction(1, rate) if times_s is None else Fraction(1, 90_000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def grey_video(path: Path, count: int = 20, size: tuple[int, int] = (64, 48), **how: Any) -> Path:
    """A video whose n-th picture has the grey level 20 + 4n."""
    return encode(path, (grey_picture(*size, 20 + 4 * n % 200) for n in range(count)), **how)


def add_sound(video: Path, path: Path, shift_s: float = 0.0) -> Path:
    """Copy a video beside a tone."""
    with av.open(str(video)) as source, av.open(str(path), "w") as output:
        picture: Any = output.add_stream_from_template(source.streams.video[0])
        sound: Any = output.add_stream("aac", rate=48_000)
        for number in range(40):
            tone: Any = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            tone.sample_rate, tone.pts = 48_000, 1024 * number
            output.mux(sound.encode(tone))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                output.mux(packet)
        output.mux(sound.encode(None))
    return path


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        sound: Any = output.add_stream("aac", rate=48_000)
        for number in range(20):
            tone: Any = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            tone.sample_rate, tone.pts = 48_000, 1024 * number
            output.mux(sound.encode(tone))
        output.mux(sound.encode(None))
    return path


def rotate_by_metadata(path: Path, degrees_clockwise: int) -> Path:
    """Write a display matrix into an MP4's track header (ISO 14496-12, 8.3.2), as a phone held sideways does."""
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees_clockwise]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version 0: flags; times, id, duration; reserved, layer, volume
    one = 1 << 16
    struct.pack_into(">9i", data, matrix, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def yuv_of(rgb: tuple[int, int, int], matrix: Matrix, full: bool, bits: int = 8) -> tuple[int, int, int]:
    """Y, U, V of a colour by the formula of BT.601 and BT.709, not by the code under test."""
    kr, kb = LUMA_WEIGHTS[matrix]
    red, green, blue = (value / 255 for value in rgb)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    scale, most = 1 << (bits - 8), (1 << bits) - 1
    if full:
        values = luma * most, u * most + 128 * scale, v * most + 128 * scale
    else:
        values = (16 + 219 * luma) * scale, (128 + 224 * u) * scale, (128 + 224 * v) * scale
    first, second, third = (round(value) for value in values)
    return first, second, third


def flat_frame(width: int, height: int, pix_fmt: str, levels: Sequence[int]) -> av.VideoFrame:
    """A frame whose planes are filled with one level each."""
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, level in zip(frame.planes, levels, strict=False):
        wide = "10le" in pix_fmt
        count = plane.buffer_size // (2 if wide else 1)
        plane.update(np.full(count, level, np.uint16 if wide else np.uint8).tobytes())
    return frame


@dataclass
class Seen:
    """What PyAV finds in a file."""

    times: list[float]
    ticks: list[int]
    keyframes: list[float]
    types: set[str]
    sizes: set[tuple[int, int]]
    images: list[Image]
    colorspace: int
    color_range: int
    errors: int

    @property
    def levels(self) -> list[int]:
        return [int(image.mean()) for image in self.images]


def look_into(path: Path) -> Seen:
    """Decode a file with PyAV alone; errors are counted."""
    seen = Seen([], [], [], set(), set(), [], 0, 0, 0)
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            try:
                frames: list[Any] = list(packet.decode())
            except av.FFmpegError:
                seen.errors += 1
                continue
            for frame in frames:
                seen.times.append(float(frame.pts * frame.time_base))
                seen.ticks.append(round(frame.pts * frame.time_base * 90_000))
                seen.types.add(av.video.frame.PictureType(frame.pict_type).name)
                if frame.key_frame:
                    seen.keyframes.append(seen.times[-1])
                seen.sizes.add((frame.width, frame.height))
                seen.images.append(frame.to_ndarray(format="bgr24"))
                seen.colorspace, seen.color_range = int(frame.colorspace), int(frame.color_range)
    return seen
