"""The labelled group photos: their faces, and how a finder does on them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.capture.images import read_image
from pipeline.faces import Faces
from pipeline.infer.face_finder import FaceFinder
from pipeline.picture import Picture

OVERLAP = 0.4
"""IoU from which a face counts as found: the labels end at the eyebrows, a finder's boxes at the hair."""


@dataclass(frozen=True)
class Labelled:
    """One photo's faces."""

    boxes: FloatArray
    """(N, 4) xyxy."""
    landmarks: FloatArray
    """(N, 5, 2) of the 68 labelled points: centres of both eyes, tip of the nose, corners of the mouth."""


@dataclass(frozen=True)
class Score:
    """What a finder found of labelled faces."""

    faces: int
    found: int
    wrong: int
    """Found where no face is labelled."""
    errors: FloatArray
    """(found, 5) distances of landmarks from their labels, in distances between the eyes."""


def load(path: Path) -> Picture:
    pixels = read_image(path)
    assert pixels is not None
    return Picture(bgr=pixels)


@cache
def labelled_photos(folder: Path) -> dict[Path, Labelled]:
    """Read the labels of `faces/groups`: 43 faces in 9 photos."""
    photos = {}
    for part in ("training", "testing"):
        for image in ET.parse(folder / f"{part}_with_face_landmarks.xml").iter("image"):
            boxes, landmarks = [], []
            for box in image.iter("box"):
                left, top, width, height = (float(box.attrib[key]) for key in ("left", "top", "width", "height"))
                boxes.append((left, top, left + width, top + height))
                points = np.array([(point.attrib["x"], point.attrib["y"]) for point in box.iter("part")], np.float32)
                eyes = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
                landmarks.append([*eyes, points[30], points[48], points[54]])
            photos[folder / image.attrib["file"]] = Labelled(np.array(boxes, np.float32), np.array(landmarks))
    return photos


def overlaps(ours: FloatArray, theirs: FloatArray) -> FloatArray:
    """Return the (N, M) IoU of boxes."""
    table = np.zeros((len(ours), len(theirs)), np.float32)
    for row, a in enumerate(ours):
        for column, b in enumerate(theirs):
            shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
            area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared
            table[row, column] = shared / area
    return table


def score(found: Iterable[tuple[Labelled, Faces]]) -> Score:
    """Compare what was found in each photo with its labels."""
    total, hits, wrong, errors = 0, 0, 0, []
    for truth, faces in found:
        table = overlaps(truth.boxes, faces.boxes)
        matched = set()
        for row, points in zip(table, truth.landmarks, strict=True):
            total += 1
            if len(row) and row.max() >= OVERLAP:
                hits += 1
                best = int(row.argmax())
                matched.add(best)
                distances = np.linalg.norm(faces.landmarks[best] - points, axis=1)
                errors.append(distances / np.linalg.norm(points[0] - points[1]))
        wrong += len(faces) - len(matched)
    return Score(total, hits, wrong, np.array(errors, np.float32).reshape(-1, 5))


def score_finder(finder: FaceFinder, folder: Path) -> Score:
    """Run a finder over the labelled photos."""
    return score((truth, finder(load(path))) for path, truth in labelled_photos(folder).items())
