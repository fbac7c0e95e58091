"""What can be said about a source besides its address; the keys of a source in `config.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Transport = Literal["tcp", "udp"]
Hardware = Literal["cuda", "vaapi"]


@dataclass(frozen=True)
class LiveOptions:
    """How a camera or stream is opened and watched."""

    transport: Transport = "tcp"
    """Of RTSP."""
    width: int | None = None
    height: int | None = None
    """Of a camera's pictures; None: the camera's own choice."""
    fps: float | None = None
    """Of a camera."""
    open_timeout_s: float = 5.0
    """Seconds from the attempt to connect to the first picture."""
    read_timeout_s: float = 5.0
    """Seconds without a picture after which the connection is given up."""
    give_up_after_s: float | None = None
    """Seconds of an outage after which the run fails; None: never."""
    ffmpeg: Mapping[str, str] = field(default_factory=dict)
    """FFmpeg's own options, by its own names; they win over ours."""


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read."""

    rotate: int | None = None
    """Degrees clockwise; None follows the metadata."""
    max_fps: float | None = None
    """Pictures per second to take at most."""
    crop: tuple[int, int, int, int] | None = None
    """Left, top, width and height of the part of the (turned) picture to take, pixels."""
    decode_threads: int = 1
    """More than one makes a decoder faster and a live stream later: each frame thread adds a frame of latency."""
    hardware: Hardware | None = None
    """What decodes, where it works here."""
    live: LiveOptions = field(default_factory=LiveOptions)
