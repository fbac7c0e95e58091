"""The Python API: a run as an iterator of frames, with your own stages in it.

class CountPeople(Stage):
    name = "count"

    def process(self, frame):
        people = [i for i in frame.detections.class_ids if frame.label(i) == "person"]
        frame.events.append({"event": "people", "count": len(people)})

with Pipeline("config.yaml", stages=[CountPeople()]) as frames:
    for frame in frames:
        ...
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from inspect import GEN_RUNNING, getgeneratorstate
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.assemble import assemble
from pipeline.capture.source import SourceState
from pipeline.config.load import Override, load_settings
from pipeline.config.settings import Settings
from pipeline.frame import Frame
from pipeline.runner import STOP_WITHIN_S
from pipeline.stage import Stage


class Pipeline:
    """A run that gives its frames, with everything the stages found, in order per source.

    Leaving the loop early, an exception in it, or the end of the `with` block stops the run and closes its files.
    A slow loop holds back files (nothing is lost) and drops frames of live sources (counted). A window, where one is
    configured, lives on the loop's thread and is kept alive between two frames.

    Args:
        config: a configuration file, or its content as a mapping, or Settings.
        stages: your own; a frame passes them between detection and rendering.

    Raises:
        FrameloomError: at once, for whatever is wrong with the request; while iterating, for what fails later.
    """

    def __init__(
        self, config: str | Path | Mapping[str, Any] | Settings | None = None, stages: Sequence[Stage] = ()
    ) -> None:
        self.settings = _settings(config)
        self.runner = assemble(self.settings, stages)
        self._used = False
        self._frames: weakref.ref[Generator[Frame, None, None]] | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Return the frames of the run, which starts with the first; once only.

        The loop holds the only reference to its iterator, so that leaving it ends the run at once, not with the next
        garbage collection.
        """
        if self._used:
            raise RuntimeError("a Pipeline runs once: make a new one")
        self._used = True
        frames = self._run()
        self._frames = weakref.ref(frames)
        return frames

    def _run(self) -> Generator[Frame, None, None]:
        outlet = self.runner.outlet()
        self.runner.start()
        atexit.register(self.close)  # later, when the interpreter has ended the threads, nothing can be closed
        try:
            while (item := outlet.get(self.runner.attend_every_s)) is not None or not outlet.over:
                if isinstance(item, Frame):
                    yield item
                self.runner.attend()
            self.runner.wait()
        except BaseException:
            self.runner.stop()
            self.runner.wait(STOP_WITHIN_S)
            raise
        finally:
            atexit.unregister(self.close)
        if self.runner.error is not None:
            raise self.runner.error

    def summary(self) -> dict[str, Any]:
        """Return frames, fps, latency and percentiles per stage, as in the last line of `events.jsonl`."""
        return self.runner.summary()

    @property
    def states(self) -> dict[str, SourceState]:
        """The last state of each live source: connecting, streaming, stalled, waiting (with a reason), stopped."""
        return dict(self.runner.states)

    def close(self) -> None:
        """Stop the run where it is, and close its files."""
        self._used = True
        self.runner.stop()
        frames = None if self._frames is None else self._frames()
        if frames is not None and getgeneratorstate(frames) != GEN_RUNNING:  # else another thread waits in it: it ends
            frames.close()
        if not self.runner.started:
            for source in self.runner.sources:
                source.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _settings(config: str | Path | Mapping[str, Any] | Settings | None) -> Settings:
    if isinstance(config, Settings):
        return config
    if isinstance(config, Mapping):
        return load_settings(None, [Override(key, value, f"{key}") for key, value in config.items()]).settings
    return load_settings(None if config is None else Path(config)).settings
