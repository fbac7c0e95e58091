"""Addresses: what kind of thing each one names, and which are refused, without showing a password."""

from __future__ import annotations

import pytest

from pipeline.capture.address import check_network, is_camera, is_network, is_recording, local_path
from pipeline.errors import SourceError

KINDS = [
    (0, "camera"),
    (17, "camera"),
    ("/dev/video0", "camera"),
    ("/dev/video12", "camera"),
    ("/dev/v4l/by-id/usb-046d_HD_Pro-video-index0", "camera"),
    ("/dev/videos/holiday.mp4", "local"),
    ("/dev/video0.mp4", "local"),
    ("dev/video0", "local"),
    ("0", "local"),
    ("clip.mp4", "local"),
    ("a folder/*.jpg", "local"),
    ("file:///data/clip.mp4", "local"),
    ("synthetic://640x480@30", "local"),
    ("rtsp://cam/live", "network"),
    ("rtsp://user:s3cret@cam:8554/live?x=1", "network"),
    ("http://cam/mjpeg", "network"),
    ("udp://@239.0.0.1:5000", "network"),
    ("http://cam/clip.mp4", "recording"),
    ("https://cam/a/CLIP.MKV?token=s3cret", "recording"),
    ("ftp://cam/clip.avi", "recording"),
    ("rtsp://cam/clip.mp4", "network"),
    ("http://cam/live.m3u8", "network"),
    ("http://cam/get?file=clip.mp4", "network"),
    ("http://cam/clip.mp4/live", "network"),
    ("http://[cam/clip.mp4", "network"),
]


@pytest.mark.parametrize(("url", "kind"), KINDS)
def test_what_an_address_names(url: str | int, kind: str) -> None:
    assert is_camera(url) == (kind == "camera")
    assert is_network(url) == (kind in ("network", "recording"))
    assert is_recording(str(url)) == (kind == "recording")


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://cam",
        "RTSP://CAM:554/live",
        "rtsps://user:s3cret@cam/live",
        "http://192.0.2.1:8080/mjpeg",
        "rtmp://cam/app/key",
        "srt://cam:9000",
        "rtsp://[fe80::1]:554/x",
        "udp://:5000",
        "udp://@239.0.0.1:5000",
        "rtp://",
    ],
)
def test_what_ffmpeg_may_read_passes(url: str) -> None:
    check_network(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("rstp://user:s3cret@cam/x", r"rstp://user:\*\*\*@cam/x: nothing here reads rstp://.*did you mean rtsp://\?"),
        ("htpp://cam", r"did you mean http://\?"),
        ("rtso://cam", r"did you mean rts"),
        ("gopher://cam", r"known are: rtsp, rtsps"),
        ("://cam", r"nothing here reads"),
        ("rtsp://", r"rtsp:// names no host"),
        ("http:///path?token=s3cret", r"http:///path\?token=\*\*\* names no host"),
        ("rtsp://user:s3cret@/live", r"names no host"),
        ("rtsp://cam:99999/live", r"rtsp://cam:99999/live is no address: Port out of range"),
        ("rtsp://user:s3cret@cam:port/live", r"is no address"),
        ("rtsp://[fe80/x", r"is no address"),
    ],
)
def test_what_cannot_be_a_stream_is_refused_with_a_hint_and_without_its_password(url: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        check_network(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/my%20clip.mp4", "/data/my clip.mp4"),
        ("file://clip.mp4", "clip.mp4"),
        ("clip%20.mp4", "clip%20.mp4"),
        ("/a/b", "/a/b"),
        ("rtsp://cam/a%20b", "rtsp://cam/a%20b"),
    ],
)
def test_a_file_address_is_a_path(url: str, path: str) -> None:
    assert local_path(url) == path
