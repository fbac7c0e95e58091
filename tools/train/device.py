"""What computes a training: PyTorch on the CPU or on an NVIDIA GPU, and what is said where it has too little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from engines.errors import BackendUnavailable, FrameloomError

Device = Literal["auto", "cpu", "cuda"]


def usable_device(wanted: Device) -> str:
    """Return `cpu` or `cuda`.

    Raises:
        BackendUnavailable: PyTorch is not installed, or it sees no GPU that was asked for.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailable(f"training needs PyTorch ({error}): pip install 'frameloom[train]'") from error
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("PyTorch sees no CUDA device here: leave out --device, or install its CUDA build")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


@contextmanager
def memory_said(batch: str, options: str) -> Iterator[None]:
    """Turn a lack of memory, in whichever way PyTorch puts it, into a sentence.

    Args:
        batch: what had to fit, such as "4 crops of 256 x 256".
        options: what makes it smaller, such as "--batch or --size".

    Raises:
        FrameloomError: memory was not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in ("out of memory", "allocate")):
            raise
        raise FrameloomError(f"not enough memory for a batch of {batch}: choose a smaller {options}") from error
