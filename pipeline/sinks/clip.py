"""Clip: one short recording on the disk: a video, a picture of its event, and a record of what made it.

The record, `<name>.json`, is written first and marks the clip as ours: without it nothing is ever deleted.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2

from pipeline.errors import SinkError
from pipeline.picture import Picture
from pipeline.sinks.mp4_file import Mp4File
from pipeline.sinks.records import plain
from pipeline.sinks.retention import Kept
from pipeline.sinks.video import SECOND, Encoded

NAME = re.compile(r"(?P<stem>.+-\d{8}-\d{6}-[\w.-]+)\.(mp4|jpg|json)")
"""<source>-<day>-<time>-<event>, with -2 and so on where there is one already."""
QUALITY = 90
"""Of JPEG."""
MOST_EVENTS = 1000
"""Events that a record lists; the rest is only counted."""


@dataclass(frozen=True)
class Occasion:
    """Why a clip begins."""

    source: str
    event: str
    pts: float
    """Media time of the event, seconds."""
    wall_time: float
    """UTC seconds of the event."""
    ticks: int
    """When its frame is to be shown."""

    @property
    def name(self) -> str:
        """What files of it are called, in local time, for people to find."""
        at = datetime.fromtimestamp(self.wall_time).astimezone()
        event = re.sub(r"[^\w.-]", "_", self.event)
        return f"{self.source}-{at:%Y%m%d-%H%M%S}-{event}"


class Clip:
    """A clip that is being written."""

    def __init__(self, folder: Path, occasion: Occasion, pictures: str, continues: str | None = None) -> None:
        """Reserve its name, by writing the record.

        Args:
            folder: where it goes; made if it does not exist.
            occasion: what it is about.
            pictures: what is recorded, for the record.
            continues: file name of the clip that it goes on from.

        Raises:
            OSError: the folder cannot be written.
        """
        self._occasion = occasion
        self._file: Mp4File | None = None
        self._begun_at: int | None = None
        self._ends_at = -1
        self._beside = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._record: dict[str, Any] = {
            "type": "clip",
            "source": occasion.source,
            "event": occasion.event,
            "time": datetime.fromtimestamp(occasion.wall_time).astimezone().isoformat(timespec="milliseconds"),
            "wall_time": round(occasion.wall_time, 3),
            "pictures": pictures,
            "continues": continues,
            "pts": None,
            "duration_s": None,
            "more_events": 0,
        }
        self._events: list[tuple[int, dict[str, Any]]] = []
        self.video = _reserve(folder, occasion.name)
        try:
            self._write_record()
            self._beside = self.paths[2].stat().st_size
        except OSError:
            self._remove()
            raise

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """The video, the picture and the record."""
        return _paths(self.video)

    @property
    def size(self) -> int:
        """Bytes on the disk so far."""
        return self._beside + (0 if self._file is None else self._file.size)

    @property
    def shows_event(self) -> bool:
        """Whether the picture of its event is in it."""
        return self._ends_at >= self._occasion.ticks

    def lasts(self, picture: Encoded) -> int:
        """Return its length in ticks, up to an encoded picture."""
        return 0 if self._begun_at is None else picture.ticks - self._begun_at

    def belongs(self, picture: Encoded) -> bool:
        """Whether an encoded picture can be in the same file."""
        return self._file is None or self._stream is picture.stream

    def add_events(self, lines: Iterable[dict[str, Any]], ticks: int) -> None:
        """Put events of a frame into the record, which is written again at the end."""
        for line in lines:
            if len(self._events) < MOST_EVENTS:
                self._events.append((ticks, line))
            else:
                self._record["more_events"] += 1

    def add_thumbnail(self, picture: Picture) -> None:
        """Write a JPEG.

        Raises:
            OSError: the folder cannot be written.
        """
        try:
            done, encoded = cv2.imencode(".jpg", picture.bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        except cv2.error:  # JPEG ends at 65535 pixels a side
            return
        if done:
            self.paths[1].write_bytes(encoded.tobytes())
            self._beside += len(encoded)

    def write(self, picture: Encoded) -> None:
        """Add an encoded picture; those before the first keyframe are left out.

        Raises:
            SinkError: it cannot be written.
        """
        if self._file is None:
            if not picture.is_keyframe:
                return
            self._file = Mp4File(self.video, picture.stream, picture.ticks)
            self._stream, self._begun_at = picture.stream, picture.ticks
            self._record["pts"] = round(self._occasion.pts - (self._occasion.ticks - picture.ticks) / SECOND, 6)
        self._file.write(picture)
        self._ends_at = picture.ticks

    def close(self) -> None:
        """Finish the video and the record; a clip without a picture leaves nothing behind.

        Raises:
            SinkError, OSError: that cannot be written; what is there plays.
        """
        if self._begun_at is None:
            self._remove()
            return
        file, self._file = self._file, None
        if file is not None:
            file.close()
        os.stat(self.video)  # fails where somebody has deleted it meanwhile
        self._record["duration_s"] = round((self._ends_at - self._begun_at) / SECOND, 3)
        self._write_record()

    def abandon(self) -> None:
        """Close the file whatever happens; where it does not show the event, leave nothing behind."""
        with suppress(SinkError, OSError):
            self.close()
        if not self.shows_event or not self.video.exists():
            self._remove()

    def _write_record(self) -> None:
        """Replace the record as a whole, so that a reader never sees half of one."""
        path = self.paths[2]
        begun_at = self._begun_at
        events = [
            {**line, "clip_s": None if begun_at is None else round((ticks - begun_at) / SECOND, 3)}
            for ticks, line in self._events
        ]
        record = {**self._record, "file": self.video.name, "events": events}
        text = json.dumps(plain(record), ensure_ascii=False, indent=1)
        draft = path.with_suffix(".part")
        try:
            draft.write_text(text + "\n", encoding="utf-8")
            os.replace(draft, path)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise

    def _remove(self) -> None:
        for path in self.paths:
            with suppress(OSError):
                path.unlink()


def find_clips(folder: Path) -> Iterator[Kept]:
    """Yield the clips of a folder: files of such a name, with a record beside them."""
    try:
        found = [match for entry in os.scandir(folder) if (match := NAME.fullmatch(entry.name))]
    except OSError:
        return
    for stem in {match["stem"] for match in found if match[0].endswith(".json")}:
        kept = Kept.of(_paths(folder / f"{stem}.mp4"))
        if kept is not None:
            yield kept


def _paths(video: Path) -> tuple[Path, Path, Path]:
    return video, video.with_suffix(".jpg"), video.with_suffix(".json")


def _reserve(folder: Path, name: str) -> Path:
    """Create the record of a new clip under a name that is free; also where others write to the folder."""
    for number in itertools.count(1):
        video = folder / (f"{name}.mp4" if number == 1 else f"{name}-{number}.mp4")
        if any(os.path.lexists(path) for path in _paths(video)):
            continue
        with suppress(FileExistsError), open(_paths(video)[2], "x"):
            return video
    raise AssertionError("there is always one more number")
