"""Identity over a track: who somebody is follows from all that was seen of the face, not from one frame.

A track's evidence is the mean of its encodings, weighted by quality: noise that differs from frame to frame averages
out, so the mean of ten frames of a stranger is nobody, where the worst of ten frames would be somebody. A name is given
when there is enough of it, or when the first frames leave no doubt, and then stays: it takes a clear drop, or another
person for several frames, to change it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.arrays import FloatArray, IntArray

ENOUGH = 1.5
"""Sum of qualities from which the evidence decides: two good frames, or more poor ones."""
SURE = 0.25
"""Part of the way from the threshold to 1 by which a first frame must be above it to decide at once."""
KEEP = 0.15
"""Part of that way by which a named track may fall below the threshold and keep its name."""
SWITCH = 5
"""Frames in a row that must speak for another person."""
OTHER_FACE = 3
"""Frames in a row that must be unlike the track's own mean before its evidence begins anew: the tracker has swapped."""
MOST = 30.0
"""Sum of qualities that counts at most: a face may change its look over minutes."""
TRACKS_KEPT = 1024
"""Of one source; those not seen for longest are forgotten first."""


class Best(NamedTuple):
    """The most alike person of each of N encodings."""

    names: Sequence[str | None]
    """None where the gallery is empty."""
    similarities: FloatArray
    """(N,) float32; NaN where the gallery is empty."""


Search = Callable[[FloatArray], Best]


@dataclass
class Evidence:
    """What one track has shown."""

    total: npt.NDArray[np.float64]
    weight: float = 0.0
    name: str | None = None
    similarity: float = float("nan")
    rival: tuple[str, int] = ("", 0)
    unlike: int = 0

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """The encoding that the evidence amounts to."""
        return self.total / max(self.weight, 1e-9)


class Identities:
    """The tracks of one source."""

    def __init__(self, normalised: bool, verify_threshold: float) -> None:
        """Begin with nothing.

        Args:
            normalised: whether encodings have length 1 (metric `cosine`).
            verify_threshold: similarity from which two faces are one person's.
        """
        self._normalised = normalised
        self._alike = verify_threshold - KEEP * (1 - verify_threshold)
        self._tracks: OrderedDict[int, Evidence] = OrderedDict()

    def observe(self, track_ids: IntArray, encodings: FloatArray, qualities: FloatArray) -> FloatArray:
        """Add what was seen in one frame.

        Args:
            track_ids: (N,).
            encodings: (N, D).
            qualities: (N,) in 0..1, the weight of each.

        Returns:
            (N, D) the tracks' evidence, to be searched for in the gallery.
        """
        means = np.empty_like(encodings)
        for row, (track_id, encoding, quality) in enumerate(zip(track_ids.tolist(), encodings, qualities, strict=True)):
            evidence = self._tracks.setdefault(track_id, Evidence(np.zeros(encodings.shape[1])))
            self._tracks.move_to_end(track_id)
            self._add(evidence, encoding, float(quality))
            means[row] = self._scaled(evidence.mean)
        while len(self._tracks) > TRACKS_KEPT:
            self._tracks.popitem(last=False)
        return means

    def _add(self, evidence: Evidence, encoding: FloatArray, quality: float) -> None:
        if evidence.weight and _similarity(self._scaled(evidence.mean), encoding) < self._alike:
            evidence.unlike += 1
            if evidence.unlike < OTHER_FACE:
                return
            evidence.total[:], evidence.weight, evidence.name = 0, 0.0, None
        evidence.unlike = 0
        kept = min(1.0, max(MOST - quality, 0) / max(evidence.weight, 1e-9))
        evidence.total = evidence.total * kept + quality * encoding.astype(np.float64)
        evidence.weight = evidence.weight * kept + quality

    def _scaled(self, mean: npt.NDArray[np.float64]) -> FloatArray:
        length = float(np.linalg.norm(mean)) if self._normalised else 1.0
        return np.asarray(mean / (length or 1.0), np.float32)

    def decide(self, track_ids: IntArray, best: Best, threshold: float) -> None:
        """Decide who the tracks just observed are, from what the gallery says of their evidence."""
        for row, track_id in enumerate(track_ids.tolist()):
            _decide(self._tracks[track_id], best.names[row], float(best.similarities[row]), threshold)

    def of(self, track_ids: IntArray) -> Best:
        """Return the names (None: unknown, or not decided) and similarities that tracks have now."""
        tracks = [self._tracks.get(track_id) for track_id in track_ids.tolist()]
        similarities = [track.similarity if track else float("nan") for track in tracks]
        return Best([track.name if track else None for track in tracks], np.array(similarities, np.float32))


def _decide(evidence: Evidence, name: str | None, similarity: float, threshold: float) -> None:
    evidence.similarity = similarity
    way = max(0.0, 1 - threshold)
    if name is None:  # an empty gallery
        evidence.name = None
    elif evidence.name is None:
        decided = evidence.weight >= ENOUGH or similarity >= threshold + SURE * way
        evidence.name = name if decided and similarity >= threshold else None
    elif similarity < threshold - KEEP * way:
        evidence.name = None
    elif name == evidence.name:
        evidence.rival = ("", 0)
    else:
        evidence.rival = (name, evidence.rival[1] + 1 if evidence.rival[0] == name else 1)
        if evidence.rival[1] >= SWITCH:
            evidence.name, evidence.rival = (name if similarity >= threshold else None), ("", 0)


def _similarity(a: FloatArray, b: FloatArray) -> float:
    return 1 - float(np.square(a.astype(np.float64) - b).sum()) / 2
