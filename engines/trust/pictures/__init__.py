"""Small real pictures that come with the package, and what engines are shown of them; README.md says where from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from engines.engine import Uncut
from engines.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

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
Y, UV = 255 / 219, 255 / 224
TO_BGR = np.array(
    [
        [Y, 1.772 * UV, 0, -16 * Y - 128 * 1.772 * UV],
        [Y, -0.344136 * UV, -0.714136 * UV, -16 * Y + 128 * (0.344136 + 0.714136) * UV],
        [Y, 0, 1.402 * UV, -16 * Y - 128 * 1.402 * UV],
    ],
    np.float32,
)
"""What takes (Y, U, V, 1) in 0..255 to B, G and R. Source: ITU-R BT.601-7, limited range."""


@dataclass(frozen=True)
class Frames:
    """Whole pictures, for an engine that cuts its input out of them."""

    uncut: tuple[Uncut, ...]
    cut: Batch
    """What it is to see: N x H x W x 3 uint8 BGR."""


def frames_for(spec: ModelSpec, size: tuple[int, int]) -> dict[str, Frames]:
    """Return whole pictures by their layout: `BGR`, and planes as video has them, `I420`.

    Args:
        spec: the model; one that sees cut-out faces never gets a whole picture: there are none for it.
        size: height and width of its input.
    """
    if spec.encoder is not None or spec.input.crop is not None:
        return {}
    each = [_load(path) for path in _by_turns()]
    return {"BGR": _frames([(bgr,) for bgr in each], size, spec.input, None),
            "I420": _frames([_planes(bgr) for bgr in each], size, spec.input, TO_BGR)}  # fmt: skip


def _frames(
    pictures: list[tuple[Batch, ...]], size: tuple[int, int], how: InputSpec, to_bgr: npt.NDArray[np.float32] | None
) -> Frames:
    uncut, cut = [], []
    for planes in pictures:
        content, offset = _place(planes[0], size, how)
        uncut.append(Uncut(planes, content, offset, how.pad, to_bgr))
        resized = [_resized(plane, content) for plane in planes]
        bgr = resized[0] if to_bgr is None else np.asarray(cv2.transform(cv2.merge(resized), to_bgr), np.uint8)
        cut.append(_laid(bgr, offset, size, how))
    return Frames(tuple(uncut), np.stack(cut))


def _planes(bgr: Batch) -> tuple[Batch, ...]:
    """Return Y, U and V of 4:2:0; an odd last row or column is left out."""
    height, width = bgr.shape[0] // 2 * 2, bgr.shape[1] // 2 * 2
    whole = np.asarray(cv2.cvtColor(bgr[:height, :width], cv2.COLOR_BGR2YUV_I420), np.uint8)
    u, v = whole[height:].reshape(2, height // 2, width // 2)
    return whole[:height], u, v


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
    content, offset = _place(picture, size, how)
    return _laid(_resized(picture, content), offset, size, how)


def _place(picture: Batch, size: tuple[int, int], how: InputSpec) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return height and width of a picture inside a model's input, and its top and left."""
    if how.fit == "stretch":
        return size, (0, 0)
    scale = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    height, width = (
        max(1, min(limit, round(side * scale))) for side, limit in zip(picture.shape[:2], size, strict=True)
    )
    centred = how.fit == "letterbox-centre"
    return (height, width), ((size[0] - height) // 2, (size[1] - width) // 2) if centred else (0, 0)


def _laid(bgr: Batch, offset: tuple[int, int], size: tuple[int, int], how: InputSpec) -> Batch:
    laid = np.full((*size, 3), how.pad, np.uint8)
    laid[offset[0] : offset[0] + bgr.shape[0], offset[1] : offset[1] + bgr.shape[1]] = bgr
    return laid


def _resized(picture: Batch, size: tuple[int, int]) -> Batch:
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _load(path: Path) -> Batch:
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ModelError(f"{path} is damaged: install Frameloom again")
    return np.asarray(picture, np.uint8)
