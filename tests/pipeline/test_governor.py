"""Governor: holds the objective, degrades no more than needed, does not flap. A virtual clock; costs are scripted.

The simulated pipeline is one station behind a `latest` lane: what a frame costs there depends on the level that the
governor has chosen. What is checked is what came out: latencies, and the steps it took.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.governor import GAP_S, HOLD_S, STEPS_KEPT, Governor, Objective, Step, evidence

OBJECTIVE = Objective(0.150)
LADDER = ("stylize", "segment", "detect_every_2", "detect_every_3", "smaller_model")
HOUR = 3600.0
Cost = Callable[[int, float, random.Random], float]
"""Seconds of work on a frame, by level and time."""


@dataclass
class Pipeline:
    """One station behind a `latest` lane of two, and its governor."""

    fps: float
    cost: Cost
    ladder: Sequence[str] = LADDER
    seed: int = 1
    now: float = 0.0
    delivered: list[tuple[float, float, int]] = field(default_factory=list)
    """When, with which latency, at which level."""
    applied: list[frozenset[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.governor = Governor(OBJECTIVE, self.ladder, self.applied.append, lambda: self.now)
        self._lane: deque[float] = deque(maxlen=2)
        self._free_at = 0.0
        self._random = random.Random(self.seed)

    def run(self, seconds: float, start: float = 0.0) -> Pipeline:
        for number in range(int(seconds * self.fps)):
            captured_at = start + number / self.fps
            while self._lane and max(self._free_at, self._lane[0]) <= captured_at:
                self._work(self._lane.popleft())
            self._lane.append(captured_at)
        return self

    def _work(self, captured_at: float) -> None:
        begun = max(self._free_at, captured_at)
        level = self.governor.level
        self._free_at = self.now = begun + self.cost(level, begun, self._random)
        latency = self.now - captured_at + 0.02
        self.delivered.append((self.now, latency, level))
        self.governor.observe(latency)

    @property
    def steps(self) -> list[Step]:
        return self.governor.steps

    def late_share(self, start: float, end: float = math.inf) -> float:
        latencies = [latency for at, latency, _ in self.delivered if start <= at < end]
        return sum(latency > OBJECTIVE.latency_s for latency in latencies) / len(latencies)

    def share_at(self, level: int) -> float:
        return sum(at_level == level for _, _, at_level in self.delivered) / len(self.delivered)


def served_from(level: int) -> Cost:
    """A load that 30 fps can bear from this level on, and that is far too much above it."""
    return lambda at_level, now, rng: 0.025 if at_level >= level else 0.120


def noisy(mean_s: float, sigma: float, saving: float = 0.12) -> Cost:
    """Each rung saves a share; log-normal noise."""
    return lambda level, now, rng: mean_s * (1 - saving * level) * math.exp(rng.gauss(0, sigma))


def most_steps(seconds: float) -> float:
    """Logarithmic in time: down the ladder once, then a try up and its failure after each doubling of the hold."""
    return 2 * math.log2(seconds / HOLD_S) + len(LADDER)


def feed(governor: Governor, set_clock: Callable[[float], None], latencies: Sequence[float], fps: float) -> list[Step]:
    steps = []
    for number, latency in enumerate(latencies):
        set_clock(1000 + number / fps)
        if step := governor.observe(latency):
            steps.append(step)
    return steps


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def set(self, now: float) -> None:
        self.now = now


@pytest.mark.parametrize("level", range(6))
def test_the_objective_is_held_by_the_first_rung_that_can(level: int) -> None:
    pipeline = Pipeline(30, served_from(level)).run(120)
    assert pipeline.governor.level == level
    assert [step.rung for step in pipeline.steps if step.down][:level] == list(LADDER[:level])
    assert pipeline.late_share(2.0 * level + 1) < 0.05


def test_the_first_step_down_comes_within_two_seconds_of_the_load() -> None:
    pipeline = Pipeline(30, lambda level, now, rng: 0.02 if now < 60 or level else 0.2).run(70)
    assert [(step.down, step.level) for step in pipeline.steps] == [(True, 1)]
    assert 60 < pipeline.steps[0].at < 62


def test_a_step_says_the_latency_that_led_to_it() -> None:
    pipeline = Pipeline(30, served_from(1)).run(15)
    down, up = pipeline.steps[:2]
    assert down == Step("stylize", True, 1, down.latency_s, down.at)
    assert 0.15 < down.latency_s < 0.4
    assert (up.rung, up.down, up.level) == ("stylize", False, 0)
    assert up.latency_s == pytest.approx(0.045)


@pytest.mark.parametrize("level", range(1, 6))
def test_a_constant_load_sees_few_steps_and_little_of_the_wrong_level(level: int) -> None:
    pipeline = Pipeline(30, served_from(level)).run(2 * HOUR)
    assert pipeline.governor.level == level
    assert 2 * level < len(pipeline.steps) <= most_steps(2 * HOUR)
    assert pipeline.share_at(level) > 0.99
    assert pipeline.late_share(60) < 0.01


@pytest.mark.parametrize(("fps", "mean_s", "sigma"), [(30, 0.03, 0.5), (30, 0.05, 0.2), (2, 0.06, 0.4)])
def test_noise_that_leaves_the_objective_alone_leads_to_no_step(fps: float, mean_s: float, sigma: float) -> None:
    pipeline = Pipeline(fps, noisy(mean_s, sigma)).run(2 * HOUR)
    assert 0.01 < pipeline.late_share(0) < 0.04  # the noise does exceed it
    assert pipeline.steps == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("fps", "mean_s", "sigma"), [(30, 0.06, 0.2), (30, 0.08, 0.5), (2, 0.14, 0.3)])
def test_noise_at_the_boundary_does_not_make_it_flap(fps: float, mean_s: float, sigma: float, seed: int) -> None:
    pipeline = Pipeline(fps, noisy(mean_s, sigma), seed=seed).run(2 * HOUR)
    assert 0 < len(pipeline.steps) <= most_steps(2 * HOUR)
    assert pipeline.late_share(600) < 0.06


def test_few_late_frames_too_many_are_found_and_the_permitted_number_is_left_alone() -> None:
    def one_late_in(frames: int) -> list[float]:
        return [0.3 if number % frames == 0 else 0.05 for number in range(30 * 600)]

    clock = Clock()
    governor = Governor(OBJECTIVE, LADDER, lambda active: None, clock)
    (step, *_) = feed(governor, clock.set, one_late_in(10), 30)  # 10 %
    assert step.down
    assert 1000 < step.at < 1060
    assert step.latency_s == 0.3
    governor = Governor(OBJECTIVE, LADDER, lambda active: None, clock)
    assert feed(governor, clock.set, one_late_in(25), 30) == []  # 4 %


@pytest.mark.parametrize("percentile", [50.0, 99.0])
def test_the_percentile_is_the_one_asked_for(percentile: float) -> None:
    latencies = [0.3 if number % 20 == 0 else 0.05 for number in range(30 * 120)]  # 5 % late
    clock = Clock()
    governor = Governor(Objective(0.15, percentile), LADDER[:1], lambda active: None, clock)
    assert [step.down for step in feed(governor, clock.set, latencies, 30)][:1] == [True] * (percentile == 99.0)


def test_a_hiccup_of_half_a_second_is_no_load() -> None:
    pipeline = Pipeline(30, lambda level, now, rng: 0.5 if 60 <= now < 60.05 else 0.02).run(120)
    assert max(latency for _, latency, _ in pipeline.delivered) > 0.5
    assert pipeline.steps == []


@pytest.mark.parametrize("seconds", [10, 100])
def test_a_minute_after_a_spike_nothing_is_degraded(seconds: float) -> None:
    pipeline = Pipeline(30, lambda level, now, rng: 0.3 if 100 <= now < 100 + seconds else 0.02).run(600)
    assert max(step.level for step in pipeline.steps) == len(LADDER)
    assert pipeline.governor.level == 0
    assert pipeline.steps[-1].at < 100 + seconds + 60
    assert pipeline.late_share(100 + seconds + 2) == 0.0


def test_a_spike_every_two_minutes_is_met_with_more_and_more_patience() -> None:
    pipeline = Pipeline(30, lambda level, now, rng: 0.2 if now % 120 > 110 and level < 1 else 0.02).run(2 * HOUR)
    assert len(pipeline.steps) <= most_steps(2 * HOUR)


def test_at_the_end_of_the_ladder_it_stays() -> None:
    pipeline = Pipeline(30, lambda level, now, rng: 0.3).run(HOUR)
    assert [step.level for step in pipeline.steps] == [1, 2, 3, 4, 5]
    assert pipeline.steps[-1].at < 15


def test_a_hold_begins_again_when_frames_are_late_in_it() -> None:
    pipeline = Pipeline(30, lambda level, now, rng: 0.3 if now < 3 or 10 < now < 12 else 0.02, LADDER[:1]).run(60)
    assert [step.down for step in pipeline.steps] == [True, False]
    assert pipeline.steps[1].at > 12 + HOLD_S


def test_rungs_that_do_not_help_are_passed_and_given_back() -> None:
    """Only the third rung helps; the others cost nothing, so nothing is gained by leaving them on."""
    pipeline = Pipeline(30, lambda level, now, rng: 0.12 if level < 3 else 0.02).run(30)
    assert pipeline.steps[2].at < 8
    lighter = Pipeline(30, lambda level, now, rng: 0.12 if level < 3 and now < 60 else 0.02).run(150)
    assert lighter.governor.level == 0


def test_a_rung_that_costs_little_is_given_back_although_the_latency_is_never_clearly_below() -> None:
    def cost(level: int, now: float, rng: random.Random) -> float:
        return 0.4 if now < 3 else 0.11 - level * 0.001

    pipeline = Pipeline(8, cost).run(1000)
    assert max(step.level for step in pipeline.steps) >= 1
    assert pipeline.governor.level == 0
    assert pipeline.late_share(10) == 0.0


@pytest.mark.parametrize("level", range(6))
def test_two_frames_a_second_are_governed_too(level: int) -> None:
    pipeline = Pipeline(2, lambda at_level, now, rng: 0.05 if at_level >= level else 0.3).run(HOUR)
    assert pipeline.governor.level == level
    assert len(pipeline.steps) <= most_steps(HOUR)
    assert all(step.at < 4 * (number + 1) for number, step in enumerate(pipeline.steps[:level]))
    assert pipeline.late_share(60) < 0.02


@pytest.mark.parametrize("relief", ["cheaper frames", "fewer frames"])
def test_when_the_load_has_visibly_fallen_a_long_hold_is_cut_short(relief: str) -> None:
    fallen_at = 3000.0

    def cost(level: int, now: float, rng: random.Random) -> float:
        if relief == "cheaper frames" and now > fallen_at:
            return 0.005
        return 0.03 if level else 0.07  # 30 fps are too many for the one, 10 fps for neither

    pipeline = Pipeline(30, cost).run(fallen_at)
    assert pipeline.governor.level == 1
    assert fallen_at - pipeline.steps[-1].at > 300  # it is holding, for long
    pipeline.fps = 30 if relief == "cheaper frames" else 10
    pipeline.run(200, start=fallen_at)
    assert pipeline.governor.level == 0
    assert pipeline.steps[-1].at < fallen_at + 60
    assert pipeline.late_share(fallen_at + 10) == 0.0


def test_a_change_that_cannot_be_seen_is_found_within_the_longest_hold() -> None:
    """The rung's own cost goes away, while the latency without it stays as it was."""
    pipeline = Pipeline(30, lambda level, now, rng: 0.12 if not level and now < 2 * HOUR else 0.025).run(3.1 * HOUR)
    assert pipeline.governor.level == 0


def test_a_hold_relaxes_while_its_rung_stays_up() -> None:
    def cost(level: int, now: float, rng: random.Random) -> float:
        heavy = now < HOUR or 5 * HOUR < now < 5 * HOUR + 5
        return 0.12 if heavy and not level else 0.005 if now > HOUR else 0.03

    pipeline = Pipeline(30, cost).run(5.1 * HOUR)
    before = [step for step in pipeline.steps if step.at < HOUR]
    assert before[-1].at - before[-2].at < 5  # the last try of the heavy hour failed
    down, up = pipeline.steps[-2:]
    assert down.at > 5 * HOUR
    assert up.at - down.at < 2 * HOLD_S


def test_frames_captured_before_a_step_took_effect_do_not_count() -> None:
    """One step is enough, but five seconds' worth of late frames is still on the way, and applying takes two."""
    clock = Clock()
    applied_at: list[float] = []

    def apply(active: frozenset[str]) -> None:
        clock.now += 2.0
        applied_at.append(clock.now)

    governor = Governor(OBJECTIVE, LADDER, apply, clock)
    assert feed(governor, clock.set, [5.0] * 40, 30)  # the step; its thread comes back with frames of before
    for number in range(150):
        clock.now = applied_at[0] + number / 30
        governor.observe(clock.now - applied_at[0] + 0.5)  # captured half a second before it was in effect
    assert governor.level == 1
    for number in range(150):
        clock.now = applied_at[0] + 10 + number / 30
        governor.observe(0.5)  # these were captured after it
    assert governor.level > 1


def test_while_no_frames_come_nothing_changes_and_what_was_before_is_forgotten() -> None:
    clock = Clock()
    governor = Governor(OBJECTIVE, LADDER, lambda active: None, clock)
    feed(governor, clock.set, [0.3] * 45, 30)
    assert governor.level == 1
    feed(governor, clock.set, [0.3] * 15 + [0.02] * 150, 30)  # calm for 5 s, or half of the hold
    for number in range(30 * 7):
        clock.now = 1000 + HOUR + number / 30
        assert governor.observe(0.02) is None  # 7 s more are less than the hold
    clock.now += HOUR
    assert governor.observe(0.02) is None
    assert governor.level == 1


def test_late_frames_that_are_far_apart_are_no_window() -> None:
    clock = Clock()
    governor = Governor(OBJECTIVE, LADDER, lambda active: None, clock)
    assert feed(governor, clock.set, [0.3] * 100, 1 / (GAP_S + 0.1)) == []


def test_apply_is_given_all_rungs_that_are_on() -> None:
    pipeline = Pipeline(30, served_from(3)).run(200)
    assert pipeline.applied == [frozenset(LADDER[: step.level]) for step in pipeline.steps]
    assert pipeline.governor.active == frozenset(LADDER[:3])


def test_an_error_in_apply_reaches_the_caller_and_the_governor_goes_on() -> None:
    clock = Clock()

    def apply(active: frozenset[str]) -> None:
        raise OSError("the model is gone")

    governor = Governor(OBJECTIVE, LADDER, apply, clock)
    with pytest.raises(OSError, match="the model is gone"):
        feed(governor, clock.set, [0.3] * 60, 30)
    with pytest.raises(OSError, match="the model is gone"):
        feed(governor, lambda now: clock.set(now + 10), [0.3] * 90, 30)
    assert governor.level == 2


def test_an_empty_ladder_has_no_steps() -> None:
    pipeline = Pipeline(30, lambda level, now, rng: 1.0, ladder=()).run(60)
    assert pipeline.steps == []


@pytest.mark.parametrize(
    ("objective", "ladder"),
    [
        (Objective(0.0), LADDER),
        (Objective(math.inf), LADDER),
        (Objective(0.1, 100.0), LADDER),
        (Objective(0.1, 0.0), LADDER),
        (OBJECTIVE, ("segment", "segment")),
    ],
)
def test_what_cannot_be_governed_is_refused(objective: Objective, ladder: Sequence[str]) -> None:
    with pytest.raises(ValueError, match=r"no latency objective|twice on the ladder"):
        Governor(objective, ladder, lambda active: None)


def test_threads_may_all_observe_and_apply_runs_one_at_a_time() -> None:
    ticks = itertools.count()
    inside = threading.Semaphore(1)
    overlapped: list[bool] = []
    applied: list[frozenset[str]] = []

    def apply(active: frozenset[str]) -> None:
        overlapped.append(not inside.acquire(blocking=False))
        applied.append(active)
        threading.Event().wait(0.002)
        inside.release()

    governor = Governor(OBJECTIVE, LADDER, apply, lambda: next(ticks) / 1000)

    def deliver() -> None:
        for number in range(20_000):
            governor.observe(0.3 if number // 5000 % 2 == 0 else 0.02)

    threads = [threading.Thread(target=deliver) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places at every opportunity
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(applied) >= len(LADDER)
    assert not any(overlapped)
    assert applied == [frozenset(LADDER[: step.level]) for step in governor.steps]


def test_old_steps_are_forgotten() -> None:
    clock = Clock()
    governor = Governor(OBJECTIVE, LADDER, lambda active: None, clock)
    start = 0.0
    for _ in range(STEPS_KEPT // 10 + 1):  # all the way down, and up again for long enough
        for frames, latency in ((40, 0.3), (400, 0.01)):
            for number in range(frames):
                clock.now = start + number * 4.0
                governor.observe(latency)
            start += frames * 4.0
    assert len(governor.steps) == STEPS_KEPT


def test_evidence_bounds_the_probability_of_chance() -> None:
    """Against the exact binomial tail."""
    for frames, permitted in itertools.product((1, 4, 30, 200), (0.01, 0.05, 0.5)):
        for late in range(frames + 1):
            terms = range(late, frames + 1)
            tail = sum(math.comb(frames, k) * permitted**k * (1 - permitted) ** (frames - k) for k in terms)
            assert math.exp(-evidence(late, frames, permitted)) >= tail * (1 - 1e-9)
    assert evidence(4, 4, 0.05) == pytest.approx(-math.log(0.05**4))
    assert evidence(0, 0, 0.05) == evidence(5, 100, 0.05) == 0.0


PHASES = st.lists(
    st.tuples(st.floats(0.5, 400.0), st.sampled_from([0.0, 0.01, 0.1, 0.14, 0.16, 0.3, 3.0]), st.floats(0.3, 60.0)),
    max_size=12,
)
"""Seconds, latency and frames a second."""


@given(phases=PHASES, jitter=st.floats(0.0, 0.5), seed=st.integers(0, 99), rungs=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_steps_are_single_on_the_ladder_and_up_only_after_a_hold(
    phases: list[tuple[float, float, float]], jitter: float, seed: int, rungs: int
) -> None:
    clock, rng = Clock(), random.Random(seed)
    applied: list[frozenset[str]] = []
    governor = Governor(OBJECTIVE, LADDER[:rungs], applied.append, clock)
    returned: list[Step] = []
    for seconds, latency, fps in phases:
        for _ in range(min(1000, int(seconds * fps))):
            clock.now += 1 / fps
            if step := governor.observe(latency * math.exp(rng.gauss(0, jitter))):
                returned.append(step)
    assert governor.steps == returned
    levels = [0] + [step.level for step in returned]
    assert all(0 <= level <= rungs for level in levels)
    assert [step.level - before for step, before in zip(returned, levels, strict=False)] == [
        1 if step.down else -1 for step in returned
    ]
    assert [step.rung for step in returned] == [LADDER[step.level - step.down] for step in returned]
    assert applied == [frozenset(LADDER[:level]) for level in levels[1:]]
    for before, after in itertools.pairwise(returned):
        assert after.at - before.at >= (0.5 if after.down else HOLD_S)
    for step in returned:
        assert (step.latency_s > OBJECTIVE.latency_s) is step.down
