"""A real RTSP camera in a process of its own: GStreamer's RTSP server with a wall-clock bar code in the picture.

`RtspServer` is the handle for tests: start, kill, pause, resume, and start again on the same port. The module is also
the program that it starts; it draws in plain Python, so it runs under any Python that has `gi`.

One encoder runs apart from the RTSP media and feeds them all, one media a client, each from a key picture made for it.
Media shared by clients, as GStreamer offers it, is taken down when the last one leaves, and a client that comes at that
moment gets no data (over UDP, clients that leave without a goodbye: 1 of 15).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import importlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

from tests.servers import barcode
from tests.servers.mute import HOST, free_port

Codec = Literal["h264", "h265", "mjpeg"]

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = (sys.executable, "/usr/bin/python3")
"""Debian's `gi` belongs to the system's Python, which a virtual environment does not show."""
START_S = 30.0
"""GStreamer's first start on a machine looks through all its plug-ins."""
PR_SET_PDEATHSIG = 1

CODECS = {
    "h264": (
        "x264enc name=encoder tune=zerolatency speed-preset=ultrafast threads=1 bitrate={bitrate} key-int-max={gop}",
        "video/x-h264,stream-format=byte-stream,alignment=au,{size}",
        "rtph264pay config-interval=-1 pt=96",
    ),
    "h265": (
        "x265enc name=encoder tune=zerolatency speed-preset=ultrafast bitrate={bitrate} key-int-max={gop}"
        " option-string=repeat-headers=1:open-gop=0",
        "video/x-h265,stream-format=byte-stream,alignment=au,{size}",
        "rtph265pay config-interval=-1 pt=96",
    ),
    "mjpeg": ("jpegenc name=encoder quality=80", "image/jpeg,{size}", "rtpjpegpay pt=26"),
}
"""Encoder, what it gives, how that becomes RTP."""
NEEDED = ("appsrc", "x264enc", "x265enc", "jpegenc", "rtph264pay", "rtph265pay", "rtpjpegpay", "rtpbin", "udpsink")


class RtspServer:
    """An RTSP server as a child process; a context manager, entered when clients can connect.

    Whoever starts it must live as long: Linux kills the child when the thread that started it ends.

    Args:
        port: None takes a free one.
        size: width and height in pixels, both even.
        gop: pictures from one key picture to the next; 1: key pictures only; large: hardly any.
        bitrate_kbps: of h264 and h265.
        user, password: None lets everybody in.
        digest: ask for digest instead of basic authentication.
        loss: part of the RTP packets that never leave, 0 to 1.
    """

    def __init__(
        self,
        port: int | None = None,
        size: tuple[int, int] = (640, 360),
        fps: int = 30,
        gop: int = 30,
        codec: Codec = "h264",
        bitrate_kbps: int = 2000,
        user: str | None = None,
        password: str | None = None,
        digest: bool = False,
        loss: float = 0.0,
    ) -> None:
        self.port = port or free_port()
        self.user, self.password = user, password
        self._options: dict[str, str | float] = {"port": self.port, "width": size[0], "height": size[1], "fps": fps}
        self._options |= {"gop": gop, "codec": codec, "bitrate": bitrate_kbps, "loss": loss, "parent": os.getpid()}
        if user is not None:
            self._options |= {"user": user, "password": password or "", "auth": "digest" if digest else "basic"}
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The address, with the user and password that are let in."""
        return self.url_with(self.user, self.password)

    def url_with(self, user: str | None = None, password: str | None = None) -> str:
        """The address with other credentials, or with none."""
        login = "" if user is None else f"{quote(user, safe='')}:{quote(password or '', safe='')}@"
        return f"rtsp://{login}{HOST}:{self.port}/live"

    @property
    def pid(self) -> int | None:
        """Of the server's process; None while there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start, and wait until the server takes clients; RuntimeError where it does not."""
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError("the RTSP server runs already")
        python = python_with_gi()
        if python is None:
            raise RuntimeError(missing())
        options = [f"--{key}={value}" for key, value in self._options.items()]
        command = [python, "-m", "tests.servers.rtsp", *options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        output = self._process.stdout
        assert output is not None
        with output:
            line = output.readline() if select.select([output], [], [], START_S)[0] else "silence"
        if line.strip() != "ready":
            self.kill()
            raise RuntimeError(f"the RTSP server did not start: {line.strip() or 'see standard error'}")

    def kill(self) -> None:
        """End it as a power cut does: SIGKILL. Also when paused; no harm when it has ended."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it by SIGTERM, as a service manager does."""
        self.resume()
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing comes."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, by: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(by)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def missing() -> str | None:
    """Why the server cannot run here; None where it can."""
    if python_with_gi() is None:
        return "no Python here has gi and GStreamer's RTSP server (on Debian: gir1.2-gst-rtsp-server-1.0 python3-gi)"
    return _missing_elements()


@functools.cache
def python_with_gi() -> str | None:
    """A Python that can run the server."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    for python in PYTHONS:
        with contextlib.suppress(OSError):
            if subprocess.run([python, "-c", probe], capture_output=True, timeout=START_S).returncode == 0:
                return python
    return None


@functools.cache
def _missing_elements() -> str | None:
    command = [str(python_with_gi()), "-m", "tests.servers.rtsp", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=START_S)
    return done.stdout.strip() or (done.stderr.strip() if done.returncode else None)


# The program


def main() -> None:
    """Serve rtsp://127.0.0.1:PORT/live until a signal ends the process."""
    options = _arguments()
    gst, rtsp = _gstreamer()
    if options.check:
        lacking = [name for name in NEEDED if gst.ElementFactory.find(name) is None]
        print(f"GStreamer lacks {', '.join(lacking)}" if lacking else "")  # noqa: T201
        return
    _die_with(options.parent)
    sys.excepthook = _give_up
    camera = Camera(options, gst)
    factory = rtsp.RTSPMediaFactory()
    factory.set_launch(_sending(options))
    factory.set_latency(0)
    factory.connect("media-configure", lambda _, media: camera.show(media.get_element().get_by_name("feed")))
    server = rtsp.RTSPServer(address=HOST, service=str(options.port))
    server.get_mount_points().add_factory("/live", factory)
    if options.user:
        _ask_for_password(server, factory, options, rtsp)
    if not server.attach(None):
        sys.exit(f"no server on port {options.port}")
    camera.switch_on()
    print("ready", flush=True)  # noqa: T201
    importlib.import_module("gi.repository.GLib").MainLoop().run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.rtsp", description=main.__doc__)
    for name, default in {"port": 8554, "width": 640, "height": 360, "fps": 30, "gop": 30, "bitrate": 2000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--codec", choices=list(CODECS), default="h264")
    parser.add_argument("--loss", type=float, default=0.0, help="part of the RTP packets to lose")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--auth", choices=["basic", "digest"], default="basic")
    parser.add_argument("--parent", type=int, help="process to end with")
    parser.add_argument("--check", action="store_true", help="say what GStreamer lacks, and end")
    return parser.parse_args()


def _gstreamer() -> tuple[Any, Any]:
    gi = importlib.import_module("gi")
    for name in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    gst = importlib.import_module("gi.repository.Gst")
    gst.init(None)
    return gst, importlib.import_module("gi.repository.GstRtspServer")


def _die_with(parent: int | None) -> None:
    """Have the kernel kill this process when its parent dies, also while it is stopped."""
    if parent is None:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        sys.exit("the parent is gone")


def _give_up(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End the process on an exception that GStreamer's threads would only print."""
    sys.__excepthook__(kind, error, trace)
    os._exit(1)


def _ask_for_password(server: Any, factory: Any, options: argparse.Namespace, rtsp: Any) -> None:
    auth, token, permissions = rtsp.RTSPAuth(), rtsp.RTSPToken(), rtsp.RTSPPermissions()
    token.set_string("media.factory.role", "viewer")
    if options.auth == "digest":
        methods = importlib.import_module("gi.repository.GstRtsp").RTSPAuthMethod
        auth.set_supported_methods(methods.DIGEST)
        auth.add_digest(options.user, options.password, token)
    else:
        auth.add_basic(rtsp.RTSPAuth.make_basic(options.user, options.password), token)
    server.set_auth(auth)
    permissions.add_role("viewer")
    for right in ("access", "construct"):
        permissions.add_permission_for_role("viewer", f"media.factory.{right}", True)
    factory.set_permissions(permissions)


class Camera:
    """The live picture: drawn and encoded once, shown to every client from a key picture on."""

    def __init__(self, options: argparse.Namespace, gst: Any) -> None:
        self._gst, self._step_s = gst, 1 / options.fps
        self._scene = Scene(options.width, options.height)
        self._pipeline = gst.parse_launch(_encoding(options))
        self._feeds: list[Any] = []
        self._new_feeds: list[Any] = []
        self._lock = threading.Lock()

    def switch_on(self) -> None:
        """Draw and encode from now on, whether anybody watches or not."""
        self._pipeline.get_by_name("encoded").connect("new-sample", self._send)
        self._pipeline.set_state(self._gst.State.PLAYING)
        threading.Thread(target=self._draw, name="camera", daemon=True).start()

    def show(self, feed: Any) -> None:
        """Send to one more client, until its media is taken down."""
        with self._lock:
            self._new_feeds.append(feed)
        self._ask_for_key_picture()

    def _ask_for_key_picture(self) -> None:
        wish = self._gst.Structure.new_from_string("GstForceKeyUnit, all-headers=(boolean)true")
        event = self._gst.Event.new_custom(self._gst.EventType.CUSTOM_UPSTREAM, wish)
        self._pipeline.get_by_name("encoder").get_static_pad("src").send_event(event)

    def _draw(self) -> None:
        """Push pictures at the camera's rate; after a pause go on from now, without the missed ones."""
        source = self._pipeline.get_by_name("drawn")
        due = time.monotonic()
        while source.emit("push-buffer", self._gst.Buffer.new_wrapped(self._scene.draw())) == self._gst.FlowReturn.OK:
            due = max(due + self._step_s, time.monotonic() - self._step_s)
            time.sleep(max(0.0, due - time.monotonic()))

    def _send(self, encoded: Any) -> Any:
        sample = encoded.emit("pull-sample")
        buffer = sample.get_buffer()
        running = sample.get_segment().to_running_time(self._gst.Format.TIME, buffer.pts)
        taken_at = running + self._pipeline.get_base_time()
        is_key = not buffer.has_flags(self._gst.BufferFlags.DELTA_UNIT)
        with self._lock:
            if is_key:
                begun = [feed for feed in self._new_feeds if 0 < feed.get_base_time() <= taken_at]
                self._feeds += begun
                self._new_feeds = [feed for feed in self._new_feeds if feed not in begun]
            self._feeds = [feed for feed in self._feeds if self._push(feed, buffer, taken_at)]
            waiting = bool(self._new_feeds)
        if waiting:
            self._ask_for_key_picture()
        return self._gst.FlowReturn.OK

    def _push(self, feed: Any, buffer: Any, taken_at: int) -> bool:
        """Give a media the picture, with its time on the media's own clock; False where the media is gone."""
        parts = self._gst.BufferCopyFlags.MEMORY | self._gst.BufferCopyFlags.FLAGS
        copy = buffer.copy_region(parts, 0, buffer.get_size())
        copy.pts = taken_at - feed.get_base_time()
        return bool(feed.emit("push-buffer", copy) == self._gst.FlowReturn.OK)


def _encoding(options: argparse.Namespace) -> str:
    encoder, caps, _ = _codec(options)
    source = "appsrc name=drawn is-live=true do-timestamp=true format=time max-buffers=2 leaky-type=downstream"
    sink = "appsink name=encoded emit-signals=true sync=false"
    return f"{source} caps=video/x-raw,format=I420,{_size(options)} ! {encoder} ! {caps} ! {sink}"


def _sending(options: argparse.Namespace) -> str:
    _, caps, payloader = _codec(options)
    if options.loss:  # what stands in the payloader's place is asked for its payload type, which is not needed
        warnings.filterwarnings("ignore", "g_object_get_is_valid_property")
        payloader += f" ! identity name=pay0 drop-probability={options.loss}"
    else:
        payloader += " name=pay0"
    return f"( appsrc name=feed is-live=true format=time max-bytes=0 caps={caps} ! {payloader} )"


def _codec(options: argparse.Namespace) -> list[str]:
    return [part.format(**vars(options), size=_size(options)) for part in CODECS[options.codec]]


def _size(options: argparse.Namespace) -> str:
    return f"width={options.width},height={options.height},framerate={options.fps}/1"


class Scene:
    """A textured I420 picture with a moving block and the bar code of the moment."""

    TILE, BLOCK, STEP = 8, 64, 8

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._background = self._texture()
        self._chroma = bytes([128]) * (2 * ((width + 1) // 2) * ((height + 1) // 2))
        self._drawn = 0

    def _texture(self) -> bytes:
        grey, rows = random.Random(0), []
        for top in range(0, self._height, self.TILE):
            tiles = b"".join(bytes([grey.randrange(40, 200)]) * self.TILE for _ in range(0, self._width, self.TILE))
            rows += [tiles[: self._width]] * min(self.TILE, self._height - top)
        return b"".join(rows)

    def draw(self) -> bytes:
        """The next picture, stamped with the wall clock."""
        luma, width = bytearray(self._background), self._width
        side = min(self.BLOCK, self._height // 4)
        left = self._drawn * self.STEP % (width - side)
        for row in range(self._height // 2, self._height // 2 + side):
            luma[row * width + left : row * width + left + side] = b"\xe6" * side
        code = barcode.strip_row(barcode.wall_us(), width)
        for row in range(barcode.ROWS):
            luma[row * width : row * width + len(code)] = code
        self._drawn += 1
        return bytes(luma) + self._chroma


if __name__ == "__main__":
    main()
