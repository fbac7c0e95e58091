"""Labelled sequences, laid out as MOTChallenge does: a folder for each, with its detections, its truth and its speed.

    det/STREET/det.txt             or det/STREET/det/det.txt
    gt/STREET/gt.txt               or gt/STREET/gt/gt.txt; beside it, if there is one, ignore.txt
    gt/STREET/seqinfo.ini          if there is one: frameRate, seqLength

Both folders may be the same one.
"""

from __future__ import annotations

import configparser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigError
from tools.tracking.mot_rows import MAX_FRAME, MotRows, check_ids, read_mot

FPS = 25.0
"""Where neither a file nor the caller says otherwise."""
NAMES_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Labelled:
    """A sequence: what was detected in it, and what is really there."""

    name: str
    fps: float
    frames: tuple[int, ...]
    """Numbers of the frames that are looked at, ascending, from 1."""
    detections: MotRows
    truth: MotRows
    ignored: MotRows
    """Regions in which tracks are not scored."""
    tracks: MotRows | None = None
    """Of another tracker, to be scored; then there are no detections."""
    note: str | None = None
    """What of its files is not used."""

    def time_s(self, frame: int) -> float:
        """Return when a frame was taken, in seconds from the first."""
        return (frame - 1) / self.fps


@dataclass(frozen=True)
class Thinning:
    """Which frames a tracker gets to see; of the others neither tracks nor truth are scored."""

    drop_every: int | None = None
    """Remove frames N, 2 N, ..."""
    keep_every: int | None = None
    """Keep frames 1, 1 + N, ... only."""

    def __call__(self, sequence: Labelled) -> Labelled:
        """Leave frames out."""
        return replace(sequence, frames=tuple(filter(self._stays, sequence.frames)))

    def __str__(self) -> str:
        if self.drop_every is not None:
            return f"every {_ordinal(self.drop_every)} removed"
        return f"every {_ordinal(self.keep_every)} kept" if self.keep_every not in (None, 1) else "all"

    def _stays(self, frame: int) -> bool:
        if self.drop_every is not None:
            return frame % self.drop_every != 0
        return self.keep_every is None or (frame - 1) % self.keep_every == 0


def _ordinal(number: int | None) -> str:
    return {2: "second", 3: "third", 4: "fourth", 5: "fifth"}.get(number or 0, f"{number}th")


@dataclass(frozen=True)
class Found:
    """The sequences of two folders, and which of them cannot be used, with the reason."""

    sequences: tuple[Labelled, ...]
    left_out: tuple[str, ...]


def find_sequences(given: Path, truth: Path, fps: float | None = None, *, tracks: bool = False) -> Found:
    """Read all sequences that have both: detections (or tracks), and truth.

    Args:
        given: folder of the detections; or of another tracker's results, `NAME.txt` or `NAME/result.txt`.
        truth: folder of the truth.
        fps: for all; None: as their seqinfo.ini says, or `FPS`.
        tracks: whether `given` holds results.

    Raises:
        ConfigError: a folder is missing, no sequence has both, or a file is wrong.
    """
    option = "--tracks" if tracks else "--det"
    for name, folder in ((option, given), ("--gt", truth)):
        if not folder.is_dir():
            raise ConfigError(f"{name} {folder}: there is no such folder")
    mine = {name: _given_file(given, name, tracks=tracks) for name in _names(given, results=tracks)}
    theirs = {name: _first(truth / name / "gt.txt", truth / name / "gt" / "gt.txt") for name in _names(truth)}
    left_out, both = list[str](), list[tuple[str, Path, Path]]()
    for name in sorted({*mine, *theirs}):
        rows, real = mine.get(name), theirs.get(name)
        if rows is None:
            left_out.append(f"{name}: no {'tracks' if tracks else 'det.txt'} under {given}")
        elif real is None:
            left_out.append(f"{name}: no gt.txt under {truth}")
        else:
            both.append((name, rows, real))
    if not both:
        raise ConfigError(_nothing(given, truth, option, left_out))
    sequences = (_read(name, rows, real, (given, truth), fps, tracks=tracks) for name, rows, real in both)
    return Found(tuple(sequences), tuple(left_out))


def _names(folder: Path, *, results: bool = False) -> set[str]:
    try:
        names = {each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")}
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from error
    return names | {each.stem for each in folder.glob("*.txt")} if results else names


def _given_file(folder: Path, name: str, *, tracks: bool) -> Path | None:
    if tracks:
        return _first(folder / f"{name}.txt", folder / name / "result.txt")
    return _first(folder / name / "det.txt", folder / name / "det" / "det.txt")


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _nothing(given: Path, truth: Path, option: str, left_out: Sequence[str]) -> str:
    """Say why there is no sequence."""
    for name, folder, file in ((option, given, "det.txt"), ("--gt", truth, "gt.txt")):
        if (folder / file).is_file() or (folder / file.removesuffix(".txt") / file).is_file():
            return f"{name} {folder}: this is a sequence itself, name the folder around it"
    more = f" ({len(left_out)} folders in all)" if len(left_out) > NAMES_SHOWN else ""
    reasons = "; ".join(left_out[:NAMES_SHOWN]) or "they have no folders"
    return f"{option} {given} and --gt {truth} have no sequence in common: {reasons}{more}"


def _read(
    name: str, given: Path, truth: Path, folders: tuple[Path, Path], fps: float | None, *, tracks: bool
) -> Labelled:
    rows, real = read_mot(given), read_mot(truth)
    check_ids(real, truth)
    last = max(rows.last, real.last)
    unused = [f"{len(rows) - len(rows.with_area)} boxes without area"] if len(rows) > len(rows.with_area) else []
    rows = rows.with_area
    if tracks:
        if strays := int((rows.ids < 0).sum()):
            unused.append(f"{strays} boxes of no track (id -1)")
        rows = rows[rows.ids >= 0]
        check_ids(rows, given)
    regions = truth.with_name("ignore.txt")
    info = _first(*(folder / name / "seqinfo.ini" for folder in reversed(folders)))
    rate, length = _seqinfo(info) if info is not None else (FPS, 0)
    nothing = MotRows.of([])
    return Labelled(
        name,
        fps or rate,
        tuple(range(1, max(length, last) + 1)),
        detections=nothing if tracks else rows,
        truth=real[real.values != 0].with_area,  # 0: not to be scored, as in the MOTChallenge's own evaluation
        ignored=read_mot(regions).with_area if regions.is_file() else nothing,
        tracks=rows if tracks else None,
        note=f"{name}: left out {' and '.join(unused)}" if unused else None,
    )


def _seqinfo(path: Path) -> tuple[float, int]:
    """Return a sequence's frames per second, and how many frames it has (0: that is not said).

    Raises:
        ConfigError: the file is no such one, or a value is no number that can be.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except (OSError, configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    values = {key: value for section in parser.sections() for key, value in parser.items(section)}
    fps, length = (_number(path, key, values.get(key.lower())) for key in ("frameRate", "seqLength"))
    if length is not None and (length != int(length) or length > MAX_FRAME):
        raise ConfigError(f"{path}: seqLength is {length:g}: write how many frames there are")
    return fps or FPS, int(length or 0)


def _number(path: Path, key: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{path}: {key} is {text!r}, which is no number") from None
    if not (np.isfinite(value) and value > 0):
        raise ConfigError(f"{path}: {key} is {text}: write a number above 0")
    return value
