"""Streams that are neither RTSP nor HTTP, sent by a real FFmpeg."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.program import Done, events, frameloom
from tests.servers.mute import free_port

PICTURES = 40
NO_MODEL = ("--set", "detect.enabled=false", "--max-frames", str(PICTURES))


@contextmanager
def ffmpeg(*output: str) -> Iterator[None]:
    """Send a test pattern of 25 pictures a second, without end."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("no ffmpeg: apt install ffmpeg")
    pattern = ("-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25")
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "12", "-pix_fmt", "yuv420p")
    process = subprocess.Popen([program, "-loglevel", "error", *pattern, *codec, *output])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def captured(folder: Path, address: str) -> Done:
    return frameloom("run", "--source", address, "--events", "e.jsonl", *NO_MODEL, cwd=folder, timeout_s=60)


def states(folder: Path) -> list[str]:
    return [line["state"] for line in events(folder / "e.jsonl") if line["type"] == "source"]


def test_rtmp_without_sound_opens_before_ffmpeg_would_have_analysed_it(tmp_path: Path) -> None:
    address = f"rtmp://127.0.0.1:{free_port()}/live/cam"
    with ffmpeg("-f", "flv", "-listen", "1", address):
        done = captured(tmp_path, address)
    assert done.code == 0, done.error
    assert states(tmp_path)[-3:] == ["connecting", "streaming", "stopped"]
    assert events(tmp_path / "e.jsonl")[-1]["sources"]["127.0.0.1"]["captured"] == PICTURES


def test_mpeg_ts_over_udp_is_joined_in_the_middle_and_what_comes_before_a_keyframe_is_dropped(tmp_path: Path) -> None:
    address = f"udp://127.0.0.1:{free_port()}"
    with ffmpeg("-f", "mpegts", f"{address}?pkt_size=1316"):
        done = captured(tmp_path, address)
    assert done.code == 0, done.error
    account = events(tmp_path / "e.jsonl")[-1]["sources"]["127.0.0.1"]
    assert account["captured"] == PICTURES == account["delivered"] + account["dropped"]["corrupt"]
    assert account["delivered"] >= PICTURES / 2


def test_a_protocol_that_ffmpeg_lacks_ends_the_run_in_one_line(tmp_path: Path) -> None:
    done = frameloom("run", "--source", "sftp://127.0.0.1:1/x.ts", *NO_MODEL, cwd=tmp_path, timeout_s=30)
    assert "sftp:// is not built into the FFmpeg" in done.complaint
    assert done.code == 1
