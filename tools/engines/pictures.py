"""The pictures that an engine is compared or calibrated on, as its input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from engines.zoo import Zoo
from pipeline.capture import make_source
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.infer.letterbox import Letterbox
from tools.terminal import download_progress

if TYPE_CHECKING:
    from engines.engine import Batch
    from engines.spec import ModelSpec
    from pipeline.picture import Picture

DEFAULT_CLIP = "demo-bikes"
FACES = "demo-carphone"
CLIPS = {"face-detect": FACES, "face-encode": FACES}
"""Clips of the zoo to compare on, by the models' task; `DEFAULT_CLIP` for all others."""


def places_for(images: Sequence[str] | None, task: str) -> list[str]:
    """Return the places to take pictures from: those named, else a clip that shows what models of the task find."""
    if images:
        return list(images)
    clip = CLIPS.get(task, DEFAULT_CLIP)
    with download_progress(clip) as progress:
        return [str(Zoo.load().fetch(clip, progress))]


def batches(spec: ModelSpec, size: tuple[int, int], pictures: Iterator[Picture]) -> Iterator[Batch]:
    """Yield each picture as an input of one: 1 x H x W x 3 uint8 BGR, `size` being height and width."""
    for picture in pictures:
        plan = Letterbox.plan((picture.height, picture.width), size, spec.input.fit)
        cut = plan.blank(spec.input.pad)
        plan.cut(picture, cut)
        yield cut[None]


def sample(places: Sequence[str], count: int) -> Iterator[Picture]:
    """Yield up to `count` pictures, as many from each place, spread evenly over it.

    Raises:
        SourceError: a place holds no pictures.
    """
    for number, place in enumerate(places):
        share = count * (number + 1) // len(places) - count * number // len(places)
        source = make_source(place, place)
        source.open()
        try:
            pictures = (item.picture for item in source.frames() if isinstance(item, Frame))
            step = max(1, (source.info.frames or 1) // max(1, share))
            taken = 0
            for index, picture in enumerate(pictures):
                if taken < share and index % step == 0:
                    taken += 1
                    yield picture
                if taken >= share:
                    break
        finally:
            source.close()
        if share and not taken:
            raise SourceError(f"{place}: not one picture can be read")
