"""Detection in many labelled pictures, with as many requests in flight as the engine takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.engine import shapes_of
from pipeline.capture.images import read_image
from pipeline.errors import ConfigError
from pipeline.infer.tiled_detector import TiledDetector
from pipeline.picture import Picture
from tools import coco

if TYPE_CHECKING:
    from pipeline.frame import Detections
    from pipeline.infer.picture_detector import PictureDetector
    from pipeline.infer.tiles import TileOptions
    from pipeline.postprocess.merge import Merging
    from tools.labels.labelled_set import LabelledSet, Record

MERGED_BY: dict[Merging, str] = {
    "standard": "NMS",
    "diou": "NMS by distance IoU",
    "soft-linear": "linear soft-NMS",
    "soft-gaussian": "Gaussian soft-NMS",
    "fusion": "weighted boxes fusion",
}


class PictureRun:
    """A detector over labelled pictures.

    Args:
        detector: what detects.
        labelled: the truth, for its categories.
        folder: of the pictures.
        tiles: how large pictures are cut; None: not at all.
        masks: whether the results get masks.

    Raises:
        ConfigError: the classes cannot be matched with the categories, or there are no masks.
    """

    def __init__(
        self,
        detector: PictureDetector,
        labelled: LabelledSet,
        folder: Path,
        *,
        tiles: TileOptions | None = None,
        masks: bool = False,
    ) -> None:
        self._detector, self._folder, self._masks = detector, folder, masks
        self._tiled = None if tiles is None else TiledDetector(detector, tiles)
        self._categories = coco.match_categories(
            detector.labels, _class_count(detector), labelled.categories, named=labelled.named
        )
        if masks and detector(Picture(bgr=np.zeros((*detector.engine.input_size, 3), np.uint8))).masks is None:
            raise ConfigError(f"--masks: {detector.spec.name} gives boxes and no masks")
        self.results: list[Record] = []
        """COCO results."""
        self.image_ids: list[int] = []
        """What was looked at."""
        self.unreadable: list[str] = []
        self._seconds = 0.0
        self._resized = 0

    def over(self, images: Sequence[Record], progress: Callable[[int, int], None]) -> None:
        """Fill `results`, `image_ids` and `unreadable`."""
        started = time.perf_counter()
        for image, found in self._detect(images):
            number = int(image["id"])
            self.image_ids.append(number)
            self.results += coco.to_results(number, found, self._categories.ids, masks=self._masks)
            progress(len(self.image_ids) + len(self.unreadable), len(images))
        self._seconds = time.perf_counter() - started

    def _detect(self, images: Sequence[Record]) -> Iterator[tuple[Record, Detections]]:
        if self._tiled is not None:  # the windows of one picture keep the engine busy
            for image, picture in self._read(images):
                yield image, self._tiled(picture)
            return
        detector, flying = self._detector, deque[Any]()
        for image, picture in self._read(images):
            if len(flying) == detector.engine.requests:
                yield self._collect(flying)
            plan, buffer = detector.letterbox(picture)
            flying.append((image, plan, detector.engine.submit(buffer[None])))
        while flying:
            yield self._collect(flying)

    def _read(self, images: Sequence[Record]) -> Iterator[tuple[Record, Picture]]:
        for image in images:
            pixels = read_image(self._folder / image["file_name"])
            if pixels is None:
                self.unreadable.append(image["file_name"])
                continue
            self._resized += pixels.shape[:2] != (image.get("height"), image.get("width"))
            yield image, Picture(bgr=pixels)

    def _collect(self, flying: deque[Any]) -> tuple[Record, Detections]:
        image, plan, pending = flying.popleft()
        return image, self._detector.read(pending.result(), plan)

    def as_dict(self) -> dict[str, Any]:
        """Return what the numbers depend on."""
        notes = list(self._categories.notes)
        if self._resized:
            notes.append(f"{self._resized} pictures are not of the size that the annotations say: boxes may not fit")
        return {
            "images": len(self.image_ids),
            "boxes": len(self.results),
            "seconds": self._seconds,
            "fps": len(self.image_ids) / self._seconds,
            "engine": str(self._detector.engine.describe()),
            "conventions": _conventions(self._detector, self._tiled),
            "notes": notes,
        }


def _class_count(detector: PictureDetector) -> int:
    outputs = detector.engine.infer(np.zeros((1, *detector.engine.input_size, 3), np.uint8))
    return detector.head.class_count(shapes_of(outputs))


def _conventions(detector: PictureDetector, tiled: TiledDetector | None) -> str:
    options = detector.options
    across = "over all classes" if options.class_agnostic else "per class"
    merged = f"{MERGED_BY[options.nms]} {across} at IoU {options.iou:g}" if detector.head.needs_nms else "no NMS"
    labels = f"every class above {options.confidence:g}" if options.multi_label else "one class"
    height, width = detector.engine.input_size
    cut = "" if tiled is None else f"{_tiles_words(tiled.options)}, "
    return (
        f"score > {options.confidence:g}, {labels} per candidate, boxes clipped to the image, {merged}, "
        f"{options.max_detections} boxes per image, input {width}x{height} {detector.spec.input.fit}, "
        f"{cut}pictures read by OpenCV, AP by pycocotools"
    )


def _tiles_words(options: TileOptions) -> str:
    tiles = options.tiles
    size = "x".join(map(str, tiles)) if isinstance(tiles, tuple) else str(tiles)
    whole = " and the whole picture" if options.full_frame else ""
    return f"tiles {size} with an overlap of {options.overlap:g}{whole}"
