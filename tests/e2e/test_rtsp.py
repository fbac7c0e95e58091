"""RTSP cameras: a real server that serves several at once, is killed, frozen, locked, mute, or not there at all."""

from __future__ import annotations

import base64
import itertools
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.e2e.live import Seen, Step, camera, running
from tests.e2e.program import NO_MODEL, begin, events, frameloom, number_of_lines, times_of, until
from tests.pipeline.fakes import FakeStage
from tests.servers.mute import GARBAGE, MuteServer, refused_port
from tests.servers.rtsp import RtspServer

SMALL = {"size": (320, 180), "bitrate_kbps": 500}
USER, SECRET = "admin", "s3cret:/@?#&"
"""The password has to be quoted in an address."""
WARM_UP = 15
"""Frames after which an outage is over and a connection's first burst has passed."""
NO_WAY = "rtsp://camera.invalid/live"


def rises(values: list[int] | list[float]) -> bool:
    return all(before < after for before, after in itertools.pairwise(values))


# ---------------------------------------------------------------------- pictures and their times

WAYS = list(itertools.product(("open", "basic", "digest"), ("tcp", "udp")))
REPORTED_S = 0.015
"""A wall time that the camera reported is as near to the stamp in the picture; arrival is later, by 35 ms."""
LAST = 10


def after_stamp_s(frames: list[Seen], clock: Callable[[Seen], float]) -> float:
    """How much later than the stamps in the pictures a clock was, for the last frames; 1 where there are no stamps."""
    later_s = [clock(frame) - frame.stamped_s for frame in frames[-LAST:] if frame.stamped_s is not None]
    return statistics.median(later_s) if len(later_s) == LAST else 1.0


def is_reported(frames: list[Seen]) -> bool:
    return abs(after_stamp_s(frames, lambda frame: frame.wall_time)) < REPORTED_S


@pytest.fixture(scope="module")
def seen_all_ways() -> dict[str, list[Seen]]:
    """What came from three servers by two transports at once, in one run."""
    with ExitStack() as stack:
        servers = {
            "open": stack.enter_context(camera(**SMALL)),
            "basic": stack.enter_context(camera(**SMALL, user=USER, password=SECRET)),
            "digest": stack.enter_context(camera(**SMALL, user=USER, password=SECRET, digest=True)),
        }
        sources = [{"name": f"{login}-{way}", "url": servers[login].url, "transport": way} for login, way in WAYS]
        names = [each["name"] for each in sources]
        with running(*sources) as live:
            live.until(lambda: all(is_reported(live.frames(name)) for name in names))
        assert all(account.dropped["corrupt"] == 0 for account in live.runner.ledger.accounts.values())
        return {name: live.frames(name) for name in names}


@pytest.mark.parametrize(("login", "transport"), WAYS)
def test_several_clients_get_pictures_by_either_transport_and_any_login(
    seen_all_ways: dict[str, list[Seen]], login: str, transport: str
) -> None:
    frames = seen_all_ways[f"{login}-{transport}"]
    assert len(frames) > WARM_UP
    assert rises([frame.index for frame in frames])
    assert rises([frame.pts for frame in frames])
    assert rises([frame.stamped_s for frame in frames if frame.stamped_s is not None])


@pytest.mark.parametrize(("login", "transport"), WAYS)
def test_wall_times_are_the_cameras_own_once_it_has_reported_and_never_go_back(
    seen_all_ways: dict[str, list[Seen]], login: str, transport: str
) -> None:
    frames = seen_all_ways[f"{login}-{transport}"]
    walls = [frame.wall_time for frame in frames]
    assert walls == sorted(walls)
    assert is_reported(frames)
    assert after_stamp_s(frames, lambda frame: frame.arrived_s) > REPORTED_S, "arrival is as near: nothing is shown"


# ---------------------------------------------------------------------- servers that go away and come back

RECOVERED_WITHIN_S = 1.5


@pytest.mark.parametrize(("transport", "restarts"), [("tcp", 20), ("udp", 5)])
def test_a_server_that_is_killed_again_and_again_is_back_in_no_time_with_nothing_lost_or_left(
    tmp_path: Path, transport: str, restarts: int
) -> None:
    moments, process, path = random.Random(1), psutil.Process(), tmp_path / "out.mp4"
    away_s, threads, files = [], [], []
    with (
        camera(**SMALL) as server,
        running({"url": server.url, "transport": transport}, sinks__record=str(path)) as live,
    ):
        live.until_frames(WARM_UP)
        for _ in range(restarts):
            server.kill()
            live.until(lambda: not live.is_in("streaming"))
            time.sleep(moments.uniform(0, 0.6))
            server.start()
            ready_at = time.time()
            live.until(lambda: live.is_in("streaming"))
            away_s.append(live.states()[-1].wall_time - ready_at)
            live.until_frames(WARM_UP)
            threads.append(process.num_threads())
            files.append(process.num_fds())
    assert max(away_s) < RECOVERED_WITHIN_S, away_s
    assert max(threads[2:]) <= threads[1] + 1, threads
    assert max(files[2:]) <= files[1] + 2, files

    frames, runner = live.frames(), live.runner  # the run's end has seen that its account balances
    account = runner.ledger.accounts["cam"]
    assert account.dropped.total() <= 1, "nothing here is slow"
    assert account.captured >= frames[-1].index + 1
    assert len(frames) == account.delivered - runner.sink_drops["witness"]
    assert rises([frame.index for frame in frames])
    assert rises([frame.pts for frame in frames])
    times = times_of(path)
    assert len(times) == account.delivered - runner.sink_drops["record"]
    assert rises(times)
    passed_s = frames[-1].captured_at - frames[0].captured_at
    for last_s in (frames[-1].pts, times[-1]):
        assert abs(last_s - passed_s) < 0.5


def test_a_frozen_server_is_stalled_then_given_up_then_back(tmp_path: Path) -> None:
    names = ("tcp", "udp")
    with camera(**SMALL) as server:
        sources = [
            {"name": way, "url": server.url, "transport": way, "read_timeout_s": 1.8, "open_timeout_s": 1.0}
            for way in names
        ]
        with running(*sources) as live:

            def until_all(state: str) -> None:
                live.until(lambda: all(live.is_in(state, name) for name in names))

            def stream() -> None:
                until_all("streaming")
                for name in names:
                    live.until_frames(WARM_UP, name)

            stream()
            server.pause()
            until_all("stalled")
            server.resume()
            stream()
            server.pause()
            live.until(lambda: all(live.steps(name).count(("waiting", "timeout")) == 2 for name in names))
            server.resume()
            stream()
    for name in names:
        states = [state for state, _ in live.steps(name)]
        assert states[:6] == ["connecting", "streaming", "stalled", "streaming", "stalled", "waiting"]
        assert set(states[6:-2]) == {"connecting", "waiting"}
        assert states[-2:] == ["streaming", "stopped"]
        failures = [reason for state, reason in live.steps(name) if state == "waiting"]
        assert set(failures) == {"timeout"}
        assert rises([frame.pts for frame in live.frames(name)])


# ---------------------------------------------------------------------- servers that give nothing

REASONS = {
    "mute": "timeout",
    "unread": "timeout",
    "refused": "refused",
    "unknown": "dns",
    "garbage": "decode",
    "elsewhere": "refused",
    "wrong": "auth",
    "forgotten": "auth",
}


@pytest.fixture(scope="module")
def nowhere() -> Iterator[dict[str, str]]:
    """Addresses where no picture comes from, each for another reason."""
    with (
        MuteServer() as mute,
        MuteServer(accept=False) as unread,
        MuteServer(GARBAGE) as garbage,
        refused_port() as port,
        camera(**SMALL, fps=1) as server,
        camera(**SMALL, fps=1, user=USER, password=SECRET) as locked,
    ):
        yield {
            "mute": mute.url("rtsp"),
            "unread": unread.url("rtsp"),
            "refused": f"rtsp://127.0.0.1:{port}/live",
            "unknown": NO_WAY,
            "garbage": garbage.url("rtsp"),
            "elsewhere": server.url.replace("/live", "/elsewhere"),
            "wrong": locked.url_with(USER, "guess"),
            "forgotten": locked.url_with(),
        }


@pytest.fixture(scope="module")
def steps_nowhere(nowhere: dict[str, str]) -> dict[str, list[Step]]:
    """What a run with all of them goes through."""
    patience_s = {name: 0.5 if reason == "timeout" else 5.0 for name, reason in REASONS.items()}
    sources = [{"name": name, "url": url, "open_timeout_s": patience_s[name]} for name, url in nowhere.items()]
    with running(*sources) as live:
        often = {name: 1 if reason == "auth" else 3 for name, reason in REASONS.items()}
        live.until(lambda: all(live.steps(name).count(("waiting", REASONS[name])) >= often[name] for name in nowhere))
        time.sleep(0.3)
    return {name: live.steps(name) for name in nowhere}


@pytest.mark.parametrize("name", REASONS)
def test_what_cannot_be_reached_is_tried_again_and_says_why(steps_nowhere: dict[str, list[Step]], name: str) -> None:
    *steps, last = steps_nowhere[name]
    assert last == ("stopped", None)
    assert steps[0] == ("connecting", None)
    assert set(steps) == {("connecting", None), ("waiting", REASONS[name])}
    if REASONS[name] == "auth":
        assert len(steps) == 2, "tried again at once"


def test_a_refused_password_is_not_tried_again_for_half_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    with camera(**SMALL, user=USER, password=SECRET) as locked, running({"url": locked.url_with(USER)}) as live:
        live.until(lambda: live.is_in("waiting"))
    (line,) = [record.getMessage() for record in caplog.records if "auth" in record.getMessage()]
    assert float(line.rpartition("next attempt in ")[2].removesuffix(" s")) >= 30


# ---------------------------------------------------------------------- the program

OUTPUTS = ("--record", "out.mp4", "--events", "events.jsonl", "--trace", "trace.json")
LOUD = ("--debug", "--verbose")
GIVE_UP = (*NO_MODEL, "--set", "sources.0.give_up_after_s=0", "--set", "sources.0.open_timeout_s=2")


def source_steps(path: Path) -> list[Step]:
    return [(line["state"], line["reason"]) for line in events(path) if line["type"] == "source"]


def assert_secret(folder: Path, *texts: str) -> None:
    """See that the password is nowhere in what was said and written."""
    written = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    said = {f"text {number}": text.encode() for number, text in enumerate(texts)}
    secrets = (b"s3cret", base64.b64encode(f"{USER}:{SECRET}".encode()))
    for name, content in (written | said).items():
        assert not any(secret in content for secret in secrets), name


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_the_log_of_events_tells_every_state_and_no_output_tells_the_password(tmp_path: Path, digest: bool) -> None:
    log = tmp_path / "events.jsonl"
    with camera(**SMALL, user=USER, password=SECRET, digest=digest) as server:
        process = begin(tmp_path, "--source", server.url, *NO_MODEL, *OUTPUTS, *LOUD)
        until(lambda: number_of_lines(log) > WARM_UP, process)
        server.kill()
        until(lambda: log.read_text().count('"refused"') >= 2, process)
        server.start()
        until(lambda: log.read_text().count('"streaming"') == 2, process)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "streaming again" in err
    assert "Traceback" not in err
    assert_secret(tmp_path, out, err)
    steps = source_steps(log)
    states = [state for state, _ in steps]
    assert states[:3] == ["connecting", "streaming", "waiting"]
    assert set(states[2:-2]) == {"waiting", "connecting"}
    assert states[-2:] == ["streaming", "stopped"]
    failures = [reason for state, reason in steps if state == "waiting"]
    assert (failures[0], failures[-1]) == ("eof", "refused")
    lines = events(log)
    assert [line["type"] for line in lines[-2:]] == ["source", "summary"]
    changes = [line["wall_time"] for line in lines if line["type"] == "source"]
    assert changes == sorted(changes)
    counts = lines[-1]["sources"]["127.0.0.1"]
    assert counts["captured"] == counts["delivered"] + sum(counts["dropped"].values())
    assert rises(times_of(tmp_path / "out.mp4"))


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_a_refused_password_is_told_to_nobody(tmp_path: Path, digest: bool) -> None:
    with camera(**SMALL, user=USER, password="another", digest=digest) as server:
        url = server.url_with(USER, SECRET)
        process = begin(tmp_path, "--source", url, *NO_MODEL, *OUTPUTS, *LOUD)
        until(lambda: number_of_lines(tmp_path / "events.jsonl") >= 2, process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        gave_up = frameloom("run", "--source", url, *GIVE_UP, *LOUD, *OUTPUTS, cwd=tmp_path)
    assert (process.returncode, gave_up.code) == (0, 1)
    assert "auth" in err
    assert "AuthenticationFailed" in gave_up.error
    assert_secret(tmp_path, out, err, gave_up.out, gave_up.error)


@pytest.mark.parametrize("name", ["mute", "refused", "unknown", "wrong"])
def test_a_run_that_gives_up_ends_with_exit_code_1_and_one_line_that_says_why(
    tmp_path: Path, nowhere: dict[str, str], name: str
) -> None:
    done = frameloom("run", "--source", nowhere[name], *GIVE_UP, cwd=tmp_path)
    assert done.code == 1
    assert REASONS[name] in done.complaint


def test_a_run_gives_up_on_a_server_that_does_not_come_back(tmp_path: Path) -> None:
    with camera(**SMALL) as server:
        process = begin(tmp_path, "--source", server.url, *OUTPUTS, *NO_MODEL, "--set", "sources.0.give_up_after_s=0.5")
        until(lambda: number_of_lines(tmp_path / "events.jsonl") > WARM_UP, process)
        server.kill()
        _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("frameloom: 127.0.0.1: refused: ")
    lines = events(tmp_path / "events.jsonl")
    assert [(line["type"], line.get("state")) for line in lines[-2:]] == [("source", "stopped"), ("summary", None)]
    assert rises(times_of(tmp_path / "out.mp4"))


# ---------------------------------------------------------------------- neighbours

WINDOW, WINDOWS = 60, 3
"""Frames, after the first ones; and how often."""


def p95_s(healthy: RtspServer, beside: Mapping[str, str]) -> float:
    """The 95th percentile of a camera's time from capture to delivery, in a run with others."""
    others = [{"name": name, "url": url, "open_timeout_s": 0.4} for name, url in beside.items()]
    with running({"url": healthy.url}, *others, stages=[FakeStage(takes_s=0.01)]) as live:
        live.until_frames(WARM_UP + WINDOW)
    latencies = sorted(frame.latency_s for frame in live.frames()[-WINDOW:])
    return latencies[int(0.95 * WINDOW)]


def test_a_dead_a_slow_and_a_reconnecting_neighbour_do_not_delay_a_camera(nowhere: dict[str, str]) -> None:
    with camera(**SMALL) as healthy, camera(**SMALL, fps=2) as slow:
        others = {name: nowhere[name] for name in ("mute", "refused", "garbage")} | {"slow": slow.url}
        alone, beside = [], []
        for _ in range(WINDOWS):
            alone.append(p95_s(healthy, {}))
            beside.append(p95_s(healthy, others))
    assert statistics.median(beside) < 1.1 * statistics.median(alone) + 0.002, (alone, beside)
