"""An HTTP camera inside the test's process: MJPEG, files with ranges, a live HLS playlist, and faults on demand.

MJPEG and HLS show a wall-clock bar code. Each connection has a thread; all have ended when the server has stopped.
"""

from __future__ import annotations

import base64
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

# OpenCV first: loaded after PyAV, whose libxcb differs, its windows hang (PyAV issue 978)
import cv2

# isort: split
import av
import numpy as np

from tests.servers import barcode
from tests.servers.listener import Listener
from tests.servers.mute import HOST, free_port

MJPEG, HLS = "/mjpeg", "/live.m3u8"
TYPES = {".mp4": "video/mp4", ".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t"}
CHUNK = 1 << 16
SEGMENT_S, SEGMENTS = 0.5, 6
FIRST_SEGMENT_S = 15.0
"""Patience for the first HLS segment, on a busy machine."""


class Request(NamedTuple):
    """What a client asked for and got."""

    path: str
    status: int


class HttpServer:
    """An HTTP server; a context manager.

    `/mjpeg` and `/live.m3u8` are live, every other path is a file in the folder.

    Args:
        folder: of the files; None: there are none.
        size: width and height of the live picture, in pixels, both even.
        user, password: for basic authentication; None lets everybody in.
    """

    def __init__(
        self,
        folder: Path | None = None,
        size: tuple[int, int] = (320, 240),
        fps: int = 30,
        user: str | None = None,
        password: str | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.user, self.password = user, password
        self.folder, self.size, self.fps = folder, size, fps
        self.requests: list[Request] = []
        self.forced_status: int | None = None
        self._stalled_until = 0.0
        self._changed = threading.Condition()
        self._stopping = False
        self._listener: _Listener | None = None
        self._hls: _Hls | None = None

    def url(self, path: str = MJPEG) -> str:
        """The address of a path, with the user and password that are let in."""
        return self.url_with(path, self.user, self.password)

    def url_with(self, path: str = MJPEG, user: str | None = None, password: str | None = None) -> str:
        """The address of a path with other credentials, or with none."""
        login = "" if user is None else f"{quote(user, safe='')}:{quote(password or '', safe='')}@"
        return f"http://{login}{HOST}:{self.port}{path}"

    # Faults

    def stall(self, seconds: float = 3600.0) -> None:
        """Send nothing for so long, on old and on new connections, which stay open."""
        with self._changed:
            self._stalled_until = time.monotonic() + seconds

    def drop(self) -> None:
        """Close all connections; new ones are welcome."""
        if self._listener:
            self._listener.drop()

    def fail(self, status: int) -> None:
        """Answer every new request with this status, such as 401, 404 or 500."""
        self.forced_status = status

    def heal(self) -> None:
        """Take back `stall` and `fail`."""
        self.forced_status = None
        with self._changed:
            self._stalled_until = 0.0
            self._changed.notify_all()

    # Life

    def start(self) -> None:
        """Listen; the port is the same after every `stop`."""
        self._stopping = False
        self._listener = _Listener(self)
        self._listener.begin()

    def stop(self) -> None:
        """Close every connection and the port."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        listener.end()
        if self._hls:
            self._hls.stop()
            self._hls = None

    def __enter__(self) -> HttpServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # For the threads of connections

    def wait_while_stalled(self) -> None:
        """Return when something may be sent; ConnectionAbortedError where the server is being stopped."""
        with self._changed:
            while not self._stopping and (left := self._stalled_until - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._stopping:
                raise ConnectionAbortedError

    def file(self, path: str) -> Path | None:
        """The file behind a path; the live playlist is begun by the first who asks for it."""
        if path == HLS:
            with self._changed:
                self._hls = self._hls or _Hls(self.size, self.fps)
            self._hls.wait_for_playlist()
        for folder in (self._hls.folder if self._hls else None, self.folder):
            if folder is not None and (found := folder / Path(path).name).is_file():
                return found
        return None


class _Listener(Listener):
    def __init__(self, camera: HttpServer) -> None:
        super().__init__((HOST, camera.port), _Connection)
        self.camera = camera


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_GET(self) -> None:
        camera = self.server.camera
        camera.wait_while_stalled()
        if camera.forced_status is not None:
            self._refuse(camera.forced_status)
        elif not self._is_let_in():
            self._refuse(HTTPStatus.UNAUTHORIZED)
        elif self.path == MJPEG:
            self._send_mjpeg()
        elif (file := camera.file(self.path)) is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            self._send_file(file)

    def _is_let_in(self) -> bool:
        camera = self.server.camera
        login = base64.b64encode(f"{camera.user}:{camera.password}".encode()).decode()
        return camera.user is None or self.headers.get("Authorization") == f"Basic {login}"

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_mjpeg(self) -> None:
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.send_header("Connection", "close")
        self.end_headers()
        for image in _live_pictures(self.server.camera.size, self.server.camera.fps):
            self.server.camera.wait_while_stalled()
            jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
            head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")

    def _send_file(self, file: Path) -> None:
        data = file.read_bytes()
        part = _asked_range(self.headers.get("Range"), len(data))
        if part is None:
            self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if "Range" in self.headers else HTTPStatus.OK)
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {part.start}-{part.stop - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", TYPES.get(file.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        for start in range(part.start, part.stop, CHUNK):
            self.server.camera.wait_while_stalled()
            self.wfile.write(data[start : min(start + CHUNK, part.stop)])

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.server.camera.requests.append(Request(self.path, int(code)))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing on standard error."""


def _asked_range(header: str | None, size: int) -> range | None:
    """The bytes that a Range header asks for (RFC 9110, 14.1.2); None where there are none such."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "bytes=0-")
    if asked is None or asked.group() == "bytes=-":
        return None
    first, last = asked.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    return range(start, stop) if start < stop else None


def _live_pictures(size: tuple[int, int], fps: int) -> Iterator[np.ndarray[Any, Any]]:
    """BGR pictures with a moving block and the wall clock, at their rate; missed ones are left out."""
    width, height = size
    tiles = np.random.default_rng(0).integers(40, 200, (height // 8 + 1, width // 8 + 1, 3)).astype(np.uint8)
    background = tiles.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    side, left, due = min(64, height // 4), 0, time.monotonic()
    while True:
        image = background.copy()
        image[height // 2 : height // 2 + side, left : left + side] = 230
        barcode.stamp(image, barcode.wall_us())
        yield image
        left = (left + 8) % (width - side)
        due = max(due + 1 / fps, time.monotonic() - 1 / fps)
        time.sleep(max(0.0, due - time.monotonic()))


class _Hls:
    """Writes a live playlist and its segments into a folder of its own."""

    def __init__(self, size: tuple[int, int], fps: int) -> None:
        self._place = tempfile.TemporaryDirectory()
        self.folder = Path(self._place.name)
        self._size, self._fps = size, fps
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._write, name="hls writer")
        self._thread.start()

    def wait_for_playlist(self) -> None:
        deadline = time.monotonic() + FIRST_SEGMENT_S
        while not (self.folder / HLS[1:]).exists() and time.monotonic() < deadline and not self._halt.wait(0.02):
            pass

    def _write(self) -> None:
        flags = {"hls_time": str(SEGMENT_S), "hls_list_size": str(SEGMENTS), "hls_flags": "delete_segments+temp_file"}
        with av.open(str(self.folder / HLS[1:]), "w", format="hls", options=flags) as output:
            stream: Any = output.add_stream("libx264", rate=self._fps)
            stream.width, stream.height, stream.pix_fmt = *self._size, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 90_000)
            stream.codec_context.gop_size = round(self._fps * SEGMENT_S)
            stream.codec_context.options = {"preset": "ultrafast", "tune": "zerolatency", "sc_threshold": "0"}
            begun = time.monotonic()
            for image in _live_pictures(self._size, self._fps):
                if self._halt.is_set():
                    return
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts, frame.time_base = round((time.monotonic() - begun) * 90_000), Fraction(1, 90_000)
                output.mux(stream.encode(frame))

    def stop(self) -> None:
        self._halt.set()
        self._thread.join()
        self._place.cleanup()
