"""MOT text: a row for a box, `frame,id,left,top,width,height,confidence,...`, frames from 1; id -1 is a detection.

Source of the format: MOTChallenge (https://motchallenge.net/instructions/). Its boxes begin at pixel 1 and ours at 0,
but both sides of a comparison do so alike, so coordinates are left as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Index
from pipeline.errors import ConfigError

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

COLUMNS = 7
"""Those that are read; a seventh that is missing is 1. What follows them (places in the world) is not needed."""
NEEDED = 6
MAX_FRAME = 10_000_000
"""Four days at 25 fps: a larger number is something else in the first column."""
MAX_ID = 2**31 - 1


@dataclass(frozen=True, eq=False)
class MotRows:
    """Boxes of a sequence, in the order of their frames."""

    frames: Integers
    """(N,) from 1, ascending."""
    ids: Integers
    """(N,) -1 where a box belongs to no track."""
    boxes: Doubles
    """(N, 4) xyxy in pixels."""
    values: Doubles
    """(N,) the seventh column: a detection's score; in truth 0 marks what is not to be scored."""

    @classmethod
    def of(cls, rows: npt.ArrayLike) -> MotRows:
        """Take (N, 7) rows as in a file: frame, id, left, top, width, height, value."""
        table = np.asarray(rows, np.float64).reshape(-1, COLUMNS)
        table = table[np.argsort(table[:, 0], kind="stable")]
        boxes = np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1)
        return cls(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), boxes, table[:, 6])

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: Index) -> MotRows:
        return MotRows(self.frames[index], self.ids[index], self.boxes[index], self.values[index])

    @property
    def last(self) -> int:
        """Number of the last frame that has a box; 0: none has."""
        return int(self.frames[-1]) if len(self) else 0

    @property
    def with_area(self) -> MotRows:
        """Those that are more than a line: detectors cut boxes at the picture's edge until nothing is left of some."""
        return self[np.all(self.boxes[:, 2:] > self.boxes[:, :2], axis=1)]

    def at(self, frame: int) -> MotRows:
        """Return the boxes of one frame."""
        return self[slice(*np.searchsorted(self.frames, [frame, frame + 1]).tolist())]

    def write(self, path: Path) -> None:
        """Write tracks as MOT text, without coordinates in the world.

        Raises:
            ConfigError: it cannot be written.
        """
        lines = [
            f"{frame},{track},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{value:.4f},-1,-1,-1\n"
            for frame, track, (x1, y1, x2, y2), value in zip(
                self.frames.tolist(), self.ids.tolist(), self.boxes.tolist(), self.values.tolist(), strict=True
            )
        ]
        try:
            path.write_text("".join(lines))
        except OSError as error:
            raise ConfigError(f"cannot write the tracks to {path}: {error.strerror}") from error


def read_mot(path: Path) -> MotRows:
    """Read a file of MOT text; an empty one has no boxes.

    Raises:
        ConfigError: it cannot be read, or a line is no such row; with its number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: this is no text: MOT rows are frame,id,left,top,width,height,confidence") from error
    return MotRows.of([_row(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()])


def check_ids(rows: MotRows, path: Path) -> None:
    """See that a track has one box in a frame.

    Raises:
        ConfigError: one has two, or a box belongs to no track.
    """
    if (rows.ids < 0).any():
        frame = rows.frames[rows.ids < 0][0]
        raise ConfigError(f"{path}: a box of frame {frame} has the id -1, which stands for no track")
    pairs, counts = np.unique(np.stack([rows.frames, rows.ids]), axis=1, return_counts=True)
    if (counts > 1).any():
        frame, track = pairs[:, counts > 1][:, 0]
        raise ConfigError(f"{path}: id {track} has two boxes in frame {frame}: a track has one place at a time")


def _row(line: str, place: str) -> list[float]:
    """Return the seven values of a line."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) < NEEDED:
        raise ConfigError(f"{place}: {_short(line)} is no MOT row: frame,id,left,top,width,height,confidence")
    values = []
    for cell in cells[:COLUMNS]:
        try:
            values.append(float(cell))
        except ValueError:
            raise ConfigError(f"{place}: {_short(cell)} is no number in frame,id,left,top,...") from None
    if not np.isfinite(values).all():
        raise ConfigError(f"{place}: {_short(line)} has a value that is not finite: leave such boxes out")
    frame, track, _, _, width, height = values[:NEEDED]
    if frame != int(frame) or not 1 <= frame <= MAX_FRAME:
        raise ConfigError(f"{place}: the frame is {cells[0]}: frames are whole numbers from 1")
    if track != int(track) or not -1 <= track <= MAX_ID:
        raise ConfigError(f"{place}: the id is {cells[1]}: ids are whole numbers from 0, or -1 for none")
    if width < 0 or height < 0:
        raise ConfigError(f"{place}: the box is {cells[4]} x {cells[5]} pixels: the columns are left,top,width,height")
    return values if len(values) == COLUMNS else [*values, 1.0]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
