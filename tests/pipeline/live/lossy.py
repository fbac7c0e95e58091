"""Streams that lose packets: encoded pictures, ways to damage them, and a network that drops RTP packets."""

from __future__ import annotations

import io
import itertools
import random
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# isort: split
import av

from pipeline.capture.live.damage import DamageFilter, prepare, tells_of_loss

FPS = 25
STEP = 90_000 // FPS
SIZE = (320, 240)
DAMAGED_DB = 40.0
"""PSNR to the clean decode below which a picture is damaged; undamaged ones are equal."""
PAYLOAD = 1200
"""Bytes of an RTP packet."""

Luma = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Unit:
    """An encoded picture."""

    number: int
    data: bytes
    is_keyframe: bool


@dataclass(frozen=True)
class Seen:
    """A decoded picture, and what the filter said of it."""

    number: int
    passed: bool
    is_corrupt: bool
    luma: Luma


def scene(count: int) -> Iterator[av.VideoFrame]:
    """A texture that moves and flickers: every picture needs the one before, and several packets."""
    width, height = SIZE
    rng = np.random.default_rng(7)
    texture = cv2.resize(rng.integers(0, 255, (60, 80), dtype=np.uint8), (2 * width, 2 * height))
    for number in range(count):
        at = 2 * number % width
        grey = texture[at // 2 : at // 2 + height, at : at + width].copy()
        grey[80:] = cv2.add(grey[80:], rng.integers(0, 20, (height - 80, width), dtype=np.uint8))
        cv2.circle(grey, (width // 2, height // 2), 10 + number % 60, 255, -1)
        frame = av.VideoFrame.from_ndarray(grey, format="gray").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield frame


def encoder(codec: str, gop: int = 30, slices: int = 1, intra_refresh: bool = False, more: str = "") -> Any:
    """Return an encoder set up as cameras are: no B-frames, parameter sets before every keyframe.

    Args:
        codec: h264, hevc or mjpeg.
        gop: pictures between keyframes.
        slices: of each picture.
        intra_refresh: no keyframes but the first.
        more: private options of x264 or x265.
    """
    library = {"h264": "libx264", "hevc": "libx265"}.get(codec, codec)
    context: Any = av.CodecContext.create(library, "w")
    context.width, context.height = SIZE
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    context.time_base, context.framerate = Fraction(1, FPS), Fraction(FPS)
    options = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:repeat-headers=1:slices={slices}{more}"
    if codec == "h264":
        context.options = {"preset": "superfast", "tune": "zerolatency", "x264-params": options}
        if intra_refresh:
            context.options |= {"intra-refresh": "1"}
    if codec == "hevc":
        options += ":log-level=none"
        context.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20", "x265-params": options}
    return context


def encode(codec: str, count: int, **how: Any) -> list[Unit]:
    context = encoder(codec, **how)
    packets = [packet for frame in (*scene(count), None) for packet in context.encode(frame)]
    return [Unit(packet.pts, bytes(packet), packet.is_keyframe) for packet in packets]


# ------------------------------------------------------------------ damage


def nal_units(data: bytes) -> list[bytes]:
    """NAL units of a byte stream (ITU-T H.264, annex B), without start codes."""
    return [each.rstrip(b"\0") for each in re.split(b"\0\0\1", data)[1:]]


def byte_stream(nals: Sequence[bytes]) -> bytes:
    return b"".join(b"\0\0\0\1" + nal for nal in nals)


def is_slice(codec: str, nal: bytes) -> bool:
    return nal[0] & 31 in (1, 5) if codec == "h264" else nal[0] >> 1 & 63 < 32


def change_slice(codec: str, unit: Unit, change: Callable[[bytes], bytes]) -> Unit:
    """Change the middle slice of a picture; where nothing is left of it, it is lost."""
    nals = nal_units(unit.data)
    places = [place for place, nal in enumerate(nals) if is_slice(codec, nal)]
    place = places[len(places) // 2]
    nals[place] = change(nals[place])
    return replace(unit, data=byte_stream([nal for nal in nals if nal]))


def lost_slice(codec: str, unit: Unit) -> Unit:
    return change_slice(codec, unit, lambda nal: b"")


def truncated(codec: str, unit: Unit) -> Unit:
    if codec == "mjpeg":
        return replace(unit, data=unit.data[: len(unit.data) // 2])
    return change_slice(codec, unit, lambda nal: nal[: len(nal) // 2])


def with_hole(codec: str, unit: Unit) -> Unit:
    """A packet of three is missing from the middle of a slice."""
    if codec == "mjpeg":
        third = len(unit.data) // 3
        return replace(unit, data=unit.data[:third] + unit.data[2 * third :])
    return change_slice(codec, unit, lambda nal: nal[: len(nal) // 3] + nal[2 * len(nal) // 3 :])


# ------------------------------------------------------------------ decoding


def luma_of(frame: Any) -> Luma:
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return np.array(rows[: frame.height, : frame.width], np.uint8)


def psnr(picture: Luma, clean: Luma) -> float:
    return float(min(99.0, cv2.PSNR(picture, clean)))


def decoder(codec: str, extradata: bytes = b"") -> Any:
    context: Any = av.CodecContext.create(codec, "r")
    context.thread_type, context.thread_count = "NONE", 1
    if extradata:
        context.extradata = extradata
    return context


def packet_of(unit: Unit) -> Any:
    packet: Any = av.Packet(unit.data)
    packet.pts = packet.dts = unit.number
    packet.time_base = Fraction(1, FPS)
    packet.is_keyframe = unit.is_keyframe
    return packet


def clean(codec: str, units: Sequence[Unit]) -> dict[int, Luma]:
    """The decoded pictures by number; nothing is lost."""
    context = decoder(codec)
    return {frame.pts: luma_of(frame) for unit in units for frame in context.decode(packet_of(unit))}


def watch(
    codec: str, units: Sequence[Unit | None], told: Sequence[int] = (), extradata: bytes = b"", fps: float = FPS
) -> list[Seen]:
    """Decode what arrives and return what the filter said.

    Args:
        codec: of the units.
        units: None has not arrived.
        told: numbers of units before which the transport told of a loss.
        extradata: parameter sets known beforehand, as from an SDP.
        fps: pictures a second by the filter's clock.
    """
    context = decoder(codec, extradata)
    prepare(context)
    now = 0.0
    damage = DamageFilter(context, clock=lambda: now)
    seen: list[Seen] = []
    for place, unit in enumerate(units):
        now = place / fps
        if unit is None:
            continue
        packet = packet_of(unit)
        damage.feed(packet, lost=unit.number in told)
        try:
            frames = context.decode(packet)
        except av.InvalidDataError:
            damage.error()
            continue
        seen += [Seen(each.pts, damage.passes(each), each.is_corrupt, luma_of(each)) for each in frames]
    return seen


def damaged(seen: Sequence[Seen], whole: dict[int, Luma]) -> list[int]:
    return [each.number for each in seen if psnr(each.luma, whole[each.number]) < DAMAGED_DB]


def passed(seen: Sequence[Seen]) -> list[int]:
    return [each.number for each in seen if each.passed]


# ------------------------------------------------------------------ a network


@dataclass
class Network:
    """A way for RTP over UDP on which packets get lost."""

    entrance: int
    exit: int
    lost: list[int]
    """Number of the picture that each lost packet belonged to."""


@contextmanager
def lossy_network(loss: float, first: int, seed: int = 0) -> Iterator[Network]:
    """Drop packets at random, from a picture on; RTP and RTCP use a pair of ports each.

    Args:
        loss: probability.
        first: number of the first picture that may be hurt.
        seed: of the randomness.
    """
    with port_pair() as (rtp, rtcp), port_pair() as (out, out_rtcp):
        network = Network(rtp.getsockname()[1], out.getsockname()[1], [])
        out.close()
        out_rtcp.close()
        ended = threading.Event()
        thread = threading.Thread(target=_relay, args=(network, rtp, rtcp, loss, first, random.Random(seed), ended))
        thread.start()
        try:
            yield network
        finally:
            ended.set()
            thread.join()


@contextmanager
def port_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets on an even port and the next."""
    while True:
        first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with closing(first), closing(second):
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            if port % 2 == 0:
                yield first, second
                return


def _relay(
    network: Network,
    rtp: socket.socket,
    rtcp: socket.socket,
    loss: float,
    first: int,
    rng: random.Random,
    ended: threading.Event,
) -> None:
    began: int | None = None
    while not ended.is_set():
        for each in select.select([rtp, rtcp], [], [], 0.1)[0]:
            packet = each.recv(65_536)
            if each is rtp:
                ticks = int.from_bytes(packet[4:8], "big")
                began = ticks if began is None else began
                number = round((ticks - began) % 2**32 / STEP)
                if number >= first and rng.random() < loss:
                    network.lost.append(number)
                    continue
            each.sendto(packet, ("127.0.0.1", network.exit + (each is rtcp)))


def send(network: Network, codec: str, units: Sequence[Unit], per_second: float) -> None:
    """Send pictures, paced faster than their timestamps say."""
    name = f"rtp://127.0.0.1:{network.entrance}?pkt_size={PAYLOAD}"
    with av.open(io.BytesIO(units[0].data), format=codec) as example, av.open(name, "w", format="rtp") as output:
        stream = output.add_stream_from_template(example.streams.video[0])
        began = time.monotonic()
        for unit in units:
            time.sleep(max(0.0, began + unit.number / per_second - time.monotonic()))
            packet = packet_of(unit)
            packet.stream = stream
            output.mux(packet)


def description(network: Network, codec: str, folder: Path) -> Path:
    """Write what a receiver has to know (SDP)."""
    name = {"h264": "H264", "hevc": "H265"}[codec]
    lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=lossy", "c=IN IP4 127.0.0.1", "t=0 0"]
    lines += [f"m=video {network.exit} RTP/AVP 96", f"a=rtpmap:96 {name}/90000", ""]
    path = folder / "lossy.sdp"
    path.write_text("\n".join(lines))
    return path


RECEIVER = {"protocol_whitelist": "file,udp,rtp", "probesize": "100000", "analyzeduration": "100000"}


def receive(place: str | io.BytesIO, kind: str) -> list[Seen]:
    """Decode until nothing comes any more; the filter is told what FFmpeg's log says.

    Args:
        place: an SDP file or a recording.
        kind: FFmpeg's name of its format.
    """
    options = RECEIVER if kind == "sdp" else {}
    with av.open(place, format=kind, options=options, timeout=(20.0, 1.5)) as container:
        stream: Any = container.streams.video[0]
        stream.codec_context.thread_type, stream.codec_context.thread_count = "NONE", 1
        prepare(stream.codec_context)
        return list(_seen(stream, container.demux(stream)))


def _seen(stream: Any, packets: Iterator[Any]) -> Iterator[Seen]:
    damage = DamageFilter(stream.codec_context)
    origin: int | None = None
    number = -1
    for count in itertools.count():
        with av.logging.Capture() as log:
            try:
                packet = next(packets)
            except (StopIteration, OSError, av.FFmpegError):
                return
        if origin is None and packet.pts is not None:  # of RTP the first packet has none
            origin = packet.pts - STEP * count
        damage.feed(packet, lost=any(tells_of_loss(message) for _, _, message in log))
        try:
            frames = stream.codec_context.decode(packet)
        except av.InvalidDataError:
            damage.error()
            continue
        for each in frames:
            timed = each.pts is not None and origin is not None
            number = round((each.pts - origin) / STEP) if timed else number + 1
            yield Seen(number, damage.passes(each), each.is_corrupt, luma_of(each))


def transport_stream(codec: str, units: Sequence[Unit]) -> bytes:
    """MPEG-TS: packets of 188 bytes."""
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(units[0].data), format=codec) as example,
        av.open(buffer, "w", format="mpegts") as output,
    ):
        stream = output.add_stream_from_template(example.streams.video[0])
        for unit in units:
            packet = packet_of(unit)
            packet.stream = stream
            output.mux(packet)
    return buffer.getvalue()
