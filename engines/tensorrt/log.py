"""What TensorRT says: it fails by returning None or False, and only its logger knows why.

TensorRT has one logger in a process: while a builder or a runtime lives, the logger that another one brings is ignored
(and it warns of that), and whose memory the one in use is kept by is not said. So there is one here for each module,
and it is never given back. Several threads may build and run at once; each is told what it caused.
"""

from __future__ import annotations

import _thread
import logging
import threading
from functools import cache
from typing import Any

logger = logging.getLogger(__name__)

MOST_LINES = 100
"""So many lines are kept, for a run may last for months."""
LATER_S = 0.05
"""How long after a Ctrl-C that came in TensorRT's midst it comes again, for that one would be lost there."""


def collecting_logger(trt: Any) -> Any:
    """Return the logger for everything that is made of a TensorRT module, with nothing of this thread's past in it.

    Beside what an `ILogger` is, it has `words()`: the errors since it was last asked, else the warnings, as one text.
    Those of other threads that have asked for it are left out; those of TensorRT's own threads are not. `leave()` is
    for a thread that ends. Information goes to `logging` at level debug.
    """
    shared = _logger_of(trt.ILogger)
    shared.begin()
    return shared


@cache
def _logger_of(base: Any) -> Any:
    error, warning, information = (int(getattr(base.Severity, name)) for name in ("ERROR", "WARNING", "INFO"))

    class CollectingLogger(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: list[tuple[int, str]] = []
            self.warnings: list[tuple[int, str]] = []
            self._asking: set[int] = set()
            self._lock = threading.Lock()

        def log(self, severity: Any, line: str) -> None:
            try:
                self._note(severity, line)
            except KeyboardInterrupt:  # nothing may reach TensorRT's C++ frames: they drop it
                threading.Timer(LATER_S, _thread.interrupt_main).start()

        def _note(self, severity: Any, line: str) -> None:
            level = int(severity)
            if level > warning:
                if level <= information:
                    logger.debug("%s", line)
                return
            with self._lock:
                kept = self.errors if level <= error else self.warnings
                kept.append((threading.get_ident(), " ".join(line.split())))
                del kept[:-MOST_LINES]

        def begin(self) -> None:
            with self._lock:
                self._asking.add(threading.get_ident())
            self.words()

        def leave(self) -> None:
            """This thread ends, and asks no more: one of TensorRT's own may be known by its number later."""
            self.words()
            with self._lock:
                self._asking.discard(threading.get_ident())

        def words(self) -> str:
            with self._lock:
                errors, warnings = self._take(self.errors), self._take(self.warnings)
            return "; ".join(errors or warnings) or "it gave no reason"

        def _take(self, lines: list[tuple[int, str]]) -> list[str]:
            others = self._asking - {threading.get_ident()}
            taken = dict.fromkeys(line for thread, line in lines if thread not in others)
            lines[:] = [each for each in lines if each[0] in others]
            return list(taken)

    return CollectingLogger()
