"""FaceReader: everything about the faces of one picture: found, aligned, measured, encoded.

What enrolment, verification and evaluation share; a run does the same in stages, with several requests in flight.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.infer.face_quality import Quality, measure

if TYPE_CHECKING:
    from types import TracebackType

    from pipeline.faces import Faces
    from pipeline.infer.embedder import FaceEmbedder
    from pipeline.infer.face_finder import FaceFinder
    from pipeline.picture import Picture


class FaceReader:
    """Reads faces in single pictures."""

    def __init__(self, finder: FaceFinder, embedder: FaceEmbedder) -> None:
        """Take over both; `close` closes them."""
        self.finder, self.embedder = finder, embedder

    def __call__(self, picture: Picture) -> tuple[Faces, Quality]:
        """Return the faces with qualities and encodings, and what the qualities are made of."""
        faces = self.finder(picture)
        chips = self.embedder.chips(picture, faces.landmarks)
        quality = measure(faces, chips)
        return replace(faces, qualities=quality.values, encodings=self.embedder(chips)), quality

    def __enter__(self) -> FaceReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the engines back."""
        self.finder.close()
        self.embedder.close()
