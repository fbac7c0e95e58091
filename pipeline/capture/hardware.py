"""Hardware decoders: used where they work, else the reason why not is logged once."""

from __future__ import annotations

import logging
from functools import cache
from typing import get_args

import av
from av.codec.hwaccel import HWAccel

from pipeline.capture.options import Hardware

logger = logging.getLogger(__name__)

KINDS: tuple[Hardware, ...] = get_args(Hardware)
PROBE = "h264"
"""A codec that every such device decodes."""


def problem_of(kind: Hardware) -> str | None:
    """Return why a kind of accelerator cannot be used here, tried by making its device; None: it can."""
    try:
        HWAccel(kind).create(av.Codec(PROBE, "r"))
    except NotImplementedError:
        return "not in this FFmpeg"
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        return f"its device does not open ({getattr(error, 'strerror', None) or error})"
    return None


@cache
def usable(kind: Hardware | None) -> HWAccel | None:
    """Return the accelerator of a kind; None where software has to decode.

    Streams that the device cannot decode are decoded by software.
    """
    if kind is None:
        return None
    problem = problem_of(kind)
    if problem is None:
        return HWAccel(kind, allow_software_fallback=True)
    logger.warning("hardware decoding by %s: %s; software decodes", kind, problem)
    return None
