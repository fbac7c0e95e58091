"""Window: shows the annotated pictures, a window per source; q or Esc ends the run.

OpenCV's window library wants the main thread, and where no display answers it aborts the whole process beyond any
`except`. So a child process tries first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import cv2

from pipeline.capture.source import SourceInfo
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.sinks.sink import Sink

QUIT_KEYS = (ord("q"), 27)
PROBE = "import cv2; cv2.namedWindow('probe'); cv2.pollKey(); cv2.destroyAllWindows()"
PROBE_TIMEOUT_S = 10
LARGEST = (1600, 900)
"""A window is not opened larger than most screens; its picture is scaled."""


def display_problem() -> str | None:
    """Return why no window can be shown here; None: one can."""
    try:
        probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"the display did not answer within {PROBE_TIMEOUT_S} s"
    if probe.returncode == 0:
        return None
    lines = [line.strip() for line in probe.stderr.splitlines() if "display" in line.lower()]
    return lines[0] if lines else f"opening a window ended with code {probe.returncode}"


class Window(Sink):
    """The window sink of a run."""

    name = "window"
    main_thread = True

    def __init__(self, title: str, stop: Callable[[], None]) -> None:
        """Nothing is shown yet.

        Args:
            title: of the windows, followed by the source's name.
            stop: called when the user presses q or Esc.
        """
        self._title, self._stop = title, stop
        self._shown: set[str] = set()

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Try the display."""
        modules = list(sys.modules)
        if "av" in modules and modules.index("av") < modules.index("cv2"):
            raise ConfigError("sinks.window: windows hang where PyAV was loaded before OpenCV: import cv2 before av")
        problem = display_problem()
        if problem is not None:
            raise ConfigError(f"sinks.window: no window can be shown: {problem}; set DISPLAY, or record with --record")

    def open(self) -> None:
        """Keep Qt from writing on the terminal that it has no fonts: no text is shown."""
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")

    def consume(self, frame: Frame) -> None:
        """Show one picture."""
        title = f"{self._title}: {frame.source}"
        if title not in self._shown:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            shrink = min(1.0, LARGEST[0] / frame.width, LARGEST[1] / frame.height)
            cv2.resizeWindow(title, max(1, round(frame.width * shrink)), max(1, round(frame.height * shrink)))
            self._shown.add(title)
        cv2.imshow(title, frame.output.bgr)
        self.idle()

    def idle(self) -> None:
        """Let the window library work; see whether a key was pressed."""
        if self._shown and cv2.waitKey(1) & 0xFF in QUIT_KEYS:
            self._stop()

    def close(self) -> None:
        """Close the windows."""
        if self._shown:
            cv2.destroyAllWindows()
