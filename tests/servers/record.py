"""Real media servers that take a stream: GStreamer's RTSP server (ANNOUNCE, RECORD) and FFmpeg as an RTMP listener.

Both write each connection's stream into a Matroska file of its own, as it came, for PyAV to read. The module is also
the RTSP program, which needs a Python with `gi`.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.servers.mute import HOST, free_port
from tests.servers.rtsp import ROOT, START_S, _die_with, _gstreamer, python_with_gi

NEEDED = ("rtph264depay", "h264parse", "matroskamux", "filesink", "rtpbin")
RECEIVE = (
    "( rtph264depay name=depay0 ! h264parse ! matroskamux name=mux streamable=true min-index-interval=0 ! "
    "filesink name=out sync=false async=false buffer-mode=unbuffered )"
)


class Receiver:
    """A server as a child process; a context manager, entered when clients can connect."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        """Start nothing yet; streams go to `folder`."""
        self.folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where to send a stream."""
        raise NotImplementedError

    @property
    def files(self) -> list[Path]:
        """What was received, a file for each connection, in order."""
        return sorted(self.folder.glob("*.mkv"))

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _wait(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start, and wait until clients can connect."""
        self._process = subprocess.Popen(
            self._command(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self._wait()

    def end(self, by: signal.Signals = signal.SIGKILL, patience_s: float = 5) -> None:
        """End it, or see that it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(by)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing is taken."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class RtspReceiver(Receiver):
    """GStreamer's RTSP server; it takes /live and, where given, only who knows user and password."""

    def __init__(self, folder: Path, port: int | None = None, user: str | None = None, password: str = "") -> None:
        super().__init__(folder, port)
        self._user, self._password = user, password

    @property
    def url(self) -> str:
        login = f"{self._user}:{self._password}@" if self._user else ""
        return f"rtsp://{login}{HOST}:{self.port}/live"

    def _command(self) -> list[str]:
        options = {"port": self.port, "folder": self.folder, "parent": os.getpid()}
        if self._user:
            options |= {"user": self._user, "password": self._password}
        return [str(python_with_gi()), "-m", "tests.servers.record", *(f"--{k}={v}" for k, v in options.items())]

    def _wait(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line.strip() != "ready":
            raise RuntimeError(f"the RTSP server did not start: {line}")


class RtmpReceiver(Receiver):
    """FFmpeg, listening for one RTMP stream; it ends with it."""

    _streams = 0

    @property
    def url(self) -> str:
        return f"rtmp://{HOST}:{self.port}/live/secret-key"

    def _command(self) -> list[str]:
        self._streams += 1
        out = self.folder / f"{self._streams:03}.mkv"
        return [
            *(
                "ffmpeg",
                "-hide_banner",
                "-loglevel",
                "error",
                "-analyzeduration",
                "200000",
                "-listen",
                "1",
                "-f",
                "flv",
                "-i",
                self.url,
                "-c",
            ),
            *("copy", "-flush_packets", "1", "-cluster_time_limit", "100", str(out)),
        ]

    def _wait(self) -> None:
        """Listening is seen in the kernel's table: a connection would be taken for the stream."""
        needle = f":{self.port:04X} 00000000:0000 0A"
        deadline = time.monotonic() + START_S
        while needle not in Path("/proc/net/tcp").read_text():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("ffmpeg does not listen")
            time.sleep(0.02)


@functools.cache
def missing_rtsp() -> str | None:
    """Why the RTSP server cannot run here; None where it can."""
    if python_with_gi() is None:
        return "no Python here has gi and GStreamer's RTSP server (on Debian: gir1.2-gst-rtsp-server-1.0 python3-gi)"
    command = [str(python_with_gi()), "-m", "tests.servers.record", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=START_S)
    return done.stdout.strip() or (done.stderr.strip() if done.returncode else None)


def missing_rtmp() -> str | None:
    """Why the RTMP listener cannot run here; None where it can."""
    return None if shutil.which("ffmpeg") else "no ffmpeg here (on Debian: ffmpeg)"


# The program


def main() -> None:
    """Take streams at rtsp://127.0.0.1:PORT/live until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.record", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--parent", type=int)
    parser.add_argument("--check", action="store_true", help="say what GStreamer lacks, and end")
    options = parser.parse_args()
    gst, rtsp = _gstreamer()
    if options.check:
        lacking = [name for name in NEEDED if gst.ElementFactory.find(name) is None]
        print(f"GStreamer lacks {', '.join(lacking)}" if lacking else "")  # noqa: T201
        return
    _die_with(options.parent)
    server = rtsp.RTSPServer(address=HOST, service=str(options.port))
    factory = rtsp.RTSPMediaFactory()
    factory.set_transport_mode(rtsp.RTSPTransportMode.RECORD)
    factory.set_launch(RECEIVE)
    factory.set_latency(0)
    factory.connect("media-configure", lambda _, media: _name_file(media, options.folder))
    if options.user:
        _ask_for_password(server, factory, options, rtsp)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        sys.exit(f"no server on port {options.port}")
    print("ready", flush=True)  # noqa: T201
    importlib.import_module("gi.repository.GLib").MainLoop().run()


def _name_file(media: Any, folder: Path) -> None:
    number = len(list(folder.glob("*.mkv"))) + 1
    media.get_element().get_by_name("out").set_property("location", str(folder / f"{number:03}.mkv"))


def _ask_for_password(server: Any, factory: Any, options: argparse.Namespace, rtsp: Any) -> None:
    auth, token, permissions = rtsp.RTSPAuth(), rtsp.RTSPToken(), rtsp.RTSPPermissions()
    token.set_string("media.factory.role", "sender")
    auth.add_basic(rtsp.RTSPAuth.make_basic(options.user, options.password), token)
    server.set_auth(auth)
    permissions.add_role("sender")
    for right in ("access", "construct"):
        permissions.add_permission_for_role("sender", f"media.factory.{right}", True)
    factory.set_permissions(permissions)


if __name__ == "__main__":
    main()
