"""The webhook against a real server: that answers, refuses, hangs, closes and is not there."""

from __future__ import annotations

import email.utils
import hmac
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import load_settings
from pipeline.config.sink_settings import WebhookSettings
from pipeline.errors import ConfigError, SinkError
from pipeline.frame import Frame
from pipeline.sinks import webhook
from pipeline.sinks.webhook import Webhook
from tests.pipeline.fakes import make_frame
from tests.servers.drip import DripServer
from tests.servers.hook import Answer, HookServer
from tests.servers.mosquitto import Certificates
from tests.servers.mute import MuteServer, refused_port


@pytest.fixture
def server() -> Iterator[HookServer]:
    with HookServer() as running:
        yield running


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Webhook]]:
    """Makes and opens webhooks whose pauses are short; closes them."""
    monkeypatch.setattr(webhook, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(webhook, "LONGEST_PAUSE_S", 0.2)
    monkeypatch.delenv("FRAMELOOM_WEBHOOK_SECRET", raising=False)
    made: list[Webhook] = []

    def make(url: str, **fields: Any) -> Webhook:
        sink = Webhook(WebhookSettings(url=url, **({"spool": tmp_path / "spool"} | fields)))
        sink.check([])
        sink.open()
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()


def frame(number: int, event: str = "zone.enter", **more: Any) -> Frame:
    made = make_frame("door", number)
    made.events.append({"event": event, "zone": "Tür", "track": number, **more})
    return made


def tracks(server: HookServer) -> list[int]:
    return [post.record["track"] for post in server.taken]


def test_each_event_is_one_json_object_with_its_place_and_time(server: HookServer, opened: Any) -> None:
    sink = opened(server.url(), headers=("Authorization=Bearer abc=", "X-Ort=Küche"))
    sink.consume(frame(7))
    server.until(lambda: len(server.taken) == 1)
    (post,) = server.posts
    record = post.record
    assert abs(record.pop("reported_at") - time.time()) < 10
    assert record.pop("id") == post.headers["X-Frameloom-Delivery"]
    assert record == {
        "type": "event",
        "source": "door",
        "frame": 7,
        "pts": round(7 / 30, 6),
        "wall_time": None,
        "event": "zone.enter",
        "zone": "Tür",
        "track": 7,
    }
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers["Authorization"] == "Bearer abc="
    assert post.headers["X-Ort"].encode("latin-1").decode() == "Küche"
    assert "X-Frameloom-Signature" not in post.headers


def test_only_wanted_events_are_sent(server: HookServer, opened: Any) -> None:
    sink = opened(server.url(), on=("person.*", "zone.leave"))
    for number, name in enumerate(("zone.enter", "person.left", "zone.leave", "people", "person.unknown")):
        sink.consume(frame(number, name))
    server.until(lambda: len(server.taken) == 3)
    assert tracks(server) == [1, 2, 4]


@pytest.mark.parametrize("from_environment", [False, True])
def test_bodies_are_signed_together_with_the_time(
    server: HookServer, opened: Any, monkeypatch: pytest.MonkeyPatch, from_environment: bool
) -> None:
    if from_environment:
        monkeypatch.setenv("FRAMELOOM_WEBHOOK_SECRET", "s3cret")
    sink = opened(server.url(), secret=None if from_environment else "s3cret")
    sink.consume(frame(1))
    server.until(lambda: bool(server.taken))
    (post,) = server.taken
    # as the module's docstring shows it to whoever receives
    timestamp = post.headers["X-Frameloom-Timestamp"]
    expected = hmac.new(b"s3cret", timestamp.encode() + b"." + post.body, "sha256").hexdigest()
    assert post.headers["X-Frameloom-Signature"] == f"sha256={expected}"
    assert abs(time.time() - int(timestamp)) < 10
    forged = hmac.new(b"s3cret", timestamp.encode() + b"." + post.body.replace(b"1", b"2"), "sha256").hexdigest()
    assert forged != expected


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_what_may_pass_is_tried_again_in_order_and_as_the_same_delivery(
    server: HookServer, opened: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.script.extend([Answer(), *[Answer(status)] * 3])
    sink = opened(server.url())
    for number in range(5):
        sink.consume(frame(number))
    server.until(lambda: len(server.taken) == 5)
    assert tracks(server) == [0, 1, 2, 3, 4]
    assert [post.status for post in server.posts] == [200, *[status] * 3, 200, 200, 200, 200]
    assert len({post.headers["X-Frameloom-Delivery"] for post in server.posts[1:5]}) == 1
    assert len({post.headers["X-Frameloom-Delivery"] for post in server.posts}) == 5
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"answered {status}; events wait on disk" in warnings[0]
    assert sink.dropped == 0


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_retry_after_is_kept(server: HookServer, opened: Any, kind: str) -> None:
    after = "1" if kind == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    server.script.append(Answer(429, {"Retry-After": after}))
    opened(server.url()).consume(frame(0))
    server.until(lambda: len(server.taken) == 1)
    first, second = server.posts
    assert 0.9 < second.at - first.at < 4


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "1e400", "Thu, 99 Foo 2026"])
def test_a_strange_retry_after_does_no_harm(value: str) -> None:
    assert 0 <= webhook._seconds(value) <= webhook.LONGEST_RETRY_AFTER_S


@pytest.mark.parametrize("status", [400, 401, 404, 410, 301])
def test_a_refused_event_is_given_up_at_once_counted_and_told_once(
    server: HookServer, opened: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.script.extend([Answer(status, {"Location": server.url("/elsewhere")})] * 2)
    sink = opened(server.url())
    for number in range(3):
        sink.consume(frame(number))
    server.until(lambda: len(server.taken) == 1)
    assert len(server.posts) == 3
    assert tracks(server) == [2]
    sink.close()
    assert sink.dropped == 2
    assert len(caplog.records) == 1
    assert f"answered {status}: such events are given up" in caplog.text
    assert "2 events" in (sink.remark() or "")


def test_a_server_that_hangs_has_failed_after_the_timeout(server: HookServer, opened: Any) -> None:
    server.script.append(Answer(hang=True))
    opened(server.url(), timeout_s=0.3).consume(frame(0))
    server.until(lambda: len(server.taken) == 1)
    first, second = server.posts
    assert 0.3 < second.at - first.at < 2


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_server_that_drips_its_answer_has_failed_after_the_timeout(
    opened: Any, encrypted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = None
    if encrypted:
        (tmp_path / "certificates").mkdir()
        certificates = Certificates(tmp_path / "certificates")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificates.broker)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
    with DripServer(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 400, 0.05, context) as dripping:
        sink = opened(f"{'https' if encrypted else 'http'}://localhost:{dripping.port}/", timeout_s=0.3)
        sink.consume(frame(0))
        dripping.until(lambda: dripping.requests >= 3, 10)
        assert sink.spool.waiting == 1
        assert (sink.remark() or "").endswith("could not be reached: it does not answer")


def test_a_server_that_closes_is_asked_again(server: HookServer, opened: Any) -> None:
    server.script.extend([Answer(close=True)] * 2)
    sink = opened(server.url())
    sink.consume(frame(0))
    sink.consume(frame(1))
    server.until(lambda: len(server.taken) == 2)
    assert tracks(server) == [0, 1]


def test_nothing_is_lost_while_the_server_is_away(server: HookServer, opened: Any) -> None:
    sink = opened(server.url())
    sink.consume(frame(0))
    server.until(lambda: len(server.taken) == 1)
    server.stop()
    for number in range(1, 200):
        sink.consume(frame(number))
    time.sleep(1)
    server.start()
    server.until(lambda: len(server.taken) >= 200)
    assert tracks(server) == list(range(200))
    assert sink.dropped == 0


def test_what_could_not_be_sent_waits_for_the_next_run(server: HookServer, opened: Any) -> None:
    server.stop()
    sink = opened(server.url())
    for number in range(3):
        sink.consume(frame(number))
    time.sleep(0.3)
    sink.close()
    remark = sink.remark()
    assert remark is not None
    assert remark.startswith(f"3 events wait for http://127.0.0.1:{server.port}; the next run sends them")
    assert "nothing listens there" in remark
    server.start()
    again = opened(server.url())
    again.consume(frame(3))
    server.until(lambda: len(server.taken) == 4)
    assert tracks(server) == [0, 1, 2, 3]
    again.close()
    assert again.remark() is None


def test_an_event_that_waited_too_long_is_given_up_and_newer_ones_are_not(server: HookServer, opened: Any) -> None:
    server.otherwise = Answer(500)
    sink = opened(server.url(), give_up_after_s=1)
    for number in range(50):
        sink.consume(frame(number))
    deadline = time.monotonic() + 20
    while sink.dropped < 50 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sink.dropped == 50
    assert len(server.posts) < 50  # a server that fails is not asked for each of them
    server.otherwise = Answer()
    sink.consume(frame(50))
    server.until(lambda: len(server.taken) == 1)
    assert tracks(server) == [50]


@pytest.mark.parametrize("kind", ["hangs", "mute", "refuses", "nowhere"])
def test_closing_takes_a_moment_whatever_hangs(server: HookServer, opened: Any, kind: str) -> None:
    server.otherwise = Answer(hang=True)
    with MuteServer() as mute, refused_port() as port:
        url = {
            "hangs": server.url(),
            "mute": mute.url("http"),
            "refuses": f"http://127.0.0.1:{port}/",
            "nowhere": "http://192.0.2.1/",
        }[kind]
        sink = opened(url, timeout_s=30)
        took = []
        for number in range(100):
            began = time.monotonic()
            sink.consume(frame(number))
            took.append(time.monotonic() - began)
        time.sleep(0.3)
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 0.35
    assert sorted(took)[90] < 0.005
    assert "100 events wait" in (sink.remark() or "")
    assert sink.dropped == 0


def test_secrets_are_in_no_message(server: HookServer, opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pipeline")
    server.otherwise = Answer(500)
    sink = opened(server.url("/services/T0PATH?token=T0KEN", "user:PASSW0RD@"), secret="S3CRET")
    sink.consume(frame(0))
    server.until(lambda: len(server.posts) > 1)
    assert server.posts[0].headers["Authorization"].startswith("Basic ")
    server.stop()
    time.sleep(0.5)
    sink.close()
    said = caplog.text + str(sink.remark())
    assert "answered 500" in said
    assert "nothing listens there" in said
    for secret in ("T0PATH", "T0KEN", "PASSW0RD", "S3CRET"):
        assert secret not in said


def test_two_runs_do_not_share_a_spool(server: HookServer, opened: Any, tmp_path: Path) -> None:
    opened(server.url())
    with pytest.raises(
        ConfigError, match=r"sinks\.webhook\.spool: another run keeps its events .*: name another folder"
    ):
        opened(server.url())
    late = Webhook(WebhookSettings(url=server.url(), spool=tmp_path / "spool"))
    with pytest.raises(SinkError, match="another run keeps its events"):
        late.open()
    opened(server.url(), spool=tmp_path / "other")


def test_a_spool_that_cannot_be_written_is_refused_before_the_run(
    server: HookServer, opened: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"sinks\.webhook\.spool: cannot write to .*Not a directory"):
        opened(server.url(), spool=tmp_path / "file" / "spool")


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("ftp://a.example/", "is no address of http:// or https://"),
        ("'http://'", "is no address of http:// or https://"),
        ("'http://a b/'", "is no address of http:// or https://"),
        ("'http://a:99999/'", "is no address of http:// or https://"),
        ("'http://[::1/'", "is no address of http:// or https://"),
        ("{url: 'http://a/', headers: ['no sign']}", "must be NAME=VALUE"),
        ("{url: 'http://a/', headers: ['a b=c']}", "must be headers, each NAME=VALUE"),
        ('{url: "http://a/", headers: ["a=b\\r\\nc: d"]}', "must be headers, each NAME=VALUE"),
        ("{url: 'http://a/', headers: ['Content-Length=3']}", "must not hold Content-Length"),
        ("{url: 'http://a/', headers: ['X-Frameloom-Signature=x']}", "must not hold X-Frameloom-Signature"),
        ("{url: 'http://a/', on: ['zone enter']}", "names no event"),
        ("{url: 'http://a/', secret: 53CRET, headers: ['Authorization=Bearer 53CRET', 'a b=c']}", "must be headers"),
        ("{url: 'http://a/', secret: 5300000000}", "is not text"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, yaml: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(f"sinks:\n  webhook: {yaml}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "c.yaml")
    assert says in str(caught.value)
    assert "53" not in str(caught.value).replace(str(tmp_path), "")


def test_a_host_that_is_not_known_is_told(opened: Any, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    def unknown(*arguments: Any, **more: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # what a resolver says differs from machine to machine
    opened("http://no-such-host.example/").consume(frame(0))
    deadline = time.monotonic() + 10
    while not caplog.records and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "http://no-such-host.example could not be reached: no such host is known" in caplog.text
