"""The process that sends pictures to a media server: see `push`, which starts it and talks to it.

It gets the address and the form of the stream on its standard input, not as arguments, which everybody can read, then
the pictures; it says on its standard output that it is connected, and why it ended. It ends with its parent, and by
itself where the server takes too long: by an alarm, which needs no lock. It imports hardly more than PyAV, so that a
connection begins 0.3 s after it was asked for, not 1.1 s.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import IO, Any

import av

from pipeline.sinks.live_video import TIME_BASE, Form, LiveOptions, configure

HEAD = struct.Struct("<I")
"""How long the order is, in bytes."""
PACKET = struct.Struct("<qBI")
"""Ticks, whether it is a keyframe, bytes."""
CONNECT_S, SEND_S, GOODBYE_S = 5.0, 5.0, 1.0
"""A server that takes longer is away."""
PR_SET_PDEATHSIG = 1
FORMATS = {"rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "flv", "rtmps": "flv"}
"""FFmpeg's name of the format, by the address's scheme."""
FFMPEG = {"rtsp": {"rtsp_transport": "tcp"}, "flv": {"flvflags": "no_duration_filesize"}}


def main() -> None:
    """Connect and send what comes on standard input."""
    said = sys.stdout.buffer
    order = json.loads(_exactly(HEAD.unpack(_exactly(HEAD.size))[0]))
    _end_with(order["parent"])
    sent = 0
    try:
        for _ in _sending(order, said):
            sent += 1
    except av.FFmpegError as error:
        log = getattr(error, "log", None)
        _say([error.errno, log[2].strip() if log else "", sent], said)
        os._exit(1)
    os._exit(0)


def _sending(order: Mapping[str, Any], said: IO[bytes]) -> Iterator[None]:
    """Send; yield after each picture."""
    url, form, options = order["url"], Form(**order["form"]), LiveOptions(**order["options"])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    kind = FORMATS[url.partition("://")[0].lower()]
    container = av.open(url, "w", format=kind, options=FFMPEG[kind])
    stream: Any = container.add_stream("libx264")
    configure(stream.codec_context, form, options)
    stream.time_base = TIME_BASE
    signal.setitimer(signal.ITIMER_REAL, CONNECT_S)
    container.start_encoding()
    signal.setitimer(signal.ITIMER_REAL, 0)
    _say("connected", said)
    while head := sys.stdin.buffer.read(PACKET.size):
        ticks, is_keyframe, length = PACKET.unpack(head)
        packet = av.Packet(_exactly(length))
        packet.pts = packet.dts = ticks
        packet.time_base, packet.stream, packet.is_keyframe = TIME_BASE, stream, bool(is_keyframe)
        signal.setitimer(signal.ITIMER_REAL, SEND_S)
        container.mux(packet)
        signal.setitimer(signal.ITIMER_REAL, 0)
        yield
    signal.setitimer(signal.ITIMER_REAL, GOODBYE_S)
    container.close()


def _say(what: object, said: IO[bytes]) -> None:
    said.write(json.dumps(what).encode() + b"\n")
    said.flush()


def _exactly(length: int) -> bytes:
    data = sys.stdin.buffer.read(length)
    if len(data) < length:
        os._exit(0)  # the parent has gone
    return data


def _end_with(parent: int) -> None:
    """Have the kernel end this process with the thread that began it, where there is a way to ask for that."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):  # not Linux: it ends when its standard input does
        return
    if os.getppid() != parent:
        os._exit(0)
