"""The CUDA context that is current on a thread: each thread has its own, and a new one begins with none.

Asked of the driver itself, so whichever library made the context.
"""

from __future__ import annotations

import ctypes

import engines.cuda.driver


def current_context() -> int:
    """Return the context that is current on this thread; 0: none, or there is no driver."""
    context = ctypes.c_void_p()
    try:
        engines.cuda.driver.load().cuCtxGetCurrent(ctypes.byref(context))
    except OSError:
        return 0
    return context.value or 0


def make_current(context: int) -> None:
    """Let a context be current on this thread that is so on another; 0: leave it as it is."""
    if context:
        engines.cuda.driver.load().cuCtxSetCurrent(ctypes.c_void_p(context))
