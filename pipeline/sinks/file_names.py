"""FileNames: what the files of one recording are called, and which files on the disk are therefore its own.

A path may hold directives of `strftime`: `rec/%Y-%m-%d/%H-%M-%S.mp4` names each file by the time at which it begins
(local time), and no file is ever replaced. Other files are numbered, and those of an earlier run are replaced.
Only directives of a known form are allowed, so that a name tells whether it was made this way.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

DIRECTIVES = {
    "Y": r"\d{4}", "y": r"\d\d", "m": r"\d\d", "d": r"\d\d", "H": r"\d\d", "I": r"\d\d", "M": r"\d\d", "S": r"\d\d",
    "f": r"\d{6}", "j": r"\d{3}", "F": r"\d{4}-\d\d-\d\d", "G": r"\d{4}", "V": r"\d\d", "U": r"\d\d", "W": r"\d\d",
    "u": r"\d", "w": r"\d", "z": r"[+-]\d{4,6}", "%": "%",
    "a": None, "A": None, "b": None, "B": None, "p": None,
}  # fmt: skip
"""What may follow a % (Python's `strftime`), and what comes of it; None: words, which are the locale's."""


def is_dated(path: Path) -> bool:
    """Whether a path holds times."""
    return "%" in str(path)


def wrong_directive(path: Path) -> str | None:
    """Return the first `%` of a path, with what follows it, that stands for nothing; None: all is well."""
    found = re.finditer(r"%(.?)", str(path))
    return next((each[0] for each in found if each[1] not in DIRECTIVES), None)


def labelled(path: Path, label: str) -> Path:
    """Return the path of one of several: `out-<label>.mp4`."""
    text = label.replace("%", "%%") if is_dated(path) else label
    return path.with_name(f"{path.stem}-{text}{path.suffix}")


def dated(path: Path, at: datetime) -> Path:
    """Return the path of what begins at a time."""
    return Path(at.strftime(str(path))) if is_dated(path) else path


class FileNames:
    """Gives the files of one recording their names."""

    def __init__(self, path: Path, taken: set[Path], *, numbered: bool) -> None:
        """Name nothing yet.

        Args:
            path: as it was asked for.
            taken: resolved paths that are never given, such as those that are being read; what is given is added.
            numbered: whether the first file has a number, too (`out-001.mp4`); those after it always have.
        """
        self._path, self._taken, self._numbered = path, taken, numbered
        self._given = 0

    def next(self, at: datetime) -> Path:
        """Return the name of the next file, which begins now; its folder is made.

        Raises:
            OSError: its folder cannot be made.
        """
        candidates = self._by_time(at) if is_dated(self._path) else self._by_number()
        path = next(path for path in candidates if path.resolve() not in self._taken)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._given += 1
        self._taken.add(path.resolve())
        return path

    def _by_number(self) -> Iterator[Path]:
        if not self._given and not self._numbered:
            yield self._path
        for number in itertools.count(self._given + 1):
            yield self._path.with_name(f"{self._path.stem}-{number:03d}{self._path.suffix}")

    def _by_time(self, at: datetime) -> Iterator[Path]:
        path = dated(self._path, at)
        others = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
        return (each for each in itertools.chain([path], others) if not os.path.lexists(each))


def root_of(path: Path) -> Path:
    """Return the deepest folder that is the same for all files of a recording."""
    fixed = itertools.takewhile(lambda part: "%" not in part, path.parent.parts)
    return Path(*fixed)


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files on the disk whose names are those of recordings, by their paths as they were asked for."""
    for path in paths:
        root = root_of(path)
        parts = [re.compile(_form(part)) for part in path.relative_to(root).parts[:-1]]
        yield from _matching(root, [*parts, _file_form(path)])


def _matching(folder: Path, forms: list[re.Pattern[str]]) -> Iterator[Path]:
    """Yield files so many folders deep whose parts have these forms; links are not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not forms[0].fullmatch(entry.name):
            continue
        if len(forms) > 1 and entry.is_dir(follow_symlinks=False):
            yield from _matching(folder / entry.name, forms[1:])
        elif len(forms) == 1 and entry.is_file(follow_symlinks=False):
            yield folder / entry.name


def _file_form(path: Path) -> re.Pattern[str]:
    number = r"(-\d+)?" if is_dated(path) else r"-\d{3,}"
    return re.compile(_form(path.stem, is_dated(path)) + number + re.escape(path.suffix))


def _form(text: str, holds_times: bool = True) -> str:
    """Return the regular expression of what a part of a path becomes."""
    if not holds_times:
        return re.escape(text)
    pieces = re.split(r"%(.)", text)  # text, directive, text, directive, ...
    return "".join(_made_by(piece) if place % 2 else re.escape(piece) for place, piece in enumerate(pieces))


def _made_by(directive: str) -> str:
    return DIRECTIVES[directive] or "(?:" + "|".join(map(re.escape, sorted(_words(directive)))) + ")"


def _words(directive: str) -> set[str]:
    """Return all that a directive gives here: any word would do for a pattern, but Wedding is no day of the week."""
    year = (datetime(2024, 1, 1) + timedelta(hours=12 * half_day) for half_day in range(2 * 366))
    return {at.strftime(f"%{directive}") for at in year}
