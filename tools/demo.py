"""`frameloom demo`: the main job on two real clips, with nothing to prepare.

One shows a street, where a line counts who passes, the other a man who talks: he is enrolled from one of its frames,
and named in the others.
"""

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
MIDDLE = {
    "name": "middle",
    "source": "bikes",
    "line": [[0.5, 0.25], [0.5, 1.0]],
    "classes": ["bicycle", "bus", "car", "person", "truck"],
}
"""Counts who passes through the middle of the street, in either direction."""
DRIVER, DRIVER_AT_S = "driver", 1.0
"""Who is in the second clip, and a moment at which he looks at the camera."""


def demo(out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo")) -> None:
    """Detect, follow and count objects and recognise a face in two clips at once; leave videos, a still and events."""
    zoo = Zoo.load()
    sources = []
    for name, clip in CLIPS.items():
        with download_progress(clip) as progress:
            sources.append({"name": name, "url": str(zoo.fetch(clip, progress))})
    gallery = out / "gallery.db"
    enrol_driver(Path(sources[-1]["url"]), gallery)
    values = {
        "sources": sources,
        "zones": [MIDDLE],
        "faces.gallery": str(gallery),
        "sinks.record.path": str(out / "demo.mp4"),
        "sinks.record.layout": "both",
        "sinks.events.path": str(out / "events.jsonl"),
    }
    execute(load_settings(None, [Override(key, value, "demo") for key, value in values.items()]).settings)
    video, still = out / "demo-bikes.mp4", out / "still.jpg"
    if video.exists() and save_still(video, STILL_AT_S, still):  # else the run was stopped before
        typer.echo(f"wrote {still}")


def enrol_driver(clip: Path, gallery: Path) -> None:
    """Make a gallery that knows the man of the second clip, from one frame of it.

    Raises:
        SinkError: the frame cannot be written.
        ModelError: a face model is nowhere to be had.
    """
    from pipeline.gallery.known import id_of
    from pipeline.gallery.store import GalleryFile
    from tools.enrol import Enrolment, Rules
    from tools.face_images import FaceModels, opened

    gallery.parent.mkdir(parents=True, exist_ok=True)
    portrait = gallery.with_name(f"{DRIVER}.png")
    save_still(clip, DRIVER_AT_S, portrait)
    with (
        download_progress("face models") as progress,
        opened(FaceModels(), progress) as reader,
        GalleryFile.open(gallery, id_of(reader.embedder), create=True) as file,
    ):
        Enrolment(file, reader, Rules()).enrol(DRIVER, [portrait])


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
