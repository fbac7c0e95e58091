"""The trackers of the package `trackers`, which ours is compared with: ByteTrack and OC-SORT.

They get the same detections at the same times, and the sequence's frames per second. Their options are their own
defaults, but for the score from which a box begins a track where that is asked for.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from pipeline.errors import ConfigError
from pipeline.frame import Detections

PackageTracker = Literal["ByteTrack", "OC-SORT"]


def installed() -> str | None:
    """Return the version of the package; None: it is not there."""
    return version("trackers") if find_spec("trackers") else None


class FromPackage:
    """One of its trackers, for one sequence."""

    def __init__(self, name: PackageTracker, fps: float, threshold: float | None = None) -> None:
        """Make it.

        Args:
            name: which.
            fps: of the sequence, before frames are removed.
            threshold: score of a sure detection, for all that ask for one (None: their defaults).

        Raises:
            ConfigError: the package is not installed.
        """
        try:
            from trackers import ByteTrackTracker, OCSORTTracker
        except ImportError as error:
            raise ConfigError("comparing with other trackers needs their package: pip install trackers") from error
        scores: dict[str, Any] = {} if threshold is None else {"high_conf_det_threshold": threshold}
        if name == "ByteTrack":
            begins: dict[str, Any] = {} if threshold is None else {"track_activation_threshold": threshold}
            self._tracker: Any = ByteTrackTracker(frame_rate=fps, **scores, **begins)
        else:
            self._tracker = OCSORTTracker(frame_rate=fps, **scores)

    def prepare(self, detections: Detections) -> Any:
        """Return them in supervision's type."""
        return detections.to_supervision()

    def update(self, prepared: Any, time_s: float) -> Any:
        """Follow them."""
        return self._tracker.update(prepared, timestamp=time_s)

    def read(self, result: Any) -> Detections:
        """Return it in our type."""
        scores = result.confidence if len(result) else np.empty(0, np.float32)
        return Detections(result.xyxy, scores, np.zeros(len(result), np.int32), track_ids=result.tracker_id)
