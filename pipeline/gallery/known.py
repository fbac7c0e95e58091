"""KnownPeople: a gallery as a running pipeline sees it: who a face is most like, and from where on that is a name.

The gallery may change while the pipeline runs; what changed counts within about a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engines.model_files import sha256_of
from pipeline.gallery.calibration import Threshold, effective_threshold
from pipeline.gallery.records import EmbedderId
from pipeline.gallery.watch import WatchedGallery
from pipeline.postprocess.identity import Best

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray
    from pipeline.infer.embedder import FaceEmbedder


def id_of(embedder: FaceEmbedder) -> EmbedderId:
    """Return what a gallery must know of an encoder."""
    spec, encoder = embedder.spec, embedder.encoder
    return EmbedderId(spec.name, spec.sha256 or sha256_of(spec.path), encoder.metric, embedder.dimensions)


class KnownPeople:
    """Who is known to one encoder."""

    def __init__(self, path: Path, embedder: FaceEmbedder, configured: float | None = None) -> None:
        """Read the gallery and begin to watch it.

        Args:
            path: of the gallery.
            embedder: the encoder whose encodings are searched for.
            configured: a threshold of the user's.

        Raises:
            GalleryError: it is no gallery of that encoder.
        """
        self._path, self._encoder, self._configured = path, embedder.encoder, configured
        self._watched = WatchedGallery(path, id_of(embedder))

    @property
    def threshold(self) -> Threshold:
        """Similarity from which a face is the person it is most like, for the gallery as it is now."""
        known = self._watched.known
        return effective_threshold(known.calibration, self._encoder, len(known.matcher.names), self._configured)

    def search(self, encodings: FloatArray) -> Best:
        """Return the most alike person of each of (N, D) encodings."""
        matches = self._watched.known.matcher.search(encodings)
        return Best([row[0] for row in matches.names], matches.similarities[:, 0])

    def describe(self) -> str:
        """Say how many are known, and the threshold with its reason."""
        people = len(self._watched.known.matcher.names)
        return f"{people} {'person' if people == 1 else 'people'} in {self._path}, threshold {self.threshold.sentence}"

    def close(self) -> None:
        """Stop watching."""
        self._watched.close()
