"""The servers prove themselves against a plain client, PyAV: what tests of the pipeline rely on is true of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

# isort: split
import av

from tests.pipeline.fakes import threads_left
from tests.pipeline.videos import encode
from tests.servers import barcode, rtsp
from tests.servers.http import HLS, MJPEG, HttpServer, Request
from tests.servers.mute import GARBAGE, HOST, MuteServer, free_port, refused_port
from tests.servers.rtsp import RtspServer

StartServer = Callable[..., RtspServer]

QUICK = {"analyzeduration": "200000", "probesize": "200000"}
"""FFmpeg looks at the stream for 0.2 s before it begins."""
LEAVES_RUDELY = f"""
import av, os, sys
next(av.open(sys.argv[1], options={QUICK | {"rtsp_transport": "udp"}}).decode(video=0))
os._exit(0)
"""
RAW_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Seen(NamedTuple):
    """A picture as a client sees it."""

    luma: np.ndarray[Any, Any]
    is_key: bool

    @property
    def age_s(self) -> float:
        age_s = barcode.age_s(self.luma)
        assert age_s is not None, "no bar code"
        return age_s


@contextlib.contextmanager
def watching(url: str, transport: str = "tcp", timeout_s: float = 5.0) -> Iterator[Iterator[Seen]]:
    """The pictures of a stream, each as soon as it can be had."""
    options = QUICK | ({"rtsp_transport": transport} if url.startswith("rtsp") else {})
    with av.open(url, options=options, timeout=(timeout_s, timeout_s)) as container:
        container.streams.video[0].thread_type = "NONE"
        yield (
            Seen(frame.reformat(format="gray").to_ndarray(), bool(frame.key_frame))
            for frame in container.decode(video=0)
        )


def first_pictures(url: str, count: int = 3, transport: str = "tcp") -> list[Seen]:
    with watching(url, transport) as pictures:
        return list(itertools.islice(pictures, count))


def caught_up(pictures: Iterator[Seen]) -> Seen:
    """A picture behind those that FFmpeg has gathered while it looked at the stream."""
    return next(itertools.islice(pictures, 15, None))


def get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers."""
    try:
        with RAW_HTTP.open(urllib.request.Request(url, headers=headers), timeout=5) as reply:
            return reply.status, reply.read(), dict(reply.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


# Bar code


@pytest.mark.parametrize("value", [0, 1, (1 << 56) - 1, 1_800_000_000_123_456])
@pytest.mark.parametrize("shape", [(360, 640), (48, 64), (361, 643, 3)])
def test_bar_code_reads_back(shape: tuple[int, ...], value: int) -> None:
    image = np.full(shape, 77, np.uint8)
    barcode.stamp(image, value)
    assert barcode.read(image) == value


@pytest.mark.parametrize("level", [0, 77, 255])
def test_picture_without_a_bar_code_reads_as_none(level: int) -> None:
    assert barcode.read(np.full((360, 640), level, np.uint8)) is None


def test_bar_code_with_a_damaged_cell_reads_as_none() -> None:
    image = np.zeros((360, 640), np.uint8)
    barcode.stamp(image, 123_456_789)
    image[:, 300:310] = 255 - image[:, 300:310]
    assert barcode.read(image) is None


def test_bar_code_survives_a_strong_jpeg() -> None:
    image = np.random.default_rng(0).integers(0, 255, (360, 640, 3)).astype(np.uint8)
    barcode.stamp(image, 987_654_321)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    assert barcode.read(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))) == 987_654_321


@pytest.mark.parametrize(("value", "width"), [(1 << 56, 640), (-1, 640), (1, 63)])
def test_bar_code_refuses_what_it_cannot_show(value: int, width: int) -> None:
    with pytest.raises(ValueError, match=r"bar code needs|does not fit"):
        barcode.stamp(np.zeros((64, width), np.uint8), value)


# RTSP


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_shows_the_present(rtsp_server: StartServer, transport: str) -> None:
    with watching(rtsp_server().url, transport) as pictures:
        ages_s = [caught_up(pictures).age_s, *(next(pictures).age_s for _ in range(10))]
    assert min(ages_s) > 0
    assert float(np.median(ages_s)) < 0.5


def test_rtsp_pictures_come_at_their_rate(rtsp_server: StartServer) -> None:
    with watching(rtsp_server(fps=20).url) as pictures:
        stamps = [barcode.read(next(pictures).luma) or 0 for _ in range(20)]
    assert float(np.median(np.diff(stamps))) == pytest.approx(50_000, rel=0.1)


@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg"])
def test_rtsp_speaks_each_codec(rtsp_server: StartServer, codec: str) -> None:
    with av.open(rtsp_server(codec=codec, size=(320, 192)).url, options=QUICK, timeout=(5, 5)) as container:
        frame = next(container.decode(video=0))
        name = container.streams.video[0].codec_context.name
    assert (name, frame.width, frame.height) == ({"h265": "hevc"}.get(codec, codec), 320, 192)
    assert 0 < (barcode.age_s(frame.reformat(format="gray").to_ndarray()) or 0) < 3


@pytest.mark.parametrize(("gop", "keys"), [(1, 20), (1000, 1)])
def test_rtsp_sends_as_many_key_pictures_as_asked(rtsp_server: StartServer, gop: int, keys: int) -> None:
    pictures = first_pictures(rtsp_server(gop=gop).url, 20)
    assert sum(picture.is_key for picture in pictures) == keys


def test_rtsp_client_that_comes_later_starts_at_once_with_a_key_picture(rtsp_server: StartServer) -> None:
    server = rtsp_server(gop=1000)
    with watching(server.url) as others:
        caught_up(others)
        begun = time.monotonic()
        picture = first_pictures(server.url, 1)[0]
        assert time.monotonic() - begun < 1.5
        assert picture.is_key
        assert next(others).age_s > 0


def test_rtsp_gives_pictures_to_udp_clients_that_come_and_go(rtsp_server: StartServer) -> None:
    server = rtsp_server()
    for _ in range(20):
        assert first_pictures(server.url, 1, "udp")[0].is_key


def test_rtsp_forgets_clients_that_leave_without_a_goodbye(rtsp_server: StartServer) -> None:
    server = rtsp_server()
    at_rest = _threads_of(server) + 2  # its pool keeps some
    for _ in range(3):
        subprocess.run([sys.executable, "-c", LEAVES_RUDELY, server.url], check=True, timeout=30)
        assert len(first_pictures(server.url, 3, "udp")) == 3
    deadline = time.monotonic() + 5
    while (threads := _threads_of(server)) > at_rest and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threads <= at_rest


def _threads_of(server: RtspServer) -> int:
    return len(os.listdir(f"/proc/{server.pid}/task"))


def test_rtsp_shows_the_same_picture_to_several_clients(rtsp_server: StartServer) -> None:
    server = rtsp_server()
    with contextlib.ExitStack() as open_:
        streams = [open_.enter_context(watching(server.url, transport)) for transport in ("tcp", "udp", "tcp")]
        stamps = [{barcode.read(picture.luma) for picture in itertools.islice(stream, 30)} for stream in streams]
    assert all(None not in each for each in stamps)
    assert len(stamps[0] & stamps[1] & stamps[2]) > 5


@pytest.mark.parametrize("digest", [False, True])
def test_rtsp_lets_in_who_knows_the_password(rtsp_server: StartServer, digest: bool) -> None:
    server = rtsp_server(user="ad min", password="p@ss:w/rd%", digest=digest)
    assert len(first_pictures(server.url, 3)) == 3
    for url in (server.url_with(), server.url_with("ad min", "wrong"), server.url_with("who", "p@ss:w/rd%")):
        with pytest.raises(av.HTTPUnauthorizedError):
            first_pictures(url)


@pytest.mark.parametrize("digest", [False, True])
def test_rtsp_asks_for_the_kind_of_authentication_it_was_told(rtsp_server: StartServer, digest: bool) -> None:
    server = rtsp_server(user="u", password="p", digest=digest)
    with socket.create_connection((HOST, server.port), timeout=5) as client:
        client.sendall(f"DESCRIBE {server.url_with()} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
        reply = client.recv(4096).decode()
    assert re.findall(r"WWW-Authenticate: (\w+)", reply) == ["Digest" if digest else "Basic"]


def test_rtsp_killed_ends_the_stream_and_starts_again_on_the_same_port(rtsp_server: StartServer) -> None:
    server = rtsp_server()
    for _ in range(2):
        with watching(server.url) as pictures:
            next(pictures)
            server.kill()
            with contextlib.suppress(av.FFmpegError):
                assert sum(1 for _ in pictures) < 60  # what was on its way
        with pytest.raises(av.ConnectionRefusedError):
            first_pictures(server.url)
        server.start()
    assert first_pictures(server.url, 1)[0].is_key


def test_rtsp_paused_sends_nothing_and_resumed_shows_the_present(rtsp_server: StartServer) -> None:
    server = rtsp_server()
    with watching(server.url) as pictures:
        caught_up(pictures)
        server.pause()
        timer = threading.Timer(0.7, server.resume)
        timer.start()
        stamps = [barcode.read(next(pictures).luma) or 0 for _ in range(20)]
        assert 0 < next(pictures).age_s < 0.5
        timer.join()
    assert 0.6e6 < max(np.diff(stamps)) < 3e6


def test_rtsp_tells_the_wall_clock_of_its_pictures(rtsp_server: StartServer) -> None:
    with av.open(rtsp_server().url, options=QUICK, timeout=(5, 5)) as container:
        for frame in itertools.islice(container.decode(video=0), 300):  # reports come every few seconds
            if container.start_time_realtime and frame.time is not None:
                break
        drawn_at_us = barcode.read(frame.reformat(format="gray").to_ndarray())
        assert drawn_at_us is not None
        assert frame.time is not None
        told_us = container.start_time_realtime + frame.time * 1e6
    assert told_us == pytest.approx(drawn_at_us, abs=100_000)


def test_rtsp_loses_packets_when_asked(rtsp_server: StartServer) -> None:
    with watching(rtsp_server(loss=0.1, gop=10).url) as pictures:
        read = [barcode.read(picture.luma) for picture in itertools.islice(pictures, 25)]
    whole = sorted({stamp for stamp in read if stamp is not None})
    drawn = round((whole[-1] - whole[0]) / 33_333) + 1
    assert 1 < len(whole) < drawn


def test_rtsp_ends_with_its_context_also_when_paused() -> None:
    _need_rtsp()
    with RtspServer() as server:
        pid = server.pid
        server.pause()
    assert pid is not None
    assert not _is_alive(pid)


def test_rtsp_dies_with_the_process_that_started_it_also_when_paused() -> None:
    _need_rtsp()
    program = (
        "import time; from tests.servers.rtsp import RtspServer; server = RtspServer(); server.start(); server.pause();"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=rtsp.ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert _is_alive(pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_alive(pid)


def test_rtsp_says_that_its_port_is_taken() -> None:
    _need_rtsp()
    with MuteServer() as other, pytest.raises(RuntimeError, match="did not start"):
        RtspServer(port=other.port).start()


def _need_rtsp() -> None:
    if reason := rtsp.missing():
        pytest.skip(reason)


def _is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended; one that waits to be reaped has."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


# HTTP


def test_mjpeg_shows_the_present() -> None:
    with HttpServer() as server, watching(server.url(MJPEG)) as pictures:
        age_s = caught_up(pictures).age_s
    assert 0 < age_s < 1


def test_hls_shows_a_live_stream() -> None:
    with HttpServer(fps=15) as server, watching(server.url(HLS)) as pictures:
        stamps = [barcode.read(next(pictures).luma) or 0 for _ in range(30)]
        age_s = (barcode.wall_us() - stamps[-1]) / 1e6
    assert set(np.diff(stamps) > 0) == {True}
    assert 0 < age_s < 10


@pytest.mark.parametrize("flags", ["", "faststart"])
def test_mp4_is_read_over_http_wherever_its_index_is(tmp_path: Path, flags: str) -> None:
    pictures = [np.full((64, 128, 3), 77, np.uint8) for _ in range(20)]
    for number, picture in enumerate(pictures):
        barcode.stamp(picture, number)
    encode(tmp_path / "file.mp4", pictures, container={"movflags": flags} if flags else None)
    with HttpServer(tmp_path) as server:
        assert [barcode.read(seen.luma) for seen in first_pictures(server.url("/file.mp4"), 99)] == list(range(20))


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        (None, 200, b"0123456789", None),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", None),
    ],
)
def test_http_serves_ranges(tmp_path: Path, asked: str | None, status: int, body: bytes, told: str | None) -> None:
    (tmp_path / "file.bin").write_bytes(b"0123456789")
    with HttpServer(tmp_path) as server:
        reply = get(server.url("/file.bin"), **({"Range": asked} if asked else {}))
    assert (*reply[:2], reply[2].get("Content-Range")) == (status, body, told)


def test_http_serves_nothing_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "public").mkdir()
    with HttpServer(tmp_path / "public") as server:
        assert get(server.url("/../secret"))[0] == 404


def test_http_lets_in_who_knows_the_password() -> None:
    with HttpServer(user="u", password="p:@") as server:
        assert len(first_pictures(server.url(), 2)) == 2
        for url in (server.url_with(), server.url_with(MJPEG, "u", "wrong")):
            with pytest.raises(av.HTTPUnauthorizedError):
                first_pictures(url)


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, av.HTTPUnauthorizedError), (404, av.HTTPNotFoundError), (500, av.HTTPServerError)],
)
def test_http_fails_until_it_is_healed(status: int, error: type[Exception]) -> None:
    with HttpServer() as server:
        server.fail(status)
        with pytest.raises(error):
            first_pictures(server.url())
        server.heal()
        assert len(first_pictures(server.url(), 2)) == 2
    assert set(server.requests[:-1]) == {Request(MJPEG, status)}
    assert server.requests[-1] == Request(MJPEG, 200)


def test_http_dropped_connections_end_the_stream_and_new_ones_are_welcome() -> None:
    with HttpServer() as server:
        with watching(server.url()) as pictures:
            next(pictures)
            server.drop()
            with contextlib.suppress(av.FFmpegError):
                assert sum(1 for _ in pictures) < 60
        assert len(first_pictures(server.url(), 2)) == 2


def test_http_stalled_sends_nothing_for_so_long() -> None:
    with HttpServer() as server, watching(server.url()) as pictures:
        caught_up(pictures)
        server.stall(0.7)
        stamps = [barcode.read(next(pictures).luma) or 0 for _ in range(20)]
    assert 0.6e6 < max(np.diff(stamps)) < 3e6


def test_http_stalled_lets_a_new_client_wait() -> None:
    with HttpServer() as server:
        server.stall()
        with pytest.raises(av.FFmpegError), watching(server.url(), timeout_s=0.5):
            pass


def test_http_stops_at_once_whatever_its_clients_do_and_starts_on_the_same_port() -> None:
    before = threading.enumerate()
    server = HttpServer()
    server.start()
    with watching(server.url()) as pictures, socket.create_connection((HOST, server.port)):
        next(pictures)
        server.stall()
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 2
        assert threads_left(before) == []
    server.heal()
    with server:
        assert len(first_pictures(server.url(), 2)) == 2


# Ports where no camera answers


@pytest.mark.parametrize("accept", [True, False])
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_mute_server_connects_and_never_answers(scheme: str, accept: bool) -> None:
    with MuteServer(accept=accept) as server:
        begun = time.monotonic()
        with pytest.raises(av.FFmpegError), watching(server.url(scheme), timeout_s=0.5):
            pass
        assert time.monotonic() - begun > 0.4
        assert server.connections == accept


def test_mute_server_answers_garbage_to_whatever_it_is_told() -> None:
    with MuteServer(answer=GARBAGE) as server, socket.create_connection((HOST, server.port), timeout=5) as client:
        client.sendall(b"OPTIONS")
        assert client.recv(16) == GARBAGE[:16]


def test_mute_server_leaves_no_thread_behind() -> None:
    before = threading.enumerate()
    with MuteServer() as server, socket.create_connection((HOST, server.port)):
        pass
    assert threads_left(before) == []


def test_refused_port_refuses() -> None:
    with refused_port() as port, pytest.raises(av.ConnectionRefusedError):
        first_pictures(f"rtsp://{HOST}:{port}/live")


def test_free_port_can_be_listened_on() -> None:
    with socket.create_server((HOST, free_port())):
        pass
