"""`frameloom demo`: the main job on two real clips, with nothing to prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engines.zoo import Zoo
from pipeline.config.load import Override, load_settings
from pipeline.errors import SinkError
from tools.run import execute
from tools.terminal import download_progress

CLIPS = {"bikes": "demo-bikes", "carphone": "demo-carphone"}
STILL_AT_S = 6.5
"""A moment of the clips with bicycles and cars in the picture."""


def demo(out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo")) -> None:
    """Detect objects in two clips at once; leave annotated videos, a still and an event log."""
    zoo = Zoo.load()
    sources = []
    for name, clip in CLIPS.items():
        with download_progress(clip) as progress:
            sources.append({"name": name, "url": str(zoo.fetch(clip, progress))})
    values = {
        "sources": sources,
        "sinks.record.path": str(out / "demo.mp4"),
        "sinks.record.layout": "both",
        "sinks.events.path": str(out / "events.jsonl"),
    }
    execute(load_settings(None, [Override(key, value, "demo") for key, value in values.items()]).settings)
    video, still = out / "demo-bikes.mp4", out / "still.jpg"
    if video.exists() and save_still(video, STILL_AT_S, still):  # else the run was stopped before
        typer.echo(f"wrote {still}")


def save_still(video: Path, at_s: float, path: Path) -> bool:
    """Save the first picture of a video that is shown at `at_s` seconds or later; say whether there is one.

    Raises:
        SinkError: it cannot be written.
    """
    import cv2

    from pipeline.capture.file import VideoFile
    from pipeline.frame import Frame

    source = VideoFile("still", video)
    source.open()
    try:
        frames = (item for item in source.frames() if isinstance(item, Frame))
        frame = next((frame for frame in frames if frame.pts >= at_s), None)
        if frame is None:
            return False
        if not cv2.imwrite(str(path), frame.image):
            raise SinkError(f"cannot write {path}")
        return True
    finally:
        source.close()
