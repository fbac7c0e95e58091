"""`frameloom bench blur`: does the blur hide everybody, also where the finder fails, and what does it cost?

The real pipeline runs, and its finder is made worse: a part of what it finds is taken away, half of it as if it had
seen nobody, half as if it had had no time to look. What comes out is compared with the original pictures by somebody
else: two networks of different makers, each at two sizes. A face that both see must be hidden, and an encoder must not
take what is left of it for the same person.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from engines.engine import EngineOptions
from engines.zoo import Zoo
from pipeline.api import Pipeline
from pipeline.assemble_faces import find_encoder
from pipeline.config.load import Override, load_settings, parse_set
from pipeline.config.result_settings import BlurSettings
from pipeline.errors import ConfigError
from pipeline.faces import Faces
from pipeline.frame import Frame
from pipeline.gallery.pairs import similarity_matrix
from pipeline.infer.embedder import FaceEmbedder
from pipeline.infer.face_finder import FaceFinder, FinderOptions
from pipeline.picture import Picture, Planes
from pipeline.postprocess.overlaps import iou_matrix
from pipeline.render.blur import Blur
from pipeline.render.hiding import hide
from pipeline.sinks.paths import prepare_file
from pipeline.stage import Stage
from tools.benchmark import environment
from tools.terminal import download_progress

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray
    from pipeline.config.settings import Settings

FINDERS = ("centerface", "yunet")
SHORT_SIDES = (320, 512)
AGREE = 0.4
"""IoU from which two finders mean the same face."""
CENTRE = math.sqrt(0.5)
"""Part of a face box's sides in which eyes, nose and mouth are: half of its area."""
COVERED = 0.95
"""Part of the centre that must be hidden."""
SIZES = ((1280, 720), (1920, 1080))
REGIONS = (1, 10)
HOWS = ("blur", "pixelate", "fill")
TIMED = 60
"""Frames of which a cost is the median."""


@dataclass
class Counts:
    """What came out of one source."""

    frames: int = 0
    whole: int = 0
    """Frames of which nothing was to be seen."""
    faces: int = 0
    """That the other finders see, in all frames."""
    exposed: int = 0
    recognised: int = 0
    """Faces of which the encoder takes what is left for the same person."""
    by_chance: int = 0
    """The same where nothing is left: filled. An encoder that was made for faces says something of every picture."""
    failed: int = 0
    """Frames in which the finder was made to fail."""
    areas: list[float] = field(default_factory=list)
    """Part of the picture that was hidden, of each frame that was not hidden whole."""
    similarities: list[float] = field(default_factory=list)
    """Of each face to what is left of it."""


class WorseFinder(Stage):
    """Takes away a part of what the finder found, and keeps the original pictures for the comparison."""

    name = "worse_finder"

    def __init__(self, part: float, seed: int) -> None:
        self._part, self._seed = part, seed
        self._random: dict[str, np.random.Generator] = {}
        self._last: dict[str, Faces] = {}
        self.originals: dict[tuple[str, int], Picture] = {}
        self.dropped: defaultdict[str, int] = defaultdict(int)

    def process(self, frame: Frame) -> None:
        """Fail now and then."""
        self.originals[frame.source, frame.index] = frame.picture
        if frame.source not in self._random:
            self._random[frame.source] = np.random.default_rng([self._seed, zlib.crc32(frame.source.encode())])
        chance = self._random[frame.source].random()
        self.dropped[frame.source] += chance < self._part
        if chance < self._part / 2:
            frame.faces = Faces.empty()
        elif chance < self._part:
            frame.faces = replace(self._last.get(frame.source, Faces.empty()), predicted=True)
        elif frame.faces is not None:
            self._last[frame.source] = frame.faces


class Reference:
    """Finds the faces of a picture with more care than a run has time for, and says who is still to be recognised."""

    def __init__(self, settings: Settings) -> None:
        zoo, options = Zoo.load(), EngineOptions()
        self._finders: list[tuple[str, FaceFinder]] = []
        for name in FINDERS:
            with download_progress(name) as progress:
                spec = zoo.spec(name, task="face-detect", progress=progress)
            for side in SHORT_SIDES:
                self._finders.append((name, FaceFinder(spec, options, FinderOptions(short_side=side))))
        self._embedder = FaceEmbedder(find_encoder(settings.faces))

    @property
    def threshold(self) -> float:
        """Similarity from which two faces are of one person."""
        assert self._embedder.encoder.verify_threshold is not None
        return self._embedder.encoder.verify_threshold

    def faces(self, picture: Picture) -> Faces:
        """Return the faces that both networks see, as the second one sees them."""
        found = {name: Faces.empty() for name in FINDERS}
        for name, finder in self._finders:
            found[name] = _joined(found[name], finder(picture))
        first, second = found.values()
        if not len(first) or not len(second):
            return Faces.empty()
        return second[(iou_matrix(first.boxes, second.boxes) >= AGREE).any(axis=0)]

    def similarities(self, original: Picture, hidden: Picture, landmarks: FloatArray) -> list[float]:
        """Return how alike each face is to what is left of it."""
        if not len(landmarks):
            return []
        before, after = (self._embedder(self._embedder.chips(each, landmarks)) for each in (original, hidden))
        return [float(value) for value in np.diag(similarity_matrix(before, after))]

    def describe(self) -> str:
        """Say who looked."""
        sides = " and ".join(map(str, SHORT_SIDES))
        return f"{' and '.join(FINDERS)}, short side {sides}; {self._embedder.spec.name} from {self.threshold:g}"

    def close(self) -> None:
        """Give the engines back."""
        for _, finder in self._finders:
            finder.close()
        self._embedder.close()


def _joined(faces: Faces, more: Faces) -> Faces:
    """Add those faces that are not there yet."""
    new = more if not len(faces) else more[~(iou_matrix(faces.boxes, more.boxes) >= AGREE).any(axis=0)]
    boxes, scores, landmarks = (
        np.concatenate([getattr(faces, key), getattr(new, key)]) for key in ("boxes", "scores", "landmarks")
    )
    return Faces(boxes, scores, landmarks)


def blur(
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Video; may be repeated. None: costs only.")
    ] = None,
    drop: Annotated[float, typer.Option(min=0, max=1, help="Part of the finder's results to take away.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Which ones.")] = 0,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of each video to use.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any key of the pipeline.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Count the faces that are not hidden, or still recognised, with a finder that fails; and measure what it costs."""
    if json_file is not None:
        prepare_file(json_file, "bench blur --json")
    console = Console(highlight=False)
    report: dict[str, Any] = {"drop": drop, "seed": seed, "environment": environment()}
    if source:
        values = {"sources": list(source), "detect.enabled": False, "blur.enabled": True, "max_frames": frames}
        overrides = [Override(key, value, "bench") for key, value in values.items()]
        settings = load_settings(None, [*overrides, *map(parse_set, set_ or ())]).settings
        counts, reference = measure(settings, drop, seed)
        console.print(_exposure_table(counts))
        console.print(f"drop {drop:g}, seed {seed}; reference: {reference}", markup=False, soft_wrap=True)
        report |= {"sources": {name: _summary(each) for name, each in counts.items()}, "reference": reference}
    costs = [cost(size, number, how) for how in HOWS for size in SIZES for number in REGIONS]
    console.print(_cost_table(costs))
    machine = report["environment"]
    console.print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}", soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps(report | {"costs": [asdict(each) for each in costs]}, indent=2) + "\n")


def measure(settings: Settings, drop: float, seed: int) -> tuple[dict[str, Counts], str]:
    """Run the pipeline with a finder that fails; return the counts of each source, and who looked.

    Raises:
        ConfigError: nothing is hidden, or the sources are no videos.
    """
    if not settings.blur.enabled or settings.blur.spare:
        raise ConfigError("bench blur counts who is not hidden: leave blur.enabled on, and blur.except empty")
    reference, worse = Reference(settings), WorseFinder(drop, seed)
    counts: defaultdict[str, Counts] = defaultdict(Counts)
    try:
        with Pipeline(settings, stages=[worse]) as pipeline:
            for frame in pipeline:
                original = worse.originals.pop((frame.source, frame.index))
                _count(counts[frame.source], frame, original, reference)
    finally:
        described = reference.describe()
        reference.close()
    for name, each in counts.items():
        each.failed = worse.dropped[name]
    return dict(counts), described


def _count(counts: Counts, frame: Frame, original: Picture, reference: Reference) -> None:
    assert frame.hidden is not None, "every frame has passed the blur"
    mask = hidden_mask(frame.hidden, frame.width, frame.height)
    counts.frames += 1
    area = float(mask.mean())
    counts.whole += area == 1
    counts.areas += [area] if area < 1 else []
    faces = reference.faces(original)
    counts.faces += len(faces)
    counts.exposed += sum(is_exposed(box, mask) for box in faces.boxes)
    alike = reference.similarities(original, frame.picture, faces.landmarks)
    counts.similarities += alike
    counts.recognised += sum(each >= reference.threshold for each in alike)
    nothing = reference.similarities(original, hide(original, frame.hidden, "fill"), faces.landmarks)
    counts.by_chance += sum(each >= reference.threshold for each in nothing)


def hidden_mask(regions: FloatArray, width: int, height: int) -> Any:
    """Return (H, W) bool: which pixels lie in a region."""
    mask = np.zeros((height, width), np.bool_)
    for left, top, right, bottom in regions.tolist():
        mask[math.ceil(top) : math.floor(bottom), math.ceil(left) : math.floor(right)] = True
    return mask


def is_exposed(box: FloatArray, mask: Any) -> bool:
    """Whether the centre of a face is not hidden."""
    middle, half = box.reshape(2, 2).mean(axis=0), (box[2:] - box[:2]) * (CENTRE / 2)
    left, top = np.floor(np.maximum(middle - half, 0)).astype(int)
    right, bottom = np.ceil(middle + half).astype(int)
    centre = mask[top:bottom, left:right]
    return bool(centre.size and centre.mean() < COVERED)


@dataclass(frozen=True)
class Cost:
    """What the stage costs."""

    how: str
    width: int
    height: int
    regions: int
    ms: float
    """Median CPU time of a frame."""


def cost(size: tuple[int, int], regions: int, how: str) -> Cost:
    """Time the stage, on one thread, on noise with faces that move, each a quarter of the picture's height."""
    width, height = size
    stage = Blur(BlurSettings.model_validate({"enabled": True, "how": how}))
    data = np.random.default_rng(0).integers(0, 255, (height * 3 // 2, width)).astype(np.uint8)
    picture = Picture(planes=Planes(data))
    cv2.setNumThreads(1)
    times: list[float] = []
    for index, faces in enumerate(_moving(size, regions, TIMED + 10)):
        frame = Frame("bench", index, index / 30, 0.0, picture, faces=faces)
        began = time.thread_time()
        stage.process(frame)
        times.append(time.thread_time() - began)
    return Cost(how, width, height, regions, round(median(times[10:]) * 1e3, 3))


def _moving(size: tuple[int, int], count: int, frames: int) -> Iterator[Faces]:
    width, height = size
    side = height / 4
    places = np.stack([np.linspace(0, width - side, count), np.resize([0.1, 0.6], count) * height], axis=1)
    for index in range(frames):
        corner = places + index
        boxes = np.concatenate([corner, corner + side], axis=1)
        yield Faces(boxes, np.full(count, 0.9), np.zeros((count, 5, 2), np.float32))


def _summary(counts: Counts) -> dict[str, Any]:
    alike = counts.similarities
    return {
        "frames": counts.frames,
        "finder_failed": counts.failed,
        "whole": counts.whole,
        "hidden_area": float(np.mean(counts.areas)) if counts.areas else None,
        "faces": counts.faces,
        "exposed": counts.exposed,
        "recognised": counts.recognised,
        "recognised_by_chance": counts.by_chance,
        "most_alike": max(alike) if alike else None,
    }


def _exposure_table(counts: dict[str, Counts]) -> Table:
    table = Table(box=None, pad_edge=False)
    headings = ("frames", "failed", "whole", "hidden area", "faces", "exposed", "recognised", "by chance")
    table.add_column("source")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, each in counts.items():
        row = _summary(each)
        area = row["hidden_area"]
        table.add_row(
            name,
            *(str(row[key]) for key in ("frames", "finder_failed", "whole")),
            "-" if area is None else f"{area:.1%}",
            *(str(row[key]) for key in ("faces", "exposed", "recognised", "recognised_by_chance")),
        )
    return table


def _cost_table(costs: Sequence[Cost]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("CPU ms per frame")
    for _, height in SIZES:
        for number in REGIONS:
            table.add_column(f"{height}p, {number}", justify="right")
    for how in HOWS:
        table.add_row(how, *(f"{each.ms:.2f}" for each in costs if each.how == how))
    return table
