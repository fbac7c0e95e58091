"""What YOLO label files say, in fractions of the picture's size.

A line is `class cx cy w h` (a box) or `class x1 y1 x2 y2 x3 y3 ...` (an outline, which becomes its box).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from tools.labels.labelled_set import LabelledSet, Record, plural, some
from tools.labels.picture_size import picture_size
from tools.labels.yolo_names import Names, read_lines

Points = npt.NDArray[np.float64]
BOX_NUMBERS = 5
LEAST_OUTLINE = 7
"""Class and three points."""
ROUNDING = 1e-3
"""How far outside 0..1 a fraction may lie: files have four to six digits, and some tools round up."""


@dataclass
class Reading:
    """Labels while they are read."""

    folder: Path
    names: Names | None
    keypoint_numbers: int | None
    """Numbers behind the box in labels for pose; None: these are no such labels."""
    notes: list[str] = field(default_factory=list)
    annotations: list[Record] = field(default_factory=list)
    empty: int = 0

    def of(self, pairs: dict[Path, Path]) -> LabelledSet:
        """Read the label file of each picture.

        Raises:
            ConfigError: no picture can be read, or a line is none; the message has file and line.
        """
        images: list[Record] = []
        unlabelled, unreadable = [], []
        for picture, labels in pairs.items():
            if not labels.is_file():
                unlabelled.append(picture)
            if (size := picture_size(picture)) is None:
                unreadable.append(picture)
                continue
            name = picture.relative_to(self.folder) if picture.is_relative_to(self.folder) else picture
            images.append({"id": len(images) + 1, "file_name": name.as_posix(), "width": size[0], "height": size[1]})
            if labels.is_file():
                self._read_file(labels, images[-1])
        self._note(unlabelled, "picture", "without a label file, taken as showing nothing to be found")
        self._note(unreadable, "picture", "that cannot be read, left out")
        if self.empty:
            self.notes.append(f"{plural(self.empty, 'box')} without width or height, left out")
        if not images:
            raise ConfigError(f"not one of the pictures in {self.folder} can be read")
        used = {each["category_id"] for each in self.annotations}
        names = self.names or {number: str(number) for number in sorted(used)}
        categories = [{"id": number, "name": name} for number, name in sorted(names.items())]
        named = self.names is not None
        return LabelledSet(images, self.annotations, categories, self.folder, tuple(self.notes), named)

    def _note(self, files: list[Path], noun: str, what: str) -> None:
        if files:
            self.notes.append(f"{plural(len(files), noun)} {what}: {some([file.name for file in files])}")

    def _read_file(self, path: Path, image: Record) -> None:
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            try:
                class_id, points, outline = self._parse(line.split())
            except ValueError as error:
                raise ConfigError(f"{path}:{number}: {error}") from None
            size = np.array([image["width"], image["height"]], float)
            (left, top), (right, bottom) = points.min(axis=0) * size, points.max(axis=0) * size
            if right <= left or bottom <= top:
                self.empty += 1
                continue
            box = [float(value) for value in (left, top, right - left, bottom - top)]
            annotation = {
                "id": len(self.annotations) + 1,
                "image_id": image["id"],
                "category_id": class_id,
                "bbox": box,
                "area": _area(points * size) if outline else box[2] * box[3],
                "iscrowd": 0,
            }
            if outline:
                annotation["segmentation"] = [(points * size).reshape(-1).tolist()]
            self.annotations.append(annotation)

    def _parse(self, words: list[str]) -> tuple[int, Points, bool]:
        """Return class, (P, 2) points in fractions (two corners of a box), and whether they are an outline."""
        try:
            numbers = np.array([float(word) for word in words])
        except ValueError:
            raise ValueError(f"{' '.join(words)!r} are not numbers") from None
        if not np.isfinite(numbers).all():
            raise ValueError(f"{' '.join(words)!r} has a value that is not finite")
        count = len(numbers)
        is_pose = self.keypoint_numbers is not None and count == BOX_NUMBERS + self.keypoint_numbers
        outline = not is_pose and count >= LEAST_OUTLINE and count % 2 == 1
        if not (is_pose or outline or count == BOX_NUMBERS):
            raise ValueError(
                f"{plural(count, 'number')} are no box (class cx cy w h) and no outline (class x1 y1 x2 y2 x3 y3 ...); "
                "labels for pose need the kpt_shape of their data.yaml"
            )
        fractions = numbers[1:] if outline else numbers[1:BOX_NUMBERS]
        if not ((fractions >= -ROUNDING) & (fractions <= 1 + ROUNDING)).all():
            wrong = next(value for value in fractions if not -ROUNDING <= value <= 1 + ROUNDING)
            raise ValueError(f"{wrong:g} is outside 0..1: YOLO labels are fractions of the picture's size")
        class_id = self._class_id(words[0], numbers[0])
        if outline:
            return class_id, fractions.reshape(-1, 2), True
        centre, half = fractions[:2], fractions[2:] / 2
        return class_id, np.stack([centre - half, centre + half]), False

    def _class_id(self, word: str, value: float) -> int:
        if not (value >= 0 and value.is_integer()):
            raise ValueError(f"the class {word} is not a whole number from 0 on")
        if self.names is not None and int(value) not in self.names:
            raise ValueError(f"the class {word} has no name; names there are for {min(self.names)}..{max(self.names)}")
        return int(value)


def _area(points: Points) -> float:
    """Area of a polygon: the shoelace formula."""
    x, y = points.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
