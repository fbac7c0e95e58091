"""A build on a thread of its own, so that Ctrl-C ends it.

Python runs the handler of Ctrl-C on the main thread, between two lines of Python. TensorRT calls its logger and its
progress monitor on the thread that builds: were that the main one, `KeyboardInterrupt` would be raised in one of those,
where TensorRT's C++ catches it and goes on. So the main thread only waits, and the build is told to stop.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from engines.cuda.current import current_context, make_current

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LOOK_S = 0.1
"""How often the waiting thread looks whether it was interrupted."""
PATIENCE_S = 20.0
"""How long a build that was told to stop may take to the end of a step, before it is no longer waited for."""


def run_apart(work: Callable[[threading.Event], Result]) -> Result:
    """Return what `work` returns, or raise what it raises; the CUDA context of this thread is current there, too.

    Args:
        work: is given an event: once it is set, nobody wants the result any more.

    Raises:
        BaseException: whatever interrupts the waiting; `work` has ended then, or has been given `PATIENCE_S` to.
    """
    apart = _Apart(work)
    try:
        apart.thread.start()
        while not apart.ended.wait(LOOK_S):
            pass
    except BaseException:
        apart.cancelled.set()
        if apart.thread.is_alive() and not apart.ended.wait(PATIENCE_S):
            logger.warning("the build has not stopped yet; the process ends when it does")
        raise
    return apart.result()


class _Apart(Generic[Result]):
    """The thread, and what came of it."""

    def __init__(self, work: Callable[[threading.Event], Result]) -> None:
        # No daemon: Python brings a process down that ends while such a thread is in the midst of TensorRT.
        self.thread = threading.Thread(target=self._run, name="build")
        self._work = work
        self._context = current_context()
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self.cancelled = threading.Event()
        self.ended = threading.Event()

    def _run(self) -> None:
        try:
            make_current(self._context)
            self._results.append(self._work(self.cancelled))
        except BaseException as error:  # told to who waits
            traceback.clear_frames(error.__traceback__)  # a builder is given back here, where the context is current
            self._error = error
        finally:
            self.ended.set()

    def result(self) -> Result:
        """Return what came of it."""
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # its traceback knows this frame
        return self._results.pop()
