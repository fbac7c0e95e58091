"""How right tracks are: MOTA, IDF1 and HOTA, as the package trackeval computes them, the MOTChallenge's own evaluation.

- MOTA = 1 - (misses + false positives + id switches) / truth boxes (Bernardin and Stiefelhagen, 2008): mostly, are the
  objects found.
- IDF1: the F1 of boxes that have the right identity, with each identity assigned once (Ristani et al., 2016): do they
  keep their number.
- HOTA: the geometric mean of both questions, over all IoUs from 0.05 to 0.95 (Luiten et al., 2021).

Boxes fit from an IoU of 0.5. Why not motmetrics: 1.4.0 asks NumPy for what version 2 no longer has. trackeval gives the
MOTChallenge's own published values on its example, to the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pipeline.errors import ConfigError
from pipeline.postprocess.overlaps import iou_matrix
from tools.tracking.mot_rows import Doubles, MotRows
from tools.tracking.sequences import Labelled

FITS = 0.5
"""IoU from which a track's box shows an object."""
INSIDE = 0.5
"""A box of which a larger part lies in a region to be ignored is not scored, unless it fits an object. KITTI's rule
for what nobody labelled (Geiger et al., 2012)."""


@dataclass(frozen=True)
class Score:
    """Of one sequence, or of several together."""

    mota: float | None
    """1 at best, may be below 0; None where there is nothing to find."""
    idf1: float | None
    """0 to 1; None where there is nothing to find."""
    hota: float | None
    """0 to 1; None where there is nothing to find."""
    switches: int
    """How often an object's track is another one than before."""
    false_positives: int
    """Boxes of tracks that fit no object."""
    misses: int
    """Objects' boxes that no track's box fits."""
    fragments: int
    """How often an object that was followed is lost and found again."""
    objects: int
    """Boxes of truth."""
    ignored: int
    """Boxes of tracks in regions that are not scored."""


@dataclass(frozen=True)
class Scored:
    """What trackeval says of one sequence, in its own words: several are put together from this."""

    results: dict[str, dict[str, Any]]
    objects: int
    ignored: int

    @property
    def score(self) -> Score:
        """The figures that are shown."""
        return _figures(self.results, self.objects, self.ignored)


def check_installed() -> None:
    """Say how to get trackeval where it is missing.

    Raises:
        ConfigError: with the command.
    """
    _metrics()


def score_sequence(sequence: Labelled, tracks: MotRows) -> Scored:
    """Compare tracks with the truth, on the frames of the sequence."""
    kept, ignored = _without_ignored(sequence, tracks)
    truth = sequence.truth[np.isin(sequence.truth.frames, sequence.frames)]
    data = _as_trackeval(sequence, truth, kept)
    return Scored({name: metric.eval_sequence(data) for name, metric in _metrics().items()}, len(truth), ignored)


def score_together(scored: Sequence[Scored]) -> Score:
    """Return the figures of all sequences as if they were one: sums first, then shares."""
    results = {
        name: metric.combine_sequences({str(number): each.results[name] for number, each in enumerate(scored)})
        for name, metric in _metrics().items()
    }
    return _figures(results, sum(each.objects for each in scored), sum(each.ignored for each in scored))


def _metrics() -> dict[str, Any]:
    try:
        from trackeval.metrics import CLEAR, HOTA, Identity
    except ImportError as error:
        raise ConfigError("scoring tracks needs the package trackeval: pip install 'frameloom[eval]'") from error
    quiet = {"THRESHOLD": FITS, "PRINT_CONFIG": False}
    return {"clear": CLEAR(quiet), "identity": Identity(quiet), "hota": HOTA()}


def _without_ignored(sequence: Labelled, tracks: MotRows) -> tuple[MotRows, int]:
    """Return the boxes of tracks that are scored, and how many are not because of where they lie."""
    tracks = tracks[np.isin(tracks.frames, sequence.frames)]
    if not len(sequence.ignored):
        return tracks, 0
    counts = np.ones(len(tracks), np.bool_)
    for frame in np.unique(sequence.ignored.frames).tolist():
        at = slice(*np.searchsorted(tracks.frames, [frame, frame + 1]).tolist())
        regions, boxes = sequence.ignored.at(frame).boxes, tracks.boxes[at]
        inside = (_share(boxes, regions) > INSIDE).any(axis=1)
        counts[at] = ~inside | _fitting(sequence.truth.at(frame).boxes, boxes)
    return tracks[counts], int((~counts).sum())


def _share(boxes: Doubles, regions: Doubles) -> Doubles:
    """Return the (N, M) part of each of N boxes that lies in each of M regions."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)[:, None]
    return np.asarray(np.prod(np.clip(high - low, 0, None), axis=-1) / area)


def _fitting(truth: Doubles, boxes: Doubles) -> npt.NDArray[np.bool_]:
    """Return (N,) which boxes fit an object, each object at most once."""
    overlap = iou_matrix(truth, boxes)
    overlap[overlap < FITS] = 0
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    fits = np.zeros(len(boxes), np.bool_)
    fits[columns[overlap[rows, columns] > 0]] = True
    return fits


def _as_trackeval(sequence: Labelled, truth: MotRows, tracks: MotRows) -> dict[str, Any]:
    """Return what its metrics ask for: ids counted from 0 by frame, and how much boxes overlap."""
    real, mine = np.unique(truth.ids, return_inverse=True), np.unique(tracks.ids, return_inverse=True)
    data: dict[str, Any] = {
        "num_gt_dets": len(truth),
        "num_tracker_dets": len(tracks),
        "num_gt_ids": len(real[0]),
        "num_tracker_ids": len(mine[0]),
        "num_timesteps": len(sequence.frames),
    }
    first, second = _places(truth, sequence), _places(tracks, sequence)
    data["gt_ids"] = [real[1][each] for each in first]
    data["tracker_ids"] = [mine[1][each] for each in second]
    data["similarity_scores"] = [
        iou_matrix(truth.boxes[one], tracks.boxes[other]) for one, other in zip(first, second, strict=True)
    ]
    return data


def _places(rows: MotRows, sequence: Labelled) -> list[slice]:
    """Return where the rows of each frame are."""
    frames = np.array(sequence.frames, np.int64)
    return list(map(slice, *np.searchsorted(rows.frames, np.stack([frames, frames + 1])).tolist()))


def _figures(results: dict[str, dict[str, Any]], objects: int, ignored: int) -> Score:
    clear = results["clear"]
    shares = (clear["MOTA"], results["identity"]["IDF1"], np.mean(results["hota"]["HOTA"]))
    mota, idf1, hota = (float(share) if objects else None for share in shares)
    switches, false, missed, fragments = (int(clear[name]) for name in ("IDSW", "CLR_FP", "CLR_FN", "Frag"))
    return Score(mota, idf1, hota, switches, false, missed, fragments, objects, ignored)
