"""Hardware decoders: used where they work, else the reason why not is logged once."""

from __future__ import annotations

import logging
from functools import cache

import av
from av.codec.hwaccel import HWAccel

logger = logging.getLogger(__name__)

PROBE = "h264"
"""A codec that every such device decodes."""


@cache
def usable(kind: str | None) -> HWAccel | None:
    """Return the accelerator of a kind, `cuda` or `vaapi`; None where software has to decode.

    Streams that the device cannot decode are decoded by software.
    """
    if kind is None:
        return None
    try:
        HWAccel(kind).create(av.Codec(PROBE, "r"))
        return HWAccel(kind, allow_software_fallback=True)
    except (av.FFmpegError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        logger.warning("hardware decoding by %s does not work here (%s): software decodes", kind, error)
        return None
