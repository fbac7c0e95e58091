"""Governor: holds a latency objective by stepping a declared ladder of degradations down, and up again.

The objective "p95 within 150 ms" says that at most 5 % of frames may be late. So the governor counts late frames and
asks how surely more than that share are late (`evidence`). This needs no fixed window and no minimum of frames: proof
is four late frames of four (2 fps, 2 s), 10 of 30, or 135 of 1,800 (30 fps, a minute). A frame counts only if it was
captured after the last step had taken effect and the pipeline had emptied.

Down is soon: a second of proof. Up is a gamble, because nobody knows what the rung would cost now. It is taken after
a hold, and each time it fails within ten minutes that rung's hold doubles. So a constant load sees a number of steps
logarithmic in time, whatever the noise. A hold relaxes while the rung stays up, and is cut short (once) when the load
has visibly fallen: by Little's law latency x rate is the number of frames inside the pipeline, which falls with the
frame rate as with the cost of a frame. A rung that does not help is passed; at the ladder's end the governor stays.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EVALUATE_S = 0.5
"""Seconds between decisions: two of them fit into the shortest window."""
SHORTEST_WINDOW_S = 1.0
"""Seconds that must be bad as a whole: a hiccup of the disk or of the network is no load."""
LONGEST_WINDOW_S = 300.0
"""Seconds looked back at, at most: 10 % late at 2 fps need so many to become proof."""
SAMPLES = 2048
"""Frames looked back at, over all sources; 7 % late are told from 5 % with so many."""
EVIDENCE = 10.0
"""Nats that count as proof: at exactly the permitted share chance reaches them in 1 of 22,000 windows (e^-10)."""
SETTLE_S = 2.0
"""Seconds after a step that the pipeline is given to empty, at most; it is as long as the latency before the step."""
CLEAR = 0.7
"""Share of the objective that the percentile must keep within to be clearly below it."""
PATIENCE = 8.0
"""How much longer the hold is where the percentile is within the objective but not clearly: a rung may cost little."""
CALM_WINDOW_S = 4.0
"""Seconds over which "clearly" is judged: one late frame of 2 fps counts that long."""
HOLD_S = 10.0
"""Seconds of calm before a step up: shorter than anybody's patience, longer than most bursts."""
HOLD_MAX_S = 3600.0
"""Where doubling ends: a failed try costs about two late seconds, which is nothing once an hour."""
PROVEN_S = 600.0
"""Seconds that a step up must last to have been right; after each further ones its rung's hold halves."""
LOAD_WINDOW_S = 30.0
"""Seconds over which the load is measured: 60 frames at 2 fps, whose mean is good to some 7 %."""
RELIEF = 0.7
"""Share of the load at the last try, at or below which it has visibly fallen: three standard errors."""
GAP_S = 5.0
"""Seconds without a frame (all cameras away) after which what was seen before says nothing any more."""
STEPS_KEPT = 1000
"""Steps remembered for the summary."""


@dataclass(frozen=True)
class Objective:
    """What to hold: `percentile` percent of frames delivered within `latency_s` seconds of their capture."""

    latency_s: float
    percentile: float = 95.0

    @property
    def late_share(self) -> float:
        """Share of frames that may be late."""
        return 1 - self.percentile / 100


@dataclass(frozen=True, slots=True)
class Step:
    """One step on the ladder.

    `rung` was switched on (`down`) or off, which leaves `level` rungs on (0: nothing is degraded). `latency_s` is the
    objective's percentile, measured before the step, and `at` the clock's time.
    """

    rung: str
    down: bool
    level: int
    latency_s: float
    at: float

    def __str__(self) -> str:
        where = "down to" if self.down else "up, without"
        return f"{self.latency_s * 1e3:.0f} ms: {where} {self.rung} (level {self.level})"


@dataclass(slots=True)
class Window:
    """What was seen in a time."""

    seconds: float = 0.0
    frames: int = 0
    late: int = 0
    """Frames over the objective."""
    tight: int = 0
    """Frames over `CLEAR` of it."""
    latency_s: float = 0.0
    """Sum over the frames."""

    def add(self, other: Window) -> None:
        """Make it cover the time of another one too."""
        self.seconds += other.seconds
        self.frames += other.frames
        self.late += other.late
        self.tight += other.tight
        self.latency_s += other.latency_s

    @property
    def load(self) -> float:
        """Mean number of frames inside the pipeline (Little's law)."""
        return self.latency_s / self.seconds if self.seconds > 0 else 0.0


@dataclass(slots=True)
class Rung:
    """What is known about one degradation."""

    name: str
    hold_s: float = HOLD_S
    raised_at: float | None = None
    """Governed time (seconds with frames) of the last step up, which switched it off."""
    load: float = 0.0
    """The load just before that step."""

    def switched_on(self, now: float) -> None:
        """Learn from how long the step up before had lasted."""
        if self.raised_at is None:
            return
        proofs = int((now - self.raised_at) / PROVEN_S)
        self.hold_s = max(HOLD_S, self.hold_s / 2 ** min(proofs, 30)) if proofs else min(HOLD_MAX_S, 2 * self.hold_s)


class Governor:
    """Steps the ladder down while too many frames are late, and up when that has been over for long enough.

    Sources whose frames come more than `GAP_S` apart are not governed.

    Args:
        objective: what to hold.
        ladder: names of degradations, the one given up first at the front.
        apply: called on every step, with all rungs that are on now, on the thread whose frame decided it. While it
            runs nothing is measured or decided, but that frame's thread waits: what takes long (loading a model) is
            better prepared. What it raises goes through `observe`.
        clock: monotonic seconds, the same as capture times are taken from.

    Raises:
        ValueError: the objective cannot be one, or a rung is twice on the ladder.
    """

    def __init__(
        self,
        objective: Objective,
        ladder: Sequence[str],
        apply: Callable[[frozenset[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (0 < objective.latency_s < math.inf and 0 < objective.percentile < 100):
            raise ValueError(f"no latency objective: {objective}")
        if len(set(ladder)) < len(ladder):
            raise ValueError(f"a rung is twice on the ladder: {', '.join(ladder)}")
        self.objective = objective
        self._rungs = [Rung(name) for name in ladder]
        self._apply = apply
        self._clock = clock
        self._lock = threading.Lock()
        self._level = 0
        self._steps: deque[Step] = deque(maxlen=STEPS_KEPT)
        self._applying = False
        self._counts_from = -math.inf
        self._last_at = -math.inf
        self._governed_s = 0.0
        self._calm_s = 0.0
        self._windows: deque[Window] = deque(maxlen=int(LONGEST_WINDOW_S / EVALUATE_S))
        self._latencies: deque[float] = deque(maxlen=SAMPLES)
        self._current = Window()
        self._begun_at = -math.inf

    @property
    def level(self) -> int:
        """How many rungs are on; 0: nothing is degraded."""
        return self._level

    @property
    def active(self) -> frozenset[str]:
        """The rungs that are on."""
        return frozenset(rung.name for rung in self._rungs[: self._level])

    @property
    def steps(self) -> list[Step]:
        """The last `STEPS_KEPT` steps, oldest first."""
        with self._lock:
            return list(self._steps)

    def observe(self, latency_s: float) -> Step | None:
        """Take the latency of a live source's frame that is delivered now; from any thread.

        Returns:
            The step this led to, already applied.
        """
        with self._lock:
            step = self._count(latency_s)
            if step is None:
                return None
            self._applying = True
            active = self.active
        try:
            self._apply(active)
        finally:
            with self._lock:
                self._counts_from = self._clock() + min(step.latency_s, SETTLE_S)
                self._applying = False
        return step

    def _count(self, latency_s: float) -> Step | None:
        now = self._clock()
        away = now - self._last_at > GAP_S
        self._last_at = now
        if away:
            self._restart()
        if self._applying or now - latency_s < self._counts_from:
            return None
        current = self._current
        if not self._latencies:
            self._begun_at = now
        current.frames += 1
        current.late += latency_s > self.objective.latency_s
        current.tight += latency_s > self.objective.latency_s * CLEAR
        current.latency_s += latency_s
        self._latencies.append(latency_s)
        if now - self._begun_at < EVALUATE_S:
            return None
        current.seconds = now - self._begun_at
        self._windows.append(current)
        self._governed_s += current.seconds
        self._current, self._begun_at = Window(), now
        return self._decide(now)

    def _restart(self) -> None:
        """Forget what was measured: it was another time, or another level."""
        self._windows.clear()
        self._latencies.clear()
        self._current = Window()
        self._calm_s = 0.0

    def _decide(self, now: float) -> Step | None:
        frames = self._frames_that_prove_a_miss()
        if frames:
            self._calm_s = 0.0
            return self._down(frames, now) if self._level < len(self._rungs) else None
        calm = self._calm()
        self._calm_s += calm
        return self._up(now) if calm and self._level and self._may_rise() else None

    def _frames_that_prove_a_miss(self) -> int:
        """Return how many of the newest frames prove that more than the permitted share are late; 0: none do."""
        permitted = self.objective.late_share
        newest = self._recent(SHORTEST_WINDOW_S)
        if newest.late <= permitted * newest.frames:
            return 0  # whatever it was, it is over
        seen = Window()
        for window in reversed(self._windows):
            seen.add(window)
            if seen.seconds >= SHORTEST_WINDOW_S and evidence(seen.late, seen.frames, permitted) >= EVIDENCE:
                return seen.frames
            if seen.frames >= SAMPLES:
                break
        return 0

    def _calm(self) -> float:
        """Return how many seconds the newest window is worth as calm."""
        recent = self._recent(CALM_WINDOW_S)
        permitted = self.objective.late_share * recent.frames
        if recent.late > permitted:
            return 0.0
        return self._windows[-1].seconds / (1 if recent.tight <= permitted else PATIENCE)

    def _may_rise(self) -> bool:
        rung = self._rungs[self._level - 1]
        if self._calm_s >= rung.hold_s:
            return True
        load = self._recent(LOAD_WINDOW_S)
        return self._calm_s >= HOLD_S and load.seconds >= LOAD_WINDOW_S and load.load <= RELIEF * rung.load

    def _down(self, frames: int, now: float) -> Step:
        rung = self._rungs[self._level]
        rung.switched_on(self._governed_s)
        return self._step(rung, True, frames, now)

    def _up(self, now: float) -> Step:
        rung = self._rungs[self._level - 1]
        rung.raised_at = self._governed_s
        rung.load = self._recent(LOAD_WINDOW_S).load
        return self._step(rung, False, self._recent(CALM_WINDOW_S).frames, now)

    def _step(self, rung: Rung, down: bool, frames: int, now: float) -> Step:
        self._level += 1 if down else -1
        step = Step(rung.name, down, self._level, self._percentile(frames), now)
        self._steps.append(step)
        self._restart()
        return step

    def _recent(self, seconds: float) -> Window:
        """Return the newest windows as one that covers `seconds`, or all there is."""
        recent = Window()
        for window in reversed(self._windows):
            recent.add(window)
            if recent.seconds >= seconds:
                break
        return recent

    def _percentile(self, frames: int) -> float:
        """Return the objective's percentile of the newest frames, by nearest rank: a latency that occurred."""
        newest = sorted(list(self._latencies)[-frames:])
        return newest[max(1, math.ceil(len(newest) * self.objective.percentile / 100)) - 1]


def evidence(late: int, frames: int, permitted: float) -> float:
    """Return how surely more than the `permitted` share of frames are late, in nats.

    Were the share the permitted one, so many late ones or more would come by chance with a probability of at most
    e^-evidence: the Chernoff bound, frames * KL(late / frames || permitted) (Hoeffding 1963, theorem 1).
    """
    share = late / frames if frames else 0.0
    if share <= permitted:
        return 0.0
    rest = (1 - share) * math.log((1 - share) / (1 - permitted)) if share < 1 else 0.0
    return frames * (share * math.log(share / permitted) + rest)
