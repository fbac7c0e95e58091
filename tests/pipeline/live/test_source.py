"""LiveSource: what it does about each kind of trouble, moment by moment, on a clock that only the test moves."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.capture.live.connection import Connection
from pipeline.capture.live.link import Link
from pipeline.capture.live.source import LiveSource
from pipeline.capture.options import LiveOptions
from pipeline.capture.source import Damaged, Reason, SourceInfo, SourceState
from pipeline.errors import (
    AuthenticationFailed,
    DecodeError,
    Disconnected,
    OpenTimeout,
    ReadTimeout,
    SourceError,
)
from pipeline.frame import Frame
from tests.pipeline.live.run import Run
from tests.pipeline.live.script import HEALTHY, LET_GO, MUTE, WALL, Camera, Clock, Mood, refusing


def since_start(run: Run) -> list[tuple[float, str]]:
    """The states and when each began."""
    begun = run.states[0].wall_time
    return [(round(each.wall_time - begun, 2), name) for each, name in zip(run.states, run.names, strict=True)]


# ---------------------------------------------------------------------- streaming


def test_a_camera_that_works_streams_from_its_first_picture_on() -> None:
    run = Run()
    run.go(2.0)
    run.finish()
    assert since_start(run) == [(0.0, "connecting"), (0.02, "streaming"), (2.0, "stopped")]
    assert len(run.items) == 50
    assert run.camera.connections == 1


def test_frames_carry_name_number_times_and_pixels() -> None:
    run = Run(Mood(every_s=0.5))
    run.go(1.2)
    run.finish()
    frames = [item for item in run.items if isinstance(item, Frame)]
    assert [frame.source for frame in frames] == ["cam"] * 3
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.pts for frame in frames] == pytest.approx([0.0, 0.5, 1.0])
    assert [frame.wall_time for frame in frames] == pytest.approx([WALL + frame.captured_at for frame in frames])
    assert all(frame.picture is arrival.picture for frame, arrival in zip(frames, run.camera.given, strict=True))


def test_damaged_pictures_are_counted_and_numbered_but_are_no_sign_that_it_streams() -> None:
    run = Run(Mood(every_s=0.1, signs=("bad", "bad", "good")))
    run.go(0.2)
    assert run.names == ["connecting"]
    run.go(0.2)
    run.finish()
    assert run.names == ["connecting", "streaming", "stopped"]
    assert [isinstance(item, Damaged) for item in run.items] == [True, True, False, True]
    assert [item.index for item in run.items if isinstance(item, Frame)] == [2]


def test_a_burst_is_handed_on_whole_and_in_order() -> None:
    run = Run(Mood(every_s=1.0, burst=40))
    run.go(0.5)
    run.finish()
    assert len(run.items) == 40


def test_a_recording_that_has_been_read_to_its_end_is_the_end() -> None:
    run = Run(Mood(every_s=0.1, gives=5, reason=None))
    run.go(2.0)
    assert run.ended
    assert run.error is None
    assert run.names == ["connecting", "streaming", "stopped"]
    assert run.camera.connections == 1


# ---------------------------------------------------------------------- silence


def test_silence_is_a_stall_after_1_s_and_the_next_picture_ends_it() -> None:
    run = Run()
    run.go(1.0)
    run.becomes(MUTE)
    run.go(0.95)
    assert run.state == "streaming"
    run.go(0.05)
    assert run.state == "stalled"
    run.go(2.0)
    run.becomes(HEALTHY)
    run.go(1.0)
    run.finish()
    assert run.names == ["connecting", "streaming", "stalled", "streaming", "stopped"]
    assert run.camera.connections == 1


@pytest.mark.parametrize("read_timeout_s", [0.3, 1.0, 5.0, 120.0])
def test_a_silent_stream_is_given_up_after_the_read_timeout(read_timeout_s: float) -> None:
    run = Run(live=LiveOptions(read_timeout_s=read_timeout_s))
    run.go(1.0)
    last_at = run.camera.given[-1].captured_at
    run.becomes(MUTE)
    run.go(read_timeout_s + 1.0)
    run.finish()
    gone = next(each for each in run.states if each.state == "waiting")
    assert gone.reason == "timeout"
    assert gone.wall_time - WALL - last_at == pytest.approx(read_timeout_s, abs=1e-3)
    assert ("stalled" in run.names) == (read_timeout_s > 1.0)


@pytest.mark.parametrize("open_timeout_s", [0.5, 5.0, 100.0])
def test_a_server_that_never_answers_is_given_up_after_the_open_timeout(open_timeout_s: float) -> None:
    run = Run(MUTE, LiveOptions(open_timeout_s=open_timeout_s))
    run.go(open_timeout_s + 0.01)
    run.finish()
    assert since_start(run)[:2] == [(0.0, "connecting"), (open_timeout_s, "waiting timeout")]


def test_a_slow_camera_is_not_called_stalled_once_its_pace_is_known() -> None:
    run = Run(Mood(every_s=5.0), LiveOptions(read_timeout_s=60.0))
    run.go(7.0)
    known = len(run.states)
    run.go(600.0)
    run.becomes(MUTE)
    run.go(run.silent_for(14.9))
    assert run.names[known:] == []
    run.go(0.2)
    run.finish()
    assert run.names[known:] == ["stalled", "stopped"]


def test_a_camera_slower_than_the_undecodable_limit_is_waited_for() -> None:
    run = Run(Mood(every_s=40.0), LiveOptions(read_timeout_s=300.0))
    run.go(1000.0)
    run.becomes(MUTE)
    run.go(run.silent_for(299.9))
    assert run.camera.connections == 1
    run.go(0.2)
    assert "waiting timeout" in run.names
    run.finish()


def test_data_without_pictures_is_a_sign_of_life_up_to_30_s() -> None:
    run = Run()
    run.go(1.0)
    run.becomes(Mood(every_s=0.1, signs=("packet",)))
    run.go(29.0)
    assert run.names == ["connecting", "streaming"]
    run.go(3.0)
    run.finish()
    assert run.names[2:4] == ["waiting decode", "connecting"]


def test_damaged_pictures_alone_are_given_up_after_30_s_and_each_is_counted() -> None:
    run = Run(Mood(every_s=0.5, signs=("bad",)))
    run.go(30.0)
    assert run.names == ["connecting"]
    run.go(0.6)
    assert run.names == ["connecting", "waiting decode", "connecting"]
    run.finish()
    assert len(run.items) == len(run.camera.given) >= 61


def test_a_reader_who_keeps_a_picture_for_a_minute_is_no_silence_of_the_camera() -> None:
    run = Run()
    run.hold_s = 60.0
    run.go(200.0)
    run.hold_s = 0.0
    run.go(60.0)
    run.finish()
    assert run.names == ["connecting", "streaming", "stopped"]


# ---------------------------------------------------------------------- connecting again


@pytest.mark.parametrize("reason", ["refused", "dns", "eof", "decode", "unsupported", "timeout", "auth"])
def test_the_state_tells_why_it_waits(reason: Reason) -> None:
    run = Run(refusing(reason))
    run.go(0.05)
    run.finish()
    assert run.names[:2] == ["connecting", f"waiting {reason}"]


def test_attempts_come_at_once_then_faster_than_every_half_second_then_ever_more_rarely() -> None:
    run = Run(refusing(answer_s=0.0))
    run.go(400.0)
    run.finish()
    attempts = [at for at, name in since_start(run) if name == "connecting"]
    pauses = [round(later - earlier, 1) for earlier, later in itertools.pairwise(attempts)]
    assert pauses[:6] == [0.0, 0.1, 0.2, 0.4, 0.5, 0.5]
    slower = [pause for pause in pauses if pause > 0.5]
    assert slower[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert max(pauses) == 30.0
    assert attempts[pauses.index(1.0)] >= 30.0


def test_a_restart_in_the_first_30_s_is_noticed_within_half_a_second_of_being_ready() -> None:
    run = Run()
    run.go(5.0)
    run.becomes(refusing("eof"))
    for _ in range(20):
        run.becomes(refusing())
        run.go(7.3)
        run.becomes(HEALTHY)
        run.go(0.6)
        assert run.state == "streaming"
        run.go(1.0)
    run.finish()


def test_a_camera_that_gives_nine_pictures_and_hangs_up_stays_in_its_outage() -> None:
    run = Run(Mood(every_s=0.01, gives=9))
    run.go(120.0)
    assert run.camera.connections < 80
    assert run.outage_s > 110
    run.finish()


def test_a_camera_that_gives_many_pictures_at_once_and_hangs_up_is_not_asked_all_the_time() -> None:
    run = Run(Mood(every_s=1.0, burst=100, gives=12, answer_s=0.001))
    run.go(60.0)
    run.finish()
    assert 50 < run.camera.connections < 150


def test_a_refused_password_waits_for_30_s_and_at_most_36() -> None:
    for luck, pause_s in ((0.0, 30.0), (1.0, 36.0)):
        run = Run(refusing("auth", answer_s=0.0), luck=luck)
        run.go(pause_s - 0.1)
        assert run.camera.connections == 1
        run.go(0.2)
        assert run.camera.connections == 2
        run.finish()


def test_an_outage_is_a_warning_once_and_its_end_too_and_no_password_is_in_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pipeline")
    run = Run()
    run.go(1.0)
    run.becomes(replace(HEALTHY, gives=0))
    run.becomes(refusing())
    run.go(10.0)
    run.becomes(HEALTHY)
    run.go(5.0)
    run.finish()
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert warnings[0] == "cam: refused: scripted refused; next attempt in 0.0 s"
    assert warnings[1].startswith("cam: streaming again after 10.")
    assert len(caplog.records) > 20


# ---------------------------------------------------------------------- giving up

ERRORS: list[tuple[Mood, bool, type[SourceError]]] = [
    (refusing("refused"), False, SourceError),
    (refusing("dns"), False, SourceError),
    (refusing("unsupported"), False, SourceError),
    (refusing("auth"), False, AuthenticationFailed),
    (refusing("decode"), False, DecodeError),
    (refusing("eof"), True, Disconnected),
    (MUTE, False, OpenTimeout),
    (MUTE, True, ReadTimeout),
]


@pytest.mark.parametrize(("mood", "streamed", "error"), ERRORS)
@pytest.mark.parametrize("patience_s", [0.0, 7.0, 50.0])
def test_it_gives_up_when_it_was_told_to_with_an_error_that_says_why(
    mood: Mood, streamed: bool, error: type[SourceError], patience_s: float
) -> None:
    run = Run(HEALTHY if streamed else mood, LiveOptions(give_up_after_s=patience_s))
    if streamed:
        run.go(1.0)
        run.becomes(mood)
    began_at = run.clock.now
    run.go(patience_s + 10.1)
    assert run.ended
    assert type(run.error) is error
    assert str(run.error).startswith(f"cam: {mood.reason if mood.gives == 0 else 'timeout'}: ")
    assert run.state == "stopped"
    assert run.states[-1].wall_time - WALL - began_at >= patience_s
    assert run.source.abandoned == 0


@pytest.mark.parametrize("mood", [refusing("auth"), replace(MUTE, hangs=True)], ids=["auth", "threads that hang"])
def test_no_pause_is_longer_than_the_patience_that_is_left(mood: Mood) -> None:
    run = Run(mood, LiveOptions(give_up_after_s=12.0, open_timeout_s=1.0))
    run.go(13.1)
    assert run.ended
    assert isinstance(run.error, SourceError)


def test_patience_is_for_one_outage_not_for_all() -> None:
    run = Run(live=LiveOptions(give_up_after_s=5.0))
    for _ in range(10):
        run.becomes(refusing())
        run.go(3.0)
        run.becomes(HEALTHY)
        run.go(2.0)
    run.finish()
    assert run.error is None


# ---------------------------------------------------------------------- threads that hang


def test_a_thread_that_never_returns_is_let_go_and_three_of_them_stop_the_attempts() -> None:
    run = Run(replace(MUTE, hangs=True))
    run.go(600.0)
    assert run.camera.connections == LET_GO
    assert run.state == "waiting"
    assert run.source.abandoned == LET_GO
    run.threads_return()
    run.becomes(HEALTHY)
    run.go(1.1)
    assert run.state == "streaming"
    assert run.source.abandoned == 1  # the one in use
    run.finish()
    assert run.source.abandoned == 0


def test_one_of_three_threads_that_returns_is_enough_to_go_on() -> None:
    run = Run(replace(MUTE, hangs=True))
    run.go(100.0)
    run.threads_return(1)
    run.becomes(HEALTHY)
    run.go(1.1)
    assert run.state == "streaming"
    run.finish()
    assert run.source.abandoned == LET_GO - 1


def test_a_stop_while_no_thread_is_free_is_immediate() -> None:
    run = Run(replace(MUTE, hangs=True))
    run.go(100.0)
    run.finish()
    assert run.source.abandoned == LET_GO


# ---------------------------------------------------------------------- stop


def into_streaming(run: Run) -> None:
    run.go(1.0)


def into_a_stall(run: Run) -> None:
    run.go(1.0)
    run.becomes(MUTE)
    run.go(3.0)


def into_waiting(run: Run) -> None:
    run.becomes(refusing("auth"))
    run.go(10.0)


def into_connecting(run: Run) -> None:
    run.go(1.0)
    run.becomes(replace(HEALTHY, gives=0))
    run.becomes(MUTE)
    run.go(9.0)


@pytest.mark.parametrize(
    ("mood", "prepare", "state"),
    [
        (HEALTHY, into_streaming, "streaming"),
        (HEALTHY, into_a_stall, "stalled"),
        (MUTE, lambda run: None, "connecting"),
        (MUTE, into_waiting, "waiting"),
        (HEALTHY, into_connecting, "connecting"),
    ],
)
def test_a_stop_ends_every_state_at_once(mood: Mood, prepare: Callable[[Run], None], state: str) -> None:
    run = Run(mood)
    prepare(run)
    assert run.state == state
    before = run.clock.now
    run.stop()
    assert run.ended
    assert run.clock.now - before < 1e-3
    assert run.error is None
    run.finish()


def test_a_stop_before_the_first_state_connects_to_nothing() -> None:
    source = LiveSource(SourceInfo("cam", "x", live=True), LiveOptions(), never)
    states: list[SourceState] = []
    source.report = states.append
    source.stop()
    assert list(source.frames()) == []
    assert [each.state for each in states] == ["stopped"]
    source.close()
    assert source.abandoned == 0


def never() -> Any:
    raise AssertionError("connected after a stop")


def test_a_stop_that_comes_while_a_connection_begins_closes_it() -> None:
    run = Run(refusing())
    connect = run.camera.connect

    def stopped_meanwhile() -> Any:
        link = connect()
        run.source.stop()
        return link

    run.source._connect = stopped_meanwhile
    run.go(1.0)
    assert run.ended
    assert run.camera.connections == 2
    run.finish()


def test_a_reader_who_leaves_in_the_middle_closes_the_connection() -> None:
    clock = Clock()
    camera = Camera(clock, HEALTHY)
    source = LiveSource(SourceInfo("cam", "x", live=True), LiveOptions(), camera.connect, clock=clock)
    states: list[SourceState] = []
    source.report = states.append
    clock.flows()
    frames = source.frames()
    assert isinstance(next(frames), Frame)
    frames.close()  # type: ignore[attr-defined]
    assert camera.link is not None
    assert camera.link.closed
    assert [each.state for each in states] == ["connecting", "streaming", "stopped"]


# ---------------------------------------------------------------------- mistakes


def test_a_mistake_in_the_program_is_raised_and_not_taken_for_an_outage() -> None:
    mistake = TypeError("not a camera's fault")
    run = Run(Mood(every_s=0.1, gives=3, error=mistake))
    run.go(5.0)
    assert run.error is mistake
    assert run.names == ["connecting", "streaming", "stopped"]
    assert run.camera.connections == 1


def test_a_mistake_in_a_real_links_thread_is_raised_and_not_retried() -> None:
    calls: list[int] = []
    before = threading.enumerate()

    def connect() -> Connection:
        calls.append(1)
        raise ZeroDivisionError("oops")

    def link() -> Link:
        return Link("cam", "rtsp://127.0.0.1/x", connect, (1.0, 1.0), lambda: 0.0)

    source = LiveSource(SourceInfo("cam", "x", live=True), LiveOptions(), link)
    with pytest.raises(ZeroDivisionError, match="oops"):
        list(source.frames())
    source.close()
    assert calls == [1]
    assert [thread for thread in threading.enumerate() if thread not in before] == []
