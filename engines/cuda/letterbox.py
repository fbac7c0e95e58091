"""The letterbox on the GPU: a whole frame goes up as it came, and the model's input is cut out of it where it is used.

Two kernels, for BGR pictures and for the planes of YUV 4:2:0. They do what OpenCV does on the CPU, so that a model sees
the same picture whichever of the two cuts it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engines.cuda.layer import Cuda, Stream
    from engines.engine import Uncut

KERNELS = Path(__file__).parent / "kernels"
HEADER = "resample.cuh"
BLOCK = (32, 8, 1)
"""Threads of a block: a warp writes 32 neighbours of a row."""


@dataclass(frozen=True)
class OnDevice:
    """A frame in the memory of a GPU: one BGR picture, or Y, U and V of 4:2:0."""

    addresses: tuple[int, ...]
    pitches: tuple[int, ...]
    """Bytes from a row of each plane to the next."""
    size: tuple[int, int]
    """Height and width of the frame; chroma has half of each, rounded up."""


class GpuLetterbox:
    """Cuts a model's input out of frames that are on the device."""

    def __init__(self, cuda: Cuda) -> None:
        """Compile the kernels; the context must be current.

        Raises:
            EngineBuildError: they cannot be compiled here.
        """
        self._cuda = cuda
        self._bgr = cuda.compile_kernel(kernel_source("letterbox_bgr"), "letterbox_bgr")
        self._yuv = cuda.compile_kernel(kernel_source("letterbox_yuv"), "letterbox_yuv")

    def cut(self, source: OnDevice, frame: Uncut, target: int, size: tuple[int, int], stream: Stream) -> None:
        """Start writing a dense H x W x 3 uint8 BGR picture, padding included, at the device address `target`.

        Args:
            source: where the frame's planes are.
            frame: how they become the input; its own planes are not looked at.
            target: address of H * W * 3 bytes.
            size: height and width of the input.
            stream: on which it happens.

        Raises:
            ValueError: the number of planes does not fit the colour matrix.
        """
        if (len(source.addresses), frame.to_bgr is None) not in ((1, True), (3, False)):
            raise ValueError(
                f"one BGR picture has no colour matrix, three planes need one, not {len(source.addresses)} planes "
                f"{'without' if frame.to_bgr is None else 'with'} one"
            )
        (height, width), (rows, columns) = source.size, frame.content
        addresses = [np.uint64(address) for address in source.addresses]
        whole = [*source.pitches, height, width]
        place = [np.int32(number) for number in (*size, *frame.offset, rows, columns, frame.pad)]
        arguments: list[np.generic] = [*addresses, *map(np.int32, whole), np.uint64(target), *place]
        arguments += [_step(height, rows), _step(width, columns)]
        if frame.to_bgr is not None:
            arguments += [_step((height + 1) // 2, rows), _step((width + 1) // 2, columns)]
            arguments += list(np.asarray(frame.to_bgr, np.float32).reshape(12))
        grid = (-(-size[1] // BLOCK[0]), -(-size[0] // BLOCK[1]), 1)
        self._cuda.launch(self._bgr if frame.to_bgr is None else self._yuv, grid, BLOCK, arguments, stream)


def _step(source: int, target: int) -> np.generic:
    """Return how many pixels of the source a pixel of the target is, rounded as OpenCV does: 1 / (target / source)."""
    step: np.generic = np.float64(1 / (target / source))
    return step


def kernel_source(name: str) -> str:
    """Return the CUDA C++ of a kernel in one piece: a compiler that is given text has no folder for headers."""
    source = (KERNELS / f"{name}.cu").read_text(encoding="utf-8")
    return source.replace(f'#include "{HEADER}"', (KERNELS / HEADER).read_text(encoding="utf-8"))
