"""Cameras and recordings of web servers: MJPEG, live HLS, MP4 by ranges; refused, silent for a while, broken off."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline.runner import STOP_WITHIN_S
from tests.e2e.live import Live, Step, running
from tests.e2e.program import NO_MODEL, events, frameloom
from tests.pipeline.fakes import FakeStage
from tests.pipeline.videos import encode, noise_planes
from tests.servers.http import HLS, HttpServer

WARM_UP = 15
FPS = 20
PICTURES = 60
"""Of the recording, which is larger than what the sockets between server and client hold."""
LARGEST_SOCKETS = 12_000_000
STREAMS: list[Step] = [("connecting", None), ("streaming", None)]
STOPS: list[Step] = [("stopped", None)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with film.mp4."""
    folder = tmp_path_factory.mktemp("films")
    noise = (noise_planes(640, 480, number).data for number in range(PICTURES))
    pictures = (av.VideoFrame.from_ndarray(each, format="yuv420p") for each in noise)
    film = encode(folder / "film.mp4", pictures, options={"preset": "ultrafast", "qp": "12"})
    assert film.stat().st_size > 1.5 * LARGEST_SOCKETS
    return folder


@pytest.fixture
def camera() -> Iterator[HttpServer]:
    with HttpServer(fps=FPS) as server:
        yield server


# ---------------------------------------------------------------------- MJPEG


def test_pictures_over_http_arrive_whole_and_at_once(camera: HttpServer) -> None:
    with running({"url": camera.url()}) as live:
        live.until_frames(WARM_UP + 2 * FPS)
    assert live.steps() == STREAMS + STOPS
    assert live.runner.ledger.accounts["cam"].dropped.total() <= 1  # the one that the end has caught
    frames = live.frames()[WARM_UP:]
    ages_s = [frame.arrived_s - frame.stamped_s for frame in frames if frame.stamped_s is not None]
    assert len(ages_s) == len(frames)
    assert statistics.median(ages_s) < 2 / FPS
    assert frames[-1].pts - frames[0].pts == pytest.approx(frames[-1].captured_at - frames[0].captured_at, abs=0.05)
    assert all(frame.wall_time == pytest.approx(frame.arrived_s, abs=0.01) for frame in frames), (
        "there is no other time"
    )


def test_a_server_that_is_silent_for_a_while_is_stalled_and_no_other_connection_is_made(camera: HttpServer) -> None:
    with running({"url": camera.url()}) as live:
        live.until_frames(WARM_UP)
        camera.stall(1.8)
        live.until(lambda: live.is_in("stalled"))
        live.until(lambda: live.is_in("streaming"))
        live.until_frames(WARM_UP)
    assert live.steps() == [*STREAMS, ("stalled", None), ("streaming", None), *STOPS]
    assert len(camera.requests) == 1


def test_a_server_that_stays_silent_is_given_up(camera: HttpServer) -> None:
    with running({"url": camera.url(), "read_timeout_s": 1.3, "open_timeout_s": 0.5}) as live:
        live.until_frames(WARM_UP)
        camera.stall()
        live.until(lambda: live.steps().count(("waiting", "timeout")) == 3)
        camera.heal()
        live.until_frames(WARM_UP)
    tried: list[Step] = [("waiting", "timeout"), ("connecting", None)]
    assert live.steps() == [*STREAMS, ("stalled", None), *tried, *tried, *tried, ("streaming", None), *STOPS]


def test_a_closed_connection_is_made_again_at_once(camera: HttpServer) -> None:
    with running({"url": camera.url()}) as live:
        live.until_frames(WARM_UP)
        before = time.monotonic()
        camera.drop()
        live.until(lambda: len(live.steps()) > 4)
        assert time.monotonic() - before < 1.0
        live.until_frames(WARM_UP)
    assert live.steps() == [*STREAMS, ("waiting", "eof"), *STREAMS, *STOPS]


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "auth"), (403, "auth"), (404, "refused"), (500, "refused"), (503, "refused")]
)
def test_a_status_that_is_an_error_is_a_reason_to_wait(camera: HttpServer, status: int, reason: str) -> None:
    camera.fail(status)
    with running({"url": camera.url()}) as live:
        live.until(lambda: live.is_in("waiting"))
        assert live.steps()[:2] == [("connecting", None), ("waiting", reason)]
        if reason == "refused":
            camera.heal()
            live.until_frames(WARM_UP)


def test_basic_authentication_lets_in_who_knows_the_password() -> None:
    with HttpServer(fps=FPS, user="admin", password="right") as camera:
        urls = {"right": camera.url(), "wrong": camera.url_with(user="admin", password="wrong")}
        with running(*({"name": name, "url": url} for name, url in urls.items())) as live:
            live.until_frames(WARM_UP, "right")
            live.until(lambda: live.is_in("waiting", "wrong"))
        assert live.steps("wrong")[1] == ("waiting", "auth")


def test_a_web_page_is_no_camera(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!DOCTYPE html><html><body>Log in, please</body></html>" * 20)
    with HttpServer(tmp_path) as server, running({"url": server.url("/index.html")}) as live:
        live.until(lambda: live.is_in("waiting"))
    assert live.steps()[1] in [("waiting", "decode"), ("waiting", "unsupported")]


# ---------------------------------------------------------------------- live HLS


def test_hls_comes_in_pieces_and_is_given_at_the_pace_of_its_pictures(camera: HttpServer) -> None:
    with running({"url": camera.url(HLS)}) as live:
        live.until_frames(WARM_UP)
        live.until_frames(4 * FPS)
    assert live.steps() == STREAMS + STOPS
    frames = live.frames()[WARM_UP:]
    took_s = frames[-1].captured_at - frames[0].captured_at
    assert (len(frames) - 1) / took_s == pytest.approx(FPS, rel=0.15)
    steps_s = sorted(after.captured_at - before.captured_at for before, after in itertools.pairwise(frames))
    assert steps_s[len(steps_s) // 10] > 0.3 / FPS, "a piece's pictures all at once"
    stamps = [frame.stamped_s for frame in frames if frame.stamped_s is not None]
    assert len(stamps) == len(frames)
    assert max(after - before for before, after in itertools.pairwise(stamps)) < 5 / FPS, "pictures were left out"


# ---------------------------------------------------------------------- recordings


def ends(live: Live, within_s: float = 20) -> None:
    assert live.runner.wait(within_s), "it hangs"


def test_a_recording_is_read_by_ranges_to_its_end_and_every_picture_is_delivered(films: Path) -> None:
    with HttpServer(films) as server, running({"url": server.url("/film.mp4")}) as live:
        ends(live)
    assert [frame.index for frame in live.frames()] == list(range(PICTURES))
    assert live.runner.ledger.counts()["cam"]["delivered"] == PICTURES
    assert live.runner.remarks() == []
    assert {request.status for request in server.requests} <= {200, 206}
    assert 206 in {request.status for request in server.requests}, "its index is at its end"


def test_a_recording_whose_connection_breaks_is_read_on_where_it_was(films: Path) -> None:
    with (
        HttpServer(films) as server,
        running({"url": server.url("/film.mp4")}, stages=[FakeStage(takes_s=0.02)]) as live,
    ):
        live.until_frames(5)
        server.drop()
        ends(live)
    assert [frame.index for frame in live.frames()] == list(range(PICTURES))
    assert live.runner.remarks() == []


@pytest.mark.parametrize("death", ["stop", "stall"])
def test_a_recording_whose_server_dies_ends_with_a_remark(films: Path, death: str) -> None:
    source: dict[str, Any] = {"read_timeout_s": 0.5}
    with HttpServer(films) as server:
        source["url"] = server.url("/film.mp4")
        with running(source, stages=[FakeStage(takes_s=0.02)]) as live:
            live.until_frames(5)
            getattr(server, death)()
            ends(live, 30)
    (remark,) = live.runner.remarks()
    delivered = live.runner.ledger.accounts["cam"].delivered
    assert 5 <= delivered < PICTURES
    assert f"damaged or truncated; {delivered} of about {PICTURES} frames decoded" in remark


def test_a_recording_is_stopped_while_its_server_is_silent(films: Path) -> None:
    source: dict[str, Any] = {"read_timeout_s": 3.0}
    with HttpServer(films) as server:
        source["url"] = server.url("/film.mp4")
        with running(source, stages=[FakeStage(takes_s=0.02)]) as live:
            live.until_frames(5)
            server.stall()
            time.sleep(2)
            assert live.stop() < STOP_WITHIN_S


# ---------------------------------------------------------------------- the program


def run_once(folder: Path, url: str) -> Any:
    settings = ("--set", "sources.0.give_up_after_s=0", "--set", "sources.0.open_timeout_s=2")
    return frameloom("run", "--source", url, *NO_MODEL, *settings, "--events", "e.jsonl", cwd=folder)


def test_a_wrong_address_ends_in_one_line_that_keeps_its_secrets(tmp_path: Path, films: Path) -> None:
    with HttpServer(films, user="admin", password="right") as server:
        stream = run_once(tmp_path, server.url_with("/mjpeg?token=t0ken", "admin", "s3cret"))
        film = run_once(tmp_path, server.url_with("/film.mp4?token=t0ken", "admin", "s3cret"))
    assert (stream.code, film.code) == (1, 2)
    assert "auth" in stream.complaint
    assert "401" in film.complaint
    said = stream.out + stream.error + film.out + film.error + (tmp_path / "e.jsonl").read_text()
    assert "s3cret" not in said
    assert "t0ken" not in said


def test_a_recording_ends_the_program_by_itself(tmp_path: Path, films: Path) -> None:
    with HttpServer(films) as server:
        done = run_once(tmp_path, server.url("/film.mp4"))
    assert (done.code, done.error) == (0, "")
    summary = events(tmp_path / "e.jsonl")[-1]
    assert [account["delivered"] for account in summary["sources"].values()] == [PICTURES]


def test_the_addresses_that_ffmpeg_logs_are_without_the_password(tmp_path: Path) -> None:
    with HttpServer(fps=FPS, user="admin", password="s3cret") as camera:
        options = (*NO_MODEL, "--max-frames", "20", "--events", "e.jsonl", "--debug")
        done = frameloom("run", "--source", camera.url(HLS), *options, cwd=tmp_path)
    assert done.code == 0, done.error
    assert "Opening 'http://admin:***@127.0.0.1" in done.error
    assert "s3cret" not in done.out + done.error + (tmp_path / "e.jsonl").read_text()
