"""MotText: tracks in MOTChallenge's text format, a file per source.

    frame,id,left,top,width,height,confidence,-1,-1,-1

Frames count from 1, boxes are in pixels of the frame with 0, 0 at its corner, as other trackers write them. Only
objects that have a number are written, also where a frame's boxes were predicted. Source: MOTChallenge's devkit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.capture.source import SourceInfo
from pipeline.frame import UNTRACKED, Frame
from pipeline.sinks.line_file import LineFile
from pipeline.sinks.paths import file_of_source, prepare_file, refuse_sources
from pipeline.sinks.sink import Sink


class MotText(Sink):
    """The tracks of a run."""

    name = "mot"

    def __init__(self, path: Path) -> None:
        """Write nothing yet."""
        self._path = path
        self._tracks: dict[str, LineFile] = {}

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder; see that the files can be written and none of them is read."""
        paths = {source.name: file_of_source(self._path, source.name, sources) for source in sources}
        refuse_sources(paths.values(), sources, "sinks.mot")
        for path in paths.values():
            prepare_file(path, "sinks.mot")
        self._tracks = {source: LineFile(path, "sinks.mot") for source, path in paths.items()}

    def open(self) -> None:
        """Open the files. What is in them stays until the first frame replaces it."""
        for tracks in self._tracks.values():
            tracks.open()

    def consume(self, frame: Frame) -> None:
        """Write a line for each tracked object."""
        tracks = self._tracks[frame.source]
        tracks.begin()
        if lines := lines_of(frame):
            tracks.write("".join(lines).encode(), len(lines))

    def close(self) -> None:
        """Close the files."""
        for tracks in self._tracks.values():
            tracks.close()

    @property
    def files(self) -> list[Path]:
        """Those begun."""
        return [path for tracks in self._tracks.values() for path in tracks.files]

    @property
    def dropped(self) -> int:
        """Lines that a full disk cost."""
        return sum(tracks.space.lost for tracks in self._tracks.values())

    def remark(self) -> str | None:
        """Say how many lines are missing."""
        return "; ".join(filter(None, (tracks.space.remark() for tracks in self._tracks.values()))) or None


def lines_of(frame: Frame) -> list[str]:
    """Return a line for each tracked object, by their numbers."""
    found = frame.detections
    if found is None or found.track_ids is None:
        return []
    rows = sorted(zip(found.track_ids.tolist(), found.boxes.tolist(), found.scores.tolist(), strict=True))
    return [
        f"{frame.index + 1},{number},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},{score:.4f},-1,-1,-1\n"
        for number, (left, top, right, bottom), score in rows
        if number != UNTRACKED
    ]
