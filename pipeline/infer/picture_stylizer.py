"""PictureStylizer: a feed-forward style network on single pictures, in an input of the picture's own shape.

A network that was trained on small crops paints pictures of any size, its strokes as wide as they were there: so the
size decides how coarse a painting looks, as well as what it costs. Each size is an engine of its own; the long side
goes in steps, and the few per cent by which a picture is stretched for that are taken back in the resize to the frame.

A network answers in the units that it is fed in: one that takes (x - mean) / std gives pixels as `y * std + mean`.
Source: Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution" (2016).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engines import graph
from engines.engine import EngineInfo, EngineOptions, Outputs, Pending, open_engine, shapes_of, usual_requests
from engines.errors import EngineError, UnknownHead
from engines.spec import InputSpec, ModelSpec
from engines.zoo import Zoo
from pipeline.infer.letterbox import Letterboxes
from pipeline.infer.sized_engines import Size, SizedEngine, SizedEngines, declared_size

if TYPE_CHECKING:
    from engines.download import Progress
    from pipeline.arrays import FloatArray, Image
    from pipeline.picture import Picture

MULTIPLES = (4, 32)
"""What the sides of a network that nobody describes may have to be multiples of: the first that it runs at. Most halve
their picture twice; those in the shape of a U-Net halve it up to five times."""
STEPS = 4
"""Steps of the long side, in multiples: 16 pixels, so that pictures of nearly one shape share an engine."""
LONGEST = 4
"""Longest input, in short sides: a panorama that is longer is pressed together for the network."""
LEAST_SIDE = 32
"""Pixels: networks reflect their picture at its edges, and a smaller one has not enough to reflect."""
KEPT = 4
"""Engines of different sizes that are kept open; each holds 30 to 100 MB."""
LARGER = 32
"""Pixels by which a side of the answer may be longer than asked: some networks round up. The rest is cut off."""
FLAT = 4.0
"""Levels: an answer to a colourful picture that varies by less is in other units than 0..255."""
FINITE_STEP = 16
"""Every so many-th pixel is looked at for values that are no numbers: instance normalisation spreads one over all."""

RAW = InputSpec(colour="rgb", fit="stretch")
UNIT = replace(RAW, std=(255.0,) * 3)
SIGNED = replace(RAW, mean=(127.5,) * 3, std=(127.5,) * 3)
"""How networks are fed and answer: 0..255, 0..1, -1..1."""


def find_stylizer(model: str, progress: Progress | None = None) -> ModelSpec:
    """Find a style network by name, or describe a file of the user's own.

    Args:
        model: a name of the zoo, or the path of an ONNX file that takes (N, 3, H, W) and gives the same.
        progress: called while a file is downloaded.

    Raises:
        ModelError: it is nowhere, damaged, for another task, or takes no pictures.
        UnknownHead: what it gives is no picture of the size that it takes.
    """
    spec = Zoo.load().spec(model, task="stylize", progress=progress)
    if replace(spec.input, height=None, width=None, batch=None) != InputSpec():
        return spec
    return recognise(spec)


def recognise(spec: ModelSpec) -> ModelSpec:
    """Complete the spec of a file that no zoo entry describes, by what it answers to a made-up picture.

    Raises:
        ModelError: it takes no pictures.
        UnknownHead: what it gives is no picture of the size that it takes.
        EngineError: it does not run.
    """
    height, width = graph.declared_size(graph.load(spec.path))
    failed: EngineError | None = None
    for multiple in MULTIPLES:
        size = (height or 17 * multiple, width or 21 * multiple)
        try:
            answer = _answer(spec, size)
        except EngineError as error:
            failed = failed or error
            if height and width:
                break
            continue
        fed = replace(_units(answer), multiple=multiple)
        return replace(spec, input=replace(fed, height=height, width=width, batch=spec.input.batch))
    assert failed is not None
    raise failed


def _answer(spec: ModelSpec, size: Size) -> FloatArray:
    """Return (3, h, w): what a network makes of a gradient with noise, fed as 0..255."""
    options = EngineOptions("onnxruntime", "fp32", requests=1, input_size=size)
    engine = open_engine(replace(spec, input=replace(RAW, batch=1)), options)
    try:
        ramp = np.linspace(0, 200, size[0] * size[1] * 3).reshape(*size, 3)
        noise = np.random.default_rng(0).uniform(0, 55, ramp.shape)
        outputs = engine.infer((ramp + noise).astype(np.uint8)[None])
    finally:
        engine.close()
    name = check_outputs(spec.name, shapes_of(outputs), size)
    return np.asarray(outputs[name][0], np.float32)


def _units(answer: FloatArray) -> InputSpec:
    if float(np.ptp(answer)) > FLAT:
        return RAW
    return SIGNED if float(answer.min()) < -0.05 else UNIT


def check_outputs(name: str, shapes: Mapping[str, tuple[int, ...]], size: Size) -> str:
    """Return the name of the output that is the styled picture.

    Args:
        name: of the model.
        shapes: of its outputs, for one picture.
        size: height and width of what it was fed.

    Raises:
        UnknownHead: there is none.
    """
    height, width = size
    for output, shape in shapes.items():
        if (
            len(shape) == 4
            and shape[:2] == (1, 3)
            and 0 <= shape[2] - height < LARGER
            and 0 <= shape[3] - width < LARGER
        ):
            return output
    seen = ", ".join(f"{output} {'x'.join(map(str, shape))}" for output, shape in shapes.items())
    raise UnknownHead(
        f"{name} is no style network: for a picture of 1x3x{height}x{width} it gives {seen}, where a picture of that "
        "size was expected; `frameloom models list --task stylize` shows some that are"
    )


def size_for(
    height: int, width: int, short_side: int, multiple: int = 4, most_pixels: float | None = None
) -> tuple[int, int]:
    """Return height and width of the input for a picture of a size.

    Never larger than the picture, but for pictures below `LEAST_SIDE`.

    Args:
        height: of the picture.
        width: of it.
        short_side: of the input, at most.
        multiple: of what the sides must be.
        most_pixels: that the input may have, but for roundings; None: any number.
    """
    short, long = sorted((height, width))
    shape = min(LONGEST, long / short)
    side: float = min(short_side, short)
    if most_pixels is not None:
        side = min(side, math.sqrt(most_pixels / shape))
    least = math.ceil(LEAST_SIDE / multiple) * multiple
    first = max(least, math.floor(side / multiple) * multiple)
    step = STEPS * multiple
    second = max(first, min(math.floor(first * shape / step + 0.5) * step, long // multiple * multiple))
    return (first, second) if height <= width else (second, first)


@dataclass(frozen=True)
class AtSize:
    """What cuts the inputs of an engine of one size, and which output is the picture."""

    output: str
    inputs: Letterboxes


@dataclass(frozen=True)
class Styling:
    """A picture that is being painted."""

    sized: SizedEngine[AtSize]
    pending: Pending


class PictureStylizer:
    """Paints single pictures. `start` and `finish` may be called on two threads, in the same order."""

    def __init__(self, spec: ModelSpec, engine: EngineOptions, short_side: int = 360) -> None:
        """Nothing is compiled before the first picture, or `prepare`.

        Args:
            spec: the network, from `find_stylizer`.
            engine: how to run it; `input_size` is not used.
            short_side: of what is painted, in pixels, at most.
        """
        self.spec, self.short_side = spec, short_side
        self.requests = usual_requests(engine)
        self.most_pixels: float | None = None
        """That an input may have; None: any number."""
        self.broken = 0
        """Answers with values that are no numbers."""
        options = replace(engine, requests=self.requests)
        self._engines = SizedEngines(spec, options, self._reader, keep=KEPT)
        self._engines.only_size = declared_size(spec)

    def _reader(self, shapes: Mapping[str, tuple[int, ...]], size: Size) -> AtSize:
        return AtSize(check_outputs(self.spec.name, shapes, size), Letterboxes(size, "stretch", self.spec.input.pad))

    @property
    def only_size(self) -> Size | None:
        """Height and width of the one size that the file is for; None: it takes any."""
        return self._engines.only_size

    def size_for(self, height: int, width: int) -> Size:
        """Return the input's height and width for a picture of a size."""
        return self.only_size or size_for(height, width, self.short_side, self.spec.input.multiple, self.most_pixels)

    def prepare(self, height: int, width: int) -> SizedEngine[AtSize]:
        """Compile for pictures of a size.

        Raises:
            BackendUnavailable: what was asked for does not exist here.
            EngineError: the model cannot be compiled or run.
            UnknownHead: what it gives is no picture.
        """
        return self._engines.at(self.size_for(height, width))

    def start(self, picture: Picture) -> Styling:
        """Start to paint a picture; wait only where the engine has no room. Give the result to `finish`, once."""
        sized = self.prepare(picture.height, picture.width)
        _, pending = self._engines.submit(sized, lambda engine: sized.reader.inputs.start(engine, [picture]))
        return Styling(sized, pending)

    def finish(self, styling: Styling) -> Image | None:
        """Wait for the painting: (h, w, 3) uint8 BGR of the input's size; None where its values are no numbers."""
        outputs: Outputs = self._engines.collect(styling.sized, styling.pending)
        painted = to_bgr(outputs[styling.sized.reader.output][0], styling.sized.engine.input_size, self.spec.input)
        self.broken += painted is None
        return painted

    def __call__(self, picture: Picture) -> Image | None:
        """Paint one picture."""
        return self.finish(self.start(picture))

    def infos(self) -> list[EngineInfo]:
        """Return what runs the network, an entry per input size, the one used last at the end."""
        return self._engines.infos()

    def describe(self) -> str:
        """Name the network, what runs it, and the sizes it is compiled for."""
        return self._engines.describe()

    def close(self) -> None:
        """Give the engines back; after the last `finish`."""
        self._engines.close()


def to_bgr(answer: FloatArray, size: Size, fed: InputSpec) -> Image | None:
    """Return a network's answer as (h, w, 3) uint8 BGR of a size; None where its values are no numbers.

    Args:
        answer: (3, h or more, w or more), in the units and the colour order in which the network is fed.
        size: height and width.
        fed: how that is.
    """
    if not np.isfinite(answer[:, ::FINITE_STEP, ::FINITE_STEP]).all():
        return None
    channels = range(3) if fed.colour == "bgr" else range(2, -1, -1)
    cut = answer[:, : size[0], : size[1]]
    planes = [_levels(cut[channel], fed.std[channel], fed.mean[channel]) for channel in channels]
    return np.asarray(cv2.merge(planes), np.uint8)


def _levels(plane: FloatArray, scale: float, shift: float) -> Image:
    """Round to 0..255 with saturation: 0.1 ms for 640 x 360, NumPy's clip and round take five times as long."""
    if scale != 1:
        plane = np.asarray(plane * np.float32(scale), np.float32)
    to_add: Any = (shift, 0, 0, 0)  # which OpenCV takes, whatever its stubs say
    return np.asarray(cv2.add(np.ascontiguousarray(plane, np.float32), to_add, dtype=cv2.CV_8U), np.uint8)
