"""Senders in a real run: receivers that are down, hang or refuse take nothing from the pipeline."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import Frame, Pipeline, Stage
from pipeline.errors import SinkError
from pipeline.sinks import sender
from pipeline.sinks.sender import Backoff, Sender, as_json
from tests.pipeline.fakes import make_frame
from tests.servers.mute import MuteServer, refused_port


class Tell(Stage):
    """An event in every frame."""

    name = "tell"

    def process(self, frame: Frame) -> None:
        frame.events.append({"event": "zone.enter", "zone": "yard", "track": frame.index})


def run(url: str, sinks: dict[str, Any]) -> dict[str, Any]:
    """Run to the end; return the summary with the remarks and how long it took to end."""
    pipeline = Pipeline(
        {"sources": [{"url": url, "name": "cam"}], "detect": {"enabled": False}, "sinks": sinks}, stages=[Tell()]
    )
    pipeline.runner.start()
    assert pipeline.runner.wait(60)
    assert pipeline.runner.error is None
    return pipeline.runner.summary() | {"remarks": pipeline.runner.remarks()}


@pytest.mark.parametrize("kind", ["refuse", "hang"])
@pytest.mark.parametrize("url", ["synthetic://640x480@20?frames=80&live=1", "synthetic://640x480@60?frames=2000"])
def test_dead_receivers_take_no_frame_from_anybody(tmp_path: Path, kind: str, url: str) -> None:
    with refused_port() as closed, MuteServer(accept=False) as mute:
        port = closed if kind == "refuse" else mute.port
        dead = {
            "mqtt": {"host": "127.0.0.1", "port": port, "frames": True, "spool": str(tmp_path / "m")},
            "webhook": {"url": f"http://127.0.0.1:{port}/", "spool": str(tmp_path / "w")},
        }
        summary = run(url, dead)
        without = run(url, {})
    frames = int(url.partition("frames=")[2].partition("&")[0])
    account = summary["sources"]["cam"]
    assert account["captured"] == account["delivered"] == frames
    assert set(summary["sink_drops"].values()) <= {0}
    assert summary["abandoned"] == 0
    if "live" in url:
        assert summary["fps"] == pytest.approx(without["fps"], rel=0.03)
    said = sorted(summary["remarks"])
    assert [remark.split(" (")[0] for remark in said] == [
        f"{frames} events wait for http://127.0.0.1:{port}; the next run sends them",
        f"{frames} events wait for the broker 127.0.0.1:{port}; the next run sends them",
    ]


def test_a_run_with_hanging_receivers_stops_within_two_seconds(tmp_path: Path) -> None:
    with MuteServer(accept=False) as mute:
        sinks = {
            "mqtt": {"host": "127.0.0.1", "port": mute.port, "spool": str(tmp_path / "m")},
            "webhook": {"url": mute.url("http"), "timeout_s": 60, "spool": str(tmp_path / "w")},
        }
        sources = [{"url": "synthetic://640x480@30?live=1", "name": "cam"}]
        pipeline = Pipeline({"sources": sources, "detect": {"enabled": False}, "sinks": sinks}, stages=[Tell()])
        pipeline.runner.start()
        time.sleep(1)
        began = time.monotonic()
        pipeline.runner.stop()
        assert pipeline.runner.wait(10)
        assert time.monotonic() - began < 1.0
        assert pipeline.runner.abandoned == 0


def test_two_sinks_may_share_a_folder_and_never_send_each_others_events(tmp_path: Path) -> None:
    with refused_port() as port:
        mqtt = {"host": "127.0.0.1", "port": port, "spool": str(tmp_path)}
        webhook = {"url": f"http://127.0.0.1:{port}/", "spool": str(tmp_path)}
        source = "synthetic://64x48@60?frames=5"
        both = run(source, {"mqtt": mqtt, "webhook": webhook})["remarks"]
        assert [remark.split(" (")[0].split(" for ")[0] for remark in both] == ["5 events wait"] * 2
        (later,) = run(source, {"webhook": webhook})["remarks"]
        assert later.startswith("10 events wait for http")


class Fails(Sender):
    """A sender whose thread meets something that nobody has foreseen, once."""

    def __init__(self, folder: Path) -> None:
        super().__init__("fails", "x", "the receiver", ["*"], folder, 1.0)
        self.sent: list[bytes] = []
        self.attempts = 0

    def _send_until_closed(self) -> None:
        while not self._is_over():
            if (found := self.spool.next()) is not None:
                self.attempts += 1
                if self.attempts == 1:
                    raise ValueError("never seen before")
                self.sent.append(found[1])
                self.spool.confirm(found[0] + 1)
            time.sleep(0.01)


def test_a_thread_that_fails_says_so_in_a_sentence_and_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "BEGIN_AGAIN_S", 0.05)
    sink = Fails(tmp_path)
    sink.check([])
    sink.open()
    for index in range(3):
        frame = make_frame("door", index)
        frame.events.append({"event": "zone.enter"})
        sink.consume(frame)
    deadline = time.monotonic() + 10
    while len(sink.sent) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    sink.close()
    assert [json.loads(body)["frame"] for body in sink.sent] == [0, 1, 2]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("fails: events could not be sent to the receiver: ValueError: never seen before;")


def test_pauses_grow_to_a_limit_and_differ() -> None:
    backoff = Backoff(1.0, 60.0)
    pauses = [backoff.next() for _ in range(12)]
    for number, pause in enumerate(pauses):
        assert min(60, 2**number) / 2 <= pause <= min(60, 2**number)
    assert len(set(pauses)) == 12
    backoff.reset()
    assert backoff.next() <= 1.0


def test_an_event_that_is_no_json_is_the_error_of_who_made_it() -> None:
    with pytest.raises(SinkError, match=r"webhook: an event is no JSON: .*object"):
        as_json({"x": object()}, "webhook")
