"""Who says whether an int8 engine is as right as the float one: labels, or the float engine itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from engines.trust.drift import match
from pipeline.errors import ConfigError
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector
from tools import coco
from tools.eval_pictures import PictureRun

if TYPE_CHECKING:
    from engines.engine import Batch, Engine
    from engines.spec import ModelSpec
    from engines.trust.drift import Decisions
    from engines.trust.parity import Decide
    from tools.engines.quantize_pictures import Labels

FEWEST_BOXES = 50
"""Of fewer, a single box is more than the 2 % that may differ."""
PICTURES_PER_PART = 4
"""Without labels, one picture of a part stands for so many given: two calibrate, one chooses, one decides."""
NORMAL_95 = 1.96
"""Standard deviations around the mean that hold 95 % of a normal distribution."""
MARGIN = 0.05
"""A box whose score is nearer to the threshold may be on either side of it: bf16 alone moves scores by so much."""


@dataclass(frozen=True)
class Measured:
    """What was measured of an engine."""

    figure: float
    """In percent."""
    words: str
    """How much of it may be chance."""


class Judge(Protocol):
    """Measures engines of one model, in percent."""

    figure: str
    """What it measures."""
    judged_on: str
    """On what, in words."""

    def baseline(self, engine: Engine) -> float:
        """Measure the float engine; to be called first, once."""

    def measure(self, engine: Engine) -> Measured:
        """Measure another."""

    def least(self, before: float) -> float:
        """Return what another must reach, where the float engine has `before`."""


class AveragePrecision:
    """AP on labelled pictures, under the conventions of `frameloom eval detect`."""

    figure = "AP"

    def __init__(self, spec: ModelSpec, labels: Labels, most_loss: float) -> None:
        """Accept what loses `most_loss` points at most."""
        coco.check_installed()
        self._spec, self._labels, self._most_loss = spec, labels, most_loss
        self.judged_on = f"{len(labels.records)} labelled pictures"

    def baseline(self, engine: Engine) -> float:
        """Return the float engine's AP.

        Raises:
            ConfigError: it finds nothing of what is labelled, so nothing could be lost.
        """
        before = self.measure(engine).figure
        if before <= self._most_loss:
            raise ConfigError(
                f"the float engine's AP on these pictures is {before:.1f}, so int8 could lose everything: are these "
                "labels for this model?"
            )
        return before

    def measure(self, engine: Engine) -> Measured:
        """Return an engine's AP."""
        labelled, options = self._labels.labelled, DetectorOptions(confidence=0.01, iou=0.65, max_detections=100)
        run = PictureRun(PictureDetector(self._spec, engine, options), labelled, self._labels.folder)
        run.over(self._labels.records, lambda done, total: None)
        figure = 100 * (coco.average_precision(labelled, run.results, run.image_ids)["AP"] or 0.0)
        return Measured(
            figure, f"AP on {len(run.image_ids)} pictures; below some hundreds, a point or two can be chance"
        )

    def least(self, before: float) -> float:
        """Return the least AP."""
        return before - self._most_loss


class MatchedBoxes:
    """The share of boxes that both engines find, same class and IoU 0.5, on pictures that nobody labelled.

    2 x pairs / (boxes of the one + boxes of the other). A box without counterpart does not count where its score is
    within `MARGIN` of the threshold.
    """

    figure = "matched"

    def __init__(self, decide: Decide, pictures: Sequence[Batch], least: float, threshold: float | None) -> None:
        """Accept from `least` percent on; `threshold` is the score from which a box counts, where that is known."""
        self._decide, self.pictures, self._least = decide, pictures, least
        self._certain = 0.0 if threshold is None else threshold + MARGIN
        self._before: list[Decisions] = []
        self.judged_on = f"{len(pictures)} pictures without labels"

    def baseline(self, engine: Engine) -> float:
        """Remember the float engine's boxes.

        Raises:
            ConfigError: they are too few to tell.
        """
        self._before = self._decisions(engine)
        boxes = sum(len(each.boxes) for each in self._before)
        self.judged_on += f" with {boxes} boxes"
        if boxes < FEWEST_BOXES:
            raise ConfigError(
                f"the float engine finds {boxes} boxes in the {len(self.pictures)} pictures that int8 would be judged "
                f"by, and {FEWEST_BOXES} are needed: {self._remedy(boxes)}"
            )
        return 100.0

    def _remedy(self, boxes: int) -> str:
        if not boxes:
            return "give --images with more objects"
        missing = math.ceil((FEWEST_BOXES - boxes) / boxes * len(self.pictures)) * PICTURES_PER_PART
        return f"give --images with more objects, or about {missing} more pictures like these (--frames says how many)"

    def measure(self, engine: Engine) -> Measured:
        """Return the share of boxes that match."""
        pairs = alone = 0
        for ours, theirs in zip(self._decisions(engine), self._before, strict=True):
            found = [(i, j) for i, j in match(ours, theirs) if ours.class_ids[i] == theirs.class_ids[j]]
            pairs += len(found)
            alone += self._alone(ours, [i for i, _ in found]) + self._alone(theirs, [j for _, j in found])
        low, high = wilson(pairs, pairs + alone / 2)
        words = f"{2 * pairs} of {2 * pairs + alone} boxes match: {low:.1f} to {high:.1f} % with 95 % confidence"
        return Measured(100.0 * 2 * pairs / (2 * pairs + alone) if pairs else 0.0, words)

    def _alone(self, boxes: Decisions, paired: Sequence[int]) -> int:
        return int((np.delete(boxes.scores, paired) >= self._certain).sum())

    def _decisions(self, engine: Engine) -> list[Decisions]:
        return [self._decide(engine.infer(picture)) for picture in self.pictures]

    def least(self, before: float) -> float:
        """Return the least share."""
        return self._least


def wilson(hits: float, tries: float) -> tuple[float, float]:
    """Return the interval of 95 % around a share, in percent, after Wilson (1927); all of it, where nothing was tried.

    Two boxes that match are one try, and so are two that do not. Tries count as independent: boxes of one picture are
    not quite, so the truth is a little wider.
    """
    if not tries:
        return 0.0, 100.0
    share, z2 = hits / tries, NORMAL_95**2
    middle = (share + z2 / (2 * tries)) / (1 + z2 / tries)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / tries + z2 / (4 * tries**2)) / (1 + z2 / tries)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)
