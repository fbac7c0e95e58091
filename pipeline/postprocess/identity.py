"""Identity over a track: who somebody is follows from all that was seen of the face, not from one frame.

A track's evidence is the mean of its similarities to each person, weighted by quality. A stranger who looks like
somebody in one frame of ten is nobody: what exceeds a threshold once does not exceed it in the mean. And a threshold
chosen on single pictures keeps what it promises. (To search for the mean of the encodings would not do: it is nearer to
everybody than the encodings are, and with four photos each, strangers got a name six times as often.)

A name is given when there is enough evidence, or when the first frames leave no doubt, and then stays: it takes a clear
drop, or another person for several frames, to change it.
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
EXPIRES_S, EXPIRES_GAPS = 3.0, 3
"""A name that nothing has confirmed for so long, and for so many times the usual gap, is not said any more."""
TRACKS_KEPT = 1024
"""Of one source; those not seen for longest are forgotten first."""


class Best(NamedTuple):
    """The most alike person of each of N encodings."""

    names: Sequence[str | None]
    """None where the gallery is empty."""
    similarities: FloatArray
    """(N,) float32; NaN where the gallery is empty."""


@dataclass
class Evidence:
    """What one track has shown."""

    total: npt.NDArray[np.float64]
    """(D,) weighted sum of its encodings."""
    squares: float = 0.0
    """Weighted sum of their squared lengths."""
    weight: float = 0.0
    name: str | None = None
    similarity: float = float("nan")
    rival: str | None = None
    rival_frames: int = 0
    unlike: int = 0
    seen_at: float = 0.0
    gap_s: float = 0.0

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """(D,) the mean of its encodings."""
        return self.total / max(self.weight, 1e-9)

    @property
    def spread(self) -> float:
        """The mean squared distance of its encodings to their mean."""
        return max(0.0, self.squares / max(self.weight, 1e-9) - float(np.square(self.mean).sum()))

    def begin_anew(self) -> None:
        """Forget everything: it is another face."""
        self.total = np.zeros_like(self.total)
        self.squares = self.weight = 0.0
        self.unlike = 0
        self.call(None)

    def call(self, name: str | None) -> None:
        """Take a name, or lose it."""
        self.name, self.rival, self.rival_frames = name, None, 0


class Identities:
    """The tracks of one source."""

    def __init__(self, verify_threshold: float) -> None:
        """Begin with nothing; encodings are alike from `verify_threshold` on."""
        self._alike = verify_threshold - KEEP * (1 - verify_threshold)
        self._tracks: OrderedDict[int, Evidence] = OrderedDict()

    def observe(
        self, track_ids: IntArray, encodings: FloatArray, qualities: FloatArray, time_s: float
    ) -> tuple[FloatArray, FloatArray]:
        """Add what was seen in one frame.

        Args:
            track_ids: (N,).
            encodings: (N, D).
            qualities: (N,) in 0..1, the weight of each.
            time_s: media time.

        Returns:
            (N, D) the means of the tracks' encodings, and (N,) their spreads, as `mean_similarity` wants them.
        """
        means, spreads = np.empty_like(encodings), np.empty(len(encodings), np.float32)
        for row, (track_id, encoding, quality) in enumerate(zip(track_ids.tolist(), encodings, qualities, strict=True)):
            evidence = self._tracks.setdefault(track_id, Evidence(np.zeros(encodings.shape[1]), seen_at=time_s))
            self._tracks.move_to_end(track_id)
            evidence.gap_s, evidence.seen_at = time_s - evidence.seen_at, time_s
            self._add(evidence, encoding.astype(np.float64), float(quality))
            means[row], spreads[row] = evidence.mean, evidence.spread
        while len(self._tracks) > TRACKS_KEPT:
            self._tracks.popitem(last=False)
        return means, spreads

    def _add(self, evidence: Evidence, encoding: npt.NDArray[np.float64], quality: float) -> None:
        if evidence.weight and _alike(evidence, encoding) < self._alike:
            evidence.unlike += 1
            if evidence.unlike < OTHER_FACE:
                return
            evidence.begin_anew()
        evidence.unlike = 0
        kept = min(1.0, max(MOST - quality, 0) / max(evidence.weight, 1e-9))
        evidence.total = evidence.total * kept + quality * encoding
        evidence.squares = evidence.squares * kept + quality * float(np.square(encoding).sum())
        evidence.weight = evidence.weight * kept + quality

    def decide(self, track_ids: IntArray, best: Best, threshold: float) -> None:
        """Decide who the tracks just observed are, from the person each is most like in the mean."""
        for row, track_id in enumerate(track_ids.tolist()):
            _decide(self._tracks[track_id], best.names[row], float(best.similarities[row]), threshold)

    def of(self, track_ids: IntArray, time_s: float, known: Callable[[str], bool] = lambda name: True) -> Best:
        """Return the names (None: unknown, or not decided) and similarities that tracks have now.

        Args:
            track_ids: (N,).
            time_s: media time; a name that was long not confirmed is not said.
            known: whether a person is still in the gallery.
        """
        tracks = [self._tracks.get(track_id) for track_id in track_ids.tolist()]
        names = [track.name if track and _holds(track, time_s, known) else None for track in tracks]
        similarities = [track.similarity if track else float("nan") for track in tracks]
        return Best(names, np.array(similarities, np.float32))


def mean_similarity(similarities: FloatArray, spreads: FloatArray) -> FloatArray:
    """Return the mean similarity of several encodings to a person, from that of their mean.

    With x the encodings, m their mean and g the person's: the mean of |x - g|^2 is |m - g|^2 plus the mean of
    |x - m|^2, the spread; and a similarity is 1 - d^2 / 2.
    """
    return np.asarray(similarities - spreads / 2, np.float32)


def _holds(track: Evidence, time_s: float, known: Callable[[str], bool]) -> bool:
    fresh = time_s - track.seen_at <= max(EXPIRES_S, EXPIRES_GAPS * track.gap_s)
    return track.name is not None and fresh and known(track.name)


def _decide(evidence: Evidence, name: str | None, similarity: float, threshold: float) -> None:
    evidence.similarity = similarity
    way = max(0.0, 1 - threshold)
    if name is None:  # an empty gallery
        evidence.call(None)
    elif evidence.name is None:
        decided = evidence.weight >= ENOUGH or similarity >= threshold + SURE * way
        if decided and similarity >= threshold:
            evidence.call(name)
    elif similarity < threshold - KEEP * way:
        evidence.call(None)
    elif name == evidence.name:
        evidence.rival, evidence.rival_frames = None, 0
    else:
        evidence.rival_frames = evidence.rival_frames + 1 if evidence.rival == name else 1
        evidence.rival = name
        if evidence.rival_frames >= SWITCH:
            evidence.call(name if similarity >= threshold else None)


def _alike(evidence: Evidence, encoding: npt.NDArray[np.float64]) -> float:
    """Return the mean similarity of an encoding to those of the track."""
    return 1 - (float(np.square(evidence.mean - encoding).sum()) + evidence.spread) / 2
