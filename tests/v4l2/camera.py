"""The camera of the machine, vivid: pulled out and put back, silenced and disturbed, as its driver allows."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

DEVICE = Path("/dev/video0")
DRIVER = Path("/sys/bus/platform/drivers/vivid")
NAME = "vivid.0"


def unplug() -> None:
    """Take it away as the kernel does with a USB camera: its device disappears, whoever reads gets an error."""
    (DRIVER / "unbind").write_text(NAME)
    assert not DEVICE.exists()


def plug_in() -> None:
    """Bring it back, as new.

    Whoever still holds the old device open holds its number too, and the camera comes back under another.
    """
    (DRIVER / "bind").write_text(NAME)
    deadline = time.monotonic() + 5
    while not DEVICE.exists():
        assert time.monotonic() < deadline, f"it came back as {sorted(Path('/dev').glob('video*'))}"
        time.sleep(0.01)


def press(button: str) -> None:
    """Press one of the driver's buttons."""
    _set(button, 1)


def lose_buffers(percent: int) -> None:
    """Let the driver lose a part of the pictures; with 100 the camera is there, and silent."""
    _set("percentage_of_dropped_buffers", percent)


def _set(control: str, value: int) -> None:
    subprocess.run(["v4l2-ctl", "-d", DEVICE, "-c", f"{control}={value}"], check=True, timeout=30)
