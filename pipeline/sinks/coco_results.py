"""CocoResults: detections as COCO results, a file per source.

    [{"image_id": 139, "category_id": 1, "bbox": [left, top, width, height], "score": 0.91, "segmentation": {...}}, ...]

The file is a whole JSON list at any time, also after SIGKILL: each frame's rows replace the bracket at its end and
bring their own, by one system call.

An image's id is the last number in its file's name (COCO_val2014_000000000139.jpg is 139), of a video the number of
its frame as in the event log. COCO's 80 classes get its own category ids, 1 to 90 with gaps; of other models the first
class is 1. Masks become COCO's compressed run lengths, which pycocotools, an extra, is not needed for.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.boxes import rounded
from pipeline.capture.source import SourceInfo
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.masks import Masks
from pipeline.sinks.line_file import DiskSpace
from pipeline.sinks.paths import file_of_source, prepare_file, refuse_sources
from pipeline.sinks.sink import Sink

NO_CATEGORY = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""Numbers up to 90 that no category of COCO's detection task has."""
COCO_IDS = tuple(number for number in range(1, 91) if number not in NO_CATEGORY)
COCO_ENDS = {("person", "toothbrush")}
"""First and last of COCO's classes: 80 names between these are those, whatever spelling (aeroplane, tvmonitor)."""
EMPTY, END = b"[]\n", b"\n]\n"
SCORE_DECIMALS = 5
Row = dict[str, Any]


class CocoResults(Sink):
    """The results of a run."""

    name = "coco"

    def __init__(self, path: Path) -> None:
        """Write nothing yet."""
        self._path = path
        self._lists: dict[str, JsonList] = {}
        self._ids: dict[str, set[int]] = {}
        self._again = 0

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder; see that the files can be written and none of them is read."""
        paths = {source.name: file_of_source(self._path, source.name, sources) for source in sources}
        refuse_sources(paths.values(), sources, "sinks.coco")
        for path in paths.values():
            prepare_file(path, "sinks.coco")
            if path.exists() and not path.is_file():
                raise ConfigError(f"sinks.coco: {path} is a device or a pipe: name a file")
        self._lists = {source: JsonList(path, "sinks.coco") for source, path in paths.items()}
        self._ids = {source: set() for source in paths}

    def consume(self, frame: Frame) -> None:
        """Add the frame's detections."""
        if frame.file is not None:
            self._again += image_id(frame) in self._ids[frame.source]
            self._ids[frame.source].add(image_id(frame))
        self._lists[frame.source].add(list(rows_of(frame)))

    def close(self) -> None:
        """Close the files, which are whole already."""
        for each in self._lists.values():
            each.close()

    @property
    def files(self) -> list[Path]:
        """Those begun."""
        return [each.path for each in self._lists.values() if each.begun]

    @property
    def dropped(self) -> int:
        """Rows that a full disk cost."""
        return sum(each.space.lost for each in self._lists.values())

    def remark(self) -> str | None:
        """Say how many rows are missing, and how many images have an id that was there already."""
        said = [each.space.remark("results") for each in self._lists.values()]
        if self._again:
            said.append(f"sinks.coco: {self._again} images have a number that an earlier one has: results are mixed up")
        return "; ".join(filter(None, said)) or None


class JsonList:
    """A file that is a JSON list at any time, and grows at its end."""

    def __init__(self, path: Path, purpose: str) -> None:
        """Open nothing yet; the content of an existing file stays until `add`."""
        self.path = path
        self.begun = False
        self.space = DiskSpace(path, purpose)
        self._purpose = purpose
        self._file: int | None = None
        self._end = 1
        self._is_empty = True

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows, all or none.

        Raises:
            SinkError: they cannot be written, and the disk is not full.
        """
        if not self.space.is_worth_trying():
            self.space.lose(len(rows))
            return
        try:
            if self._file is None:
                self._begin()
            if rows:
                self._append(rows)
        except OSError as error:
            self.space.lose(len(rows))
            self.space.is_full(error)
        else:
            self.space.has_room()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def _begin(self) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            os.write(file, EMPTY)
        except OSError:
            os.close(file)
            raise
        self._file, self.begun = file, True

    def _append(self, rows: Sequence[Row]) -> None:
        assert self._file is not None
        texts = [json.dumps(row, separators=(",", ":"), allow_nan=False) for row in rows]
        block = (("\n" if self._is_empty else ",\n") + ",\n".join(texts)).encode()
        rest = memoryview(block + END)
        try:
            while rest:  # a full disk takes a part and refuses the next write
                rest = rest[os.pwrite(self._file, rest, self._end + len(block) + len(END) - len(rest)) :]
        except OSError:
            with contextlib.suppress(OSError):
                end = EMPTY[1:] if self._is_empty else END
                os.pwrite(self._file, end, self._end)
                os.ftruncate(self._file, self._end + len(end))
            raise
        self._end += len(block)
        self._is_empty = False


def rows_of(frame: Frame) -> Iterator[Row]:
    """Yield a result for each detection."""
    found = frame.detections
    if found is None:
        return
    number, is_coco = image_id(frame), is_coco_labels(frame.labels)
    boxes = zip(found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True)
    for row, ((left, top, right, bottom), score, class_id) in enumerate(boxes):
        corners = (left, top, right - left, bottom - top)
        result: Row = {
            "image_id": number,
            "category_id": COCO_IDS[class_id] if is_coco and class_id < len(COCO_IDS) else class_id + 1,
            "bbox": rounded(corners),
            "score": round(score, SCORE_DECIMALS),
        }
        if found.masks is not None:
            result["segmentation"] = run_lengths(found.masks, row)
        yield result


def image_id(frame: Frame) -> int:
    """Return the last number in the file's name; without one, or of a video, the number of the frame."""
    numbers = re.findall(r"[0-9]+", frame.file.stem) if frame.file is not None else []
    return int(numbers[-1]) if numbers else frame.index


def is_coco_labels(labels: Sequence[str]) -> bool:
    """Whether these are the 80 classes of COCO in its order."""
    return len(labels) == len(COCO_IDS) and (labels[0], labels[-1]) in COCO_ENDS


def run_lengths(masks: Masks, row: int) -> Row:
    """Return one mask as COCO's compressed run lengths, which go down the columns.

    Source: `rleEncode` and `rleToString` of the COCO API: how many pixels are off, on, off, ...; each count from the
    fourth on less the one two before it; five bits a character, with one bit that says whether more follow.
    """
    height, width = masks.size
    crop, (left, top) = masks.crops[row], masks.corners[row].tolist()
    columns = np.zeros((crop.shape[1], height), np.bool_)
    columns[:, top : top + crop.shape[0]] = crop.T
    edges = np.flatnonzero(np.diff(columns.reshape(-1), prepend=False, append=False)) + left * height
    if len(edges) and edges[-1] == height * width:  # on to the last pixel: nothing follows that is off
        edges = edges[:-1]
    counts = np.diff(edges, prepend=0, append=height * width)
    counts[3:] -= counts[1:-2].copy()
    return {"size": [height, width], "counts": "".join(map(_characters, counts.tolist()))}


def _characters(number: int) -> str:
    text = ""
    while True:
        bits, number = number & 0x1F, number >> 5
        is_last = number == (-1 if bits & 0x10 else 0)
        text += chr((bits if is_last else bits | 0x20) + 48)
        if is_last:
            return text
