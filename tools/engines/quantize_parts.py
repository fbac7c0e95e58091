"""The pictures of `frameloom engines quantize` as it needs them: some calibrate, some choose, some decide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.infer.decisions import CONFIDENCE
from tools.engines.quantize_judges import AveragePrecision, Judge, MatchedBoxes
from tools.engines.quantize_pictures import beside, halves, in_turns, labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.engine import Batch
    from tools.engines.models import Wanted


@dataclass(frozen=True)
class Asked:
    """What was asked for: the command's options of the same names."""

    images: Sequence[str]
    annotations: Path | None
    annotated: Path | None
    where: Sequence[str]
    frames: int
    max_ap_loss: float
    min_matched: float


@dataclass(frozen=True)
class Parts:
    """No picture is in two of them."""

    calibration: list[Batch]
    choosing: Judge
    """By it layers are left in float."""
    deciding: Judge
    """Asked once, about what was chosen."""
    notes: tuple[str, ...] = ()


def parts_of(wanted: Wanted, size: tuple[int, int], asked: Asked) -> Parts:
    """Return them for a model whose input is `size` (height, width).

    Raises:
        ConfigError: there are too few, or the options do not fit each other or the model.
    """
    spec = wanted.spec
    if asked.annotations is None:
        if asked.annotated is not None or asked.where:
            raise ConfigError("--annotated and --where are about labelled pictures: add --annotations PATH")
        calibration, held_out = halves(asked.images, asked.frames, spec, size)
        assert wanted.judge is not None
        decide, threshold = wanted.judge(size), CONFIDENCE if spec.task == "detect" else None
        choosing, deciding = (
            MatchedBoxes(decide, part, asked.min_matched, threshold) for part in (held_out[::2], held_out[1::2])
        )
        return Parts(calibration, choosing, deciding)
    if spec.task != "detect":
        raise ConfigError(f"--annotations: AP is measured of detectors, and {spec.name} is for {spec.task}")
    only = asked.images[0] if len(asked.images) == 1 else ""
    folder = asked.annotated or (Path(only) if only and Path(only).is_dir() else None)
    judged = labels(asked.annotations, folder, asked.where)
    calibration, judged, note = beside(asked.images, asked.frames, judged, spec, size)
    by_choice, by_decision = (AveragePrecision(spec, part, asked.max_ap_loss) for part in in_turns(judged))
    return Parts(calibration, by_choice, by_decision, (note,) if note else ())
