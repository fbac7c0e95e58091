"""How large a picture can be painted in the memory that is free: said before the work, not by the system's killer.

Nearly all of it is what VGG16 keeps of one evaluation for the way back. Measured, peak of a process above what PyTorch
itself takes: 3040 bytes a pixel at 256x144, 3170 at 512x288, 2730 at 1024x576 (float32, CPU).
"""

from __future__ import annotations

from pathlib import Path

import psutil

from pipeline.errors import ConfigError
from tools.style.settings import PaintSettings, level_sizes

BYTES_PER_PIXEL = 3300
"""Of VGG16 up to conv5_1, forward and back."""
PICTURE = 12
"""Bytes per pixel: three channels of float32."""
WORKING_PICTURES = 12
"""Direction, gradients, candidates of the line search, Adam's moments, the copy that is kept."""
USABLE = 0.9
"""Part of the free memory that is taken."""
STEP = 32
"""Pixels by which a size that fits is looked for."""
LIMIT, USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
"""Of a container, which may have less than the machine."""


def needed_bytes(width: int, height: int, settings: PaintSettings) -> int:
    """Return what a picture of that size takes, beside PyTorch and the weights."""
    pictures = WORKING_PICTURES + (2 * settings.history if settings.optimiser == "lbfgs" else 0)
    return width * height * (BYTES_PER_PIXEL + pictures * PICTURE)


def free_bytes(device: str) -> int:
    """Return how much memory is free, on the machine (or its container), or on the GPU."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    free = int(psutil.virtual_memory().available)
    try:
        return min(free, int(LIMIT.read_text()) - int(USED.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free


def check_memory(width: int, height: int, settings: PaintSettings, free: int) -> None:
    """See that content of a width and height can be painted.

    Raises:
        ConfigError: it would not fit; the message has the largest size that does.
    """
    wanted = level_sizes(width, height, settings)[-1]
    need = needed_bytes(*wanted, settings)
    if need <= free * USABLE:
        return
    long = max(wanted)
    scale = (free * USABLE / need) ** 0.5
    fits = max(0, int(long * scale) // STEP * STEP)
    advice = f"--size {fits} would fit" if fits >= STEP else "no size would fit"
    raise ConfigError(
        f"a picture of {wanted[0]}x{wanted[1]} needs about {_gigabytes(need)} of memory, "
        f"and {_gigabytes(free)} are free: {advice}"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
