"""Live runs inside the test's process, where every frame and every change of state can be looked at.

For what a user sees of a run, tests start the real program (see `program`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from pipeline.assemble import open_sources
from pipeline.assemble_sinks import make_sinks
from pipeline.capture.live.source import NEXT
from pipeline.capture.source import SourceState
from pipeline.config.load import Override, load_settings
from pipeline.frame import Frame
from pipeline.mailbox import Policy
from pipeline.runner import Runner
from pipeline.sinks.sink import Sink
from pipeline.stage import AsyncStage, Stage
from tests.servers import barcode
from tests.servers.rtsp import RtspServer, missing

PATIENCE_S = 20.0
"""For what takes a second on a quiet machine."""
Step = tuple[str, str | None]
"""A state and its reason."""


def camera(**options: Any) -> RtspServer:
    """Make an RTSP server, not yet started; skip where none can run."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    return RtspServer(**options)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of a frame that was delivered."""

    index: int
    pts: float
    captured_at: float
    wall_time: float
    """0 where its source has none."""
    stamped_s: float | None
    """UTC seconds that the server wrote into the picture; None where they cannot be read."""
    latency_s: float
    """From capture to delivery."""

    @property
    def arrived_s(self) -> float:
        """UTC seconds of its capture."""
        return time.time() - time.monotonic() + self.captured_at


class Witness(Sink):
    """Sees every delivered frame and every change of state."""

    name = "witness"

    def __init__(self) -> None:
        self.frames: dict[str, list[Seen]] = {}
        self.states: dict[str, list[SourceState]] = {}

    def open(self) -> None: ...

    def consume(self, frame: Frame) -> None:
        planes = frame.picture.planes
        value = barcode.read(frame.image if planes is None else planes.y)
        stamped_s = None if value is None else value / 1e6
        latency_s = frame.free_since - frame.captured_at
        seen = Seen(frame.index, frame.pts, frame.captured_at, frame.wall_time or 0.0, stamped_s, latency_s)
        self.frames.setdefault(frame.source, []).append(seen)

    def source_changed(self, state: SourceState) -> None:
        self.states.setdefault(state.source, []).append(state)


class Live:
    """A run that goes on, and what has been seen of it."""

    def __init__(self, runner: Runner, witness: Witness) -> None:
        self.runner = runner
        self._witness = witness

    def frames(self, source: str = "cam") -> list[Seen]:
        """The frames so far."""
        return list(self._witness.frames.get(source, ()))

    def states(self, source: str = "cam") -> list[SourceState]:
        """The changes of state so far."""
        return list(self._witness.states.get(source, ()))

    def steps(self, source: str = "cam") -> list[Step]:
        """The changes of state so far, without their times."""
        return [(each.state, each.reason) for each in self.states(source)]

    def is_in(self, state: str, source: str = "cam") -> bool:
        """Whether that is the source's state now."""
        return [each.state for each in self.states(source)][-1:] == [state]

    def until(self, condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        """Wait for something that the run does."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert self.runner.error is None, self.runner.error
            if time.monotonic() > deadline:
                steps = {source: self.steps(source) for source in self._witness.states}
                pytest.fail(f"waited in vain; states: {steps}; {self.runner.ledger.counts()}")
            time.sleep(0.01)

    def until_frames(self, number: int, source: str = "cam", within_s: float = PATIENCE_S) -> None:
        """Wait for so many more frames."""
        there = len(self.frames(source))
        self.until(lambda: len(self.frames(source)) >= there + number, within_s)

    def stop(self) -> float:
        """Stop; return the seconds that it took."""
        before = time.monotonic()
        self.runner.stop()
        assert self.runner.wait(10), "it did not stop"
        return time.monotonic() - before


@contextmanager
def running(
    *sources: Mapping[str, Any],
    stages: Sequence[Stage | AsyncStage[Any]] = (),
    sinks: Sequence[Sink] = (),
    policies: Mapping[str, Policy] | None = None,
    **settings: Any,
) -> Iterator[Live]:
    """Run live sources; stop at the end of the block, and see that every frame is accounted for.

    Args:
        sources: as in `config.yaml`; one without a name is `cam`.
        stages: all there are.
        sinks: besides the witness and those in the settings.
        policies: of sources that are not `latest`.
        settings: dotted keys with `__` for a dot, such as sinks__record=path.
    """
    values = {name.replace("__", "."): value for name, value in settings.items()}
    values["sources"] = [{"name": "cam"} | dict(source) for source in sources]
    loaded = load_settings(None, [Override(key, value, key) for key, value in values.items()]).settings
    opened, witness = open_sources(loaded), Witness()
    all_sinks = [witness, *sinks, *make_sinks(loaded, lambda: runner)]
    for sink in all_sinks:
        sink.check([source.info for source in opened])
    runner = Runner(opened, stages, all_sinks, policies=policies)
    runner.start()
    try:
        yield Live(runner, witness)
    finally:
        runner.stop()
        assert runner.wait(10), "it did not stop"
    assert runner.error is None
    assert runner.ledger.balanced
    for states in witness.states.values():
        assert states[0].state == "connecting"
        assert states[-1].state == "stopped"
        assert all(after.state in NEXT[before.state] for before, after in pairwise(states))
