"""Small real pictures that come with the package, and what engines are shown of them; README.md says where from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from engines.errors import ModelError

if TYPE_CHECKING:
    from engines.engine import Batch
    from engines.spec import InputSpec, ModelSpec

FOLDER = Path(__file__).parent
FACES = {
    "face-000.jpg": (64, 36, 113, 97),
    "face-035.jpg": (51, 39, 102, 102),
    "face-062.jpg": (52, 30, 103, 95),
    "face-112.jpg": (43, 35, 94, 98),
    "street-030.jpg": (263, 18, 315, 87),
}
"""The face in a picture, xyxy; found by CenterFace."""
AROUND_A_FACE = 1.1
"""Side of an encoder's square input, in heights of the face's box: about what alignment gives."""
FEW = 9
"""Pictures for models whose outputs are compared value by value: each has as much to say as any other."""


def cut_for(spec: ModelSpec, size: tuple[int, int]) -> Batch:
    """Return what a model is shown, N x H x W x 3 uint8 BGR.

    Encoders and other models of faces see faces, as they are and mirrored, and a few pieces of street; others see whole
    pictures, cut as the model's `fit` says. Detectors and face finders see them all, and enlarged pieces.

    Args:
        spec: the model.
        size: height and width of its input.
    """
    if spec.encoder is not None or spec.input.crop is not None:
        return _faces(spec.input.crop or AROUND_A_FACE, size)
    whole = [_fitted(_load(path), size, spec.input) for path in _by_turns()]
    if spec.task not in ("detect", "face-detect"):
        return np.stack(whole[:FEW])
    pieces = [_fitted(_around(_load(FOLDER / name), face, 2.5), size, spec.input) for name, face in FACES.items()]
    return np.stack([*whole, *pieces])


def _by_turns() -> list[Path]:
    """Return the pictures, faces and streets mixed: neighbours are as different as can be."""
    faces, streets = sorted(FOLDER.glob("face-*.jpg")), sorted(FOLDER.glob("street-*.jpg"))
    order = [path for pair in zip(faces, streets, strict=False) for path in pair]
    return order + streets[len(faces) :]


def _faces(around: float, size: tuple[int, int]) -> Batch:
    found = [_around(_load(FOLDER / name), face, around) for name, face in FACES.items()]
    streets = [_load(path)[:, :272] for path in sorted(FOLDER.glob("street-*.jpg"))[1::2]]
    everything = [*found, *streets, *(piece[:, ::-1] for piece in found)]
    return np.stack([_resized(np.ascontiguousarray(piece), size) for piece in everything])


def _around(picture: Batch, face: tuple[int, int, int, int], times: float) -> Batch:
    """Cut a square around a face, `times` as high as it is; what is outside the picture repeats its edge."""
    x1, y1, x2, y2 = face
    side = round((y2 - y1) * times)
    left, top = (x1 + x2 - side) // 2, (y1 + y2 - side) // 2
    rows = np.arange(top, top + side).clip(0, picture.shape[0] - 1)
    columns = np.arange(left, left + side).clip(0, picture.shape[1] - 1)
    piece: Batch = picture[rows][:, columns]
    return piece


def _fitted(picture: Batch, size: tuple[int, int], how: InputSpec) -> Batch:
    """Lay a picture into a model's input."""
    if how.fit == "stretch":
        return _resized(picture, size)
    scale = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    height, width = (max(1, min(limit, round(side * scale))) for side, limit in zip(picture.shape, size, strict=False))
    centred = how.fit == "letterbox-centre"
    top, left = ((size[0] - height) // 2, (size[1] - width) // 2) if centred else (0, 0)
    laid = np.full((*size, 3), how.pad, np.uint8)
    laid[top : top + height, left : left + width] = _resized(picture, (height, width))
    return laid


def _resized(picture: Batch, size: tuple[int, int]) -> Batch:
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _load(path: Path) -> Batch:
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ModelError(f"{path} is damaged: install Frameloom again")
    return np.asarray(picture, np.uint8)
