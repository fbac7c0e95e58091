"""The network that TensorRT is given: the model file, with everything put in that a plan is to compute.

Precision is a step on the graph here, never a flag of the builder: TensorRT 11 and TensorRT-RTX have no such flags, and
a type that is written down is the same for all of them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import onnx

from engines.batch import set_batch
from engines.candidates import add_candidates
from engines.errors import EngineBuildError, ModelError
from engines.half import to_half
from engines.prepare import prepare, take_uint8_pictures
from engines.quantise import to_int8
from engines.tensorrt.refusals import is_quantised, refuse_unbuildable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engines.engine import Batch
    from engines.spec import ModelSpec
    from engines.tensorrt.recipe import Recipe

logger = logging.getLogger(__name__)

ANY = 2
"""As a batch: the number of pictures is left open, where the model can take any."""


def network_of(spec: ModelSpec, recipe: Recipe) -> onnx.ModelProto:
    """Return the network for a plan.

    It takes uint8 N x H x W x 3 BGR as `pictures` and has the file's outputs under their names and in their order,
    floating point numbers as float32; with candidates two more, see `engines.candidates`: those are left out where they
    cannot be had, for they only save copying. N is open where the recipe asks for more than one picture and the model
    can take any number, else 1.

    Args:
        spec: the model; for int8 one that is quantised already, others go through `calibrated`.
        recipe: precision, size, batch and candidates.

    Raises:
        ModelError: the file is at fault; see `engines.prepare.prepare`.
        EngineBuildError: TensorRT has nothing for what is in it, or it cannot be brought to the precision.
    """
    refuse_unbuildable(spec.path, recipe.precision)
    model = _for_batch(prepare(spec, recipe.input_size), recipe.batch, spec.name)
    if recipe.precision == "fp16":
        model = to_half(model)
    elif recipe.precision == "int8" and not is_quantised(model):
        raise EngineBuildError(f"int8 for {spec.name} needs pictures of the place of use to be calibrated on")
    return _finished(model, spec, recipe)


def _for_batch(model: onnx.ModelProto, batch: int, name: str) -> onnx.ModelProto:
    """Return the model for any number of pictures, or for one where that is enough or all it takes."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    try:
        set_batch(changed, "any" if batch > 1 else 1)
    except ModelError as reason:
        logger.info("%s is built for one picture at a time: %s", name, reason)
        return model
    return changed


def _finished(model: onnx.ModelProto, spec: ModelSpec, recipe: Recipe) -> onnx.ModelProto:
    """Put in front and behind what is the same for all precisions."""
    take_uint8_pictures(model, spec.input, cast_first=True)
    if recipe.candidates is not None:
        try:
            add_candidates(model, recipe.candidates)
        except ModelError as reason:
            logger.info("all outputs of %s are copied back from the GPU: %s", spec.name, reason)
    return model


def calibrated(spec: ModelSpec, input_size: tuple[int, int] | None, frames: Iterable[Batch]) -> onnx.ModelProto:
    """Return a model in int8, for plans of any batch and candidates: `network_of_calibrated` makes their networks.

    Args:
        spec: the model, not quantised itself.
        input_size: height and width; None: its own.
        frames: batches of uint8 N x H x W x 3 BGR of the input's size, to calibrate on.

    Raises:
        As `network_of`.
    """
    refuse_unbuildable(spec.path, "int8")
    return to_int8(_for_batch(prepare(spec, input_size), ANY, spec.name), spec.input, frames)


def network_of_calibrated(model: onnx.ModelProto, spec: ModelSpec, recipe: Recipe) -> onnx.ModelProto:
    """Return the network for a plan, as `network_of`, of what `calibrated` made."""
    return _finished(_for_batch(model, recipe.batch, spec.name), spec, recipe)
