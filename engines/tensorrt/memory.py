"""Memory of a lane: what is on both sides of a copy, and frames of any size.

Host memory is page-locked, or a copy would wait for the GPU and hold up everything else; taking it is slow, so it is
taken once and used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.cuda.letterbox import OnDevice

if TYPE_CHECKING:
    from engines.cuda.layer import Bytes, Cuda, Stream
    from engines.engine import Batch, Uncut

ALIGNMENT = 256
"""Each plane begins at a multiple of this many bytes, as memory of its own would."""


class Mirrored:
    """As many bytes on the device as, page-locked, on the host."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        """Take both, or neither; see `Cuda.allocate` for what is raised."""
        self._cuda = cuda
        self.size = size
        self.device = cuda.allocate(size)
        try:
            self.host: Bytes = cuda.allocate_pinned(size)
        except BaseException:
            cuda.release(self.device)
            raise

    def release(self) -> None:
        """Give both back; nothing may be in flight to or from them."""
        try:
            self._cuda.release_pinned(self.host)
        finally:
            self._cuda.release(self.device)


class FrameMemory:
    """Where whole frames wait for the letterbox; grows with the largest, and never shrinks."""

    def __init__(self, cuda: Cuda) -> None:
        """Take nothing yet: many engines are never given a frame."""
        self._cuda = cuda
        self._memory: Mirrored | None = None

    def upload(self, frames: Sequence[Uncut], stream: Stream) -> list[OnDevice]:
        """Copy the frames, rows without padding, and send them off; nothing may be in flight from here.

        Returns:
            Where each will be once the stream has come this far.
        """
        needed = sum(_aligned(plane.size) for frame in frames for plane in frame.planes)
        memory = self._of(needed)
        placed, end = [], 0
        for frame in frames:
            addresses = []
            for plane in frame.planes:
                np.copyto(memory.host[end : end + plane.size].reshape(plane.shape), plane)
                addresses.append(memory.device + end)
                end += _aligned(plane.size)
            height, width = frame.planes[0].shape[:2]
            pitches = tuple(plane[0].size for plane in frame.planes)
            placed.append(OnDevice(tuple(addresses), pitches, (height, width)))
        self._cuda.upload(memory.device, memory.host[:needed], stream)
        return placed

    def _of(self, size: int) -> Mirrored:
        if self._memory is None or self._memory.size < size:
            self.release()
            self._memory = Mirrored(self._cuda, size)
        return self._memory

    def release(self) -> None:
        """Give back what there is."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.release()


def check_frame(frame: Uncut, size: tuple[int, int]) -> None:
    """Refuse a frame whose planes do not belong together, or that does not fit an input of `size` (height, width).

    Raises:
        ValueError: with what was seen.
    """
    shapes = [plane.shape for plane in frame.planes]
    if len(shapes) == 3 and len(shapes[0]) == 2:
        half = tuple(-(-side // 2) for side in shapes[0])
        fit_together = shapes[1:] == [half, half] and frame.to_bgr is not None and frame.to_bgr.shape == (3, 4)
    else:
        fit_together = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] == 3 and frame.to_bgr is None
    if not fit_together or any(plane.dtype != np.uint8 or not plane.size for plane in frame.planes):
        kinds = ", ".join(f"{plane.dtype} {plane.shape}" for plane in frame.planes)
        raise ValueError(f"a frame is uint8 H x W x 3, or Y, U and V of 4:2:0 with a matrix, not {kinds}")
    room = [side - before - inner for side, before, inner in zip(size, frame.offset, frame.content, strict=True)]
    if min(*room, *frame.offset, *(side - 1 for side in frame.content)) < 0:
        raise ValueError(f"a picture of {frame.content} at {frame.offset} does not fit an input of {size}")


def own(part: Batch | Sequence[Uncut]) -> Batch | list[Uncut]:
    """Return a copy of pictures, or of frames."""
    if isinstance(part, np.ndarray):
        copied: Batch = part.copy()
        return copied
    return [replace(frame, planes=tuple(plane.copy() for plane in frame.planes)) for frame in part]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
