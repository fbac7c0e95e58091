"""Which library speaks to the GPU: cuda-python, which comes as wheels, before pycuda, which must be compiled."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from engines.cuda.with_cuda_python import INSTALL, CudaPython
from engines.cuda.with_pycuda import PyCuda
from engines.errors import BackendUnavailable

if TYPE_CHECKING:
    from engines.cuda.driver import Gpu
    from engines.cuda.layer import Choice, Cuda

logger = logging.getLogger(__name__)


def open_cuda(choice: Choice, gpu: Gpu) -> Cuda:
    """Open a GPU by cuda-python or pycuda; `auto` takes the first that works.

    Raises:
        BackendUnavailable: the one that was asked for, or with `auto` both, cannot be used; with the reasons.
        EngineError: the device refuses.
    """
    if choice == "cuda-python":
        return CudaPython(gpu)
    if choice == "pycuda":
        return PyCuda(gpu)
    try:
        return CudaPython(gpu)
    except BackendUnavailable as reason:
        _skipped(f"cuda-python skipped: {reason}")
        try:
            return PyCuda(gpu)
        except BackendUnavailable as other:
            raise BackendUnavailable(
                f"neither cuda-python nor pycuda can be used; {INSTALL} ({reason}; {other})"
            ) from other


@cache
def _skipped(message: str) -> None:
    """Log it, once in a process: each engine opens a GPU."""
    logger.info("%s", message)
