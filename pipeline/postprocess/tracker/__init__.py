"""Following objects from frame to frame: `tracker` puts it together, the rest is a page per idea."""

from pipeline.postprocess.tracker.appearance import make_appearance
from pipeline.postprocess.tracker.tracker import Tracker, TrackerOptions

__all__ = ["Tracker", "TrackerOptions", "make_appearance"]
