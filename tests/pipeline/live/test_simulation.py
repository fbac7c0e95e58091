"""LiveSource under everything that can go wrong, in any order, for hours of simulated time.

What must hold at every moment is checked by `run.Run`: only legal states, each with its true reason and at its time;
pauses as promised; one connection at a time and few threads let go; no busy loop, no silence beyond the deadline; every
picture handed on once, in order, with rising numbers and times. Here hypothesis decides what happens and when.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter

from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pipeline.capture.options import LiveOptions
from pipeline.capture.source import Damaged, Reason
from pipeline.errors import AuthenticationFailed, DecodeError, Disconnected, OpenTimeout, ReadTimeout, SourceError
from tests.pipeline.live.run import Run
from tests.pipeline.live.script import HEALTHY, MUTE, Mood, refusing

TWO_HOURS_S = 7200.0
WORKING = Mood(every_s=0.25)
"""Few pictures a second: hours of them are to pass in seconds."""
REASONS: tuple[Reason, ...] = ("dns", "refused", "auth", "timeout", "eof", "decode", "unsupported")
ERRORS: dict[Reason, tuple[type[SourceError], ...]] = {
    "auth": (AuthenticationFailed,),
    "timeout": (OpenTimeout, ReadTimeout),
    "eof": (Disconnected,),
    "decode": (DecodeError,),
}

paces = st.sampled_from([0.2, 0.5, 1.0, 5.0])
streams = st.builds(
    Mood,
    every_s=paces,
    answer_s=st.sampled_from([0.0, 0.02, 0.8, 4.0]),
    signs=st.lists(st.sampled_from(["good", "good", "bad", "packet"]), min_size=1, max_size=4).map(tuple),
    gives=st.none() | st.integers(0, 40),
    reason=st.sampled_from(REASONS),
    hangs=st.booleans(),
)
bursts = st.builds(Mood, every_s=st.sampled_from([4.0, 8.0]), burst=st.integers(2, 40), gives=st.none() | st.just(90))
refusals = st.builds(refusing, st.sampled_from(REASONS), st.sampled_from([0.0, 0.02, 0.5, 6.0]))
silences = st.builds(Mood, hangs=st.booleans())
moods = st.one_of(streams, bursts, refusals, silences, st.just(WORKING))
chances = st.floats(0, 1)
holds = st.sampled_from([0.0, 0.0, 0.0, 0.03, 0.5, 3.0, 70.0])


def comes_back(run: Run) -> None:
    """The camera works again: pictures must come within the longest pause there can be at this moment."""
    link, held_s = run.camera.link, run.held_s
    assert link is not None
    is_auth = run.names[-1] == "waiting auth" or (link.ending is not None and link.mood.reason == "auth")
    pause_s = 36.0 if is_auth else 0.5 if run.outage_s + held_s < 30 else 30.0
    run.hold_s = 0.0
    run.threads_return()
    run.becomes(WORKING)
    run.go(held_s + pause_s + 1.0 + 0.5)
    assert run.ended or run.state == "streaming", run.names[-5:]
    assert run.ended or isinstance(run.error, SourceError) or run.error is None


class LiveSourceMachine(RuleBasedStateMachine):
    """A camera, a network and a reader who do what they like; stopped wherever hypothesis leaves it."""

    @initialize(
        mood=moods,
        luck=chances,
        timeout_s=st.sampled_from([0.5, 5.0, 40.0]),
        give_up_after_s=st.sampled_from([None, None, None, 0.0, 5.0, 60.0]),
    )
    def begin(self, mood: Mood, luck: float, timeout_s: float, give_up_after_s: float | None) -> None:
        live = LiveOptions(open_timeout_s=5.0, read_timeout_s=timeout_s, give_up_after_s=give_up_after_s)
        self.run = Run(mood, live, luck)

    @rule(mood=moods)
    def the_camera_changes(self, mood: Mood) -> None:
        self.run.becomes(mood)

    @rule(seconds=st.one_of(st.floats(0, 2), st.floats(0, 60), st.just(600.0)))
    def time_passes(self, seconds: float) -> None:
        self.run.go(seconds)

    @rule(hold_s=holds)
    def the_reader_takes_its_time(self, hold_s: float) -> None:
        self.run.hold_s = hold_s

    @rule(luck=chances)
    def the_dice_fall(self, luck: float) -> None:
        self.run.luck = luck

    @rule()
    def threads_come_back(self) -> None:
        self.run.threads_return()

    @rule()
    def the_camera_works_again(self) -> None:
        comes_back(self.run)

    def teardown(self) -> None:
        if not hasattr(self, "run"):
            return
        event(f"stopped while {self.run.state}")
        self.run.finish()
        error = self.run.error
        if error is not None:
            assert self.run.live.give_up_after_s is not None
            assert isinstance(error, SourceError)
            assert self.run.outage_s >= self.run.live.give_up_after_s


LiveSourceMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLiveSourceMachine = LiveSourceMachine.TestCase


@settings(max_examples=4, deadline=None, phases=[Phase.reuse, Phase.generate])  # to shrink it would take minutes
@given(
    plan=st.lists(st.tuples(moods, st.floats(0.05, 300), holds), min_size=10, max_size=40),
    luck=chances,
    stop_after_s=st.floats(0, 40),
)
def test_two_hours_of_any_trouble_lose_no_picture_and_end_in_streaming(
    plan: list[tuple[Mood, float, float]], luck: float, stop_after_s: float
) -> None:
    run = Run(WORKING, luck=luck)
    begun_at = run.clock.now
    for number, (mood, seconds, hold_s) in enumerate(itertools.cycle(plan)):
        if run.clock.now - begun_at >= TWO_HOURS_S:
            break
        run.becomes(mood)
        run.hold_s = hold_s
        run.go(seconds)
        if number % 3 == 0:
            run.threads_return()
    comes_back(run)
    run.becomes(plan[0][0])
    run.go(stop_after_s)
    run.finish()
    assert run.error is None
    assert len(run.items) == len(run.camera.given) > 0


def test_the_simulation_reaches_every_state_reason_and_limit() -> None:
    run = Run(luck=0.5)
    troubles = [HEALTHY, MUTE, *map(refusing, REASONS), Mood(every_s=0.5, signs=("bad",)), Mood(hangs=True)]
    for number in range(400):
        run.becomes(troubles[number * 7 % len(troubles)])
        run.go((0.3, 2.0, 8.0, 45.0)[number % 4])
        if number % 50 == 0:
            run.threads_return()
        if number % 20 == 0:
            comes_back(run)
    reached = Counter(run.names)
    assert {"connecting", "streaming", "stalled", *(f"waiting {reason}" for reason in REASONS)} == set(reached)
    assert any(isinstance(item, Damaged) for item in run.items)
    assert run.clock.now - 1000.0 > TWO_HOURS_S / 2
    assert math.isfinite(run.outage_s)
    run.finish()
