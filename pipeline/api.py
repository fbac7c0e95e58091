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

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.assemble import assemble
from pipeline.config import Settings
from pipeline.config_file import Override, load_settings
from pipeline.frame import Frame
from pipeline.mailbox import EndOfSource
from pipeline.stage import Stage


class Pipeline:
    """A run that gives its frames, with everything the stages found, in order per source.

    Leaving the loop early, an exception in it, or the end of the `with` block stops the run and closes its files.
    A slow loop holds back files (nothing is lost) and drops frames of live sources (counted).

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
        self._frames: Iterator[Frame] | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Start the run; once only."""
        if self._frames is not None:
            raise RuntimeError("a Pipeline runs once: make a new one")
        self._frames = self._run()
        return self._frames

    def _run(self) -> Iterator[Frame]:
        outlet = self.runner.outlet()
        self.runner.start()
        try:
            while (item := outlet.get()) is not None:
                if not isinstance(item, EndOfSource):
                    yield item
        except BaseException:
            self.runner.stop()
            raise
        finally:
            self.runner.wait()
        if self.runner.error is not None:
            raise self.runner.error

    def summary(self) -> dict[str, Any]:
        """Return frames, fps, latency and percentiles per stage, as in the last line of `events.jsonl`."""
        return self.runner.summary()

    def close(self) -> None:
        """Stop the run where it is, and close its files."""
        if self._frames is None:
            for source in self.runner.sources:
                source.close()
        else:
            self._frames.close()  # type: ignore[attr-defined]  # it is a generator

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
