"""Structures and numbers of linux/videodev2.h, as they are on 64-bit Linux (x86, Arm, RISC-V)."""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_int32, c_int64, c_ubyte, c_uint32
from typing import Any

CAPTURE, CAPTURE_MPLANE, STREAMING, PER_NODE = 0x1, 0x1000, 0x0400_0000, 0x8000_0000
"""Capabilities; the last: `device_caps` says what this node can do, not only the whole device."""
TYPE_CAPTURE, MEMORY_MMAP = 1, 1
TIME_PER_FRAME = 0x1000
ERROR = 0x40
TIMESTAMP_MASK, TIMESTAMP_MONOTONIC = 0xE000, 0x2000


class Capability(ctypes.Structure):
    """struct v4l2_capability."""

    _fields_ = (
        ("driver", c_char * 16),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class FormatDescription(ctypes.Structure):
    """struct v4l2_fmtdesc."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_char * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class Format(ctypes.Structure):
    """struct v4l2_format with struct v4l2_pix_format in its union, which pointers align to 8 bytes."""

    _fields_ = (
        ("type", c_uint32),
        ("alignment", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("priv", c_uint32),
        ("flags", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
        ("rest", c_ubyte * 152),
    )


class StreamParameters(ctypes.Structure):
    """struct v4l2_streamparm with struct v4l2_captureparm in its union."""

    _fields_ = (
        ("type", c_uint32),
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("numerator", c_uint32),
        ("denominator", c_uint32),
        ("extendedmode", c_uint32),
        ("readbuffers", c_uint32),
        ("rest", c_ubyte * 176),
    )


class BufferRequest(ctypes.Structure):
    """struct v4l2_requestbuffers."""

    _fields_ = (
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_ubyte),
        ("reserved", c_ubyte * 3),
    )


class BufferState(ctypes.Structure):
    """struct v4l2_buffer; `offset` is the first part of its union `m`."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("alignment", c_uint32),
        ("seconds", c_int64),
        ("microseconds", c_int64),
        ("timecode", c_uint32 * 4),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("offset", c_uint32),
        ("rest_of_m", c_uint32),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
        ("alignment2", c_uint32),
    )


def _number(direction: int, number: int, argument: Any) -> int:
    """Return an ioctl's number (asm-generic/ioctl.h); direction: 1 is written to the driver, 2 read from it."""
    return direction << 30 | ctypes.sizeof(argument) << 16 | ord("V") << 8 | number


REQUESTS = {
    "QUERYCAP": _number(2, 0, Capability),
    "ENUM_FMT": _number(3, 2, FormatDescription),
    "G_FMT": _number(3, 4, Format),
    "S_FMT": _number(3, 5, Format),
    "REQBUFS": _number(3, 8, BufferRequest),
    "QUERYBUF": _number(3, 9, BufferState),
    "QBUF": _number(3, 15, BufferState),
    "DQBUF": _number(3, 17, BufferState),
    "STREAMON": _number(1, 18, c_int32),
    "STREAMOFF": _number(1, 19, c_int32),
    "G_PARM": _number(3, 21, StreamParameters),
    "S_PARM": _number(3, 22, StreamParameters),
}


def fourcc_of(number: int) -> str:
    """Return the four characters of a pixel format's number, whose highest bit is the byte order."""
    return (number & 0x7FFF_FFFF).to_bytes(4, "little").decode("ascii", errors="replace")
